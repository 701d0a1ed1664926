"""The currencies of costs: amounts in different ones are never added.

The currency of a cost is the exact text of `external_cost_currency`: `usd`, `USD` and `USD ` are three. A cost without
a currency is in a currency of its own, the missing one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from usage_explore.errors import Fault, QueryError
from usage_explore.formatting import MAX_LISTED, counted, data_value
from usage_explore.query.filters import CURRENCY
from usage_explore.results.types import Series

Currencies = tuple[str | None, ...]
"""The currencies of some costs, None for the missing one."""


class CurrencyCost(NamedTuple):
    """The events that have a cost in a currency, None for a cost without one, and the exact sum of their costs."""

    currency: str | None
    events: int
    cost: Decimal


def in_order(costs: Iterable[CurrencyCost]) -> list[CurrencyCost]:
    """The currency of most events first, ties by code point, the missing one last among equals."""
    return sorted(costs, key=lambda cost: (-cost.events, cost.currency is None, cost.currency or ""))


def check_currencies(costs: Sequence[CurrencyCost]) -> None:
    """Raise `QueryError` for costs in several currencies, naming them and the parameters that choose one."""
    if len(costs) <= 1:
        return
    named = [f"{_name(cost.currency)} ({counted(cost.events, 'event')})" for cost in costs[:MAX_LISTED]]
    if more := len(costs) - len(named):
        named.append(f"{more:,} more")
    first = costs[0].currency
    choice = f"missing={CURRENCY}" if first is None else f"{CURRENCY}={_name(first)}"
    message = (
        f"the costs of these events are in {len(costs):,} currencies, which do not add up: "
        f"{', '.join(named[:-1])} and {named[-1]}; choose one, such as {choice}, or group_by={CURRENCY}"
    )
    raise QueryError([Fault(CURRENCY, message)])


def check_folded(costs: Sequence[CurrencyCost], series: Iterable[Series]) -> None:
    """Raise `QueryError` if Other would add several currencies."""
    kept = {(item.kind, item.key) for item in series}
    folded = [
        cost.currency for cost in costs if ("missing" if cost.currency is None else "value", cost.currency) not in kept
    ]
    if len(folded) > 1:
        message = (
            f"would fold {len(folded):,} currencies into Other, which do not add up; use 0 or at least {len(costs):,}"
        )
        raise QueryError([Fault("top", message)])


def _name(currency: str | None) -> str:
    return data_value(currency)
