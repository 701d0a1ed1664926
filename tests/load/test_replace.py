"""A restated export: counted twice with a warning, or superseding the earlier one in one transaction."""

from __future__ import annotations

import csv
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from support import extracts
from usage_explore import AggregateQuery, connect
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.extract import manifest, refresh
from usage_explore.load import FOCUS_ORGANIZATION, LoadOptions, check_file, load_files

OTHER = UUID(int=5)
SEPTEMBER, OCTOBER = "2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z"


def row(sku: str, cost: str, *, account: str = "A1", period: str = SEPTEMBER, **more: str) -> dict[str, str]:
    return {
        "ProviderName": "Cloud",
        "BillingAccountId": account,
        "BillingPeriodStart": period,
        "ChargePeriodStart": period,
        "SubAccountId": "S1",
        "ServiceName": "Compute",
        "SkuMeter": sku,
        "ConsumedQuantity": "1",
        "BilledCost": cost,
        "EffectiveCost": cost,
        "BillingCurrency": "USD",
        **more,
    }


def focus(load, *rows: dict[str, str], **options):
    path = load.folder / "focus.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return load(path, format="focus", **{"organization_id": None, **options})


def costs(load) -> list[tuple[str, Decimal]]:
    return sorted(load.rows("metric_key", "external_cost_amount"))


def test_a_restated_cost_is_loaded_beside_the_stored_one_with_a_warning(load):
    focus(load, row("a", "1.5"), row("b", "2"))
    again = focus(load, row("a", "50.3566"), row("b", "2"))
    assert (again.loaded, again.already_there, again.restated) == (1, 1, 1)
    assert "1 row equals a stored event in everything but key and amounts" in str(again)
    assert "--replace" in str(again)


PLAIN = "customer_id,metric_key,quantity,timestamp,model\n" + "".join(
    f"c{day % 3},calls,{day + 1},2026-09-{day + 1:02}T07:11:00Z,{'ab'[day % 2]}\n" for day in range(20)
)
COLUMN_MORE = "".join(f"{line},{'team' if not at else 'ops'}\n" for at, line in enumerate(PLAIN.splitlines()))


@pytest.mark.parametrize(
    ("again", "options"),
    [
        (COLUMN_MORE, {}),
        (PLAIN.replace("model", "MODEL"), {}),
        (PLAIN.replace("model", "Modell"), {}),
        (PLAIN.replace(",a\n", ",a \n"), {}),
        (PLAIN, {"constants": {"price_key": "p1"}}),
        (PLAIN, {"dimensions": False}),
    ],
)
def test_a_file_that_is_loaded_again_with_other_options_or_columns_is_warned_of(load, again, options):
    """All of it was counted twice without a word."""
    path = load.folder / "usage.csv"
    path.write_text(PLAIN)
    assert load(path).loaded_again == 0
    path.write_text(again)
    report = load(path, **options)
    assert 10 <= report.loaded_again == report.loaded
    assert "with other columns, values or keys, as when a file is loaded again with other options" in str(report)
    path.write_text(again)
    assert load(path, **options).loaded == 0


def of_regions(heading: str) -> str:
    """Four equal quantities at each hour, of two models and two regions; with columns of these names."""
    lines = [f"customer_id,metric_key,quantity,timestamp,{heading}"]
    for number in range(40):
        values = {"m": "sl"[number % 2], "r": ("eu", "us")[number // 2 % 2]}
        cells = [values[name[0].lower()] for name in heading.split(",")]
        lines.append(",".join(["c1", "calls", "7", f"2026-09-01T{number // 4:02}:00:00Z", *cells]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("heading", ["Modell,Region", "model,Region", "Region", "Modell"])
def test_a_file_that_is_loaded_again_with_columns_renamed_is_warned_of(load, heading):
    """All of it was counted twice without a word; with a column less, too."""
    assert load.csv(of_regions("model,region")).loaded_again == 0
    report = load.csv(of_regions(heading))
    assert report.loaded == report.loaded_again == 40


def test_a_file_with_headings_of_another_language_is_warned_of(load):
    """The texts of mapped columns stay as dimensions, of other names."""

    def usage(*names: str) -> dict[str, object]:
        path = load.file(f"{names[0]}.csv", PLAIN.replace("customer_id,metric_key,quantity,timestamp", ",".join(names)))
        fields = ("customer_id", "metric_key", "quantity", "timestamp")
        return {"path": path, "mapping": dict(zip(fields, names, strict=True))}

    german, english = usage("Kunde", "Art", "Menge", "Zeit"), usage("Client", "Metric", "Qty", "When")
    load(german.pop("path"), **german)
    report = load(english.pop("path"), **english)
    assert report.loaded == report.loaded_again == 20


def test_usage_with_the_same_values_in_other_columns_is_not_loaded_again(load):
    """From eu to s is not from s to eu."""
    load.csv(of_regions("model,region").replace(",l,", ",x,"))
    swapped = of_regions("region,model").replace(",l\n", ",x\n").replace("region,model", "model,region")
    assert load.csv(swapped).loaded_again == 0


KEYED = "".join(f"{line},{f'ref-{at}' if at else 'event ref'}\n" for at, line in enumerate(PLAIN.splitlines()))


@pytest.mark.parametrize("keys", [("event ref", None), (None, "event ref")])
def test_a_file_that_is_loaded_with_its_keys_and_without_them_is_warned_of(load, keys):
    """The column of the keys was chosen for one of two loads: all was counted twice without a word."""
    path = load.folder / "usage.csv"
    path.write_text(KEYED)
    first, again = (load(path, mapping={"idempotency_key": key} if key else {}) for key in keys)
    assert (first.loaded_again, again.loaded, again.loaded_again) == (0, 20, 20)
    assert "as when a file is loaded again with other options" in str(again)


def test_usage_of_another_model_is_no_file_that_is_loaded_again(load):
    path = load.folder / "usage.csv"
    path.write_text(PLAIN)
    load(path)
    path.write_text(PLAIN.replace(",a\n", ",c\n").replace(",b\n", ",d\n"))
    report = load(path)
    assert (report.loaded, report.loaded_again, report.restated) == (20, 0, 0)
    assert "warning" not in str(report)


DAILY = [(f"c{day % 3}", day // 3, 100 + 7 * day) for day in range(60)]


def days(*amounts: float, rows: int = 60) -> str:
    """Each of the first rows of `DAILY` times these amounts, as CSV."""
    lines = [
        f"{customer},calls,{quantity * amount:g},2026-09-{day + 1:02}T00:00:00Z,pro"
        for amount in amounts
        for customer, day, quantity in DAILY[:rows]
    ]
    return "\n".join(["customer_id,metric_key,quantity,timestamp,plan", *lines, ""])


@pytest.mark.parametrize(
    ("files", "rows"),
    [
        ([days(1), days(-1)], 60),
        ([days(1), days(-1, rows=1)], 1),
        ([days(1), days(-0.1)], 60),
        ([days(1), days(-0.1), days(-0.2)], 60),
        ([days(1), days(-1, 1.5)], 120),  # reversed and booked again, in one file or two
        ([days(1), days(-1), days(1.5)], 60),
        ([days(-0.1), days(1)], 60),
        ([days(1), days(-0.01, rows=20) + days(0.01).split("plan\n")[1]], 80),  # deltas of both signs
    ],
)
def test_credits_and_corrections_of_stored_events_are_not_advised_to_replace_them(load_again, files, rows):
    """The advice was to load the credits with --replace, which deletes the usage."""
    for file in files:
        report = load_again.csv(file)
    assert (report.loaded, report.restated) == (rows, rows)
    says = f"{rows} rows correct" if rows > 1 else "1 row corrects"
    assert f"{says} a stored event by quantities or costs of the other sign, as credits, reversals and" in str(report)
    assert "--replace" not in str(report)


@pytest.mark.parametrize("again", [days(1.5), days(1.5, -0.2), days(1.5) + days(-0.1, rows=1).split("plan\n")[1]])
def test_a_restated_export_with_credits_is_advised_to_replace_the_stored_one(load_again, again):
    load_again.csv(days(1, -0.1))
    assert "so a restated export is counted twice" in str(load_again.csv(again))


def test_a_file_of_credits_does_not_replace_the_usage(load_again):
    """All usage of the month was deleted, and its total was below 0; of few customers alone it may be right."""
    load_again.csv(days(1))
    for credits_ in (days(-0.1, rows=20), days(0)):  # with 0: credits in cost alone
        with pytest.raises(LoadError, match=r"of 3 metrics of customers, such as -?[\d.,]+ of calls .* without --repl"):
            load_again.csv(credits_, replace_by=["plan"])
        load_again.connection.rollback()
        assert load_again.count() == 60
    restated = days(1.5).replace("\nc0,calls,", "\nc0,calls,-")
    report = load_again.csv(restated, replace_by=["plan"])
    assert report.superseded == 60
    assert "warning: the file has 0 or less in all of 1 metric of customers" in str(report)


LATE = "customer_id,metric_key,quantity,timestamp,plan\n" + "c1,calls,7,2026-09-09T07:11:00Z,pro\n" * 2


@pytest.mark.parametrize("again", [days(1), days(1.5), days(1.5, rows=40)])
def test_superseded_events_of_another_file_are_said(load_again, again):
    """Late events of a file of their own were deleted without a word by a replaced export."""
    for first in (days(1), LATE):
        load_again.csv(first)
    report = load_again.csv(again, replace_by=["plan"])
    assert report.superseded == (62 if report.loaded else 2)
    assert (", of 2 loads: 60 of 20" in str(report)) == bool(report.loaded)
    assert "warning: 2 superseded events came in other loads, and the file has none like it" in str(report)


STORED = days(1) + days(2, rows=30).replace("calls", "gb").split("plan\n")[1]


@pytest.mark.parametrize(
    ("again", "absent"),
    [
        (days(1.5), "gb (30 events, quantity 12,090)"),
        (days(1.5, rows=30), "calls on 10 days from 2026-09-11 to 2026-09-20 (30 events, quantity 12,345); of gb (30 "),
        ("\n".join(row for row in STORED.splitlines() if "c1" not in row), "calls of 1 customer (20 events, quant"),
        ("\n".join(row for row in STORED.splitlines() if "-05T" not in row), None),  # a few rows of each metric
        (STORED.replace("7", "8"), None),
    ],
)
def test_superseded_metrics_customers_and_days_of_which_the_file_has_nothing_are_said(load_again, again, absent):
    """A file of one metric, or of half a month, deleted the rest with a hint at late events."""
    load_again.csv(STORED)
    report = load_again.csv(again, replace_by=["plan"])
    assert (f"the file has nothing in place of superseded events of {absent}" in str(report)) == bool(absent)
    assert ("the file has nothing" in str(report)) == bool(absent)


def test_an_export_of_several_files_is_replaced_without_a_warning(load_again):
    head, *lines = days(1).splitlines()
    for part in (lines[:20], lines[20:40], lines[40:]):
        load_again.csv("\n".join([head, *part, ""]))
    report = load_again.csv(days(1.5, rows=58), replace_by=["plan"])
    assert (report.superseded, report.loaded) == (60, 58)
    assert ", of 3 loads: 20 of 20" in str(report)
    assert "came in other loads" not in str(report)


@pytest.mark.parametrize(("minute", "is_met"), [("00", True), ("07", False)])
def test_a_column_that_stored_events_lack_supersedes_none_of_them(load_again, minute, is_met):
    """All was counted twice without a word; the same usage with equal quantities is refused."""
    load_again.csv(days(1))
    again = days(1.5).replace("plan", "plan,source").replace("pro\n", "pro,meter\n").replace("T00:00", f"T00:{minute}")
    report = load_again.csv(again, replace_by=["source"])
    assert "superseded 0 stored events of the same source: source 'meter'" in str(report)
    assert ("stored events have the customers, metrics and times of the rows, but no source" in str(report)) == is_met


def test_a_growing_export_brings_no_warning(load):
    focus(load, row("a", "1.5"), row("a", "2.5"))
    grown = focus(load, row("a", "1.5"), row("a", "2.5"), row("a", "3.5"))
    assert (grown.loaded, grown.already_there, grown.restated) == (1, 2, 0)
    assert "warning" not in str(grown)


def test_a_changed_amount_under_the_same_key_is_said(load):
    focus(load, row("a", "1.5", Id="k1"), row("b", "2", Id="k2"))
    again = focus(load, row("a", "9", Id="k1"), row("b", "2", Id="k2"))
    assert (again.loaded, again.already_there, again.changed) == (0, 2, 1)
    assert again.changed_columns == ("EffectiveCost", "external_cost_amount")
    assert "1 row repeats the key and time of a stored event with other values in EffectiveCost and" in str(again)
    replaced = focus(load, row("a", "9", Id="k1"), row("b", "2", Id="k2"), replace=True)
    assert (replaced.superseded, replaced.loaded, replaced.already_there, replaced.changed) == (1, 1, 1, 0)
    assert "links pinned" not in str(replaced)  # the stored event is too new for any
    assert costs(load) == [("a", 9), ("b", 2)]


def test_replace_makes_the_file_the_truth_of_its_source_and_period(load):
    focus(load, row("a", "1"), row("b", "2"), row("gone", "3"))
    focus(load, row("a", "100", account="A2"))
    focus(load, row("a", "1000", period=OCTOBER))
    kept = load.rows("id", "ingested_at", "metric_key")
    report = focus(load, row("a", "1"), row("b", "2.5"), row("new", "4"), replace=True, settle=timedelta(0))
    assert (report.superseded, report.loaded, report.already_there) == (2, 2, 1)
    assert costs(load) == [("a", 1), ("a", 100), ("a", 1000), ("b", Decimal("2.5")), ("new", 4)]
    assert "superseded 2 stored events of the same source and period" in str(report)
    assert "links pinned before this load (as_of) no longer show them" in str(report)
    # what stays keeps its time of ingestion, so that pinned links still show it
    assert set(load.rows("id", "ingested_at", "metric_key")) >= {each for each in kept if each[2] == "a"}
    again = focus(load, row("a", "1"), row("b", "2.5"), row("new", "4"), replace=True)
    assert (again.superseded, again.loaded, again.already_there) == (0, 0, 3)
    assert "superseded 0 stored events of the same source and period" in str(again)


@pytest.mark.parametrize(
    "change", ["timestamp = '57837-06-04Z'", "ingested_at = 'infinity'", "ingested_at = '0044-03-15 BC'"]
)
def test_replace_leaves_alone_what_no_question_finds(load, change):
    focus(load, row("odd", "1"), row("a", "1"))
    load.connection.execute("CREATE TEMP TABLE odd AS SELECT * FROM usage_events WHERE metric_key = 'odd'")
    load.connection.execute(f"UPDATE odd SET {change}")
    load.connection.execute("DELETE FROM usage_events WHERE metric_key = 'odd'")  # no hypertable moves a row in time
    load.connection.execute("INSERT INTO usage_events SELECT * FROM odd")
    load.connection.commit()
    assert focus(load, row("b", "2"), replace=True).superseded == 1
    assert sorted(load.rows("metric_key")) == [("b",), ("odd",)]


def test_equal_rows_are_replaced_by_number(load):
    focus(load, row("a", "1"), row("a", "1"), row("a", "1"))
    report = focus(load, row("a", "1"), row("a", "1"), replace=True)
    assert (report.superseded, report.loaded, report.already_there) == (1, 0, 2)
    assert costs(load) == [("a", 1)] * 2


def test_other_organizations_and_events_without_the_scope_are_never_touched(load, table_of):
    focus(load, row("a", "1"))
    focus(load, row("a", "1"), organization_id=OTHER)
    load.csv(table_of(timestamp="2026-09-01T00:00:00Z"), organization_id=FOCUS_ORGANIZATION)
    focus(load, row("b", "2"), replace=True)
    found = sorted(load.rows("organization_id::text", "metric_key"))
    assert found == sorted(
        [
            (str(FOCUS_ORGANIZATION), "b"),
            (str(FOCUS_ORGANIZATION), "tokens"),
            (str(OTHER), "a"),
        ]
    )


@pytest.mark.parametrize(
    "period",
    [
        "2026-09-01 00:00:00",
        "2026-09-01",
        "2026-09-01T00:00:00+00:00",
        "2026-09-01 00:00:00 UTC",
        "2026-09-01T00:00:00.000Z",
        "2026-09-01T02:00+02:00",
    ],
)
def test_a_billing_period_is_the_same_in_any_spelling(load_again, period):
    """Nothing was superseded, and all was counted twice; the warning said to do what was just done."""
    focus(load_again, row("a", "1.5"), row("b", "2"), row("c", "9", period="2026-08-01T00:00:00Z"))
    report = focus(load_again, row("a", "1.75", period=period), replace=True)
    assert (report.superseded, report.loaded) == (2, 1)
    assert costs(load_again) == [("a", Decimal("1.75")), ("c", Decimal(9))]


@pytest.mark.parametrize(
    "period", ["2026-09", "2026-02-31T00:00:00Z", "2026-09-01T25:00:00Z", "September", "0000-01-01"]
)
def test_a_billing_period_that_is_no_instant_is_compared_as_text(load_again, period):
    charged = {"ChargePeriodStart": SEPTEMBER}
    focus(load_again, row("a", "1.5", period=period, **charged), row("b", "2"))
    report = focus(load_again, row("a", "1.75", period=period, **charged), replace=True)
    assert (report.superseded, report.loaded) == (1, 1)
    assert costs(load_again) == [("a", Decimal("1.75")), ("b", Decimal(2))]


def test_without_a_billing_period_the_calendar_months_of_the_file_are_replaced(load, table_of):
    def source(name: str, when: str, key: str, quantity: str) -> dict[str, str]:
        return {"timestamp": when, "idempotency_key": key, "quantity": quantity, "source": name}

    options = {"dimensions": True, "replace_by": ["source"]}
    load.csv(
        table_of(
            source("meter", "2026-09-01T00:00:00Z", "k1", "1"),
            source("meter", "2026-09-30T23:59:59.999999Z", "k2", "2"),
            source("meter", "2026-08-31T23:59:59.999999Z", "k3", "4"),
            source("meter", "2026-10-01T00:00:00Z", "k4", "8"),
            source("other", "2026-09-15T00:00:00Z", "k5", "16"),
        ),
        dimensions=True,
    )
    report = load.csv(table_of(source("meter", "2026-09-10T00:00:00Z", "k6", "32")), **options)
    assert (report.superseded, report.loaded) == (2, 1)
    assert sorted(q for (q,) in load.rows("quantity")) == [4, 8, 16, 32]


AUGUST_AND_SEPTEMBER = "timestamp,customer_id,metric_key,quantity,source\n" + "".join(
    f"2026-{month:02}-{day:02} {hour}:15,a,calls,{day},meter\n"
    for month in (8, 9)
    for day in range(1, 31)
    for hour in ("00", "23")
)
RESTATED = "".join(
    f"{line}\n" for line in AUGUST_AND_SEPTEMBER.splitlines() if "2026-08" not in line and "2026-09-02 23" not in line
)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu"])
def test_the_months_that_are_replaced_are_those_of_the_file_s_time_zone(load, tmp_path, zone):
    """A restated September of Berlin deleted August: its first events are in August by UTC."""
    options = {"timezone": zone, "replace_by": ["source"]}
    load.csv(AUGUST_AND_SEPTEMBER, timezone=zone)
    path = tmp_path / "restated.csv"
    path.write_text(RESTATED)
    words = f"of the same source: source 'meter', 1–30 Sep 2026 ({zone})"
    check = check_file(path, LoadOptions(timezone=zone), replace_by=["source"])
    assert f"--replace deletes the stored events that the file does not have, {words}" in str(check)
    report = load(path, **options)
    assert (report.superseded, report.loaded, report.already_there) == (1, 0, 59)
    assert f"superseded 1 stored event {words}" in str(report)
    assert load.count() == 119


@pytest.mark.parametrize(
    ("zone", "offset", "month", "others"),
    [
        ("Europe/Berlin", "+02:00", "August 2026 (UTC) from 2026-08-31 22:15:00 +00:00 on", 59),
        (
            "America/Los_Angeles",
            "-07:00",
            "October 2026 (UTC) until 2026-10-01 06:15:00 +00:00",
            60,
        ),
    ],
)
def test_a_month_of_which_the_file_has_only_an_edge_is_not_replaced(load, zone, offset, month, others):
    """The times have the zone's offset, and no option names the zone of the months."""
    every = AUGUST_AND_SEPTEMBER.replace("2026-08", "2026-10") if zone.startswith("America") else AUGUST_AND_SEPTEMBER
    load.csv(every, timezone=zone)
    before = load.count()
    restated = "".join(f"{line}\n" for line in RESTATED.replace(":15,", f":15:00{offset},").splitlines())
    with pytest.raises(LoadError) as refused:
        load.csv(restated, replace_by=["source"])
    assert f"replace: of source 'meter' the file has only events of {month}, and {others} stored events" in str(
        refused.value
    )
    assert "of that month would be deleted; nothing was loaded" in str(refused.value)
    assert "name it with --timezone, such as --timezone Europe/Berlin" in str(refused.value)
    load.connection.rollback()
    assert load.count() == before
    assert load.csv(restated, replace_by=["source"], timezone=zone).superseded == 1


@pytest.mark.parametrize(
    ("zone", "offset", "withdrawn", "words"),
    [
        ("America/Los_Angeles", "-07:00", "2026-09-30 23", "start of September 2026 (UTC), before the file's first"),
        ("Asia/Kolkata", "+05:30", "2026-09-01 00", "end of September 2026 (UTC), after the file's last"),
    ],
)
@pytest.mark.parametrize("by_month", [True, False])
def test_a_month_of_another_zone_of_which_the_edge_is_withdrawn_replaces_no_other(
    load, zone, offset, withdrawn, words, by_month
):
    """A September of Los Angeles without events of its last hours deleted those of August in September by UTC."""
    head, *rows = AUGUST_AND_SEPTEMBER.replace("2026-08-30", "2026-08-31").splitlines()
    rows += [row.replace("2026-09", "2026-10") for row in rows if "2026-09" in row] if zone == "Asia/Kolkata" else []
    months = (["2026-08"], ["2026-09"], ["2026-10"]) if by_month else (["2026"],)
    for prefixes in months:
        own = [row for row in rows if row.startswith(tuple(prefixes))]
        load.csv("\n".join([head, *own, ""]), timezone=zone)
    september = [row for row in rows if "2026-09" in row and withdrawn not in row]
    restated = "\n".join([head, *(row.replace(":15,", f":15:00{offset},") for row in september), ""])
    with pytest.raises(LoadError) as refused:
        load.csv(restated, replace_by=["source"])
    assert f"1 stored event of source 'meter' at the {words}" in str(refused.value)
    assert "Name the time zone of the file's months with --timezone" in str(refused.value)
    load.connection.rollback()
    assert load.count() == len(rows)
    assert load.csv(restated, replace_by=["source"], timezone=zone).superseded == 1


def hourly(days: int, month: int, more: str) -> str:
    """A month of hourly rows whose quantities are equal at no two times, nor with those of another `more`."""
    first = datetime(2026, month, 1, tzinfo=UTC)
    times = (first + timedelta(hours=hour) for hour in range(24 * days))
    rows = (f"{at:%Y-%m-%d %H:%M},a,calls,{at:%d%H}{more},meter" for at in times)
    return "\n".join([AUGUST_AND_SEPTEMBER.splitlines()[0], *rows, ""])


@pytest.mark.parametrize(
    ("stored", "file", "days", "month", "left"),
    [
        (
            "Europe/Berlin",
            "UTC",
            31,
            10,
            "2 stored events of source 'meter', from 2026-09-30 22:00:00 +00:00 on, before",
        ),
        (
            "America/New_York",
            "UTC",
            30,
            9,
            "4 stored events of source 'meter', until 2026-10-01 03:00:00 +00:00, after",
        ),
        ("Asia/Kathmandu", "Europe/Berlin", 31, 10, "from 2026-09-30 20:15:00 +02:00 on, before"),
    ],
)
def test_a_month_that_is_all_restated_does_not_stay_beside_one_of_another_zone_unsaid(
    load, stored, file, days, month, left
):
    """Hours beyond the month, which no row of the file equals, counted twice in silence."""
    load.csv(hourly(days, month, ".5"), timezone=stored)
    report = load.csv(hourly(days, month, ".25"), replace_by=["source"], timezone=file)
    assert left in str(report)
    assert "load it again in that one with --replace" in str(report)
    again = load.csv(hourly(days, month, ".25"), replace_by=["source"], timezone=stored)
    assert "warning" not in str(again)
    assert load.count() == 24 * days


@pytest.mark.parametrize(
    ("days", "earlier"),
    [(31, ""), (31, "2026-09-30 23:59,a,calls,7,meter\n"), (20, "2026-09-30 23:59,a,calls,7,meter\n")],
)
def test_an_event_of_the_month_before_is_no_sign_of_another_zone(load, days, earlier):
    """A file that begins a minute early goes on to the end of the month, or ends within it."""
    load.csv(hourly(days, 10, ".5") + earlier, timezone="Asia/Kolkata")
    report = load.csv(hourly(31, 10, ".25"), replace_by=["source"], timezone="Asia/Kolkata")
    assert report.superseded == 24 * days
    assert "another time zone" not in str(report)


@pytest.mark.parametrize("withdrawn", ["2026-09-01 00", "2026-09-30 23"])
@pytest.mark.parametrize("by_month", [True, False])
def test_an_edge_that_is_withdrawn_of_a_month_of_utc_is_replaced(load, withdrawn, by_month):
    head, *rows = AUGUST_AND_SEPTEMBER.replace("2026-08-30", "2026-08-31").replace(":15,", ":15:00Z,").splitlines()
    rows += [row.replace("2026-09", "2026-10") for row in rows if "2026-09" in row]
    for prefix in ("2026-08", "2026-09", "2026-10") if by_month else ("2026",):
        load.csv("\n".join([head, *(row for row in rows if row.startswith(prefix)), ""]))
    september = [row for row in rows if "2026-09" in row and withdrawn not in row]
    assert load.csv("\n".join([head, *september, ""]), replace_by=["source"]).superseded == 1


@pytest.mark.parametrize(
    ("stored", "again"), [("acc-1", "ACC-1"), ("acc-1", '"acc-1 "'), ("007", "7"), ("é", "É"), (None, "acc-1")]
)
def test_a_source_that_is_stored_in_another_spelling_is_not_loaded_beside_itself(load, stored, again):
    """All of it was counted twice, and the advice was to load it with --replace, which was just done."""

    def text(source: str | None) -> str:
        name = "meter" if source is None else source
        every = AUGUST_AND_SEPTEMBER.replace("meter", name)
        return every if source is not None else every.replace(",source", "").replace(",meter", "")

    load.csv(text(stored), timezone="UTC")
    with pytest.raises(LoadError) as refused:
        load.csv(text(again), timezone="UTC", replace_by=["source"])
    hint = "such as --replace-by customer_id" if stored is None else f"have source {stored!r}, which would stay"
    assert hint in str(refused.value)
    load.connection.rollback()
    assert load.count() == 120
    replace_by = ["customer_id"] if stored is None else ["source"]
    load.csv(text(again if stored is None else stored), timezone="UTC", replace_by=replace_by)
    assert load.count() == 120


@pytest.mark.parametrize("other", ["ACC-2", "acc-10", "", "17", "acc 1"])
def test_another_source_is_loaded_beside_a_stored_one(load, other):
    """So is one that looks alike, once it has stored events of its own, and one beside events without a source."""
    head, *rows = AUGUST_AND_SEPTEMBER.splitlines()
    load.csv("\n".join([head, *rows, ""]).replace("meter", "acc-1"), timezone="UTC")
    load.csv("\n".join([head, *rows, ""]).replace("meter", "7").replace(",calls", ",gb"), timezone="UTC")
    load.csv("timestamp,customer_id,metric_key,quantity\n2026-08-03,a,calls,99\n", timezone="UTC")
    if other:
        load.csv("\n".join([head, *rows, ""]).replace("meter", other), timezone="UTC", replace_by=["source"])
    load.csv("\n".join([head, *rows, ""]).replace("meter", "ACC-1"), timezone="UTC")
    load.csv("\n".join([head, *rows[1:], ""]).replace("meter", "ACC-1"), timezone="UTC", replace_by=["source"])
    assert load.count() == 1 + 120 * (4 if other else 3) - 1


def of_sources(*rows: tuple[UUID, str, str]) -> str:
    """Rows of (organization, source, day or time) as CSV."""
    header = "organization_id,timestamp,customer_id,metric_key,quantity,source\n"
    times = [time if "T" in time else f"{time}T12:00:00Z" for _, _, time in rows]
    return header + "".join(
        f"{organization},{time},c,calls,1,{source}\n"
        for (organization, source, _), time in zip(rows, times, strict=True)
    )


ONE, TWO = UUID(int=1), UUID(int=2)
IN_AUGUST, IN_SEPTEMBER = ("2026-08-03", "2026-08-04", "2026-08-05"), ("2026-09-03", "2026-09-04", "2026-09-05")


@pytest.mark.parametrize("other", [(ONE, "B"), (TWO, "A")])
@pytest.mark.parametrize("days", [IN_SEPTEMBER, ()])
@pytest.mark.parametrize(
    "august", [IN_AUGUST, ("2026-08-31T11:00:00Z", "2026-08-31T12:00:00Z", "2026-08-31T15:00:00Z")]
)
def test_an_edge_of_a_month_is_one_of_its_own_source_and_organization(load, other, days, august):
    """Another source with all of August let this one's August be deleted; and so did a source that began on its end."""
    whole = [(ONE, "A", day) for day in (*IN_AUGUST, *IN_SEPTEMBER)]
    load.csv(of_sources(*whole, *((*other, day) for day in (*august, *IN_SEPTEMBER))), organization_id=None)
    restated = of_sources(*whole, (*other, "2026-08-31T23:00:00Z"), *((*other, day) for day in days))
    with pytest.raises(LoadError) as refused:
        load.csv(restated, replace_by=["source"], organization_id=None)
    named = "source 'B'" if other == (ONE, "B") else f"organization {TWO}, source 'A'"
    assert (
        f"of {named} the file has only events of August 2026 (UTC) from 2026-08-31 23:00:00 +00:00 on, and 3 "
        in str(refused.value)
    )
    load.connection.rollback()
    assert load.count() == 12


@pytest.mark.parametrize(
    ("wrong", "right"), [("Europe/Berlin", "UTC"), ("UTC", "Europe/Berlin"), ("UTC", "US/Pacific")]
)
@pytest.mark.parametrize("month", [8, 9])
def test_a_month_that_is_replaced_in_its_zone_leaves_the_neighbouring_file_whole(load, wrong, right, month):
    """The first hours of a September of Berlin, a file of its own, were deleted with August in UTC."""
    head, *rows = AUGUST_AND_SEPTEMBER.splitlines()
    rows = [row.replace("2026-08-30", "2026-08-31") for row in rows]
    months = {number: [row for row in rows if f"2026-{number:02}" in row] for number in (8, 9)}
    files = {number: "\n".join([head, *own, ""]).replace("calls", f"m{number}") for number, own in months.items()}
    for text in files.values():
        load.csv(text, timezone=wrong)
    report = load.csv(files[month], timezone=right, replace_by=["source"])
    assert load.count() == 120
    kept = "stored event" in " ".join(report.notes)
    load.csv(files[17 - month], timezone=right, replace_by=["source"])
    statement = "SELECT metric_key, count(*) FROM usage_events WHERE extract(month FROM timestamp AT TIME ZONE %s) = %s"
    for number in (8, 9):
        counts = load.connection.execute(f"{statement} GROUP BY 1", [right, number]).fetchall()
        assert counts == [(f"m{number}", 60)]
    assert kept == (month == (9 if wrong == "UTC" and right == "Europe/Berlin" else 8))


@pytest.mark.parametrize(("wrong", "right"), [("Europe/Berlin", "Asia/Tokyo"), ("Asia/Tokyo", "America/Los_Angeles")])
def test_a_month_is_replaced_in_its_zone_though_clocks_change_near_its_end(load, wrong, right):
    """The last event of October was counted twice: the clock changes a week before, of which few rows are."""
    days = ("01 00:30", "05 12:00", "09 13:10", "14 12:34", "20 08:00", "31 23:30")
    rows = (f"2026-10-{day},a,calls,{number},meter" for number, day in enumerate(days))
    text = "\n".join([AUGUST_AND_SEPTEMBER.splitlines()[0], *rows, ""])
    load.csv(text, timezone=wrong)
    load.csv(text, timezone=right, replace_by=["source"])
    assert load.count() == 6


def test_the_months_that_are_replaced_are_said_for_each_source(load):
    """A source without events of August keeps those, and so does a month between two of the file."""
    days = ("2026-08-03", "2026-09-03", "2026-10-03")
    load.csv(of_sources(*((ONE, source, day) for source in "ABC" for day in days)), organization_id=None)
    kept = {"A": ("2026-08-03", "2026-09-04"), "B": ("2026-09-04",), "C": ("2026-08-03", "2026-10-04")}
    restated = of_sources(*((ONE, source, day) for source, own in kept.items() for day in own))
    words = (
        "of the same source: source 'A', 1 Aug – 30 Sep 2026; source 'B', 1–30 Sep 2026; source 'C', 1–31 Aug 2026"
        " and 1–31 Oct 2026 (UTC)"
    )
    checked = check_file(load.file("events.csv", restated), LoadOptions(), replace_by=["source"])
    assert f"--replace deletes the stored events that the file does not have, {words}" in str(checked)
    report = load.csv(restated, replace_by=["source"], organization_id=None)
    assert f"superseded 3 stored events {words}" in str(report)
    assert load.count() == 9


def test_the_refusal_of_an_edge_does_not_advise_the_zone_that_was_given(load):
    load.csv(AUGUST_AND_SEPTEMBER, timezone="Europe/Berlin")
    with pytest.raises(
        LoadError, match="another time zone than Europe/Berlin, name it with --timezone; else"
    ) as refused:
        load.csv(RESTATED.replace("2026-09-01 00", "2026-08-31 23"), replace_by=["source"], timezone="Europe/Berlin")
    assert "such as" not in str(refused.value)


def test_replace_is_refused_where_it_cannot_tell_what_to_replace(load, table_of):
    with pytest.raises(ConfigurationError, match="--replace-by COLUMN"):
        load.csv(table_of(), replace=True)
    with pytest.raises(LoadError, match="no column 'sauce'"):
        load.csv(table_of(), replace_by=["sauce"])
    path = load.file("a.csv", table_of())
    with pytest.raises(ConfigurationError, match="takes one file"):
        load(path, path, replace_by=["customer_id"])
    focus(load, row("a", "1"))
    with pytest.raises(LoadError, match="1 row without a value in ProviderName"):
        focus(load, row("b", "1"), {**row("c", "1"), "ProviderName": "NULL"}, replace=True)
    assert costs(load) == [("a", 1)]


def test_a_failed_replacement_loses_nothing(load):
    focus(load, row("a", "1"))
    with pytest.raises(LoadError, match="rejected"):
        focus(load, row("b", "2"), {**row("c", "3"), "BilledCost": "many"}, replace=True)
    load.connection.rollback()
    load.connection.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$")
    load.connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON usage_events FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    load.connection.commit()
    with pytest.raises(LoadError, match="no"):
        focus(load, row("b", "2"), replace=True)
    assert costs(load) == [("a", 1)]


@pytest.mark.parametrize("bad", ["calls,x7,", "calls,,"])
def test_a_file_that_replaces_has_no_rejected_row_left_out(load, bad):
    """The stored event of a row that could not be read was deleted: it was nowhere then."""
    load.csv(of_sources(*((ONE, "A", day) for day in IN_AUGUST)), organization_id=None)
    restated = of_sources(*((ONE, "A", day) for day in IN_AUGUST)).replace("calls,1,", bad, 1)
    words = "--replace would delete the stored events of rejected rows that are left out"
    for skip_bad in (False, True):
        checked = check_file(load.file("events.csv", restated), skip_bad=skip_bad, replace_by=["source"])
        assert (checked.rejected, checked.is_loadable) == (1, False)
        assert words in str(checked)
        assert "--skip-bad" not in str(checked)
        with pytest.raises(LoadError, match=words) as refused:
            load.csv(restated, replace_by=["source"], organization_id=None, skip_bad=skip_bad)
        assert "--skip-bad" not in str(refused.value)
        load.connection.rollback()
    assert load.count() == 3


def test_a_file_that_replaces_has_no_row_left_out_whose_id_is_taken(load):
    load.csv(of_sources(*((ONE, "A", day) for day in IN_AUGUST)), organization_id=None)
    rows = of_sources(*((ONE, "A", day) for day in IN_AUGUST)).splitlines()
    restated = "".join(f"{line},{UUID(int=min(at, 2)) if at else 'id'}\n" for at, line in enumerate(rows))
    restated = restated.replace("08-05", "08-04")
    with pytest.raises(LoadError, match="--replace would delete the stored events of rejected rows that are left out"):
        load.csv(restated, replace_by=["source"], organization_id=None, skip_bad=True)
    load.connection.rollback()
    assert load.count() == 3


def test_two_replacements_at_once_leave_one_of_them(load, database_url):
    focus(load, *(row(f"s{place}", "1") for place in range(50)))
    paths = []
    for number in (2, 3):
        path = load.folder / f"focus{number}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row("a", "1")))
            writer.writeheader()
            writer.writerows(row(f"s{place}", str(number)) for place in range(50))
        paths.append(path)

    def replace(path):
        with ddl.connect(database_url) as connection:
            load_files(connection, events_table(), [path], format="focus", replace=True)

    threads = [threading.Thread(target=replace, args=[path]) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [cost for _, cost in costs(load)]
    assert found in ([2] * 50, [3] * 50)


def test_an_extract_holds_what_replaced_it(load, database_url, tmp_path):
    focus(load, row("a", "1"), row("b", "2"))
    load.connection.execute("UPDATE usage_events SET ingested_at = now() - interval '30 days'")
    load.connection.commit()
    extracts.build(database_url, tmp_path)
    focus(load, row("a", "5"), row("b", "2"), replace=True, home=tmp_path)
    with connect(database_url, home=tmp_path) as store:
        query = AggregateQuery(since="-400d", metric="sum_quantity")
        before = store.aggregate(query)
        assert before.served.because is not None
        extracts.build(database_url, tmp_path)
        after = store.aggregate(query)
    assert (after.served.because, after.total) == (None, before.total)


def test_superseded_first_events_are_not_removed_ones(load, database_url, tmp_path):
    """Answers said that usage before the first event left was removed, and no invoice was compared with it."""

    def day(number: int, **more: str) -> dict[str, str]:
        return row("a", "1", **{"ChargePeriodStart": f"2026-09-{number:02}T00:00:00Z", **more})

    def removed(*rows: dict[str, str]) -> datetime | None:
        focus(load, *rows, replace=True, home=tmp_path)
        target = extracts.target(load.connection, database_url, tmp_path, FOCUS_ORGANIZATION)
        assert refresh.find_removal(load.connection, target, timeout=timedelta(minutes=1))
        found = manifest.read(target.folder)
        assert build().removed_before == found.removed_before, "before and after the refresh"
        return found.removed_before and manifest.instant(found.removed_before)

    def build() -> manifest.Manifest:
        load.connection.commit()
        (report,) = extracts.build(database_url, tmp_path, until=datetime.now(UTC)).values()
        assert report.manifest.rows == load.count()
        return report.manifest

    focus(load, *map(day, (1, 2, 3, 4, 5)))
    build()
    assert removed(*map(day, (2, 3, 4, 5))) is None, "the first one is deleted"
    assert removed(*map(day, (3, 4, 5, 9))) is None, "or moved to a later day"
    assert removed(*(day(number, BilledCost="2") for number in (3, 4, 5))) is None, "or all are restated"
    august = "2026-08-01T00:00:00Z"
    focus(load, row("a", "1", period=august), row("b", "1", period=august), home=tmp_path)
    build()
    load.connection.execute("DELETE FROM usage_events WHERE timestamp < '2026-09-01Z'")
    load.connection.commit()
    assert removed(*map(day, (4, 5))) == datetime(2026, 8, 2, tzinfo=UTC), "others are, up to the end of their day"


def test_replace_keeps_a_key_that_the_file_repeats(load, table_of):
    def row(quantity: str) -> dict[str, str]:
        return {"idempotency_key": "k1", "quantity": quantity, "source": "meter"}

    options = {"dimensions": True, "replace_by": ["source"]}
    load.csv(table_of(row("10")), dimensions=True)
    report = load.csv(table_of(row("10"), row("20"), row("10")), **options)
    assert (report.superseded, report.loaded, report.already_there) == (0, 2, 1)
    assert sorted(quantity for (quantity,) in load.rows("quantity")) == [10, 10, 20]
    again = load.csv(table_of(row("10"), row("20"), row("10")), **options)
    assert (again.superseded, again.loaded, again.already_there) == (0, 0, 3)


@pytest.mark.parametrize("quantity", ["5", "9"])
@pytest.mark.parametrize("other", [[], [{"idempotency_key": "k2", "source": "A"}]])
def test_a_row_whose_event_another_source_has_is_said(load_again, table_of, quantity, other):
    """It "was in the table already", or was to be loaded again with the option that was given."""
    row = {"idempotency_key": "k1", "quantity": "5"}
    load_again.csv(table_of({**row, "source": "B"}, *other))
    rows = ({**row, "quantity": quantity, "source": "A"}, *other)
    report = load_again.csv(table_of(*rows), replace_by=["source"])
    assert (report.superseded, report.loaded, report.already_there) == (0, 0, len(rows))
    assert (
        "warning: 1 row repeats the key and time of a stored event of another source or period, which stays; not"
        " loaded: replace the events of that one first, by a file without such rows"
    ) in str(report)
    assert "in the table already" not in str(report)
    assert "other values" not in str(report)


@pytest.mark.parametrize("first", [{"Id": "k1"}, {}])
def test_an_export_with_ids_beside_one_without_is_said(load, first):
    focus(load, row("a", "1.5", **first))
    report = focus(load, row("a", "1.5", **({} if first else {"Id": "k1"})))
    assert (report.loaded, report.restated) == (1, 1)
    assert "--replace" in str(report)
