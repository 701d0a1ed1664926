"""Invoices made by plain Python from random books match to the last digit, and every tampered amount is found."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from support import price_oracle
from support.billing_events import SEPTEMBER, store_of
from support.check_results import examine
from support.database_servers import fresh_database
from support.query_oracle import Row
from support.random_books import LATE, WALLETS, random_book, random_events, within
from support.thoroughness import seeds
from usage_explore import Store
from usage_explore.decimals import plain
from usage_explore.validation import Result

NAME = "reconciliation"
PERIOD = SEPTEMBER.replace(as_of=LATE)
COLUMNS = (
    ("metric_key",),
    ("metric_key", "price_key"),
    ("metric_key", "wallet_currency"),
    ("subscription_id", "metric_key", "price_key", "wallet_currency"),
)
_WALLETS = {UUID(key) if key != "default" else None: wallet for key, wallet in WALLETS.items()}

Key = tuple[Any, ...]


@pytest.fixture(scope="module")
def events() -> list[Row]:
    return random_events(7)


@pytest.fixture(scope="module")
def store(server_url: str, _template: str, events: list[Row]) -> Iterator[Store]:
    with fresh_database(server_url, _template) as url, store_of(url, events) as opened:
        yield opened


def key_of(row: Row, columns: tuple[str, ...]) -> Key:
    wallet = row.wallet_currency or _WALLETS.get(row.customer_id) or _WALLETS.get(None)
    values = {**vars(row), "wallet_currency": wallet}
    return (row.customer_id, *(values[name] for name in columns))


def invoice(book: list[dict[str, Any]], rows: list[Row], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The right lines: one for each key and currency, the sum of its wallets.

    Without an amount where a part of the usage has no price.
    """
    split = ("wallet_currency", *(name for name in columns if name not in ("metric_key", "wallet_currency")))
    lines, without = price_oracle.rate(book, rows, *SEPTEMBER.span, _WALLETS, split)
    quantities: dict[Key, dict[str | None, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    amounts: dict[Key, dict[str | None, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for line in lines:
        key, currency = key_of(line.events[0], columns), line.price["currency"]
        quantities[key][currency] += line.billable
        amounts[key][currency] += line.amount
    for row in without:
        quantities[key_of(row, columns)][None] += Fraction(row.quantity)
    made = []
    for key, by_currency in quantities.items():
        is_priced = None not in by_currency
        for currency, quantity in by_currency.items():
            fields = {name: None if value is None else str(value) for name, value in zip(columns, key[1:], strict=True)}
            number = plain(Decimal(quantity.numerator) / Decimal(quantity.denominator))
            amount = plain(amounts[key][currency]) if is_priced else None
            made.append(
                {"customer_id": str(key[0]), **fields, "quantity": number, "amount": amount, "currency": currency}
            )
    return made


def reconciled(store: Store, lines: list[dict[str, Any]], book: list[dict[str, Any]]) -> Result:
    prices = list(map(price_oracle.fields_of, book))
    frame = pd.DataFrame(lines, dtype="str")
    return examine(store, NAME, PERIOD, invoices=frame, prices=prices, wallets=WALLETS)


@pytest.mark.parametrize("columns", COLUMNS, ids=",".join)
@pytest.mark.parametrize("seed", seeds(range(6)))
def test_the_right_invoice_matches(store: Store, events: list[Row], seed: int, columns: tuple[str, ...]) -> None:
    book = random_book(seed)
    lines = invoice(book, within(events), columns)
    result = reconciled(store, lines, book)
    assert result.outcome is not None
    assert result.outcome.sheet is not None
    assert set(result.outcome.sheet["status"]) == {"matched"}
    assert [finding.sentence for finding in result.outcome.findings] == []


@pytest.mark.parametrize("seed", seeds(range(12)))
def test_every_tampered_amount_is_found_with_its_difference(store: Store, events: list[Row], seed: int) -> None:
    draw, book = random.Random(seed), random_book(seed)
    columns = draw.choice(COLUMNS)
    lines = invoice(book, within(events), columns)
    billed = [line for line in lines if line["amount"] is not None]
    tampered = draw.sample(billed, min(len(billed), 3))
    off = {id(line): Decimal(draw.choice(["-7.77", "0.02", "1234.5", "3"])) for line in tampered}
    expected: dict[Key, Decimal] = defaultdict(Decimal)
    for line in tampered:
        change = off[id(line)].to_integral_value() if line["currency"] == "JPY" else off[id(line)]
        line["amount"] = plain(Decimal(line["amount"]) + change)
        if change:
            expected[line["customer_id"], *(line[name] for name in columns), line["currency"]] += change
    result = reconciled(store, lines, book)
    assert result.outcome is not None
    sheet = result.outcome.sheet
    assert sheet is not None
    wrong = sheet[sheet["status"] != "matched"]
    assert set(wrong["status"]) <= {"wrong amount"}
    changes: dict[Key, set[Decimal]] = defaultdict(set)
    for (*key, _), change in expected.items():
        changes[tuple(key)].add(change)
    keys = [
        tuple(None if pd.isna(value) else value for value in row) for row in wrong[["customer_id", *columns]].values
    ]
    assert set(keys) == set(changes)  # wallets with other units have rows of their own
    for key, (_, row) in zip(keys, wrong.iterrows(), strict=True):
        assert row["amount_difference"] in changes[key]
