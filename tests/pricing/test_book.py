"""Price books are read exactly or not at all, from every source alike: each fault by its place, field and fix."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usage_explore.errors import QueryError
from usage_explore.pricing import fields
from usage_explore.pricing.book import PriceBook, Tier
from usage_explore.pricing.read import read_prices

CUSTOMER = "0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11"

TOML = f"""
[[prices]]
name = "Calls"
metric_key = "calls"
unit_amount = 0.10
currency = "usd"
valid_to = 2026-09-15

[[prices]]
metric = "tokens"
price_key = "p1"
customer_id = "{CUSTOMER}"
model = "graduated"
aggregation = "unique:dim:user"
tiers = [{{up_to = 1000, unit_amount = "0.10"}}, {{up_to = 10000, unit_amount = 0.08}}, {{unit_amount = 0.05, flat_amount = 5}}]
included = 10
minimum_amount = "2.50"
currency = "KWD"
valid_from = 2026-09-15T12:00:00+02:00

[[prices]]
price_key = "storage"
model = "package"
package_size = 100
unit_amount = 1
currency = "credits"
scale = 4
"""  # noqa: E501

HEADING = (
    *("Name", "Metric", "price key", "Customer", "model", "aggregation", "unit_amount", "tiers", "included", "Minimum"),
    *("package_size", "currency", "scale", "valid_from", "valid_to"),
)
CSV = f"""{",".join(HEADING)}
Calls,calls,,,,,0.10,,,,,usd,,,2026-09-15
,tokens,p1,{CUSTOMER},staircase,unique:dim:user,,1000:0.10;10000:0.08;:0.05:5,10,2.50,,KWD,,2026-09-15T12:00:00+02:00,

,,storage,,package,,1,,,,100,credits,4,,
"""


def written(folder: Path, text: str, name: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def nowhere(book: PriceBook) -> list[Any]:
    return [replace(price, place="") for price in book.prices]


def test_toml_csv_parquet_frames_and_rows_give_the_same_book(tmp_path: Path) -> None:
    book = read_prices(written(tmp_path, TOML, "prices.toml"))
    assert [price.place for price in book.prices] == [f"prices.toml, price {number}" for number in (1, 2, 3)]
    path = written(tmp_path, CSV, "prices.csv")
    frame = pd.read_csv(path, dtype="str")
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "prices.parquet")
    rows = list(map(fields.row, book.prices))
    sources = [path, str(path), frame, pa.Table.from_pandas(frame), tmp_path / "prices.parquet", rows, {"prices": rows}]
    for source in (*sources, list(book.prices), book):
        assert nowhere(read_prices(source)) == nowhere(book)
    assert [price.place for price in read_prices(path).prices] == [f"prices.csv line {line}" for line in (2, 3, 5)]
    calls, tokens, storage = book.prices
    assert (calls.currency, calls.scale, storage.scale, tokens.included_quantity) == ("USD", 2, 4, 10)
    assert tokens.tiers[2].flat_amount == 5
    assert tokens.tiers[1].unit_amount == Decimal("0.08")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit_amount": 0.1}, "unit_amount: 0.1 is a float, which is not exact"),
        ({"unit_amount": "1,5"}, "unit_amount: '1,5' has a comma"),
        ({"unit_amount": "NaN"}, "unit_amount: 'NaN' is not finite"),
        ({"unit_amount": None}, "unit_amount: is missing; write 0 for a price that is free"),
        ({"unit_amont": "1"}, "'unit_amont' is not a field of a price, did you mean unit_amount?"),
        ({"discount": "1"}, "'discount' is not a field of a price"),
        ({"currency": None}, "currency: is missing"),
        ({"currency": "USDD"}, "currency: 'USDD' is no ISO 4217 code; correct it, or give its scale"),
        ({"currency": "FOO"}, "currency: 'FOO' is no ISO 4217 code; correct it, or give its scale"),
        ({"currency": "xxz"}, "currency: 'XXZ' is no ISO 4217 code"),
        ({"metric_key": " "}, "metric_key: is missing, as are product_id and price_key"),
        (
            {"product_id": "3f2b8c1e-0000-4000-8000-00000000000"},
            "product_id: '3f2b8c1e-0000-4000-8000-00000000000' is not a UUID",
        ),
        ({"aggregation": "maxx"}, "aggregation: 'maxx' is not one of sum, count, max, latest, unique:<column>"),
        ({"aggregation": "unique:modle"}, "aggregation: unique: counts the values of a column or of dim:<key>"),
        ({"aggregation": "unique:metric_kye"}, "did you mean metric_key?"),
        (
            {"model": "volumes"},
            "model: 'volumes' is not one of per_unit, volume, staircase, package, did you mean volume?",
        ),
        ({"model": "volume"}, "tiers: are missing; a volume price has them"),
        ({"tiers": "10:1;:2"}, "model: is missing; with tiers it is volume"),
        ({"tiers": "10:1;:2", "model": "package"}, "tiers: a package price has none"),
        ({"tiers": "10:1;:2", "model": "volume"}, "unit_amount: is given beside tiers"),
        ({"tiers": "10:1;5:2;:1", "model": "volume"}, "tiers: tier 2 ends at 5, not above 10 where it begins"),
        ({"tiers": "10:1;20:2", "model": "volume"}, "tiers: the last tier ends at 20, so that more has no price"),
        ({"tiers": ":1;20:2", "model": "volume"}, "tiers: tier 1 has no up_to, but is not the last one"),
        ({"tiers": "1", "model": "volume"}, "tiers: '1' is no tier; write up_to:unit_amount"),
        ({"tiers": [{"upto": 1, "unit_amount": 1}], "model": "volume"}, "did you mean up_to?"),
        ({"tiers": [{"unit_amount": 0.5}], "model": "volume"}, "tiers: tier 1, unit_amount: 0.5 is a float"),
        ({"model": "package"}, "package_size: is missing"),
        ({"model": "package", "package_size": 0}, "package_size: 0 is not above 0"),
        ({"package_size": 5}, "package_size: is for package prices"),
        ({"included_quantity": -1}, "included_quantity: -1 is negative"),
        ({"unit_amount": "-0.1"}, "unit_amount: -0.1 is negative; give 0 or more: a discount is a lower price"),
        ({"flat_amount": -5}, "flat_amount: -5 is negative"),
        ({"model": "volume", "unit_amount": None, "tiers": "10:-0.5;:1"}, "tier 1, unit_amount: -0.5 is negative"),
        ({"model": "volume", "unit_amount": None, "tiers": "10:1;:1:-2"}, "tier 2, flat_amount: -2 is negative"),
        ({"model": "volume", "unit_amount": None, "tiers": [Tier(None, Decimal(-1))]}, "tier 1, unit_amount: -1 is"),
        ({"scale": 13}, "scale: 13 is not a whole number from 0 to 12"),
        ({"valid_from": "2026-02-30"}, "valid_from: '2026-02-30' is not a date that exists"),
        ({"valid_from": "2026-02-01T00:00:00"}, "valid_from: "),
        ({"valid_from": "2026-02-02", "valid_to": "2026-02-02"}, "valid_to: is not after valid_from"),
    ],
)
def test_every_fault_is_named_with_its_field_and_a_fix(changes: dict[str, Any], message: str) -> None:
    good = {"metric_key": "calls", "unit_amount": "0.1", "currency": "USD"}
    with pytest.raises(QueryError) as caught:
        read_prices([good | {"price_key": "other"}, {**good, **changes}])
    assert all(fault.parameter == "prices" for fault in caught.value.faults)
    assert any(fault.message.startswith("price 2: ") and message in fault.message for fault in caught.value.faults)


def test_a_book_with_decimal_commas_is_read(tmp_path: Path) -> None:
    """It was refused, as its prices had commas."""
    rows = ("a;;1.200;;EUR", 'b;volume;;"1.000:0,25;:0,125";EUR', "c;;1,5;;EUR")
    book = read_prices(written(tmp_path, "\n".join(["metric_key;model;unit_amount;tiers;currency", *rows]), "a.csv"))
    assert [[(tier.up_to, tier.unit_amount) for tier in price.tiers] for price in book.prices] == [
        [(None, 1200)],
        [(1000, Decimal("0.25")), (None, Decimal("0.125"))],
        [(None, Decimal("1.5"))],
    ]


def test_a_point_that_may_separate_thousands_is_refused(tmp_path: Path) -> None:
    """It was a decimal point: a price of 1,200 became 1.2."""
    text = "metric_key;model;unit_amount;tiers;currency\na;;1.200;;EUR\nb;volume;;{};EUR\n"
    with pytest.raises(QueryError, match=r"unit_amount: '1.200' \(line 2\); tiers: '1.000' \(line 3\) may be 1200 or"):
        read_prices(written(tmp_path, text.format('"1.000:2;:1"'), "a.csv"))
    with pytest.raises(QueryError, match=r"thousands\? unit_amount: '1.200' \(line 2\) may be"):
        read_prices(written(tmp_path, text.format('"1.000:0.2;:1"'), "a.csv"))


def test_all_faults_of_a_file_are_reported_together(tmp_path: Path) -> None:
    text = "metric_key,unit_amount,currency\ncalls,x,USD\nseats,1,\ncalls,2,USD\ncalls,3,USD\n"
    with pytest.raises(QueryError) as caught:
        read_prices(written(tmp_path, text, "p.csv"))
    assert [fault.message for fault in caught.value.faults] == [
        "p.csv line 2: unit_amount: 'x' is not a decimal number",
        "p.csv line 3: currency: is missing; write a code such as USD",
        "p.csv line 5: metric calls, USD, is valid at the same time as that of p.csv line 4; end the one with valid_to"
        " where the other begins with valid_from",
    ]


@pytest.mark.parametrize(
    ("one", "other", "overlaps"),
    [
        ({}, {}, True),
        ({"valid_to": "2026-09-15"}, {"valid_from": "2026-09-15"}, False),
        ({"valid_to": "2026-09-16"}, {"valid_from": "2026-09-15"}, True),
        ({"valid_from": "2026-09-15"}, {"valid_to": "2026-09-15T00:00:00Z"}, False),
        ({}, {"currency": "EUR"}, False),
        ({}, {"price_key": "p"}, False),
        ({}, {"customer_id": CUSTOMER}, False),
        (
            {"valid_from": "2026-09-01", "valid_to": "2026-12-01"},
            {"valid_from": "2026-10-01", "valid_to": "2026-10-02"},
            True,
        ),
    ],
)
def test_two_prices_of_one_key_must_not_be_valid_at_once(
    one: dict[str, str], other: dict[str, str], overlaps: bool
) -> None:
    rows = [{"metric_key": "calls", "unit_amount": 1, "currency": "USD", **changes} for changes in (one, other)]
    if not overlaps:
        assert len(read_prices(rows)) == 2
        return
    with pytest.raises(QueryError, match=r"price \d: metric calls, USD, is valid at the same time as that of price \d"):
        read_prices(rows)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("[[prices]\n", "p.toml", "p.toml: is not TOML"),
        ("[[prices]]\nunit_amount = " + "9" * 5_000, "p.toml", "p.toml: has an integer of more than 4,300 digits"),
        ("[[price]]\nmetric_key='a'", "p.toml", "p.toml, 'price' is unknown, did you mean prices?"),
        ("", "p.toml", "there are no prices"),
        ("prices = 3", "p.toml", "prices is no list"),
        ("metric_key,unit_amount,Unit Amount,currency\na,1,1,USD\n", "p.csv", "both are unit_amount; keep one"),
        (
            "metric_key,unitamount,currency\na,1,USD\n",
            "p.csv",
            "column 'unitamount' is not a field of a price, did you mean",
        ),
    ],
)
def test_a_file_that_is_no_book_says_why(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        read_prices(written(tmp_path, text, name))
    assert message in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"none\.toml: cannot be read: No such file"):
        read_prices(tmp_path / "none.toml")


def test_float_columns_of_frames_are_refused() -> None:
    frame = pd.DataFrame({"metric_key": ["a"], "unit_amount": [0.1], "currency": ["USD"]})
    with pytest.raises(QueryError, match="column unit_amount holds floats"):
        read_prices(frame)


def test_many_tiers_in_every_row_are_no_delimiter(tmp_path: Path) -> None:
    tiers = "".join(f"{number}:{100 - number};" for number in range(1, 21)) + ":1"
    rows = "".join(f"m{number},staircase,{tiers},USD\n" for number in range(3))
    book = read_prices(written(tmp_path, f"metric_key,model,tiers,currency\n{rows}", "prices.csv"))
    assert [len(price.tiers) for price in book.prices] == [21] * 3


def test_a_file_that_is_missing_is_said_to_be_and_another_name_is_advised_in_full(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="cannot be read: No such file or directory"):
        read_prices(tmp_path / "nonexist")
    (tmp_path / "book.txt").write_text("x")
    with pytest.raises(QueryError, match=r"save it as \.toml, \.csv"):
        read_prices(tmp_path / "book.txt")
