"""A FOCUS export becomes usage events: every row, every digit, every column."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pandas as pd
import pytest

from usage_explore.errors import LoadError
from usage_explore.load import FOCUS_ORGANIZATION
from usage_explore.load.identifiers import Identifiers


def identifier(column: str, text: str) -> str:
    return Identifiers(by_column=True).made("customer_id", column, text)


SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "focus_sample.csv"

ROW = {
    "SubAccountId": "123",
    "ServiceName": "Queue",
    "SkuId": "SKU1",
    "SkuPriceId": "SKU1.P1",
    "ConsumedQuantity": "2.000000000000000",
    "PricingQuantity": "3",
    "BilledCost": "-0.00000080000",
    "BillingCurrency": "USD",
    "ChargePeriodStart": "2024-09-18 22:00:00",
    "ChargeCategory": "Usage",
    "RegionId": "us-west-2",
    "Tags": '{"env": "prod", " org": "a", "on": true, "off": null}',
}


def focus(load, *rows: dict[str, str | None], **options):
    path = load.folder / "focus.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(rows or [ROW])
    return load(path, format="focus", **{"organization_id": None, **options})


def test_a_time_may_name_utc(load):
    focus(load, {**ROW, "ChargePeriodStart": "2026-10-01 00:00:00 UTC"})
    assert load.rows("timestamp") == [(datetime(2026, 10, 1, tzinfo=UTC),)]


@pytest.fixture(scope="module")
def sample() -> list[dict[str, str]]:
    if not SAMPLE.exists():
        pytest.skip("the FOCUS sample is not next to the checkout")
    with SAMPLE.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_sample_is_loaded_to_the_last_digit(load, sample):
    report = load(SAMPLE, format="focus", organization_id=None)
    assert (report.loaded, report.rejected, report.repeats, report.other_times) == (len(sample), 0, 0, 0)
    assert load.rows("DISTINCT organization_id, 1 AS timestamp, 1 AS id") == [(FOCUS_ORGANIZATION, 1, 1)]

    costs: dict[str, Decimal] = {}
    for row in sample:
        costs[row["BillingCurrency"]] = costs.get(row["BillingCurrency"], Decimal(0)) + Decimal(row["BilledCost"])
    found = load.connection.execute(
        "SELECT external_cost_currency, sum(external_cost_amount) FROM usage_events GROUP BY 1"
    ).fetchall()
    assert dict(found) == costs

    by_key = {row[0]: row[1:] for row in load.rows("idempotency_key", "external_cost_amount::text", "quantity::text")}
    for row in sample:
        quantity = row["ConsumedQuantity"] if row["ConsumedQuantity"] != "NULL" else row["PricingQuantity"]
        assert by_key[row["Id"]] == (row["BilledCost"], quantity)
    negative = sum(Decimal(row["BilledCost"]) < 0 for row in sample)
    assert negative
    assert sum(Decimal(cost) < 0 for cost, _ in by_key.values()) == negative


def test_the_sample_keeps_every_column(load, sample):
    load(SAMPLE, format="focus", organization_id=None)
    named = {"SkuPriceId", "ConsumedQuantity", "BilledCost", "BillingCurrency", "ChargePeriodStart", "Id"}
    dimensions = dict(load.rows("idempotency_key", "dimensions"))
    for row in sample:
        tags = {} if row["Tags"] == "NULL" else json.loads(row["Tags"])
        expected = {k: v for k, v in row.items() if v != "NULL" and k not in named | {"Tags"}}
        assert dimensions[row["Id"]] == expected | {f"tag:{key}": value for key, value in tags.items()}
    metrics = Counter(key for (key,) in load.rows("metric_key"))
    assert metrics == Counter(row["ServiceName"] for row in sample)
    customers = {row[0] for row in load.rows("customer_id")}
    assert len(customers) == len({row["SubAccountId"] for row in sample})
    times = {row[0] for row in load.rows("timestamp")}
    assert times == {datetime.fromisoformat(row["ChargePeriodStart"]).replace(tzinfo=UTC) for row in sample}


def test_the_sample_loaded_twice_adds_nothing(load, sample):
    load(SAMPLE, format="focus", organization_id=None)
    again = load(SAMPLE, format="focus", organization_id=None)
    assert (again.loaded, again.already_there) == (0, len(sample))


def test_one_row_in_full(load):
    focus(load)
    [event] = load.rows(
        "organization_id", "customer_id", "product_id", "subscription_id", "metric_key", "price_key", "quantity::text",
        "external_cost_amount::text", "external_cost_currency", "wallet_currency", "dimensions",
    )  # fmt: skip
    assert event == (
        FOCUS_ORGANIZATION,
        UUID(identifier("SubAccountId", "123")),
        UUID(identifier("ServiceName", "Queue")),
        None,
        "Queue",
        "SKU1.P1",
        "2.000000000000000",
        "-0.00000080000",
        "USD",
        None,
        {
            "SubAccountId": "123",
            "ServiceName": "Queue",
            "SkuId": "SKU1",
            "PricingQuantity": "3",
            "ChargeCategory": "Usage",
            "RegionId": "us-west-2",
            "tag:env": "prod",
            "tag: org": "a",
            "tag:on": True,
        },
    )


def test_made_ids_never_change():
    """Stored ids and links depend on them: these values are for ever."""
    assert str(FOCUS_ORGANIZATION) == "71b0416f-ed78-59d3-ac66-fe71b9f79178"
    assert identifier("SubAccountId", "51738928782") == "09a58269-bc5c-599a-bf9b-1d834a505a02"
    assert identifier("SubAccountId", "64E355D7-997C-491D-B0C1-8414DCCFCF42") == "64e355d7-997c-491d-b0c1-8414dccfcf42"


@pytest.mark.parametrize("null", ["NULL", ""])
def test_nulls_fall_back(load, null):
    organization = UUID(int=9)
    rows = [
        {**ROW, "ConsumedQuantity": null},
        {**ROW, "ConsumedQuantity": null, "PricingQuantity": null},
        {**ROW, "SkuId": null, "SkuPriceId": null, "Tags": null, "ServiceName": null, "BilledCost": null},
    ]
    report = focus(load, *rows, organization_id=organization)
    assert (report.loaded, report.generated_keys) == (3, 3)
    found = load.rows("quantity", "metric_key", "price_key", "product_id IS NULL", "external_cost_amount")
    cost = Decimal("-0.00000080000")
    assert sorted(found, key=str) == sorted(
        [
            (Decimal(3), "Queue", "SKU1.P1", False, cost),
            (Decimal(0), "Queue", "SKU1.P1", False, cost),
            (Decimal(2), "Usage", None, True, None),
        ],
        key=str,
    )
    assert {row[0] for row in load.rows("organization_id")} == {organization}


@pytest.mark.parametrize("text", ["2024-09-18T22:00:00Z", "2024-09-18T22:00Z", "2024-09-19T00:00:00+02:00"])
def test_other_vendors_times_are_read(load, text):
    focus(load, {**ROW, "ChargePeriodStart": text})
    assert load.rows("timestamp") == [(datetime(2024, 9, 18, 22, tzinfo=UTC),)]


def test_without_an_id_equal_rows_stay_distinct_and_reloading_adds_nothing(load):
    first = focus(load, ROW, ROW)
    assert (first.loaded, first.identical) == (2, 1)
    assert focus(load, ROW, ROW).already_there == 2


def test_focus_in_parquet(load):
    frame = pd.DataFrame([ROW | {"ServiceName": None, "SkuId": None}])
    frame["ChargePeriodStart"] = pd.to_datetime(frame["ChargePeriodStart"])
    frame["BilledCost"] = frame["BilledCost"].map(Decimal)
    path = load.folder / "focus.parquet"
    frame.to_parquet(path)
    load(path, format="focus", organization_id=None)
    assert load.rows("timestamp", "external_cost_amount::text", "metric_key") == [
        (datetime(2024, 9, 18, 22, tzinfo=UTC), "-0.00000080000", "Usage")
    ]


def test_another_source_may_be_named(load):
    focus(load, mapping={"metric_key": "RegionId"})
    [(metric, dimensions)] = load.rows("metric_key", "dimensions")
    assert metric == "us-west-2"
    assert dimensions["SkuId"] == "SKU1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"BilledCost": "free"}, r"line 2, external_cost_amount \(from 'BilledCost'\): 'free' is not a decimal number"),
        ({"ChargePeriodStart": "18.9."}, r"timestamp \(from 'ChargePeriodStart'\): '18.9.' is not a time"),
        ({"ChargePeriodStart": "NULL"}, r"timestamp \(from 'ChargePeriodStart'\): is missing"),
        ({"Tags": "{"}, "dimensions: Tags is not JSON"),
    ],
)
def test_faults_name_the_focus_column(load, changes, said):
    with pytest.raises(LoadError, match=said):
        focus(load, {**ROW, **changes})


def test_an_export_without_the_format_is_recognized(load):
    path = load.folder / "focus.csv"
    focus(load)
    again = load(path, organization_id=None)
    assert (again.loaded, again.already_there) == (0, 1)
    assert "preset focus (FOCUS cost and usage), recognized by its columns" in str(again)


def test_a_minimal_export_needs_neither_currency_nor_account(load):
    text = "ChargeCategory,ChargePeriodStart,BilledCost,ServiceName\nUsage,2026-10-01,10.25,Compute\n"
    report = load(load.file("vantage.csv", text), organization_id=None)
    assert load.rows("metric_key", "external_cost_amount", "external_cost_currency", "quantity", "timestamp") == [
        ("Compute", Decimal("10.25"), None, 0, datetime(2026, 10, 1, tzinfo=UTC))
    ]
    assert "1 row without a customer belong to the customer 'local'" in str(report)
    assert "1 date in timestamp read as midnight in UTC" in str(report)


def test_a_billing_account_stands_in_and_has_the_id_of_its_own_column(load):
    """Ids of version 0.1.0: a UUID is made of the column that has the text."""
    names = [name for name in ROW if name != "SubAccountId"]
    line = [ROW[name] for name in names if name != "Tags"]
    header = ["BillingAccountId", *(name for name in names if name != "Tags")]
    load(load.file("focus.csv", f"{','.join(header)}\n{','.join(['123', *line])}\n"), organization_id=None)
    assert load.rows("customer_id") == [(UUID(identifier("BillingAccountId", "123")),)]
    assert identifier("BillingAccountId", "123") != identifier("SubAccountId", "123")


def test_a_file_that_is_no_focus_export_is_refused(load):
    path = load.file("events.csv", "quantity,timestamp\n1,2026-01-31T08:00:00Z\n")
    with pytest.raises(LoadError, match="the column metric_key is missing"):
        load(path, format="focus")


def test_a_mapped_column_replaces_the_usual_sources(load):
    report = focus(
        load,
        {**ROW, "PricingQuantity": "7"},
        {**ROW, "SkuId": "SKU2", "PricingQuantity": "NULL"},
        {**ROW, "SkuId": "SKU3", "PricingQuantity": None},
        mapping={"quantity": "PricingQuantity"},
    )
    assert sorted(load.rows("dimensions ->> 'SkuId'", "quantity")) == [("SKU1", 7), ("SKU2", 0), ("SKU3", 0)]
    assert "2 rows without a value in PricingQuantity: quantity 0" in str(report)
    assert [row["ConsumedQuantity"] for (row,) in load.rows("dimensions")] == ["2.000000000000000"] * 3


def test_rows_without_any_quantity_are_counted(load):
    report = focus(load, ROW, {**ROW, "SkuId": "SKU2", "ConsumedQuantity": "NULL", "PricingQuantity": "NULL"})
    assert sorted(load.rows("dimensions ->> 'SkuId'", "quantity")) == [("SKU1", 2), ("SKU2", 0)]
    assert "1 row without a value in ConsumedQuantity or PricingQuantity: quantity 0" in str(report)
    assert "quantity 0" not in str(focus(load, {**ROW, "SkuId": "SKU4"}))


def test_a_required_column_mapped_to_an_empty_one_is_rejected(load):
    with pytest.raises(LoadError, match=r"metric_key \(from 'RegionId'\): is missing"):
        focus(load, {**ROW, "RegionId": None}, mapping={"metric_key": "RegionId"})


def test_a_mapped_time_needs_no_charge_period(load):
    path = load.folder / "mapped.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in ROW if name != "ChargePeriodStart"] + ["Start"])
        writer.writeheader()
        row = {**ROW, "Start": ROW["ChargePeriodStart"]}
        del row["ChargePeriodStart"]
        writer.writerow(row)
    load(path, format="focus", organization_id=None, mapping={"timestamp": "Start"})
    assert load.rows("timestamp") == [(datetime(2024, 9, 18, 22, tzinfo=UTC),)]
