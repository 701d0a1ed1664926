"""Corrections have each event, cost and amount of the changes once, usage and its amount in one row."""

from __future__ import annotations

import random
from collections.abc import Iterable
from decimal import Decimal
from uuid import UUID

from usage_explore.validation.corrections import Correction, corrections
from usage_explore.validation.signed_usage import REASONS, Change

CUSTOMERS = [str(UUID(int=number)) for number in (1, 2)]
WALLETS = {UUID(int=1): "EUR", None: "USD"}


def sums(items: Iterable[tuple[str | None, Decimal | None]]) -> dict[str | None, Decimal]:
    """Numbers by currency, without zeros."""
    added: dict[str | None, Decimal] = {}
    for currency, number in items:
        if number:
            added[currency] = added.get(currency, Decimal(0)) + number
    return {currency: number for currency, number in added.items() if number}


def test_the_sums_of_the_corrections_are_those_of_the_changes() -> None:
    draw = random.Random(1)

    def number() -> Decimal:
        return Decimal(draw.randrange(-5, 6)) / 4

    for _ in range(300):
        rows = []
        for _ in range(draw.randrange(8)):
            currency = draw.choice([None, "USD", "EUR"])
            key = draw.choice(CUSTOMERS), draw.choice("ab"), draw.choice([None, "EUR", "USD"]), currency
            if draw.random() < 0.4:
                rows.append(Change((*key[:3], currency or "USD"), "expected amount", amount=number()))
            else:
                reason = draw.choice(REASONS[:3])
                rows.append(Change(key, reason, draw.randrange(-3, 4), number(), number() if currency else Decimal(0)))
        lines = corrections(rows, WALLETS)
        assert sum(line.events for line in lines) == sum(row.events for row in rows)
        assert sums((line.metric_key, line.quantity) for line in lines) == sums(
            (row.key[1], row.quantity) for row in rows
        )
        assert sums((line.cost_currency, line.cost) for line in lines) == sums((row.key[3], row.cost) for row in rows)
        assert sums((line.amount_currency, line.amount) for line in lines) == sums(
            (row.key[3], row.amount) for row in rows
        )


def test_usage_and_its_amount_are_one_row_whatever_the_wallet_column_says() -> None:
    """Events without a cost beside those of a cost, late ones beside edited ones: one amount, one row."""
    customer = CUSTOMERS[0]
    rows = [
        Change((customer, "calls", None, None), "arrived late", 2, Decimal(3)),
        Change((customer, "calls", "EUR", "USD"), "changed or removed", -1, Decimal(-1), Decimal("-0.5")),
        Change((customer, "calls", "EUR", "EUR"), "expected amount", amount=Decimal("-0.25")),
        Change((customer, "other", None, "USD"), "arrived late", 1, Decimal(1), Decimal(1)),
    ]
    one, other = corrections(rows, WALLETS)
    assert one == Correction(
        customer_id=customer,
        metric_key="calls",
        wallet_currency="EUR",
        reasons=("arrived late", "changed or removed"),
        events=1,
        quantity=Decimal(2),
        cost=Decimal("-0.5"),
        cost_currency="USD",
        amount=Decimal("-0.25"),
        amount_currency="EUR",
    )
    assert one.correction == "credit"
    assert (other.wallet_currency, other.amount, other.correction) == ("EUR", None, "supplement"), "without a price"


def test_an_edit_is_billed_only_if_its_amount_changed() -> None:
    edited = Change((CUSTOMERS[0], "calls", "EUR", "USD"), "edited")
    amount = Change((CUSTOMERS[0], "calls", "EUR", "EUR"), "expected amount", amount=Decimal(1))
    assert [line.correction for line in corrections([edited], {})] == ["none"]
    assert [line.correction for line in corrections([edited, amount], {})] == ["supplement"]


def test_usage_whose_amount_did_not_change_has_an_amount_of_zero_and_usage_without_a_price_none() -> None:
    def late(metric: str, wallet: str | None = None, note: str = "") -> Change:
        return Change((CUSTOMERS[0], metric, wallet, None), "arrived late", 1, Decimal(2), note=note)

    rows = [
        late("included"),
        late("unpriced"),
        late("divided", note="its amount cannot be separated"),
        Change((CUSTOMERS[0], "edited", "EUR", None), "edited"),
    ]
    rated = [(CUSTOMERS[0], metric, "EUR", "EUR") for metric in ("included", "divided", "edited", "unchanged")]
    found = {line.metric_key: line for line in corrections(rows, WALLETS, rated)}
    included = found.pop("included")
    assert (included.amount, included.amount_currency, included.wallet_currency) == (Decimal(0), "EUR", "EUR")
    assert (included.correction, included.reason) == ("supplement", "arrived late")
    assert {name: (line.amount, line.correction) for name, line in found.items()} == {
        "unpriced": (None, "supplement"),
        "divided": (None, "supplement"),
        "edited": (None, "none"),
    }
