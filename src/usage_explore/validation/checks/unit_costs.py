"""Check: events whose cost per unit deviates from the usual one of the same price, or of what else it depends on.

A sample shows what a metric's unit cost depends on, beside its currency: up to two of the price and the dimensions,
those that leave the least spread. Each group's band of usual unit costs is then computed from all its events, on the
logarithm of the unit cost in steps of about 0.5 %. Only that logarithm is a float: it decides which events deviate.
Sums and the excess are exact. Deviating events of a metric that are close in time are one incident, and one finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import Double, Integer, Interval, Select, Table, Text, and_, case, cast, func, literal, or_, select

from usage_explore.decimals import difference, plain, total
from usage_explore.formatting import counted, data_value, exact, percent, span_in
from usage_explore.pricing.currencies import rounded_sums
from usage_explore.query.filters import DIMENSION, dimension_key
from usage_explore.query.queries import Period
from usage_explore.sql.filters import array
from usage_explore.validation import cost_drivers
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    MAX_FINDINGS_PER_CHECK,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited,
)
from usage_explore.validation.checks.unit_cost_bands import (
    BAND_WIDTH,
    CONSTANT_QUANTILES,
    MAX_QUANTILE_FACTOR,
    MIN_BAND_FACTOR,
    MIN_CONSTANT_BAND_FACTOR,
    MIN_GROUP_EVENTS,
    MIN_HISTORY_EVENTS,
    QUANTILES,
    STEPS_PER_E,
    Band,
    bands_of,
)
from usage_explore.validation.checks.unit_cost_bands import BOUNDS as BAND_BOUNDS
from usage_explore.validation.cost_drivers import (
    Keys,
    best_keys,
    key_value,
    sample,
    sampled,
    unit_cost_spread,
    with_cost,
)
from usage_explore.validation.periods import INSTANT, currency_codes, earlier
from usage_explore.validation.usage_sums import customers_words, joined, valid_filters

NAME = "unit_costs"

BOUNDS = CheckBounds(NAME)

# fmt: off
HISTORY = BOUNDS.add("history", timedelta(days=30), "days", 1, 400,
    "Time before the period whose events say what is usual.")

MAX_KEYS = 2
"""Keys that a metric's unit cost may depend on."""

MIN_GAIN = BOUNDS.add("min_gain", 0.25, "share", 0, 1,
    "Share of the spread that a key takes away.")

MAX_GAP = BOUNDS.add("max_gap", timedelta(days=3), "days", 0.01, 400,
    "Time between events of one incident: nights and weekends lie between.")

MAX_SPLIT_CUSTOMERS = BOUNDS.add("max_split_customers", 3, "customers", 0, 10000,
    "Customers of an incident of `HIGH_FACTOR` that have a finding each: such a factor is a customer's wrong unit, "
    "not a supplier's price.")

MIN_INCIDENT_EVENTS = BOUNDS.add("min_incident_events", 10, "events", 1, 1000000,
    "Events of an incident; fewer are added up to one finding by metric and direction.")

HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.01"), "share", 0, 1,
    "Share of the period's cost in its currency from which an excess is high.")

MIN_HIGH_EVENTS = BOUNDS.add("min_high_events", 50, "events", 1, 1000000,
    "Events from which an incident of `HIGH_FACTOR` is high, whatever its share.")

HIGH_FACTOR = BOUNDS.add("high_factor", 10, "factor", 1, 100000,
    "Factor between actual and usual cost from which an incident of `MIN_HIGH_EVENTS` is high, whatever its share.")
# fmt: on

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_MIN_FLOAT, _MAX_FLOAT = Decimal("1e-100"), Decimal("1e100")
_KEY_COLUMNS = ("first_key", "second_key")


@dataclass(frozen=True, slots=True)
class Deviation:
    """Events of an hour, a customer and a group outside the group's band: a row of `deviating_statement`.

    `keys` are the names of the band's values.
    """

    band: Band
    keys: Keys
    row: Any


@dataclass
class Incident:
    """Deviations of one metric, all too high or all too low, close in time."""

    metric: str
    too_high: bool
    deviations: list[Deviation]

    @property
    def span(self) -> tuple[datetime, datetime]:
        """When its events occurred, half-open."""
        rows = [deviation.row for deviation in self.deviations]
        return min(row.first for row in rows), max(row.last for row in rows) + INSTANT

    @cached_property
    def events(self) -> int:
        """The number of events."""
        return sum(deviation.row.events for deviation in self.deviations)

    @property
    def quantity(self) -> Decimal:
        """The exact sum of quantities."""
        return total(deviation.row.quantity for deviation in self.deviations)

    @property
    def customers(self) -> set[UUID]:
        """The customers of the events."""
        return {deviation.row.customer_id for deviation in self.deviations}

    @cached_property
    def values(self) -> dict[str, set[str | None]]:
        """The values of each key that the unit costs depend on."""
        values: dict[str, set[str | None]] = {}
        for deviation in self.deviations:
            for key, value in zip(deviation.keys, deviation.band.values, strict=False):
                values.setdefault(key, set()).add(value)
        return values

    @cached_property
    def costs(self) -> dict[str, tuple[Decimal, Decimal]]:
        """The cost, and the cost at the usual unit cost, exact, by currency."""
        return self._sums("cost", "quantity")

    @cached_property
    def excess(self) -> dict[str, Decimal]:
        """The cost beyond the usual one by currency, negative for less, exact."""
        return {currency: Decimal(difference(cost, usual)) for currency, (cost, usual) in sorted(self.costs.items())}

    @cached_property
    def factor(self) -> Decimal:
        """Cost by usual cost in the currency with most cost; credits count as positive, else they might cancel out."""
        unsigned = self._sums("unsigned_cost", "unsigned_quantity")
        cost, usual = unsigned[max(unsigned, key=lambda currency: (unsigned[currency][0], currency))]
        return cost / usual

    def _sums(self, cost: str, quantity: str) -> dict[str, tuple[Decimal, Decimal]]:
        by_currency: dict[str, list[Deviation]] = {}
        for deviation in self.deviations:
            by_currency.setdefault(deviation.band.currency, []).append(deviation)
        return {
            currency: (
                total(getattr(deviation.row, cost) for deviation in deviations),
                total(_EXACT.multiply(getattr(item.row, quantity), item.band.usual) for item in deviations),
            )
            for currency, deviations in by_currency.items()
        }


def statement(table: Table, period: Period, keys: Mapping[str, Keys] | None = None) -> Select[Any]:
    """Costs from 30 days before the period on, by group and step of the logarithm of the unit cost.

    Columns: `metric_key`, `currency`, `first_key` and `second_key` (text, what the metric's cost depends on), `step`
    integer, `before` boolean, `events` bigint, `quantity` and `cost` numeric, unsigned: credits have the same unit
    cost, but would cancel out in the sums that it is computed from.
    """
    c = table.c
    since = period.span[0]
    columns = (*_group(table, keys or {}), _step(table).label("step"), (c.timestamp < since).label("before"))
    return (
        select(
            *columns,
            func.count().label("events"),
            func.sum(func.abs(c.quantity)).label("quantity"),
            func.sum(func.abs(c.external_cost_amount)).label("cost"),
        )
        .where(*with_cost(table, period.replace(since=earlier(since, HISTORY()))))
        .group_by(*columns)
    )


def deviating_statement(table: Table, period: Period, keys: Mapping[str, Keys], bands: Sequence[Band]) -> Select[Any]:
    """The period's events outside these bands, by hour, customer and band.

    Columns: `band` (its number, from 1), `too_high` boolean, `customer_id`, `hour` timestamptz, `events`, `quantity`,
    `cost`, `unsigned_quantity`, `unsigned_cost`, `first`, `last`.
    """
    c = table.c
    metric, currency, *values = _group(table, keys)
    names = ("metric", "currency", *(f"value{index}" for index in range(MAX_KEYS)), "low", "high")
    listed = func.unnest(
        array([band.metric for band in bands], Text()),
        array([band.currency for band in bands], Text()),
        *(array([band.values[index] for band in bands], Text()) for index in range(MAX_KEYS)),
        array([band.low for band in bands], Integer()),
        array([band.high for band in bands], Integer()),
    ).table_valued(*names, with_ordinality="number")
    b = listed.render_derived(name="bands").c
    events = (
        select(
            c.customer_id,
            c.timestamp,
            c.quantity,
            c.external_cost_amount.label("cost"),
            metric,
            currency,
            *values,
            _step(table).label("step"),
        )
        .where(*with_cost(table, period), c.metric_key.in_(sorted({band.metric for band in bands})))
        .cte("with_cost")
    )
    e = events.c
    hour = func.date_bin(literal(timedelta(hours=1), Interval), e.timestamp, literal(period.span[0], e.timestamp.type))
    grouping = (b.number.label("band"), (e.step > b.high).label("too_high"), e.customer_id, hour.label("hour"))
    same_values = [
        and_(
            func.coalesce(e[name], "") == func.coalesce(b[f"value{index}"], ""),
            e[name].is_(None) == b[f"value{index}"].is_(None),
        )
        for index, name in enumerate(_KEY_COLUMNS)
    ]
    return (
        select(
            *grouping,
            func.count().label("events"),
            func.sum(e.quantity).label("quantity"),
            func.sum(e.cost).label("cost"),
            func.sum(func.abs(e.quantity)).label("unsigned_quantity"),
            func.sum(func.abs(e.cost)).label("unsigned_cost"),
            func.min(e.timestamp).label("first"),
            func.max(e.timestamp).label("last"),
        )
        .join_from(events, b.number.table, and_(e.metric_key == b.metric, e.currency == b.currency, *same_values))
        .where(or_(e.step < b.low, e.step > b.high))
        .group_by(*grouping)
    )


def _group(table: Table, keys: Mapping[str, Keys]) -> tuple[Any, ...]:
    c = table.c
    values = (key_value(table, keys, index).label(name) for index, name in enumerate(_KEY_COLUMNS))
    return c.metric_key, currency_codes(c.external_cost_currency).label("currency"), *values


def _step(table: Table) -> Any:
    """The step of the logarithm of the unit cost; NULL unless amount and quantity have one sign and fit a float."""
    amount, quantity = table.c.external_cost_amount, table.c.quantity
    fit = [
        func.abs(column).between(literal(_MIN_FLOAT, column.type), literal(_MAX_FLOAT, column.type))
        for column in (amount, quantity)
    ]
    unit_cost = cast(amount, Double) / cast(quantity, Double)
    step = cast(func.floor(func.ln(unit_cost) * STEPS_PER_E), Integer)
    return case((and_(*fit, (amount > 0) == (quantity > 0)), step))


def examine(examination: Examination) -> Outcome:
    """The events outside their group's band, as incidents by metric and time."""
    period, table = examination.period, examination.table
    if examination.closed_until <= period.span[0]:
        return Outcome()
    closed = period.replace(until=examination.closed_until)
    with_history = closed.replace(since=earlier(closed.span[0], HISTORY()))
    by_metric: dict[str, list[Any]] = {}
    for event in sampled(examination.rows(sample(table, with_history, examination.totals.events))):
        by_metric.setdefault(event.metric, []).append(event)
    keys = {metric: best_keys(events, unit_cost_spread, MIN_GAIN(), MAX_KEYS) for metric, events in by_metric.items()}
    bands, left = bands_of(examination.rows(statement(table, closed, keys)))
    if not left:
        return Outcome(looked_at=len(bands))
    deviations = []
    for row in examination.rows(deviating_statement(table, closed, keys, left)):
        band = left[row.band - 1]
        deviations.append(Deviation(band, keys.get(band.metric, ()), row))
    findings, note = _findings(examination, deviations)
    return Outcome(findings=findings, looked_at=len(bands), note=note)


def incidents(deviations: Iterable[Deviation]) -> tuple[list[Incident], list[Incident]]:
    """The incidents, and the events that are too few for one, added up by metric and direction."""
    series: dict[tuple[str, bool], list[Deviation]] = {}
    for deviation in deviations:
        series.setdefault((deviation.band.metric, deviation.row.too_high), []).append(deviation)
    large: list[Incident] = []
    small: list[Incident] = []
    for key, members in sorted(series.items()):
        runs = [
            incident
            for alike in _by_factor(*key, members)
            for run in _runs(sorted(alike, key=lambda member: member.row.first))
            for incident in _by_customer(Incident(*key, run))
        ]
        large += [run for run in runs if run.events >= MIN_INCIDENT_EVENTS()]
        few = [member for run in runs if run.events < MIN_INCIDENT_EVENTS() for member in run.deviations]
        if few:
            small.append(Incident(*key, few))
    return large, small


def _is_far(incident: Incident) -> bool:
    return incident.factor >= HIGH_FACTOR() or incident.factor * HIGH_FACTOR() <= 1


def _by_factor(metric: str, too_high: bool, deviations: Iterable[Deviation]) -> Iterator[list[Deviation]]:
    """The deviations in groups whose factors lie `HIGH_FACTOR` apart: a new price is not a wrong unit."""
    group: list[Deviation] = []
    last: Decimal | None = None
    for factor, deviation in sorted(
        ((Incident(metric, too_high, [deviation]).factor, deviation) for deviation in deviations),
        key=lambda pair: pair[0],
    ):
        if last is not None and factor > HIGH_FACTOR() * last:
            yield group
            group = []
        group.append(deviation)
        last = factor
    if group:
        yield group


def _by_customer(incident: Incident) -> list[Incident]:
    """The incident, or those of each of its few customers, see `MAX_SPLIT_CUSTOMERS`."""
    if not _is_far(incident) or not 1 < len(incident.customers) <= MAX_SPLIT_CUSTOMERS():
        return [incident]
    return [
        Incident(incident.metric, incident.too_high, [one for one in incident.deviations if one.row.customer_id == who])
        for who in sorted(incident.customers)
    ]


def _runs(deviations: Iterable[Deviation]) -> Iterator[list[Deviation]]:
    """The deviations, in order of their first events, split where none occur for more than `MAX_GAP`."""
    run: list[Deviation] = []
    last: datetime | None = None
    for deviation in deviations:
        first, until = deviation.row.first, deviation.row.last + INSTANT
        if last is not None and first - last > MAX_GAP():
            yield run
            run = []
        last = max(last, until) if run and last else until
        run.append(deviation)
    if run:
        yield run


def _findings(examination: Examination, deviations: Sequence[Deviation]) -> tuple[tuple[Finding, ...], str]:
    """The findings, the largest incidents first, and the note."""
    large, small = incidents(deviations)
    ranked = sorted(
        ((_share(examination, incident), incident) for incident in large),
        key=lambda pair: (-pair[0][0], -pair[1].events, pair[1].metric, pair[1].span[0]),
    )
    shown, note = limited(
        ranked, "smaller incidents", lambda rest: counted(sum(incident.events for _, incident in rest), "event")
    )
    findings = [_finding(examination, incident, share, _severity(incident, share[0])) for share, incident in shown]
    for incident in small:
        share = _share(examination, incident)
        findings.append(_finding(examination, incident, share, "medium" if share[0] >= HIGH_SHARE() else "low"))
    return tuple(findings), note


def _share(examination: Examination, incident: Incident) -> tuple[Decimal, str]:
    """The largest share of the period's cost in a currency that the excess is, and that currency."""
    return max((examination.cost_share(currency, excess), currency) for currency, excess in incident.excess.items())


def _severity(incident: Incident, share: Decimal) -> Severity:
    return "high" if share >= HIGH_SHARE() or (_is_far(incident) and incident.events >= MIN_HIGH_EVENTS()) else "medium"


def _finding(examination: Examination, incident: Incident, share: tuple[Decimal, str], severity: Severity) -> Finding:
    """The finding on an incident; `share` as `_share` gives it."""
    since, until = incident.span
    customers = incident.customers
    customer = next(iter(customers)) if len(customers) == 1 else None
    whose = customers_words(customers)
    factor = Decimal(format(incident.factor, ".3g"))
    price = _common_value(incident, "price_key")
    excess = joined(rounded_sums(incident.excess.items()))
    costs = [
        fact
        for currency, (cost, usual) in sorted(incident.costs.items())
        for fact in (
            (f"cost in {data_value(currency)}", plain(cost)),
            (f"usual cost in {data_value(currency)}", plain(usual)),
        )
    ]
    values = [
        (
            key.removeprefix(DIMENSION),
            joined(sorted("(missing)" if value is None else data_value(value) for value in of_key)),
        )
        for key, of_key in sorted(incident.values.items())
    ]
    return Finding(
        check=NAME,
        severity=severity,
        sentence=f"{data_value(incident.metric)}: {counted(incident.events, 'event')} of {whose} cost about"
        f" {exact(factor)} times what such events usually cost, {span_in(since, until, examination.period.zone)}:"
        f" {'excess' if incident.too_high else 'difference'} {excess}.",
        since=since,
        until=until,
        events=incident.events,
        question=examination.events_question(
            **valid_filters(customer_id=customer, metric_key=incident.metric, price_key=price),
            dimensions=_dimensions(examination, incident),
            occurred_after=since,
            occurred_before=until,
        ),
        quantity=incident.quantity,
        amounts=tuple(incident.excess.items()),
        share=share[0],
        share_of=f"cost in {data_value(share[1])}",
        customer_id=customer,
        metric_key=incident.metric,
        price_key=price,
        facts=(("times the usual cost", plain(factor)), *costs, *values),
    )


def _common_value(incident: Incident, key: str) -> str | None:
    """The value of a key that all events have; None if they have several, or the cost does not depend on the key."""
    values = incident.values.get(key, set())
    return next(iter(values)) if len(values) == 1 else None


def _dimensions(examination: Examination, incident: Incident) -> dict[str, list[str]]:
    """The period's filters on dimensions, and the values that all events have."""
    dimensions = {key: list(values) for key, values in examination.period.dimensions}
    for key in incident.values:
        name, value = dimension_key(key), _common_value(incident, key)
        is_filter = key.startswith(DIMENSION) and value is not None and name not in dimensions
        if is_filter and valid_filters(name=name, value=value):
            dimensions[name] = [str(value)]
    return dimensions


CHECK = Check(
    name=NAME,
    title="Unit costs",
    means="What we are charged for a unit is not what it used to be: a supplier's price, or a unit, is wrong, and with"
    " it every invoice that passes the cost on.",
    parameters=lambda: {
        "usual": f"the median of the group's events in the {HISTORY().days} days before the period, if there are"
        f" {MIN_HISTORY_EVENTS()}; else of the period's too, at least {MIN_GROUP_EVENTS()}",
        "group": f"metric and currency, and up to {MAX_KEYS} of the price and the dimensions, each of which takes"
        f" {percent(Decimal(str(MIN_GAIN())))} of the spread of a sample",
        "band": f"{BAND_WIDTH()} times as far from the median as the quantiles {QUANTILES[0]} and {QUANTILES[1]}, at"
        f" least by the factor {MIN_BAND_FACTOR()}, or {MIN_CONSTANT_BAND_FACTOR()} where the quantiles"
        f" {CONSTANT_QUANTILES[0]} and {CONSTANT_QUANTILES[1]} of {MIN_GROUP_EVENTS()} events or more before lie within"
        f" {percent(Decimal(1) / STEPS_PER_E)} of it; none if those quantiles are more than the factor"
        f" {MAX_QUANTILE_FACTOR()} apart",
        "high": f"the excess is {percent(HIGH_SHARE())} of the period's cost in its currency, or {MIN_HIGH_EVENTS()}"
        f" events cost {HIGH_FACTOR()} times as much or as little; other incidents are medium, and fewer than"
        f" {MIN_INCIDENT_EVENTS()} events with less excess low",
        "most": f"the {MAX_FINDINGS_PER_CHECK} largest",
    },
    unit="groups of costs",
    one="group of costs",
    bounds=(*BOUNDS, *BAND_BOUNDS, *cost_drivers.BOUNDS),
    statement=statement,
    examine=examine,
)
