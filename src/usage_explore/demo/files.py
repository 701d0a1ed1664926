"""Files to try a validation of the demo with: prices, an invoice with mistakes, preferences, control totals.

The price book is what the demo's invoices charge for a unit of each metric, the same number in every currency. Invoice
lines are as a biller would have written them at finalization, control totals as the gateway would have counted them,
with mistakes and a loss to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import MAX_PREC, ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from usage_explore.decimals import plain
from usage_explore.demo import business
from usage_explore.errors import ConfigurationError
from usage_explore.formatting import path_text
from usage_explore.query import buckets
from usage_explore.query.base import expect
from usage_explore.query.queries import AggregateQuery, Metric, Period
from usage_explore.results.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    import pandas as pd

    from usage_explore.store import Store


def write(store: Store, period: Period, folder: Path) -> dict[str, Path]:
    """Write `prices.toml`, `invoices.csv`, `wallets.csv` and `control.csv` of a period into a folder, which is created.

    By the option of `usage-explore validate` that takes each. Files of these names are replaced. Raises
    `ConfigurationError` for a folder that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"--files: {path_text(folder)} cannot be created ({error.strerror}); name another"
        ) from None
    frames = {
        "invoices": invoice_lines(store, period),
        "wallets": wallets(store, period),
        "control": control_totals(store, period),
    }
    paths = {"prices": folder / "prices.toml"}
    with whole_file(paths["prices"]) as part:
        part.write_text(price_book(), encoding="utf-8")
    for name, frame in frames.items():
        paths[name] = folder / f"{name}.csv"
        with whole_file(paths[name]) as part:
            frame.to_csv(part, index=False)
    return paths


MARKUP = 3
"""Price of a unit divided by its external cost."""

DEFAULT_PRICE = Decimal("0.0004")
"""Price of a unit without external cost."""

DEFAULT_CURRENCY = "USD"
"""Currency of customers whose usage has no wallet currency."""


def unit_amount(metric_key: str) -> Decimal:
    """The price of a unit of a metric."""
    rate = next(metric.rate for metric in business.METRICS if metric.key == metric_key)
    return Decimal(rate * MARKUP).scaleb(-10) if rate else DEFAULT_PRICE


def price_rows() -> list[dict[str, str]]:
    """The prices as `Store.rate` takes them: one for each metric and currency."""
    return [
        {"metric_key": metric.key, "currency": currency, "unit_amount": plain(unit_amount(metric.key))}
        for metric in business.METRICS
        for currency in business.CURRENCIES
    ]


def price_book() -> str:
    """The price book as a TOML file."""
    tables = ("\n".join(f'{name} = "{value}"' for name, value in row.items()) for row in price_rows())
    return "# The demo's price book; docs/pricing.md describes the fields.\n" + "".join(
        f"\n[[prices]]\n{table}\n" for table in tables
    )


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


def invoice_lines(store: Store, period: Period, *, mistakes: bool = True) -> pd.DataFrame:
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
            "currency": [currencies.get(line.customer_id, DEFAULT_CURRENCY) for line in billed],
        },
        dtype="str",
    )


def wallets(store: Store, period: Period) -> pd.DataFrame:
    """The preferred currencies of a period's customers, as the invoice charges them, and the organization's default.

    Columns: `customer_id` (str, "default" for the organization), `currency` (str).
    """
    import pandas as pd

    currencies = _wallets(store, expect(Period, period).resolve(store.now()))
    rows = {"default": DEFAULT_CURRENCY, **dict(sorted(currencies.items()))}
    return pd.DataFrame({"customer_id": list(rows), "currency": list(rows.values())}, dtype="str")


def _billed(store: Store, period: Period) -> list[_Line]:
    since, until = period.span
    known = [at for at in (period.as_of, period.finalized_at) if at is not None]
    invoice_lines = []
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
        invoice_lines += [
            _line(str(series.key), metric.key, Decimal(series.number)) for series in store.aggregate(query).series
        ]
    return invoice_lines


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
    invoice_lines = [line for line in correct if line not in (*forgotten, *mistyped)]
    invoice_lines += doubled
    invoice_lines += [_line(line.customer_id, line.metric_key, _swapped(line.quantity)) for line in mistyped]
    invoice_lines += _unused(correct)
    return sorted(invoice_lines, key=_rank)


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
    exact = _EXACT.multiply(quantity, unit_amount(metric_key))
    amount = exact.quantize(CENT, rounding=ROUND_HALF_UP, context=_EXACT)
    return _Line(customer_id, metric_key, quantity, amount)


LOST_METRIC = "tokens_in"
"""Metric of which events never arrived."""

LOST_PERCENT = 3
"""Per cent of the events, and of their quantity, that the gateway counted and that never arrived."""

FIRST_LOST_DAY, LOST_DAYS = 10, 5
"""The first day of the period with the loss, from 1, and the number of days."""


def control_totals(store: Store, period: Period, *, loss: bool = True) -> pd.DataFrame:
    """The control totals of a period by day of its time zone and metric, in their order.

    Columns: `day` (str, date), `metric_key` (str), `events` (int64), `quantity` (str, exact decimal). With `loss` the
    gateway counted more than arrived: `LOST_PERCENT` of `LOST_METRIC` on `LOST_DAYS` days. `frame.to_csv(path,
    index=False)` is exact.

    Raises what `Store.aggregate` raises, and `QueryError` for a `period` that is not a `Period`.
    """
    import pandas as pd

    resolved = expect(Period, period).resolve(store.now())
    events, quantities = _by_day(store, resolved, "count"), _by_day(store, resolved, "sum_quantity")
    first = buckets.local_date(resolved.span[0], resolved.zone)
    rows = []
    for (day, metric), number in sorted(events.items()):
        quantity = Decimal(quantities[day, metric])
        counted = int(number)
        if loss and metric == LOST_METRIC and FIRST_LOST_DAY - 1 <= (day - first).days < FIRST_LOST_DAY - 1 + LOST_DAYS:
            counted += round(counted * LOST_PERCENT / (100 - LOST_PERCENT))
            quantity += round(quantity * LOST_PERCENT / (100 - LOST_PERCENT))
        if counted:
            rows.append((day.isoformat(), metric, counted, plain(quantity)))
    return pd.DataFrame(rows, columns=["day", "metric_key", "events", "quantity"])


def _by_day(store: Store, period: Period, metric: Metric) -> Mapping[tuple[date, str], int | Decimal]:
    since, until = period.span
    query = AggregateQuery(
        since=since,
        until=until,
        timezone=period.timezone,
        metric=metric,
        group_by="metric_key",
        top=0,
        as_of=period.as_of,
    )
    return {
        (buckets.local_date(point.start, period.zone), str(series.key)): point.number
        for series in store.aggregate(query).series
        for point in series.points
    }
