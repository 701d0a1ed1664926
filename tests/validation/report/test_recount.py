"""Totals are counted twice, and a difference of one event or of the last digit is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pandas as pd
import pytest

from support.known_findings import SINCE, UNTIL, check, wallets
from support.query_oracle import EXACT, Row
from usage_explore import Store
from usage_explore.validation import Validation, report
from usage_explore.validation.report import documents

Validate = Callable[..., Validation]


def split(own: list[Row]) -> list[list[object]]:
    """The rows of the period by customer, wallet and metric, in plain Python."""
    found: dict[tuple[str, str | None, str], tuple[int, Decimal]] = {}
    for row in own:
        if SINCE <= row.timestamp < UNTIL:
            key = (str(row.customer_id), row.wallet_currency, row.metric_key)
            events, quantity = found.get(key, (0, Decimal(0)))
            found[key] = events + 1, EXACT.add(quantity, row.quantity)
    return [[customer, wallet, "pinned", metric, *counts] for (customer, wallet, metric), counts in found.items()]


def test_what_agrees_is_said(store: Store, own: list[Row], validated: Validate) -> None:
    validation = validated(check("wallets", sheet=wallets(*split(own))))
    found = report.statements(store, validation)
    assert [each.agrees for each in found] == [True, True, True]
    assert "4 metrics" in found[2].sentence


@pytest.mark.parametrize(("events", "quantity"), [(1, "0"), (0, "0.000000000000001")])
def test_the_least_difference_is_said(
    store: Store, own: list[Row], validated: Validate, events: int, quantity: str
) -> None:
    lines = split(own)
    validation = validated(check("wallets", sheet=wallets(*lines)))
    number, whole = validation.totals.metrics["a,b"]
    off = {**validation.totals.metrics, "a,b": (number + events, EXACT.add(whole, Decimal(quantity)))}
    found = report.statements(store, replace(validation, totals=replace(validation.totals, metrics=off)))
    assert [each.agrees for each in found] == [not events, not Decimal(quantity), False]
    assert all(each.agrees or ("1 metric of 4 differ" in each.sentence and "a,b: " in each.sentence) for each in found)


def test_what_cannot_be_compared_is_no_agreement(store: Store, validated: Validate) -> None:
    validation = validated(check("own"))
    nobody = replace(validation, period=validation.period.replace(since="1970-01-01T00:00:00Z"))
    found = report.statements(store, nobody)
    assert [each.agrees for each in found] == [None, None]
    assert "not counted twice" in found[0].sentence


def test_wallets_are_drawn_together_exactly(own: list[Row]) -> None:
    lines = [*split(own), ["x", documents.ALL_WALLETS, "pinned", "Other", 1, Decimal(3)]]
    found = documents.by_wallet(wallets(*lines))
    assert list(found.columns) == [
        "metric_key",
        "EUR",
        "USD",
        f'"{documents.ALL_WALLETS}"',
        documents.UNKNOWN_WALLET,
        documents.ALL_WALLETS,
    ]
    for row in found.itertuples(index=False, name=None):
        whole = Decimal(0)
        for line in lines:
            if line[3] == row[0]:
                whole = EXACT.add(whole, Decimal(str(line[5])))
        total = Decimal(0)
        for part in row[1:-1]:
            total = EXACT.add(total, part or Decimal(0))
        assert total == whole == row[-1]


def test_sheets_travel_whole_and_exact(validated: Validate) -> None:
    frame = pd.DataFrame(
        {
            "number": pd.Series([Decimal("1E-20"), None], dtype="object"),
            "events": [1, 2],
            "at": pd.to_datetime(["2026-01-01T00:00:00.000001Z", None], format="ISO8601"),
            "text": ["a", None],
        }
    )
    document = report.document(validated(check("own", sheet=frame)), [])
    assert document["sheets"] == {
        "own": [
            {"number": "0.00000000000000000001", "events": 1, "at": "2026-01-01T00:00:00.000001Z", "text": "a"},
            {"number": None, "events": 2, "at": None, "text": None},
        ]
    }


def test_what_is_no_number_agrees_with_nothing(store: Store, own: list[Row], validated: Validate) -> None:
    lines = [*split(own), *(["x", None, "unknown", "Other", 1, Decimal(sign)] for sign in ("Infinity", "-Infinity"))]
    validation = validated(check("wallets", sheet=wallets(*lines)))
    assert report.statements(store, validation)[2] == report.Statement(
        None, "The rows of “Title of wallets” cannot be added up: quantities of Other are no finite numbers."
    )
    assert "NaN" in report.html(store, validation, [])
