"""Costs in several currencies: none is lost, and none is added to one of another currency, without a word."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from usage_explore.load.check import FileCheck, check_file
from usage_explore.load.prepared import LoadOptions

TIME = "2026-10-01T00:00:00Z"
NO_CURRENCY = "have no currency and are added up as if they had the same"


def check(folder: Path, columns: str, *cells: str, **options) -> FileCheck:
    """Of a file with a row for each of the cells."""
    path = folder / "file.csv"
    path.write_text(f"Date,Customer,Calls,{columns}\n" + "".join(f"{TIME},a,{n},{c}\n" for n, c in enumerate(cells, 1)))
    return check_file(path, LoadOptions(**options))


def costs_of(found: FileCheck) -> list[tuple[str | None, Decimal]]:
    return [(cost.name, cost.amount) for cost in found.costs]


def warnings_of(found: FileCheck) -> list[str]:
    return [note for note in found.notes if note.startswith("warning")]


@pytest.mark.parametrize(("name", "means"), [("cost", True), ("Total cost (EUR)", True), ("unit_cost", False)])
def test_a_cost_in_a_file_that_lacks_no_column_is_no_dimension(tmp_path, load_again, name, means):
    """Nothing was proposed where customer, metric, quantity and time had their documented names."""
    path = tmp_path / "file.csv"
    rows = f"a,m,1,{TIME},0.00,USD\na,m,2,{TIME},2.20,USD\n"
    path.write_text(f"customer_id,metric_key,quantity,timestamp,{name},currency\n{rows}")
    warning = f"warning: {name!r} means a cost, and no cost is loaded"
    assert (warning in str(load_again(path))) == means
    found = check_file(path)
    assert sum(amount for _, amount in costs_of(found)) == (Decimal("2.2") if means else 0)
    assert warning not in str(load_again(path, **vars(found.options)))


# Two columns of costs ----------------------------------------------------------------------------------------

ALONE = (
    "warning: {rows} a cost in the column {other!r} that is not loaded as a cost, and none in {mapped!r}: put both"
    " into one column, and their currencies into another"
)


@pytest.mark.parametrize(
    ("mapped", "other"),
    [
        ("Cost (EUR)", "Cost (USD)"),
        ("Cost (€)", "Cost ($)"),
        ("cost_eur", "cost_usd"),
        ("Cost EUR", "Amount USD"),
        ("Cost EUR", "Cost in dollars"),
        ("Betrag (Euro)", "Betrag (US-Dollar)"),
        ("Usage total EUR", "Usage total CHF"),
    ],
)
def test_costs_of_a_second_column_are_said(tmp_path, load_again, mapped, other):
    """The dollars of half of the rows were a dimension, without a word."""
    found = check(tmp_path, f"{mapped},{other}", "1.20,", ",5.00", "0.00,7.00", "2.00,-")
    assert costs_of(found) == [("EUR", Decimal("3.2"))]
    expected = ALONE.format(rows="2 rows have", other=other, mapped=mapped)
    assert any(note.startswith(expected) for note in warnings_of(found)), warnings_of(found)
    assert expected in str(load_again(tmp_path / "file.csv", **vars(found.options)))


def test_costs_of_a_second_column_are_counted_in_all_rows(load_again):
    """Also behind the rows whose values show what a column is."""
    rows = "".join(f"{TIME},a,m,{n},{'1.20,' if n < 2_500 else ',5.00'}\n" for n in range(2_501))
    report = load_again.csv(
        f"timestamp,customer_id,metric_key,quantity,Cost (EUR),Cost (USD)\n{rows}",
        mapping={"external_cost_amount": "Cost (EUR)"},
        constants={"external_cost_currency": "EUR"},
        dimensions=False,
    )
    assert ALONE.format(rows="1 row has", other="Cost (USD)", mapped="Cost (EUR)") in str(report)


def test_two_columns_of_costs_that_all_rows_have_are_said(tmp_path):
    """They may be the same costs in two currencies, or two of each row."""
    found = check(tmp_path, "Cost (EUR),Cost (USD)", "1.20,1.30", "2.00,2.20")
    assert costs_of(found) == [("EUR", Decimal("3.2"))]
    assert (
        "2 rows have a cost in 'Cost (USD)' beside the one in 'Cost (EUR)', which alone is loaded as their cost; if"
        " they are two costs, write a row for each"
    ) in found.notes


@pytest.mark.parametrize(
    "columns", ["Cost (EUR),Balance (USD)", "Cost (EUR),Cost per unit (USD)", "Cost (EUR),PayG cost in USD"]
)
def test_other_amounts_are_no_second_costs(tmp_path, columns):
    found = check(tmp_path, columns, "1.20,5.00", ",5.00")
    assert not [note for note in found.notes if "a cost in" in note]


# Currencies in a column of any writing -----------------------------------------------------------------------

MANY = [
    *("EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "JPY", "CNY"),
    *("INR", "NPR", "AUD", "NZD", "CAD", "MXN", "BRL", "ZAR", "TRY", "ILS", "SGD", "HKD"),
]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("currency", ["978", "840"]),
        ("Währung", ["978", "036"]),
        ("currency", ["978", "36"]),  # as a spreadsheet writes 036
        ("x", ["US$", "A$"]),
        ("x", ["NZ$", "EUR"]),
        ("x", MANY),
    ],
)
def test_currencies_of_another_writing_are_those_of_the_costs(tmp_path, name, values):
    """The costs of all were one sum without a currency."""
    found = check(tmp_path, f"Cost,{name}", *(f"1.20,{value}" for value in values))
    assert sorted(costs_of(found)) == [(value, Decimal("1.2")) for value in sorted(values)]
    assert not warnings_of(found)


@pytest.mark.parametrize("values", [("EUR/USD", "USD/EUR"), (*MANY, "unknown")])
def test_values_with_several_currencies_are_warned_of(tmp_path, values):
    found = check(tmp_path, "Cost,x", *(f"1.20,{value}" for value in values))
    (warning,) = warnings_of(found)
    assert NO_CURRENCY in warning


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("currency amount", ["978", "840"]),
        ("currency", ["9.78", "1204"]),
        ("currency rate", ["1", "2"]),
        ("Exchange to home currency", ["1", "1"]),
    ],
)
def test_other_numbers_are_no_currencies(tmp_path, name, values):
    found = check(tmp_path, f"Cost,{name}", *(f"1.20,{value}" for value in values))
    assert costs_of(found) == [(None, Decimal("2.4"))]


# Currencies in the name of the costs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "currency"),
    [
        ("Betrag (Euro)", "EUR"),
        ("Amount in Euros", "EUR"),
        ("EUR (€) cost", "EUR"),
        ("Cost (US$)", "USD"),
        ("Kosten in US-Dollar", "USD"),
    ],
)
def test_the_name_of_the_costs_has_their_currency(tmp_path, name, currency):
    assert costs_of(check(tmp_path, name, "1.20")) == [(currency, Decimal("1.2"))]


@pytest.mark.parametrize("name", ["Cost ($)", "Cost $", "Cost in dollars", "Kosten (¥)"])
def test_a_sign_of_several_currencies_in_the_name_of_the_costs_is_said(tmp_path, load_again, name):
    found = check(tmp_path, name, "1.20")
    assert costs_of(found) == [(None, Decimal("1.2"))]
    (warning,) = warnings_of(found)
    assert warning.startswith(f"warning: the cost of 1 event has no currency, and the name {name!r} may mean several")
    assert "--set external_cost_currency=" in warning
    assert warning in str(load_again(tmp_path / "file.csv", **vars(found.options)))
    assert not warnings_of(check(tmp_path, name, "1.20", constants={"external_cost_currency": "USD"}))
