"""Invoice lines to reconcile, read from a file or a frame: each value checked, numbers exact.

Columns in any order; upper or lower case; spaces or hyphens for underscores:

    customer_id      (or customer)      required  UUID, or its text in files that were loaded
    metric_key       (or metric)        required, or price_key: what was billed
    price_key        (or price)         required, or metric_key
    subscription_id  (or subscription)            the same
    wallet_currency  (or wallet)
    quantity                            required  decimal
    amount                                        decimal: the price charged for the quantity
    currency                                      of the amount; upper and lower case are one, spaces ignored
    period_start, period_end                      half-open: times with an offset, or dates

Usage is recomputed by customer and by those of subscription, metric, price and wallet that any line has. A line that
leaves one of them blank bills the usage without it. Dates are midnights of the validated period's time zone; an end may
be the last day or the day after it. Lines outside the validated period are not compared. Lines of one key are summed.
Other columns are ignored and listed in `Invoices.ignored`; one that looks like a misspelt known column is an error.

Quantities and amounts are exact: text, integers and decimals are taken digit for digit, floats are refused. A metric
key has at most 1,024 bytes, as in a loaded event, another key or a currency 4,096.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import MAX_PREC, Context, Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from usage_explore.errors import Fault, QueryError
from usage_explore.files.tables import opened
from usage_explore.files.values import Edge, InvalidValue, edge, exact_decimal, id_reader, metric_key_text
from usage_explore.pricing import currencies
from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.validation.table_columns import (
    Column,
    Columns,
    currency,
    key,
)

if TYPE_CHECKING:
    from usage_explore.files.tables import RecordSource

InvoiceSource: TypeAlias = "RecordSource | Invoices"
"""A `.csv`, `.xlsx` or `.parquet` file, a pandas frame, an Arrow table, or invoices that were read before."""

PARAMETER = "invoices"
"""The argument that faults name."""

MAX_LINES = 250_000
"""Lines of all invoices together; in memory a line takes up to 650 bytes."""

KEY_COLUMNS = ("subscription_id", "metric_key", "price_key", "wallet_currency")
"""Columns that usage may be recomputed by, beside the customer."""


MAX_WHOLE_ROUNDING = Decimal("0.999999")
"""Units of a currency with decimals by which an amount without them may be rounded: less than one, so that 2 USD and
4 USD for equal quantities differ."""

_FLOAT_DIGITS = 14
"""Exact digits of a binary float that was written out: 0.30000000000000004."""

_EXACT = Context(prec=MAX_PREC)


class InvoiceLine(NamedTuple):
    """One invoice line; `line` is its number in the file, or its row in the frame, from 1."""

    line: int
    customer_id: UUID
    subscription_id: UUID | None
    metric_key: str | None
    price_key: str | None
    wallet_currency: str | None
    period_start: Edge | None
    period_end: Edge | None
    quantity: Decimal
    amount: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoices:
    """The lines of invoices.

    `columns` are the `KEY_COLUMNS` that any line has a value in, `ignored` the source's unknown columns, `left_out`
    says which of them may be amounts. `tolerance` is the largest difference between invoiced and used quantity that
    still matches.
    """

    lines: tuple[InvoiceLine, ...]
    columns: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    left_out: str = ""
    tolerance: Decimal = Decimal(0)

    @property
    def ids(self) -> Iterator[UUID | None]:
        """The ids of customers and subscriptions."""
        return (id_ for line in self.lines for id_ in (line.customer_id, line.subscription_id))

    def with_ids(self, ids: Mapping[UUID, UUID]) -> Invoices:
        """The same lines with other ids."""
        return replace(
            self,
            lines=tuple(
                line._replace(
                    customer_id=ids.get(line.customer_id, line.customer_id),
                    subscription_id=line.subscription_id and ids.get(line.subscription_id, line.subscription_id),
                )
                for line in self.lines
            ),
        )


def read_invoices(source: InvoiceSource, tolerance: Decimal | int | str = 0) -> Invoices:
    """The lines in a `.csv`, `.xlsx` or `.parquet` file, a frame or an Arrow table; `Invoices` stay as they are.

    Raises `QueryError` that names each faulty line, its column and a fix, and for more than 250,000 lines.

    >>> read_invoices("september.csv", tolerance="0.01")  # doctest: +SKIP
    """
    if isinstance(source, Invoices):
        return source
    allowed = _tolerance(tolerance)
    with opened(source, PARAMETER) as records:
        columns, ignored = _TABLE.known(records)
        left_out = _TABLE.left_out(columns, ignored)
        lines = tuple(InvoiceLine(*values) for values in _TABLE.lines(records, columns, MAX_LINES, left_out=left_out))
    if not lines:
        raise QueryError([Fault(PARAMETER, "there are no lines; give the invoices of the period, or leave them out")])
    keys = tuple(name for name in KEY_COLUMNS if any(getattr(line, name) is not None for line in lines))
    return Invoices(lines=lines, columns=keys, ignored=ignored, left_out=left_out.note(), tolerance=allowed)


def last_decimal(amount: Decimal, currency: str, is_whole: bool = False) -> Decimal:
    """One unit of the last decimal that an amount is rounded to: 0.01 for 14.5 EUR, 1 for whole units."""
    known = currencies.scale(currency)
    usual = min(decimals_of(amount), 2) if known is None else known
    if is_whole and usual:
        return max(MAX_WHOLE_ROUNDING, Decimal(1).scaleb(amount.adjusted() - _FLOAT_DIGITS))
    decimals = max(decimals_of(_EXACT.normalize(amount)), usual)
    return max(Decimal(1).scaleb(-decimals), Decimal(1).scaleb(amount.adjusted() - _FLOAT_DIGITS))


def decimals_of(amount: Decimal) -> int:
    """The decimals that an amount is written with."""
    exponent = amount.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def position(line: InvoiceLine, period: Period) -> Literal["inside", "outside", "across"]:
    """Where a line's period lies; a line without one is inside.

    Its dates are midnights of the period's time zone. An end that is a date and equals the start is that one day.
    """
    if line.period_start is None or line.period_end is None:
        return "inside"
    since, until = period.span
    start, end = (
        buckets.edge_instant(line.period_start, period.zone),
        buckets.edge_instant(line.period_end, period.zone),
    )
    if start == end:
        end = buckets.edge_instant(line.period_end + timedelta(days=1), period.zone)
    if start >= until or end <= since:
        return "outside"
    return "inside" if start >= since and end <= until else "across"


def _tolerance(value: object) -> Decimal:
    try:
        tolerance = exact_decimal(value)
    except InvalidValue as error:
        raise QueryError([Fault("tolerance", str(error))]) from None
    if tolerance < 0:
        raise QueryError([Fault("tolerance", "is negative; give how far quantities may differ, 0 for not at all")])
    return tolerance


_COLUMNS: Mapping[str, Column] = {
    "customer_id": Column(id_reader("customer"), ("customer",)),
    "subscription_id": Column(id_reader("subscription"), ("subscription",)),
    "metric_key": Column(metric_key_text, ("metric",)),
    "price_key": Column(key, ("price",)),
    "wallet_currency": Column(key, ("wallet",)),
    "period_start": Column(edge),
    "period_end": Column(edge),
    "quantity": Column(exact_decimal, is_exact=True),
    "amount": Column(exact_decimal, is_exact=True),
    "currency": Column(currency),
}
"""The columns in the order of `InvoiceLine`."""


def _blanks(values: Mapping[str, Any]) -> list[str]:
    errors = [f"{name}: is blank; each line needs one" for name in ("customer_id", "quantity") if values[name] is None]
    if values["metric_key"] is None and values["price_key"] is None:
        errors.append("metric_key and price_key: both are blank; say what was billed")
    return errors


def _period_errors(values: Mapping[str, Any]) -> list[str]:
    start, end = values["period_start"], values["period_end"]
    if (start is None) != (end is None):
        return [f"{'period_start' if start is None else 'period_end'}: is blank while its other end is given"]
    if start is None or end is None:
        return []
    if isinstance(start, datetime) != isinstance(end, datetime):
        return ["period_end: is not of the kind of period_start; give two dates or two times"]
    if end < start or (end == start and isinstance(start, datetime)):
        return ["period_end: is not after period_start"]
    return []


_TABLE = Columns(
    parameter=PARAMETER,
    columns=_COLUMNS,
    required=(("customer_id",), ("quantity",), ("metric_key", "price_key")),
    blanks=_blanks,
    errors=_period_errors,
)
