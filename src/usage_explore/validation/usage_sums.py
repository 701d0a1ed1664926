"""Exact sums of usage that a finding is about, its share of the period, and the query that shows it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Select, Table, Uuid, any_, func, select

from usage_explore.decimals import plain, total
from usage_explore.formatting import counted, data_value, listed
from usage_explore.pricing.currencies import rounded_sums
from usage_explore.query import validators
from usage_explore.query.queries import EventQuery, Period
from usage_explore.sql.filters import array, conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import INSTANT, currency_codes, part

_Key = TypeVar("_Key")

OwnUsage = Mapping[tuple[UUID, str], tuple[int, Decimal]]
"""(events, quantity) by customer and metric."""

BOUNDS = CheckBounds("common")

# fmt: off
LARGE_SHARE = BOUNDS.add("large_share", Decimal("0.1"), "share", 0, 1,
    "The share of a customer's own usage of a metric from which few events are as grave as many.")
# fmt: on

MAX_FILTER_METRICS = 20
"""Metrics that a finding's query filters by; with more, it shows all of the customer's."""

MAX_FILTER_CHARACTERS = 1_000
"""Characters of a value that a query can filter by, whatever its script."""

_MAX_INDEXED_CUSTOMERS = 200
"""Customers whose usage is read by their index; for more, the whole period is read."""


def sum_keys(table: FromClause) -> tuple[ColumnElement[Any], ...]:
    """The columns that a statement groups by, at least, for its rows to be added to a `UsageSum`."""
    c = table.c
    return c.customer_id, c.metric_key, currency_codes(c.external_cost_currency).label("currency")


def sum_measures(table: FromClause) -> tuple[ColumnElement[Any], ...]:
    """What a statement selects: `events` bigint, `quantity` and `cost` numeric, `first` and `last` timestamptz."""
    c = table.c
    return (
        func.count().label("events"),
        func.sum(c.quantity).label("quantity"),
        func.sum(c.external_cost_amount).label("cost"),
        func.min(c.timestamp).label("first"),
        func.max(c.timestamp).label("last"),
    )


@dataclass(slots=True, kw_only=True)
class UsageSum:
    """Usage between `since` and `until`: (events, quantity) by metric, costs by currency, and its customers.

    Costs without a currency are under None. Sums are exact; of NaN, and of opposite infinities, they are NaN.
    """

    since: datetime
    until: datetime
    metrics: dict[str, tuple[int, Decimal]] = field(default_factory=dict)
    costs: dict[str | None, Decimal] = field(default_factory=dict)
    customers: set[UUID] = field(default_factory=set)

    @classmethod
    def of(cls, rows: Iterable[Any]) -> UsageSum | None:
        """The sum of rows with the `sum_keys` and the `sum_measures`; None without rows."""
        sums = [UsageSum.of_row(row) for row in rows]
        return UsageSum.of_sums(sums) if sums else None

    @classmethod
    def of_sums(cls, sums: Sequence[UsageSum]) -> UsageSum:
        """The sum of one or more sums, which stay as they are."""
        result = UsageSum(since=sums[0].since, until=sums[0].until)
        for other in sums:
            result.add(other)
        return result

    @classmethod
    def of_row(cls, row: Any) -> UsageSum:
        """One row with the `sum_keys` and the `sum_measures`."""
        return UsageSum(
            since=row.first,
            until=row.last + INSTANT,
            metrics={row.metric_key: (row.events, row.quantity)},
            costs={} if row.cost is None else {row.currency: row.cost},
            customers={row.customer_id},
        )

    def add(self, other: UsageSum) -> None:
        """Add the other usage to this."""
        self.since, self.until = min(self.since, other.since), max(self.until, other.until)
        for metric, (more, quantity) in other.metrics.items():
            events, before = self.metrics.get(metric, (0, Decimal(0)))
            self.metrics[metric] = events + more, total((before, quantity))
        for currency, cost in other.costs.items():
            self.costs[currency] = total((self.costs.get(currency, Decimal(0)), cost))
        self.customers |= other.customers

    @property
    def events(self) -> int:
        """The number of events."""
        return sum(events for events, _ in self.metrics.values())

    @property
    def metric_key(self) -> str | None:
        """The metric; None for several."""
        return next(iter(self.metrics)) if len(self.metrics) == 1 else None

    @property
    def quantity(self) -> Decimal | None:
        """The quantity; None for several metrics, whose units differ."""
        return next(iter(self.metrics.values()))[1] if len(self.metrics) == 1 else None

    @property
    def customer_id(self) -> UUID | None:
        """The customer; None for several."""
        return next(iter(self.customers)) if len(self.customers) == 1 else None

    @property
    def amounts(self) -> tuple[tuple[str, Decimal], ...]:
        """The costs by currency; cost without a currency is among the `facts`."""
        return tuple(sorted((currency, cost) for currency, cost in self.costs.items() if currency is not None))

    @property
    def metric_words(self) -> str:
        """The metrics: `calls and tokens`."""
        return listed(self.metrics)

    @property
    def cost_words(self) -> str:
        """The costs to the cent: `12.50 EUR and 3.00 USD`; `amounts` has every digit."""
        return joined(rounded_sums(self.amounts))

    @property
    def scattered(self) -> str:
        """The customers in a sentence: `of customer <id>`, or `scattered over 12 customers`."""
        return f"{'of' if len(self.customers) == 1 else 'scattered over'} {customers_words(self.customers)}"

    def fields(self, examination: Examination) -> dict[str, Any]:
        """The fields of a `Finding` for this usage: its span, size, share, metric and customer."""
        return {
            "since": self.since,
            "until": self.until,
            "events": self.events,
            "quantity": self.quantity,
            "metric_key": self.metric_key,
            "customer_id": self.customer_id,
            "amounts": self.amounts,
            **usage_share(examination, self),
        }

    def facts(self) -> tuple[tuple[str, str], ...]:
        """The events and the quantity of each metric, and the cost without a currency."""
        affected = [
            (f"affected {data_value(metric)}", f"{counted(events, 'event')}, quantity {plain(quantity)}")
            for metric, (events, quantity) in sorted(self.metrics.items())
        ]
        return (*affected, *cost_facts(self.costs))


def add_row(sums: dict[_Key, UsageSum], key: _Key, row: Any) -> None:
    """Add a row with the `sum_keys` and the `sum_measures` to the sum of its key."""
    if key in sums:
        sums[key].add(UsageSum.of_row(row))
    else:
        sums[key] = UsageSum.of_row(row)


def cost_facts(costs: Mapping[str | None, Decimal]) -> tuple[tuple[str, str], ...]:
    """The fact on cost without a currency, if there is any."""
    return (("cost without a currency", plain(costs[None])),) if None in costs else ()


def sum_of_query(examination: Examination, query: EventQuery, *further: ColumnElement[bool]) -> UsageSum | None:
    """The sum of the events that a query shows and further conditions keep; None without events.

    Those of one customer are few, and read by an index of the database.
    """
    statement = (
        select(*sum_keys(examination.table), *sum_measures(examination.table))
        .where(*conditions(examination.table, query), *further)
        .group_by(*sum_keys(examination.table))
    )
    rows = examination.rows if query.customer_id is not None else examination.extracted_rows
    return UsageSum.of(rows(statement))


def sum_of_counted(examination: Examination, query: EventQuery, *further: ColumnElement[bool]) -> UsageSum:
    """As `sum_of_query`, of events that were counted in the same snapshot. Raises `LookupError` without events."""
    if usage := sum_of_query(examination, query, *further):
        return usage
    raise LookupError("events that were counted are gone")


def quantity_share(examination: Examination, quantities: Mapping[str, Decimal]) -> dict[str, Any]:
    """The `share` and `share_of` of a finding: the largest share of what one of the metrics came to in the period."""
    whole = examination.totals.metrics
    shares = {metric: part(quantity, whole.get(metric, (0, quantity))[1]) for metric, quantity in quantities.items()}
    if not shares:
        return {"share": Decimal(0), "share_of": ""}
    metric = max(sorted(shares), key=lambda name: shares[name])
    return {"share": shares[metric], "share_of": f"quantity of {data_value(metric)}"}


def usage_share(examination: Examination, usage: UsageSum | None) -> dict[str, Any]:
    """The `share` and `share_of` of a finding on this usage, see `quantity_share`."""
    metrics = usage.metrics if usage else {}
    return quantity_share(examination, {metric: quantity for metric, (_, quantity) in metrics.items()})


def events_share(examination: Examination, events: int | Decimal, metric: str | None = None) -> dict[str, Any]:
    """The `share` and `share_of` of a finding: the share of the period's events, or of one metric's."""
    if metric is None:
        return {"share": part(events, examination.totals.events), "share_of": "all events"}
    whole = examination.totals.metrics.get(metric, (0, Decimal(0)))[0]
    return {"share": part(events, whole), "share_of": f"events of {data_value(metric)}"}


def own_usage(examination: Examination, customers: Collection[UUID]) -> OwnUsage:
    """The usage in the period of at least these customers; that of all is read once for all checks."""
    if not customers:
        return {}
    period, known = examination.shared.get("own_usage", (None, None))
    if period == examination.period:
        return known  # type: ignore[no-any-return]
    is_few = len(customers) <= _MAX_INDEXED_CUSTOMERS
    statement = own_usage_statement(examination.table, examination.period, customers if is_few else None)
    rows = examination.rows(statement) if is_few else examination.extracted_rows(statement)
    usage = {(row.customer_id, row.metric_key): (row.events, row.quantity) for row in rows}
    if not is_few:
        examination.shared["own_usage"] = examination.period, usage
    return usage


def own_usage_statement(table: Table, period: Period, customers: Collection[UUID] | None = None) -> Select[Any]:
    """The usage of the customers in the period, by default of all.

    Columns: `customer_id`, `metric_key`, `events` bigint, `quantity` numeric.
    """
    c = table.c
    statement = select(
        c.customer_id, c.metric_key, func.count().label("events"), func.sum(c.quantity).label("quantity")
    )
    statement = statement.where(*conditions(table, period)).group_by(c.customer_id, c.metric_key)
    return statement if customers is None else statement.where(c.customer_id == any_(array(customers, Uuid())))


def count_series(examination: Examination, period: Period) -> int:
    """The number of customers' metrics with events in the period."""
    c = examination.table.c
    series = select(c.customer_id, c.metric_key).where(*conditions(examination.table, period)).distinct().subquery()
    (row,) = examination.extracted_rows(select(func.count().label("number")).select_from(series))
    return int(row.number)


def metrics_query(examination: Examination, metrics: Iterable[str], **parameters: object) -> EventQuery:
    """The query for the events of these metrics; for all metrics where `metric_filter` is empty."""
    return examination.events_question(**metric_filter(metrics), **parameters)


def metric_filter(metrics: Iterable[str], max_metrics: int = MAX_FILTER_METRICS) -> dict[str, Any]:
    """The filter by these metrics; empty if they are too many, or if a query cannot name one."""
    keys = sorted(metrics)
    nameable = len(keys) <= max_metrics and all(0 < len(key) <= MAX_FILTER_CHARACTERS for key in keys)
    return {"metric_key": keys} if nameable else {}


def valid_filters(**values: object) -> dict[str, object]:
    """The filters that a query accepts, "" within a list: no filter for None, nor for a text that it cannot name."""
    filters: dict[str, object] = {}
    for name, value in values.items():
        try:
            if value is not None:
                text = validators.text(value, blank=True) if isinstance(value, str) else None
                filters[name] = [value] if text == "" else value
        except ValueError:
            continue
    return filters


def customers_words(customers: Collection[UUID]) -> str:
    """Customers in a sentence: `customer <id>` of one, or `12 customers`."""
    return f"customer {next(iter(customers))}" if len(customers) == 1 else counted(len(customers), "customer")


def joined(words: list[str]) -> str:
    """`a, b and c`, in the order given; beyond five the others are counted."""
    if len(words) > 5:
        words = [*words[:4], f"{len(words) - 4:,} more"]
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
