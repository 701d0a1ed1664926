"""Check: quantities that are zero, negative, NaN or infinite where that customer and metric otherwise have none, or far
larger than any before.

Credits are negative and legitimate. So a day of a customer's metric is unusual only if it has more of a kind than both
the customer's other days and the other customers lead to expect, or if none of many other events has any. All days are
unusual if the period has far more of a kind than the customer's weeks before it: a fault of a whole period is not
learned from. A day that takes off half of a customer's usage of the metric is unusual, too, whatever others have. NaN
and infinite quantities always are unusual: they cannot be billed. Where zeros are usual at some hours of the week, such
as at night, a day's zeros at other hours are judged by themselves: a meter that reports zero all day is not hidden by
its nights.

A quantity is outsized if it is many times the largest one of the customer's weeks before. This needs few events, unlike
`unit_slips` and `shifts`, which judge days with many.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    and_,
    func,
    or_,
    select,
)

from usage_explore.decimals import total
from usage_explore.formatting import counted, data_value, in_sentence, percent, short, span_in
from usage_explore.sql.filters import conditions
from usage_explore.validation import usage_sums
from usage_explore.validation.batches import MIN_BATCH_EVENTS
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    DAYS_FACT,
    SEVERITIES,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited,
)
from usage_explore.validation.checks import zero_hours
from usage_explore.validation.checks.outsized import BOUNDS as OUTSIZED_BOUNDS
from usage_explore.validation.checks.outsized import Size, outsized, outsized_metrics
from usage_explore.validation.checks.outsized import parameter as outsized_parameter
from usage_explore.validation.checks.sizes import BOUNDS as SIZE_BOUNDS
from usage_explore.validation.checks.sizes import countable
from usage_explore.validation.checks.unusual_days import BOUNDS as UNUSUAL_BOUNDS
from usage_explore.validation.checks.unusual_days import (
    FIRST_NEGATIVE_SHARE,
    MIN_OTHER_EVENTS,
    NEGATIVE,
    SURELY_NEGATIVE_RATIO,
    SURELY_NEGATIVE_SHARE,
    SURELY_NEGATIVE_WHOLE,
    UNCOUNTABLE,
    ZERO,
    kinds,
    statement,
)
from usage_explore.validation.checks.zero_hours import (
    CHANCE_DEVIATIONS,
    HISTORY,
    MAX_USUAL_ZERO_SHARE,
    MIN_HISTORY_EVENTS,
    MIN_HOUR_EVENTS,
    zeros_at_busy_hours,
)
from usage_explore.validation.periods import INSTANT, currency_codes, day_edges, part
from usage_explore.validation.usage_sums import (
    LARGE_SHARE,
    OwnUsage,
    cost_facts,
    events_share,
    metrics_query,
    own_usage,
    quantity_share,
)

BOUNDS = CheckBounds("quantities")

# fmt: off
HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.01"), "share", 0, 1,
    "Share of a customer's own quantity of the metric from which negative quantities are high.")

HIGH_ZERO_OWN_SHARE = BOUNDS.add("high_zero_own_share", Decimal("0.5"), "share", 0, 1,
    "Share of the customer's events of the metric from which zeros are high, if they are also `HIGH_ZERO_SHARE` of "
    "all.")

HIGH_ZERO_SHARE = BOUNDS.add("high_zero_share", Decimal("0.01"), "share", 0, 1,
    "Share of all customers' events of the metric from which zeros are high, if they are also `HIGH_ZERO_OWN_SHARE`.")

SURELY_OUTSIZED_RATIO = BOUNDS.add("surely_outsized_ratio", 100, "factor", 1, 1000000,
    "A quantity this many times as large as the largest one before is no growth.")

GROWTH_SHARE = BOUNDS.add("growth_share", Decimal("0.5"), "share", 0, 1,
    "Share of the customer's events of the metric from which outsized ones may be its growth.")
# fmt: on

_MAX_FACTS = 20
"""Metrics that the facts of a finding list."""

_NUMBERS = {1: "one", 2: "two"}

NAME = "quantities"
OUTSIZED_KIND = "outsized"
_BY_QUANTITY = {NEGATIVE, OUTSIZED_KIND}
_WORDS = {ZERO: "zero", NEGATIVE: "negative", UNCOUNTABLE: "NaN or infinite", OUTSIZED_KIND: "far too large"}


@dataclass(frozen=True, slots=True)
class _Unusual:
    """The unusual days of one customer's metric: their edges, and how many events of the kind they have."""

    kind: str
    customer_id: UUID
    metric_key: str
    days: tuple[tuple[datetime, datetime], ...]
    events: int
    quantity: Decimal
    expected: float
    size: Size | None = None


def examine(examination: Examination) -> Outcome:
    """The customers and metrics with unusual days, one finding for each kind."""
    sizes, unjudged = outsized_metrics(examination)
    unusual = _drawn(examination, sizes)
    usage = own_usage(examination, {item.customer_id for item in unusual})
    judged = [(_severity(examination, item, usage), item) for item in unusual]
    few = {kind: [item for severity, item in judged if severity == "low" and item.kind == kind] for kind in _WORDS}
    scattered = {kind: items for kind, items in few.items() if len(items) > 1}
    together = tuple(_scattered(examination, items) for items in scattered.values())
    judged = [(severity, item) for severity, item in judged if severity != "low" or item.kind not in scattered]
    judged.sort(key=lambda pair: (list(SEVERITIES).index(pair[0]), -pair[1].events))
    shown, note = limited(
        judged, "customers' metrics", lambda rest: counted(sum(item.events for _, item in rest), "event")
    )
    findings = tuple(_finding(examination, severity, item, usage) for severity, item in shown)
    return Outcome(
        findings=findings + together,
        looked_at=examination.totals.events,
        note="; ".join(filter(None, (note, unjudged))),
        is_partial=bool(unjudged),
    )


def _scattered(examination: Examination, unusual: list[_Unusual]) -> Finding:
    """What is low of one kind, of several customers or metrics, together."""
    kind, events = unusual[0].kind, sum(item.events for item in unusual)
    customers, metrics = {item.customer_id for item in unusual}, sorted({item.metric_key for item in unusual})
    period = examination.period.span
    since = max(period[0], min(item.days[0][0] for item in unusual))
    until = min(period[1], max(item.days[-1][1] for item in unusual))
    quantity = total(item.quantity for item in unusual)
    whose: dict[str, Any] = {"customer_id": next(iter(customers))} if len(customers) == 1 else {}
    return Finding(
        check=NAME,
        kind=kind,
        severity="low",
        sentence=f"{counted(events, 'event')} of {counted(len(customers), 'customer')} and"
        f" {counted(len(metrics), 'metric')}, here and there: the quantity is {_WORDS[kind]}, where fewer would be"
        " usual.",
        since=since,
        until=until,
        events=events,
        quantity=quantity if len(metrics) == 1 else None,
        **max((_share(examination, item) for item in unusual), key=lambda share: share["share"]),
        metric_key=metrics[0] if len(metrics) == 1 else None,
        question=metrics_query(examination, metrics, **whose, occurred_after=since, occurred_before=until),
        facts=tuple(
            (data_value(metric), counted(sum(item.events for item in unusual if item.metric_key == metric), "event"))
            for metric in metrics[:_MAX_FACTS]
        ),
        **whose,
    )


def _drawn(examination: Examination, sizes: list[Size]) -> list[_Unusual]:
    """The unusual days of each kind, customer and metric together."""
    edges = day_edges(examination.period)
    sums: dict[tuple[str, UUID, str], _Unusual] = {}

    def add(kind: str, row: Any, expected: float, size: Size | None = None) -> None:
        key = kind, row.customer_id, row.metric_key
        before = sums.get(key, _Unusual(*key, (), 0, Decimal(0), 0.0, size))
        sums[key] = _Unusual(
            *key,
            (*before.days, (edges[row.day], edges[row.day + 1])),
            before.events + row.events,
            total((before.quantity, row.quantity)),
            before.expected + expected,
            size,
        )

    rows = list(examination.extracted_rows(statement(examination.table, examination.period)))
    found = {(row.customer_id, row.metric_key, row.day) for row in rows if row.kind == ZERO}
    for row in rows:
        add(row.kind, row, row.expected)
    for row in zeros_at_busy_hours(examination):
        if (row.customer_id, row.metric_key, row.day) not in found:
            add(ZERO, row, row.expected)
    for size, row in outsized(examination, sizes):
        add(OUTSIZED_KIND, row, 0.0, size)
    # a customer's zeros that are no more than its own before are its usage, though others have none
    return [item for item in sums.values() if item.kind != ZERO or item.events > item.expected]


def _severity(examination: Examination, unusual: _Unusual, usage: OwnUsage) -> Severity:
    if unusual.kind == UNCOUNTABLE:
        return "high"
    own = _own(unusual, usage)
    if unusual.size is not None:
        is_growth = part(unusual.events, usage[unusual.customer_id, unusual.metric_key][0]) >= GROWTH_SHARE()
        is_sure = not is_growth or unusual.size.times >= SURELY_OUTSIZED_RATIO()
        return "high" if own >= LARGE_SHARE() and is_sure else "medium"
    if unusual.events < MIN_BATCH_EVENTS() and (own < LARGE_SHARE() or not _has_others(unusual, usage)):
        return "low"
    if unusual.kind == ZERO:
        of_all = _share(examination, unusual)["share"]
        is_high = unusual.events >= MIN_BATCH_EVENTS() and own >= HIGH_ZERO_OWN_SHARE() and of_all >= HIGH_ZERO_SHARE()
    else:
        is_high = own >= HIGH_SHARE()
    return "high" if is_high else "medium"


def _has_others(unusual: _Unusual, usage: OwnUsage) -> bool:
    """Whether the customer has other usage of the metric, enough to tell what is usual, that a credit is taken off."""
    events, whole = usage[unusual.customer_id, unusual.metric_key]
    return events - unusual.events >= MIN_BATCH_EVENTS() and whole.is_finite() and whole > unusual.quantity


def _own(unusual: _Unusual, usage: OwnUsage) -> Decimal:
    """The part of the customer's usage of the metric: of events where the quantity says nothing, else of quantity."""
    events, quantity = usage[unusual.customer_id, unusual.metric_key]
    return part(unusual.quantity, quantity) if unusual.kind in _BY_QUANTITY else part(unusual.events, events)


def _finding(examination: Examination, severity: Severity, unusual: _Unusual, usage: OwnUsage) -> Finding:
    costs, since, until = _exactly(examination, unusual)
    whole = usage[unusual.customer_id, unusual.metric_key][0]
    days = "" if len(unusual.days) == 1 else f" on {counted(len(unusual.days), 'day')}"
    words = f"{counted(unusual.events, 'event')} of customer {unusual.customer_id}, {data_value(unusual.metric_key)},"
    words += f" {span_in(since, until, examination.period.zone)}{days}: the quantity is {_WORDS[unusual.kind]}"
    if unusual.kind == UNCOUNTABLE:
        words += ", so there is no sum to bill"
    elif size := unusual.size:
        words += f", up to {in_sentence(size.largest)}: "
        if size.run:
            words += (
                f"in the middle {short(size.times)} times the median of {size.whose}, {in_sentence(size.run.usual)}"
            )
        else:
            but = f" but {_NUMBERS.get(size.earlier, size.earlier)}" if size.earlier else ""
            words += f"{short(size.times)} times the largest{but} of {size.whose}, {in_sentence(size.usual)}"
    else:
        usual = (
            "fewer than 0.1 such events" if unusual.expected < 0.05 else f"about {unusual.expected:,.1f} such events"
        )
        usual = usual if unusual.expected else "none"
        is_usual_number = unusual.kind == NEGATIVE and unusual.expected >= unusual.events / 2
        words += ", far larger than those before" if is_usual_number else f", where {usual} would be usual"
        if unusual.quantity:
            left = usage[unusual.customer_id, unusual.metric_key][1]
            words += f"; they take {in_sentence(unusual.quantity.copy_abs())} off"
            if left.is_finite():
                share = f"{percent(_own(unusual, usage))} of what" if left > 0 else "so that nothing"
                words += f", {share} is left to bill"
    return Finding(
        check=NAME,
        kind=unusual.kind,
        severity=severity,
        sentence=f"{words}.",
        since=since,
        until=until,
        events=unusual.events,
        quantity=unusual.quantity if unusual.quantity.is_finite() else None,
        amounts=tuple(sorted((currency, cost) for currency, cost in costs.items() if currency is not None)),
        **_share(examination, unusual),
        customer_id=unusual.customer_id,
        metric_key=unusual.metric_key,
        question=metrics_query(
            examination,
            [unusual.metric_key],
            customer_id=unusual.customer_id,
            occurred_after=since,
            occurred_before=until,
        ),
        facts=(
            ("events of the customer's metric in the period", f"{whole}"),
            *(((DAYS_FACT, f"{len(unusual.days)}"),) if len(unusual.days) > 1 else ()),
            *cost_facts(costs),
        ),
    )


def _share(examination: Examination, unusual: _Unusual) -> dict[str, Any]:
    """The `share` of a finding: of events where the quantity says nothing, else of quantity."""
    if unusual.kind in _BY_QUANTITY:
        return quantity_share(examination, {unusual.metric_key: unusual.quantity})
    return events_share(examination, unusual.events, unusual.metric_key)


def _exactly(examination: Examination, unusual: _Unusual) -> tuple[dict[str | None, Decimal], datetime, datetime]:
    """What the events of the unusual days cost, and when the first and the last of them occurred, half-open."""
    c = examination.table.c
    rows = examination.connection.execute(
        select(
            currency_codes(c.external_cost_currency),
            func.sum(c.external_cost_amount),
            func.min(c.timestamp),
            func.max(c.timestamp),
        )
        .where(
            *conditions(examination.table, examination.period),
            c.customer_id == unusual.customer_id,
            c.metric_key == unusual.metric_key,
            c.quantity >= unusual.size.threshold if unusual.size else kinds(examination.table)[unusual.kind],
            *(countable(examination.table) if unusual.size else ()),
            or_(*(and_(c.timestamp >= since, c.timestamp < until) for since, until in _spans(unusual.days))),
        )
        .group_by(currency_codes(c.external_cost_currency))
    ).all()
    costs = {currency: cost for currency, cost, _, _ in rows if cost is not None}
    return costs, min(row[2] for row in rows), max(row[3] for row in rows) + INSTANT


def _spans(days: tuple[tuple[datetime, datetime], ...]) -> list[tuple[datetime, datetime]]:
    """Days, in order, that follow each other joined."""
    spans: list[tuple[datetime, datetime]] = []
    for since, until in days:
        if spans and spans[-1][1] == since:
            since = spans.pop()[0]
        spans.append((since, until))
    return spans


CHECK = Check(
    name=NAME,
    title="Zero, negative, uncountable and outsized quantities",
    means="Zero is used and not billed, negative lowers the bill, with NaN or infinity there is no bill at all, and far"
    " too large a quantity is billed in full.",
    parameters=lambda: {
        "unusual": f"a day of a customer's metric with more than expected, {CHANCE_DEVIATIONS()} times the square root"
        f" of that and {CHANCE_DEVIATIONS() // 2} events beside; expected is the larger of the rates of the customer's"
        " other days and of the other customers in the period; or every day, where the period has so many more than"
        f" {MIN_HISTORY_EVENTS()} events or more of the {HISTORY().days // 7} weeks before it lead to expect",
        "zeros by hour": f"a day's zeros at the hours of the week at which fewer than {percent(MAX_USUAL_ZERO_SHARE())}"
        f" of the customer's events, at least {MIN_HOUR_EVENTS()}, of the {HISTORY().days // 7} weeks before were zero,"
        " if more than these lead to expect in the same way; where zero is usual at other hours",
        "outsized": outsized_parameter(),
        "large": f"a day whose negative quantity is {percent(SURELY_NEGATIVE_SHARE())} or more of the customer's"
        f" positive quantity of the metric ({percent(FIRST_NEGATIVE_SHARE())} where none of these customers had any"
        f" before), or all days together {percent(SURELY_NEGATIVE_WHOLE())}, and {SURELY_NEGATIVE_RATIO()} times all"
        f" that it had in as long a time in the {HISTORY().days // 7} weeks before, whatever others have",
        "none": f"none is expected where none of at least {MIN_OTHER_EVENTS():,} events of other customers is of that"
        " kind",
        "high": f"NaN and infinite always; negative when {MIN_BATCH_EVENTS()} events or more make"
        f" {percent(HIGH_SHARE())}"
        f" or more of the customer's quantity of the metric, or fewer {percent(LARGE_SHARE())} or more of"
        f" {MIN_BATCH_EVENTS()} others'; zero when {MIN_BATCH_EVENTS()} events or"
        f" more make {percent(HIGH_ZERO_OWN_SHARE())} or more of the customer's events of the metric and"
        f" {percent(HIGH_ZERO_SHARE())} of all customers'; outsized from {percent(LARGE_SHARE())} of the customer's"
        " quantity of the metric"
        f" on, unless {percent(GROWTH_SHARE())} of its events are and none is {SURELY_OUTSIZED_RATIO()} times as large,"
        " which may be growth: else medium",
        "low": f"fewer than {MIN_BATCH_EVENTS()} events that make less; of several customers or metrics they are one"
        " finding",
    },
    unit="events",
    one="event",
    bounds=(
        *BOUNDS,
        *UNUSUAL_BOUNDS,
        *zero_hours.BOUNDS,
        *OUTSIZED_BOUNDS,
        *SIZE_BOUNDS,
        *usage_sums.BOUNDS,
        MIN_BATCH_EVENTS,
    ),
    statement=statement,
    examine=examine,
)
