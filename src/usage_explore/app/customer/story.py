"""The numbers of the Customer page: all as of one instant, in a dozen bounded queries.

The window is made absolute once, and every query has the same `as_of`. Metrics are those of most events: their
quantity, and their cost and unit cost in one currency. A change compares with the period that Explore compares with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

from usage_explore.answers import Aggregate, Leaderboards
from usage_explore.app import query_edits
from usage_explore.app.cache import Key, Source
from usage_explore.app.page_state import CustomerView
from usage_explore.event_pages import EventPage
from usage_explore.names import Names
from usage_explore.query import validators
from usage_explore.query.buckets import Bucket
from usage_explore.query.queries import AggregateQuery
from usage_explore.query.queries import Metric as Measure
from usage_explore.results.currencies import CurrencyCost
from usage_explore.results.leaders import Leader, known_totals
from usage_explore.results.types import Change, Comparison, Series

MAX_METRICS = 12
"""Metrics that are drawn, those of most events."""

MAX_LISTED_EVENTS = 10
"""Newest events on the page."""

MAX_COMPARED = 50
"""Largest values of each dimension and window among which the ones that changed most are searched."""

MAX_METRIC_CHANGES, MAX_MOVERS, _MAX_MOVERS_PER_GROUP = 8, 8, 2

_MAX_HOURS, _MAX_DAYS, _MAX_WEEKS = timedelta(days=3), timedelta(days=100), timedelta(days=800)
"""Longest windows that are drawn by hour, day and week; longer ones are drawn by month."""

_WHOLE: Bucket = "month"
"""Bucket of a query of which only the totals count: the one that gives the fewest points."""


@dataclass(frozen=True)
class Money:
    """A metric's cost in one currency, and its unit cost, a ratio of sums, None without a quantity to divide by.

    The changes are None without a comparison.
    """

    series: Series
    cost: Decimal
    cost_change: Change | None
    unit_cost_change: Change | None


@dataclass(frozen=True)
class Metric:
    """One metric of the customer. `money` is None without a cost in the currency of the page."""

    key: str
    events: int
    share: Decimal | None
    quantity: Series
    change: Change | None
    money: Money | None


class MetricChange(NamedTuple):
    """How one measure of a metric changed; `currency` is that of a cost, None for one without a currency."""

    key: str
    measure: Measure
    change: Change
    currency: str | None = None


@dataclass(frozen=True)
class Mover:
    """A value whose number of events changed; `key` is None for the events without a value."""

    group: str
    key: str | None
    change: Change

    @property
    def difference(self) -> int:
        """Events now less events before."""
        return int(self.change.absolute or 0)


class Movers(NamedTuple):
    """The values that changed most, and the change of all events.

    `partial` is True if some group has more than `MAX_COMPARED` values in either window.
    """

    whole: Change
    movers: tuple[Mover, ...]
    partial: bool


@dataclass(frozen=True)
class Story:
    """One customer in a window, as of one instant.

    `query` is absolute and has `as_of`. `quantities` and `costs` are the answers whose series the `metrics` have, with
    the buckets they share; `costs` is None without any cost. `currencies` are those of the costs, that of most events
    first, `currency` the one of `costs`; `changes` are those of quantities and of costs in every currency. `compared`
    is the comparison, or the reason why there is none.
    """

    query: AggregateQuery
    names: Names
    boards: Leaderboards
    metrics: tuple[Metric, ...]
    quantities: Aggregate
    currencies: tuple[CurrencyCost, ...]
    currency: CurrencyCost | None
    costs: Aggregate | None
    changes: tuple[MetricChange, ...]
    compared: Comparison | str
    movers: Movers | None
    by_cost: Leaderboards | None
    page: EventPage

    @property
    def further_metrics(self) -> int:
        """The number of metrics that are not drawn."""
        return self.boards["metric_key"].values - len(self.metrics)


def as_of_one_moment(view: CustomerView, source: Source) -> AggregateQuery:
    """The query of the page: an absolute window, the `as_of` of the link or now, and buckets that fit the window."""
    resolved = view.query.resolve(source.now)
    since, until = resolved.span
    return resolved.replace(
        as_of=resolved.as_of or source.now, bucket=bucket_of(until - since), metric=None, group_by=None, top=None
    )


def bucket_of(length: timedelta) -> Bucket:
    """The bucket that draws a window as at most about a hundred points, beyond eight years as more months."""
    if length <= _MAX_HOURS:
        return "hour"
    if length <= _MAX_DAYS:
        return "day"
    return "week" if length <= _MAX_WEEKS else "month"


def metric_query(query: AggregateQuery, key: str) -> AggregateQuery:
    """The quantity of one metric."""
    return query.replace(metric="sum_quantity", metric_key=[key])


def read_story(query: AggregateQuery, currency: str | None, source: Source) -> Story | None:
    """The story of the query's customer, None without events in the window.

    `currency` is the one to draw costs in; without a cost in it, or by default, that of most events. Raises `NotExact`
    for sums of NaN or infinite values, `DatabaseError`.
    """
    boards = source.leaderboards(query, MAX_COMPARED)
    if not boards.total:
        return None
    leaders = {row.key: row for row in boards["metric_key"].leaders if row.key is not None and _can_filter(row.key)}
    keys = [*leaders][:MAX_METRICS]
    by_metric = query.replace(group_by="metric_key", metric="sum_quantity", metric_key=keys, top=MAX_METRICS)
    quantities = source.aggregate(by_metric)
    compared = source.comparison(quantities)
    currencies = source.currencies(query.replace(bucket=None))
    chosen = _chosen(currencies, currency)
    costs = by_cost = None
    if chosen is not None:
        in_currency = query_edits.in_currency(query, chosen.currency)
        costs = source.aggregate(_unit_costs(query, chosen.currency, keys))
        by_cost = source.leaderboards(in_currency.replace(metric="sum_cost"), MAX_COMPARED)
    metrics = tuple(
        _metrics([leaders[key] for key in keys], quantities, compared, costs, _costs_compared(source, costs, compared))
    )
    others: list[tuple[str | None, Aggregate]] = []
    if not isinstance(compared, str):
        before = source.currencies(query.replace(bucket=None, since=compared.since, until=compared.until))
        names = dict.fromkeys(cost.currency for cost in (*currencies, *before))
        others = [
            (name, source.aggregate(_unit_costs(query, name, keys).replace(bucket=_WHOLE)))
            for name in names
            if chosen is None or name != chosen.currency
        ]
    return Story(
        query=query,
        names=boards.names | source.names(query),
        boards=boards,
        metrics=metrics,
        quantities=quantities,
        currencies=currencies,
        currency=chosen,
        costs=costs,
        changes=_largest(
            _changes(
                metrics,
                None if chosen is None else chosen.currency,
                {name: _costs_compared(source, answer, compared) for name, answer in others},
            )
        ),
        compared=compared,
        movers=None if isinstance(compared, str) else _movers(query, boards, compared, source),
        by_cost=by_cost,
        page=source.page(query_edits.events_of(query).replace(limit=MAX_LISTED_EVENTS)),
    )


def _unit_costs(query: AggregateQuery, currency: str | None, keys: list[str]) -> AggregateQuery:
    """The costs and unit costs of the metrics in one currency."""
    return query_edits.in_currency(query, currency).replace(
        metric="unit_cost", group_by="metric_key", metric_key=keys, top=MAX_METRICS
    )


def _can_filter(key: str) -> bool:
    """Whether a metric's key is short enough for a filter."""
    try:
        validators.text(key, blank=True)
    except ValueError:
        return False
    return True


def _chosen(currencies: tuple[CurrencyCost, ...], wanted: str | None) -> CurrencyCost | None:
    """The currency of the costs that are drawn, None without any cost."""
    named = (cost for cost in currencies if wanted is not None and cost.currency == wanted)
    return next(named, currencies[0] if currencies else None)


def _costs_compared(
    source: Source, costs: Aggregate | None, compared: Comparison | str
) -> tuple[Mapping[Key, Series], Mapping[Key, Series]] | None:
    """The series of the costs now and before, by key, in the windows that are compared; None without a comparison."""
    if costs is None or isinstance(compared, str):
        return None
    query = costs.query.replace(bucket=_WHOLE, top=MAX_METRICS)
    before = source.aggregate(query.replace(since=compared.since, until=compared.until))
    now = costs
    if compared.now_until < query.span[1]:
        now = source.aggregate(query.replace(until=compared.now_until))
    return _by_key(now), _by_key(before)


def _by_key(answer: Aggregate) -> dict[Key, Series]:
    return {(item.kind, item.key): item for item in answer.series}


def _metrics(
    leaders: list[Leader],
    quantities: Aggregate,
    compared: Comparison | str,
    costs: Aggregate | None,
    costs_compared: tuple[Mapping[Key, Series], Mapping[Key, Series]] | None,
) -> Iterator[Metric]:
    """The metrics, that of most events first."""
    by_key = {item.key: index for index, item in enumerate(quantities.series) if item.kind == "value"}
    with_cost = _by_key(costs) if costs else {}
    for row in leaders:
        if row.key is None:
            continue
        index = by_key[row.key]
        change = None if isinstance(compared, str) else compared.series[index]
        money = None
        if (spent := with_cost.get(("value", row.key))) is not None and spent.ratio is not None:
            money = Money(spent, spent.ratio.cost, *_money_changes(row.key, costs_compared))
        yield Metric(row.key, int(row.total), row.share, quantities.series[index], change, money)


def _money_changes(
    key: str, compared: tuple[Mapping[Key, Series], Mapping[Key, Series]] | None
) -> tuple[Change | None, Change | None]:
    """The changes of a metric's cost and unit cost."""
    if compared is None:
        return None, None
    now, before = (items.get(("value", key)) for items in compared)
    spent = [item.ratio.cost if item is not None and item.ratio is not None else Decimal(0) for item in (now, before)]
    units = [None if item is None else item.total for item in (now, before)]
    return Change(*spent), Change(*units)


def _changes(
    metrics: Iterable[Metric],
    currency: str | None,
    others: Mapping[str | None, tuple[Mapping[Key, Series], Mapping[Key, Series]] | None],
) -> Iterator[MetricChange]:
    """The changes of quantities, and of costs and unit costs in the `currency` of the page and in `others`."""
    for metric in metrics:
        if metric.change is not None:
            yield MetricChange(metric.key, "sum_quantity", metric.change)
        money = [(currency, metric.money.cost_change, metric.money.unit_cost_change)] if metric.money else []
        money += [(name, *_money_changes(metric.key, compared)) for name, compared in others.items()]
        for name, cost, unit_cost in money:
            if cost is not None:
                yield MetricChange(metric.key, "sum_cost", cost, name)
            if unit_cost is not None:
                yield MetricChange(metric.key, "unit_cost", unit_cost, name)


def _largest(changes: Iterable[MetricChange]) -> tuple[MetricChange, ...]:
    """The largest relative changes, what was nothing before first."""
    known = [
        step
        for step in changes
        if step.change.now is not None and step.change.before is not None and step.change.now != step.change.before
    ]
    # stable: of equal changes that of the metric of more events comes first
    return tuple(sorted(known, key=lambda step: -_relative(step.change))[:MAX_METRIC_CHANGES])


def _relative(change: Change) -> Decimal:
    return Decimal("Infinity") if change.ratio is None else change.ratio.copy_abs()


def _movers(query: AggregateQuery, boards: Leaderboards, compared: Comparison, source: Source) -> Movers:
    now = boards
    if compared.now_until < query.span[1]:
        now = source.leaderboards(query.replace(until=compared.now_until), MAX_COMPARED)
    before = source.leaderboards(query.replace(since=compared.since, until=compared.until), MAX_COMPARED)
    return movers(now, before)


def movers(now: Leaderboards, before: Leaderboards) -> Movers:
    """The values whose number of events changed most between two windows, at most two of each column and dimension.

    The second of a group is left out if it changed by less than half of the first. So is the customer, and a group of
    one value in all events: its change is that of the whole. A value that is not among the largest of a window with
    more values than `MAX_COMPARED` is not compared.
    """
    later, earlier = ({board.group: board for board in boards.boards} for boards in (now, before))
    largest: list[Mover] = []
    partial = False
    for group in dict.fromkeys((*later, *earlier)):
        if group == "customer_id":
            continue
        sides = ((later, now), (earlier, before))
        totals = [known_totals(side.get(group), boards.total, boards.omitted) for side, boards in sides]
        partial |= any(folded for _, folded in totals)
        keys = {**totals[0][0], **totals[1][0]}
        if len(keys) < 2 and not any(folded for _, folded in totals):
            continue
        compared = [
            Mover(group, key[1], Change(*(known.get(key, 0) for known, _ in totals)))
            for key in keys
            if all(key in known or not folded for known, folded in totals)
        ]
        ranked = sorted((item for item in compared if item.difference), key=_rank)[:_MAX_MOVERS_PER_GROUP]
        largest += [item for item in ranked if 2 * abs(item.difference) >= abs(ranked[0].difference)]
    return Movers(Change(now.total, before.total), tuple(sorted(largest, key=_rank)[:MAX_MOVERS]), partial)


def _rank(mover: Mover) -> tuple[int, str, bool, str]:
    return -abs(mover.difference), mover.group, mover.key is None, mover.key or ""
