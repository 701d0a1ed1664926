"""A wrong amount that lies in one price is named by it, and is not where two prices could be wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

import pandas as pd

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, event
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.validation import Finding

Make = Callable[[list[Row]], Store]
CENT = Decimal("0.01")
PRODUCTS = (UUID(int=0xD1), UUID(int=0xD2))
USED = ((511, 97), (1203, 4020), (77, 333), (2044, 801), (650, 0))
"""Calls of two products, by customer; the last one used the first product alone."""


def book(*unit_amounts: str) -> list[dict[str, Any]]:
    return [{"metric_key": "calls", "product_id": str(product), "unit_amount": price, "currency": "USD"}
            for product, price in zip(PRODUCTS, unit_amounts, strict=True)]  # fmt: skip


def usage() -> list[Row]:
    return [
        event(who, SINCE + timedelta(days=3 + day), product_id=product, quantity=Decimal(part))
        for who, quantities in enumerate(USED)
        for product, quantity in zip(PRODUCTS, quantities, strict=True)
        for day, part in enumerate((quantity - 1, 1) if quantity else ())
    ]


def rounded(quantity: int, price: str) -> Decimal:
    return (quantity * Decimal(price)).quantize(CENT, ROUND_HALF_UP)


def validated(store: Store, charged: list[Decimal], prices: list[dict[str, Any]]) -> tuple[Finding, ...]:
    lines = [(str(CUSTOMERS[who]), "calls", str(sum(USED[who])), str(amount), "USD")
             for who, amount in enumerate(charged)]  # fmt: skip
    names = ["customer_id", "metric_key", "quantity", "amount", "currency"]
    frame = pd.DataFrame(lines, columns=names, dtype="str")
    return store.validate(SEPTEMBER, checks=["reconciliation"], invoices=frame, prices=prices).findings


def test_a_factor_of_one_of_two_prices_is_named_with_that_price(make: Make) -> None:
    right = [rounded(one, "0.37") + rounded(two, "0.11") for one, two in USED]
    wrong = [(rounded(one, "0.37") * Decimal("1.2")).quantize(CENT, ROUND_HALF_UP) + rounded(two, "0.11")
             for one, two in USED]  # fmt: skip
    store = make(usage())
    found = validated(store, wrong, book("0.37", "0.11"))
    assert len(found) == 1, [one.sentence for one in found]
    (finding,) = found
    assert finding.kind == "factor 1.2 of one price"
    assert "5 totals of 5 customers" in finding.sentence
    assert "each is 1.2 times what is expected by price 1, " in finding.sentence
    assert finding.amounts == (("USD", sum(wrong) - sum(right)),)
    assert validated(store, right, book("0.37", "0.11")) == ()


def test_a_price_that_is_not_in_the_book_is_named_also_where_the_book_has_0(make: Make) -> None:
    rows = [row for row in usage() if row.product_id == PRODUCTS[0]]
    prices = book("0", "0.11")
    lines = [(str(CUSTOMERS[who]), "calls", str(one), str(rounded(one, "0.013")), "USD")
             for who, (one, _) in enumerate(USED)]  # fmt: skip
    names = ["customer_id", "metric_key", "quantity", "amount", "currency"]
    frame = pd.DataFrame(lines, columns=names, dtype="str")
    (finding,) = make(rows).validate(SEPTEMBER, checks=["reconciliation"], invoices=frame, prices=prices).findings
    assert finding.kind == "price not in the book"
    assert "each is the amount at 0.013 USD a unit, which no price of the book for it is" in finding.sentence
    assert finding.amounts == (("USD", sum(rounded(one, "0.013") for one, _ in USED)),)


def test_amounts_without_a_common_price_or_factor_have_no_cause(make: Make) -> None:
    wrong = [rounded(one, "0.37") + rounded(two, "0.11") + 3 + who * who for who, (one, two) in enumerate(USED)]
    found = validated(make(usage()), wrong, book("0.37", "0.11"))
    assert {finding.kind for finding in found} == {"wrong amount"}
