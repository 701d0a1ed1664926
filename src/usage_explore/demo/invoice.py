"""Invoice lines of the demo as a biller would have written them at finalization, with mistakes to find."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import MAX_PREC, ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING

from usage_explore.decimals import plain
from usage_explore.demo import business, prices
from usage_explore.query.base import expect
from usage_explore.query.queries import AggregateQuery, Period

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.store import Store

CENT = Decimal("0.01")

MISTAKES: dict[str, str] = {
    "forgotten": "the 5th largest line is not there",
    "doubled": "the 8th largest line is there twice",
    "mistyped": "the last two different neighbouring digits before the point of the 11th largest line's quantity are"
    " swapped",
    "unused": "the customer of the last line, of those that did not use every metric, is also charged for 250 of the"
    " first one it did not use",
}
"""Name -> description of the planted mistakes; lines are ranked by amount. Usage that arrived after finalization is
missing too."""

_EXACT = Context(prec=MAX_PREC)
_UNUSED = Decimal(250)


@dataclass(frozen=True, slots=True)
class _Line:
    customer_id: str
    metric_key: str
    quantity: Decimal
    amount: Decimal


def lines(store: Store, period: Period, *, mistakes: bool = True) -> pd.DataFrame:
    """The invoice lines of a period, from the usage ingested by its `finalized_at`, the largest amounts first.

    Columns: `customer_id`, `metric_key` (str), `period_start`, `period_end` (str, RFC 3339), `quantity`, `amount` (str:
    exact decimals, the amount rounded to cents), `currency` (str). All text, so that `frame.to_csv(path, index=False)`
    is exact. With `mistakes` the lines have those of `MISTAKES`, as far as there are enough lines.

    Raises what `Store.aggregate` raises, and `QueryError` for a `period` that is not a `Period`.
    """
    import pandas as pd

    resolved = expect(Period, period).resolve(store.now())
    billed = _billed(store, resolved)
    billed.sort(key=_rank)
    if mistakes:
        billed = _with_mistakes(billed)
    currencies = _wallets(store, resolved)
    since, until = (end.isoformat() for end in resolved.span)
    return pd.DataFrame(
        {
            "customer_id": [line.customer_id for line in billed],
            "metric_key": [line.metric_key for line in billed],
            "period_start": since,
            "period_end": until,
            "quantity": [plain(line.quantity) for line in billed],
            "amount": [plain(line.amount) for line in billed],
            "currency": [currencies.get(line.customer_id, prices.DEFAULT_CURRENCY) for line in billed],
        },
        dtype="str",
    )


def wallets(store: Store, period: Period) -> pd.DataFrame:
    """The preferred currencies of a period's customers, as the invoice charges them, and the organization's default.

    Columns: `customer_id` (str, "default" for the organization), `currency` (str).
    """
    import pandas as pd

    currencies = _wallets(store, expect(Period, period).resolve(store.now()))
    rows = {"default": prices.DEFAULT_CURRENCY, **dict(sorted(currencies.items()))}
    return pd.DataFrame({"customer_id": list(rows), "currency": list(rows.values())}, dtype="str")


def _billed(store: Store, period: Period) -> list[_Line]:
    since, until = period.span
    known = [at for at in (period.as_of, period.finalized_at) if at is not None]
    lines = []
    used = {choice.value for choice in store.metric_keys(period)}
    for metric in (metric for metric in business.METRICS if metric.key in used):
        query = AggregateQuery(
            since=since,
            until=until,
            bucket="week",
            metric="sum_quantity",
            group_by="customer_id",
            metric_key=metric.key,
            top=0,
            as_of=min(known, default=None),
        )
        lines += [
            _line(str(series.key), metric.key, Decimal(series.number)) for series in store.aggregate(query).series
        ]
    return lines


def _wallets(store: Store, period: Period) -> dict[str, str]:
    """Customer id -> wallet currency, of customers whose usage has one."""
    since, until = period.span
    query = AggregateQuery(since=since, until=until, bucket="week", group_by="customer_id", top=0, as_of=period.as_of)
    return {
        str(series.key): currency
        for currency in business.CURRENCIES
        for series in store.aggregate(query.replace(wallet_currency=currency)).series
    }


def _with_mistakes(correct: list[_Line]) -> list[_Line]:
    """The lines with the `MISTAKES`."""
    forgotten, doubled, mistyped = (correct[rank - 1 : rank] for rank in (5, 8, 11))
    lines = [line for line in correct if line not in (*forgotten, *mistyped)]
    lines += doubled
    lines += [_line(line.customer_id, line.metric_key, _swapped(line.quantity)) for line in mistyped]
    lines += _unused(correct)
    return sorted(lines, key=_rank)


def _rank(line: _Line) -> tuple[Decimal, str, str]:
    """The largest amounts first."""
    return line.amount.copy_negate(), line.customer_id, line.metric_key


def _swapped(quantity: Decimal) -> Decimal:
    """The quantity with the last two different neighbouring digits before its point swapped: 1233 gives 1323."""
    whole, point, rest = plain(quantity).partition(".")
    for at in range(len(whole) - 1, 0, -1):
        first, second = whole[at - 1], whole[at]
        if first.isdigit() and first != second:
            return Decimal(f"{whole[: at - 1]}{second}{first}{whole[at + 1 :]}{point}{rest}")
    return quantity


def _unused(correct: list[_Line]) -> list[_Line]:
    """A line for a metric that its customer did not use; none where every customer used every metric."""
    used = {(line.customer_id, line.metric_key) for line in correct}
    for line in reversed(correct):
        for metric in business.METRICS:
            if (line.customer_id, metric.key) not in used:
                return [_line(line.customer_id, metric.key, _UNUSED)]
    return []


def _line(customer_id: str, metric_key: str, quantity: Decimal) -> _Line:
    exact = _EXACT.multiply(quantity, prices.unit_amount(metric_key))
    amount = exact.quantize(CENT, rounding=ROUND_HALF_UP, context=_EXACT)
    return _Line(customer_id, metric_key, quantity, amount)
