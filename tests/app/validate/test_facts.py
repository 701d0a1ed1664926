"""The facts of a finding and amounts in tables: numbers have separators, values of the data stay as they are."""

from __future__ import annotations

from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from usage_explore.app.validate import explanation, signing
from usage_explore.validation.report.wording import fact_title


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("actual", "642824", "642,824"),
        ("excess", "-1648.50", "−1,648.5"),
        ("usual cost in EUR", "1234.5", "1,234.5"),
        ("affected tokens_in", "51 events, quantity 126959", "51 events, quantity 126,959"),
        ("bucket", "2026-10-28T00:00:00Z", "2026-10-28 00:00:00"),
        ("model", "2024", "2024"),
        ("metric", "-1000", "-1000"),
    ],
)
def test_a_number_has_separators_and_a_value_stays(name: str, text: str, shown: str) -> None:
    assert explanation.fact_text(name, text, ZoneInfo("UTC")) == shown


@pytest.mark.parametrize(("text", "title"), [("25", "line"), ("1,025", "line"), ("25, 30", "lines")])
def test_the_number_of_one_line_does_not_read_as_a_count(text: str, title: str) -> None:
    assert fact_title("lines", text) == title


@pytest.mark.parametrize(
    ("name", "title"), [("excess", "more than expected, about"), ("high", "usual to about"), ("actual", "actual")]
)
def test_an_estimate_says_that_it_is_one(name: str, title: str) -> None:
    """Of one usage the sentence said +308,143.98, and a fact beside it 308,100."""
    assert fact_title(name, "308100") == title


@pytest.mark.parametrize(
    ("amounts", "shown"),
    [
        ([("6", "USD"), ("-0.2", "USD"), ("1.234", "JPY"), (None, None)], ["6.00", "−0.20", "1.234"]),
        ([("6", "USD")], ["6.00"]),
        ([("6", "JPY"), ("1200", "credits"), ("NaN", "USD")], ["6", "1,200"]),
    ],
)
def test_corrections_have_the_decimals_of_a_currency(
    amounts: list[tuple[str | None, str | None]], shown: list[str]
) -> None:
    column = signing._money("Amount", [(amount and Decimal(amount), currency) for amount, currency in amounts])
    assert column.shown is not None
    assert [column.shown(value) for value in column.values.dropna() if value != "NaN"][: len(shown)] == shown
