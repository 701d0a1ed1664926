"""Control totals read from a file or a frame: what a gateway, a provider or its bill counted on a day.

Columns in any order; upper or lower case; spaces or hyphens for underscores. Other names are those of gateways' exports
and of the FinOps FOCUS specification (https://focus.finops.org), whose charge periods are spans of time:

    day           required  date, also 1.10.2026; with `until`, start of a span; date, period_start, ChargePeriodStart
    until                   end of the span: a time, a date, or the day itself; period_end, ChargePeriodEnd
    metric_key    required with events or quantity; metric, SkuMeter, in a FOCUS bill else ServiceName and so on
    customer_id             UUID, or its text in files that were loaded; customer
    events                  integer; count
    quantity                decimal; ConsumedQuantity
    cost                    decimal, with a currency; external_cost_amount, BilledCost
    currency                of the cost; external_cost_currency, BillingCurrency

Of events, quantity and cost a line gives at least one. Dates are days of the validated period's time zone, and so is a
span, or a time at local midnight without an end; a span of several days cannot be compared by day. Lines of one day,
metric, customer and currency are summed. A line without a customer is the total of all customers; a cost without a
metric is that of all metrics. Numbers are exact: floats are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from uuid import UUID

from usage_explore.errors import Fault, QueryError
from usage_explore.files.tables import opened
from usage_explore.files.values import Edge, InvalidValue, edge, exact_decimal, id_reader, metric_key_text, quoted
from usage_explore.validation.table_columns import (
    Column,
    Columns,
    currency,
)

if TYPE_CHECKING:
    from usage_explore.files.tables import RecordSource

ControlSource: TypeAlias = "RecordSource | ControlTotals"
"""A `.csv`, `.xlsx` or `.parquet` file, a pandas frame, an Arrow table, or control totals that were read before."""

PARAMETER = "control"
"""The argument that faults name."""

MAX_EVENTS = 10**13
"""Events of one line: `MAX_LINES` of them still add up to a 64-bit integer."""

MAX_LINES = 500_000
"""Lines of all control totals together: a year of 1,000 metrics and customers is 365,000."""


class ControlLine(NamedTuple):
    """One control total; `line` is its number in the file, or its row in the frame, from 1."""

    line: int
    day: Edge
    until: Edge | None
    metric_key: str | None
    customer_id: UUID | None
    events: int | None
    quantity: Decimal | None
    cost: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTotals:
    """Control totals; `ignored` are the source's unknown columns, `left_out` which of them may be further totals."""

    lines: tuple[ControlLine, ...]
    ignored: tuple[str, ...] = ()
    left_out: str = ""

    @property
    def ids(self) -> Iterator[UUID | None]:
        """The ids of customers."""
        return (line.customer_id for line in self.lines)

    def with_ids(self, ids: Mapping[UUID, UUID]) -> ControlTotals:
        """The same totals with other ids."""
        given = (
            line._replace(customer_id=ids.get(id_, id_)) if (id_ := line.customer_id) else line for line in self.lines
        )
        return replace(self, lines=tuple(given))


def read_control(source: ControlSource) -> ControlTotals:
    """The totals in a `.csv`, `.xlsx` or `.parquet` file, a frame or an Arrow table; `ControlTotals` stay as they are.

    Raises `QueryError` that names each faulty line, its column and a fix, and for more than 500,000 lines.

    >>> read_control("gateway.csv")  # doctest: +SKIP
    """
    if isinstance(source, ControlTotals):
        return source
    with opened(source, PARAMETER) as records:
        columns, ignored = _TABLE.known(records)
        chains = _focus_chains(records.names)
        if "metric_key" not in {*columns, *chains} and "cost" not in columns:
            raise QueryError([_TABLE.missing(("metric_key",), ignored)])
        left_out = _TABLE.left_out(columns, () if chains else ignored)
        lines = tuple(ControlLine(*values) for values in _TABLE.lines(records, columns, MAX_LINES, chains, left_out))
        used = {column for chain in chains.values() for column in chain}
        ignored = tuple(name for name in ignored if name not in used)
    if not lines:
        raise QueryError([Fault(PARAMETER, "there are no lines; give the totals of the period, or leave them out")])
    return ControlTotals(lines=lines, ignored=ignored, left_out=left_out.note())


def _focus_chains(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The columns that a row of a FOCUS bill has its metric and quantity in, as `load` reads them; none of other files.

    A tax, a credit or a purchase has no meter: its cost is that of its service or category, not of all metrics.
    """
    from usage_explore.load.mapping import preset_named

    bill, by_word = preset_named("focus"), {name.strip().lower(): name for name in names}
    if not bill.fit(by_word):
        return {}
    chains = {name: [*map(str.lower, bill.mapping.columns[name])] for name in ("metric_key", "quantity")}
    found = {name: tuple(by_word[word] for word in chain if word in by_word) for name, chain in chains.items()}
    return {name: columns for name, columns in found.items() if columns}


def _count(raw: object) -> int:
    number = exact_decimal(raw)
    if number < 0 or number != number.to_integral_value():
        raise InvalidValue(f"{quoted(raw)} is not a number of events; give a whole number from 0")
    if number > MAX_EVENTS:
        raise InvalidValue(f"{quoted(raw)} is more than {MAX_EVENTS:,} events; correct it, or leave it blank")
    return int(number)


def _blanks(values: Mapping[str, Any]) -> list[str]:
    errors = ["day: is blank; each line needs one"] if values["day"] is None else []
    counted = [name for name in ("events", "quantity") if values[name] is not None]
    if not counted and values["cost"] is None:
        errors.append("events, quantity and cost: all are blank; give at least one")
    if counted and values["metric_key"] is None:
        errors.append(
            f"metric_key: is blank, while {' and '.join(counted)} of a metric {'are' if counted[1:] else 'is'} given"
        )
    if values["cost"] is not None and values["currency"] is None:
        errors.append("currency: is blank; say which one the cost is in")
    return errors


def _errors(values: Mapping[str, Any]) -> list[str]:
    day, until = values["day"], values["until"]
    if until is None:
        return []
    if isinstance(day, datetime) != isinstance(until, datetime):
        return ["until: is not of the kind of day; give two dates or two times"]
    return ["until: is not after day"] if until < day or (until == day and isinstance(day, datetime)) else []


_TABLE = Columns(
    parameter=PARAMETER,
    columns={
        "day": Column(edge, ("date", "usage_date", "period_start", "charge_period_start", "chargeperiodstart")),
        "until": Column(edge, ("period_end", "charge_period_end", "chargeperiodend")),
        "metric_key": Column(metric_key_text, ("metric", "sku_meter", "skumeter")),
        "customer_id": Column(id_reader("customer"), ("customer",)),
        "events": Column(_count, ("count", "event_count"), is_exact=True),
        "quantity": Column(exact_decimal, ("consumed_quantity", "consumedquantity"), is_exact=True),
        "cost": Column(exact_decimal, ("external_cost_amount", "billed_cost", "billedcost"), is_exact=True),
        "currency": Column(currency, ("external_cost_currency", "billing_currency", "billingcurrency")),
    },
    required=(("day",), ("events", "quantity", "cost")),
    blanks=_blanks,
    errors=_errors,
)
