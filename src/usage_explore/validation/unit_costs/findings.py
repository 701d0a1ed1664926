"""Findings about unit costs: events off their band, drawn together by metric and time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any
from uuid import UUID

from usage_explore.decimals import plain, total
from usage_explore.formatting import counted, data_value, span_in
from usage_explore.query.filters import DIMENSION, dimension_key
from usage_explore.validation.check import Examination, Outcome
from usage_explore.validation.finding import Finding, Severity
from usage_explore.validation.periods import INSTANT
from usage_explore.validation.usage_sums import joined, valid_filters

GAP = timedelta(hours=24)
"""Hours that lie farther apart are different incidents."""

FLOOR = 10
"""Fewer events make no incident: they are told together, by metric."""

GRAVE = Decimal("0.01")
"""An excess of this part of the period's cost in its currency is high."""

GRAVE_EVENTS, TIMES = 50, 10
"""So are so many events that cost so many times what they used to, or that part of it."""

MOST = 100
"""Incidents at most, those with the largest excess; the note counts the others."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


@dataclass(frozen=True, slots=True)
class Off:
    """Events of an hour, a customer and a group that are off its band. `values` are the group's keys and their values.

    `row` has `customer_id`, `hour`, `too_high`, `events`, `quantity`, `cost`, `size` and `paid` (these without
    their signs), `first` and `last`; `usual` is what a unit usually costs.
    """

    metric: str
    currency: str
    values: tuple[tuple[str, str | None], ...]
    usual: Decimal
    row: Any

    @property
    def expected(self) -> Decimal:
        """What the quantity would have cost, exactly the usual unit cost times the quantity."""
        return _EXACT.multiply(self.row.quantity, self.usual)


@dataclass(slots=True)
class Incident:
    """Events off their bands that are told together: of one metric, all too high or all too low, close in time.

    `paid` and `usual` are what they cost and would have cost, credits counted without their sign: what they are made of
    may come to nothing.
    """

    metric: str
    too_high: bool
    since: datetime
    until: datetime
    events: int = 0
    quantity: Decimal = Decimal(0)
    costs: dict[str, Decimal] = field(default_factory=dict)
    expected: dict[str, Decimal] = field(default_factory=dict)
    paid: dict[str, Decimal] = field(default_factory=dict)
    usual: dict[str, Decimal] = field(default_factory=dict)
    customers: set[UUID] = field(default_factory=set)
    values: dict[str, set[str | None]] = field(default_factory=dict)

    def add(self, off: Off) -> None:
        """Take in events."""
        row = off.row
        self.since, self.until = min(self.since, row.first), max(self.until, row.last + INSTANT)
        self.events += row.events
        self.quantity = total((self.quantity or Decimal(0), row.quantity))
        self.costs[off.currency] = total((self.costs.get(off.currency, Decimal(0)), row.cost))
        self.expected[off.currency] = total((self.expected.get(off.currency, Decimal(0)), off.expected))
        self.paid[off.currency] = total((self.paid.get(off.currency, Decimal(0)), row.paid))
        self.usual[off.currency] = total(
            (self.usual.get(off.currency, Decimal(0)), _EXACT.multiply(row.size, off.usual))
        )
        self.customers.add(row.customer_id)
        for key, value in off.values:
            self.values.setdefault(key, set()).add(value)

    @property
    def excess(self) -> dict[str, Decimal]:
        """What was paid beyond what it used to cost, negative for less, exactly."""
        return {each: _EXACT.subtract(cost, self.expected[each]) for each, cost in sorted(self.costs.items())}

    @property
    def times(self) -> Decimal:
        """How many times what is usual it costs, in the currency that costs most."""
        largest = max(self.paid, key=lambda each: (self.paid[each], each))
        return self.paid[largest] / self.usual[largest]


def outcome(examination: Examination, check: str, off: Sequence[Off], looked_at: int) -> Outcome:
    """What there is to say about events off their bands."""
    whole, stray = incidents(off)
    share = {id(each): _share(examination, each) for each in [*whole, *stray]}
    whole.sort(key=lambda each: (-share[id(each)], -each.events, each.metric, each.since))
    found = [
        _finding(examination, check, each, share[id(each)], _severity(each, share[id(each)])) for each in whole[:MOST]
    ]
    for each in stray:
        severity: Severity = "medium" if share[id(each)] >= GRAVE else "low"
        found.append(_finding(examination, check, each, share[id(each)], severity))
    note = ""
    if len(whole) > MOST:
        left = sum(each.events for each in whole[MOST:])
        note = f"{len(whole) - MOST:,} smaller incidents more, {counted(left, 'event')}"
    return Outcome(findings=tuple(found), looked_at=looked_at, note=note)


def incidents(off: Iterable[Off]) -> tuple[list[Incident], list[Incident]]:
    """The incidents, and what makes none, by metric and direction."""
    whole: list[Incident] = []
    stray: dict[tuple[str, bool], Incident] = {}
    series: dict[tuple[str, bool], list[Off]] = {}
    for each in off:
        series.setdefault((each.metric, each.row.too_high), []).append(each)
    for key, members in sorted(series.items()):
        members.sort(key=lambda each: each.row.first)
        runs: list[tuple[Incident, list[Off]]] = []
        for each in members:
            if not runs or each.row.first - runs[-1][0].until > GAP:
                runs.append((Incident(*key, each.row.first, each.row.last), []))
            runs[-1][0].add(each)
            runs[-1][1].append(each)
        for run, held in runs:
            if run.events >= FLOOR:
                whole.append(run)
                continue
            for each in held:
                stray.setdefault(key, Incident(*key, each.row.first, each.row.last)).add(each)
    return whole, list(stray.values())


def _share(examination: Examination, incident: Incident) -> Decimal:
    """The largest part of the period's cost in a currency that the excess is."""
    return max(examination.cost_share(currency, excess) for currency, excess in incident.excess.items())


def _severity(incident: Incident, share: Decimal) -> Severity:
    far = incident.times >= TIMES or incident.times * TIMES <= 1
    return "high" if share >= GRAVE or (far and incident.events >= GRAVE_EVENTS) else "medium"


def _finding(examination: Examination, check: str, incident: Incident, share: Decimal, severity: Severity) -> Finding:
    customer = next(iter(incident.customers)) if len(incident.customers) == 1 else None
    whose = f"customer {customer}" if customer else counted(len(incident.customers), "customer")
    excess = joined([f"{plain(amount)} {data_value(currency)}" for currency, amount in incident.excess.items()])
    question = examination.events_question(
        **valid_filters(customer_id=customer, metric_key=incident.metric, price_key=_one(incident, "price_key")),
        dimensions=_dimensions(examination, incident),
        occurred_after=incident.since,
        occurred_before=incident.until,
    )
    costs = [
        fact
        for currency, cost in sorted(incident.costs.items())
        for fact in (
            (f"cost in {data_value(currency)}", plain(cost)),
            (f"usual cost in {data_value(currency)}", plain(incident.expected[currency])),
        )
    ]
    values = [
        (key.removeprefix(DIMENSION), joined(sorted("(missing)" if one is None else data_value(one) for one in each)))
        for key, each in sorted(incident.values.items())
    ]
    return Finding(
        check=check,
        severity=severity,
        sentence=f"{data_value(incident.metric)}: {counted(incident.events, 'event')} of {whose} cost about"
        f" {_times(incident.times)} times what such events usually cost,"
        f" {span_in(incident.since, incident.until, examination.period.zone)}: {excess}"
        f" {'more' if incident.too_high else 'beside it (less)'}.",
        since=incident.since,
        until=incident.until,
        events=incident.events,
        question=question,
        quantity=incident.quantity,
        amounts=tuple(incident.excess.items()),
        share=share,
        customer_id=customer,
        metric_key=incident.metric,
        price_key=_one(incident, "price_key"),
        facts=(("times the usual cost", _times(incident.times)), *costs, *values),
    )


def _one(incident: Incident, key: str) -> str | None:
    """The one value that all events have of a key; None where there are several or the cost does not depend on it."""
    values = incident.values.get(key, set())
    return next(iter(values)) if len(values) == 1 else None


def _dimensions(examination: Examination, incident: Incident) -> dict[str, list[str]]:
    """The period's filters on dimensions, and those that all events have in common."""
    found = {key: list(values) for key, values in examination.period.dimensions}
    for key in incident.values:
        name, value = dimension_key(key), _one(incident, key)
        if (
            key.startswith(DIMENSION)
            and value is not None
            and name not in found
            and valid_filters(name=name, value=value)
        ):
            found[name] = [value]
    return found


def _times(factor: Decimal) -> str:
    """A factor with three digits that count."""
    return plain(Decimal(format(factor, ".3g")))
