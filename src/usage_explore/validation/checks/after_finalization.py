"""Arrived after finalization: usage by customer and metric as of the finalization and today, exactly.

Events of the period that arrived later are on no invoice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Select, Table, false, func, select

from usage_explore.decimals import plain, rfc3339, total
from usage_explore.files.open import SUFFIXES
from usage_explore.formatting import counted, data_value, in_sentence, percent, span_in
from usage_explore.pricing.currencies import signed_sums
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import SignOff, corrections_command
from usage_explore.sql.filters import conditions
from usage_explore.validation import usage_sums
from usage_explore.validation.batches import MIN_BATCH_EVENTS
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.bulk_loads import BOUNDS as BULK_LOAD_BOUNDS
from usage_explore.validation.bulk_loads import BulkLoads, bulk_loads, in_loads, outside_loads
from usage_explore.validation.check import (
    AFTER_SIGN_OFF,
    SEVERITIES,
    SIGN_OFF_FACT,
    SIGNED_AS_OF,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited,
    signed_words,
)
from usage_explore.validation.periods import INSTANT, part
from usage_explore.validation.usage_sums import (
    LARGE_SHARE,
    UsageSum,
    cost_facts,
    events_share,
    joined,
    metric_filter,
    own_usage,
    sum_keys,
    sum_measures,
    sum_of_query,
)

if TYPE_CHECKING:
    import pandas as pd

BOUNDS = CheckBounds("after_finalization")

# fmt: off
HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.01"), "share", 0, 1,
    "Share of a customer's own usage of the metric from which later usage is high.")
# fmt: on

NAME = "after_finalization"
_MAX_FACTS = 20
"""Metrics that the facts of a finding list."""


@dataclass(slots=True, kw_only=True)
class _Change:
    """Usage of one customer's metric that arrived later, and the whole of it as it is known today.

    `events_before` of the later events had occurred by the finalization.
    """

    later: UsageSum
    events_before: int
    events_now: int = 0
    quantity_now: Decimal = Decimal(0)

    @property
    def customer_id(self) -> UUID:
        (customer,) = self.later.customers
        return customer

    @property
    def metric_key(self) -> str:
        (metric,) = self.later.metrics
        return metric

    @property
    def events(self) -> int:
        return self.later.events

    @property
    def quantity(self) -> Decimal:
        return self.later.metrics[self.metric_key][1]

    @property
    def events_then(self) -> int:
        return self.events_now - self.events

    @property
    def quantity_then(self) -> Decimal:
        """The quantity as finalized; NaN where either is NaN or infinite."""
        if not (self.quantity_now.is_finite() and self.quantity.is_finite()):
            return Decimal("NaN")
        return total((self.quantity_now, self.quantity.copy_negate()))

    @property
    def own(self) -> Decimal:
        """The change as a share of the customer's usage of the metric as finalized: of events or of quantity."""
        return max(part(self.events, self.events_then), part(self.quantity, self.quantity_then))


def statement(table: Table, period: Period, loads: Sequence[datetime] = ()) -> Select[Any]:
    """What arrived after a resolved period's `finalized_at`; of a period without one, nothing.

    Without what came with the bulk loads of these times.

    Columns: `customer_id`, `metric_key`, `currency`, `events` bigint, `quantity` and `cost` numeric, `first` and `last`
    timestamptz, `before` bigint: the events that had occurred by then. Ordered by customer and metric.
    """
    c = table.c
    finalized = period.finalized_at
    late, by_then = (false(), false()) if finalized is None else (c.ingested_at > finalized, c.timestamp <= finalized)
    return (
        select(
            *sum_keys(table),
            *sum_measures(table),
            func.count().filter(by_then).label("before"),
        )
        .where(*conditions(table, period), late, *outside_loads(c.ingested_at, loads))
        .group_by(*sum_keys(table))
        .order_by(c.customer_id, c.metric_key)
    )


def examine(examination: Examination) -> Outcome:
    """One finding for each customer's metric that changed since, or one for all where the period was finalized before
    it ended, or is signed; and all of them as the sheet, see `sheet`. What came with bulk loads is one finding: whether
    it had arrived before is unknown.
    """
    every = _changes(examination)
    if every and examination.signed is not None:
        finding = _after_sign_off(examination, examination.signed, every)
        return Outcome(findings=(finding,), looked_at=examination.totals.events, sheet=sheet(every))
    if every and _is_early(examination.period):
        note = "what changed by customer and metric is in the sheet alone: the period was finalized before it ended"
        finding, looked_at = _early(examination, every), examination.totals.events
        return Outcome(findings=(finding,), looked_at=looked_at, sheet=sheet(every), note=note)
    loads = bulk_loads(examination, small=False) if every else BulkLoads()
    changes = _changes(examination, loads.times) if loads.times else every
    judged = [(_severity(change), change) for change in changes]
    judged.sort(key=lambda pair: (list(SEVERITIES).index(pair[0]), -pair[1].own, -pair[1].events))
    shown, note = limited(
        judged,
        "customers' metrics",
        lambda rest: f"{counted(sum(change.events for _, change in rest), 'event')}, in the sheet alone",
    )
    bulk = _bulk(examination, loads)
    if not every and _is_to_come(examination):
        note = "the finalization is later than what is looked at: nothing can have arrived after it"
    return Outcome(
        findings=(*bulk, *(_finding(examination, severity, change) for severity, change in shown)),
        looked_at=examination.totals.events,
        sheet=sheet(every),
        note=note,
    )


def _is_early(period: Period) -> bool:
    return period.finalized_at is not None and period.finalized_at < period.span[1]


def _is_to_come(examination: Examination) -> bool:
    finalized = examination.period.finalized_at
    return finalized is not None and finalized >= (examination.period.as_of or examination.now)


def _changes(examination: Examination, loads: Sequence[datetime] = ()) -> list[_Change]:
    changes: dict[tuple[UUID, str], _Change] = {}
    for row in examination.rows(statement(examination.table, examination.period, loads)):
        later = UsageSum.of_row(row)
        if change := changes.get((row.customer_id, row.metric_key)):
            change.later.add(later)
            change.events_before += row.before
        else:
            changes[row.customer_id, row.metric_key] = _Change(later=later, events_before=row.before)
    usage = own_usage(examination, {customer for customer, _ in changes})
    for key, change in changes.items():
        change.events_now, change.quantity_now = usage[key]
    return list(changes.values())


def _severity(change: _Change) -> Severity:
    if change.events < MIN_BATCH_EVENTS() and change.own < LARGE_SHARE():
        return "low"
    return "high" if change.own >= HIGH_SHARE() else "medium"


def _finding(examination: Examination, severity: Severity, change: _Change) -> Finding:
    period = examination.period
    assert period.finalized_at is not None  # noqa: S101 - the check needs it
    then = f"{counted(change.events_then, 'event')}, quantity {plain(change.quantity_then)}"
    now = f"{counted(change.events_now, 'event')}, quantity {plain(change.quantity_now)}"
    return Finding(
        check=NAME,
        severity=severity,
        sentence=f"{counted(change.events, 'event')} of customer {change.customer_id}, {data_value(change.metric_key)},"
        f" {span_in(change.later.since, change.later.until, period.zone)}, arrived after the period was finalized:"
        f" the quantity was {in_sentence(change.quantity_then)} then and is {in_sentence(change.quantity_now)}"
        f" now{_by(change)}.",
        **change.later.fields(examination),
        question=examination.aggregate_question(
            customer_id=change.customer_id,
            metric="sum_quantity" if change.quantity_now.is_finite() else "count",
            **metric_filter([change.metric_key]),
        ),
        facts=(
            ("finalized at", period.finalized_at.astimezone(period.zone).isoformat()),
            ("as of the finalization", then),
            ("now", now),
            ("changed", f"{counted(change.events, 'event')}, quantity {plain(change.quantity)}"),
            *cost_facts(change.later.costs),
        ),
    )


def _after_sign_off(examination: Examination, signed: SignOff, changes: list[_Change]) -> Finding:
    """All of it at once: the sign-off has the corrections, by customer and metric."""
    later = UsageSum.of_sums([change.later for change in changes])
    costs = joined(signed_sums(later.amounts))
    size = f"+{counted(later.events, 'event')} of {counted(len(later.customers), 'customer')}"
    when = span_in(later.since, later.until, examination.period.zone)
    is_file = signed.basis is not None and signed.basis.prices.lower().endswith((".toml", *SUFFIXES))
    prices = " --prices FILE" if is_file else ""  # without them the corrections have no amounts
    command = corrections_command(signed, prices, is_one_of_several=examination.is_one_of_several)
    return Finding(
        check=NAME,
        kind=AFTER_SIGN_OFF,
        severity=min((_severity(change) for change in changes), key=list(SEVERITIES).index),
        sentence=f"Arrived after {signed_words(signed, examination.period.zone)}: {size}, {when}"
        f"{f', external cost {costs}' if costs else ''};"
        f" `{command}` has the corrections.",
        question=examination.events_question(ingested_after=signed.as_of + INSTANT),
        facts=((SIGN_OFF_FACT, str(signed.id)), (SIGNED_AS_OF, rfc3339(signed.as_of)), *later.facts()[:_MAX_FACTS]),
        is_general=True,
        # not of the metric with the largest share, which the sentence does not name
        **(later.fields(examination) | events_share(examination, later.events)),
    )


def _bulk(examination: Examination, loads: BulkLoads) -> tuple[Finding, ...]:
    """What came with bulk loads after the finalization, all of it at once; high where other events had arrived."""
    period, arrived = examination.period, examination.table.c.ingested_at
    assert period.finalized_at is not None  # noqa: S101 - the check needs it
    times = [time for time in loads.times if time > period.finalized_at]
    usage = sum_of_query(examination, examination.events_question(), in_loads(arrived, times)) if times else None
    if usage is None:
        return ()
    share = part(usage.events, examination.totals.events)
    spell = span_in(times[0], times[-1] + INSTANT, period.zone)
    return (
        Finding(
            check=NAME,
            severity="medium" if usage.events == examination.totals.events else "high",
            sentence=f"{counted(usage.events, 'event')}, {percent(share)} of the period's, came with a history or a"
            f" file that was loaded after the period was finalized, {spell}: their arrival times"
            " are unknown, and so is whether the invoice has them.",
            question=examination.events_question(occurred_after=usage.since, occurred_before=usage.until),
            facts=usage.facts(),
            **usage.fields(examination),
        ),
    )


def _by(change: _Change) -> str:
    """The change as a part of what there was: of nothing, and of what is not finite, there is none."""
    if not change.quantity_then or not change.quantity_then.is_finite():
        return ""
    return f", a change of {percent(part(change.quantity, change.quantity_then))}"


def _early(examination: Examination, changes: list[_Change]) -> Finding:
    """All of it at once, of a period that was finalized before it ended: most of it is the rest of the period."""
    period = examination.period
    assert period.finalized_at is not None  # noqa: S101 - the check needs it
    later = UsageSum.of_sums([change.later for change in changes])
    share = part(later.events, examination.totals.events)
    before = sum(change.events_before for change in changes)
    return Finding(
        check=NAME,
        severity="high" if later.events >= MIN_BATCH_EVENTS() and share >= HIGH_SHARE() else "medium",
        sentence=f"The period was finalized before it ended, {period.finalized_at.astimezone(period.zone).isoformat()}:"
        f" {counted(later.events, 'event')} of {counted(len(later.customers), 'customer')} arrived after that,"
        f" {percent(share)} of all; {before:,} of them had occurred by then.",
        question=examination.aggregate_question(**metric_filter(later.metrics)),
        facts=(
            ("finalized at", period.finalized_at.astimezone(period.zone).isoformat()),
            *later.facts()[: _MAX_FACTS + 1],
        ),
        **later.fields(examination),
    )


def sheet(changes: list[_Change]) -> pd.DataFrame:
    """What was known at the finalization and is known now, one row for each customer and metric that changed.

    Columns: `customer_id`, `metric_key` (str), `events_then`, `events_later`, `events_now` (int64), `quantity_then`,
    `quantity_later`, `quantity_now` (`Decimal`). Then and later make now, exactly.
    """
    import pandas as pd

    return pd.DataFrame(
        {
            "customer_id": pd.Series([str(change.customer_id) for change in changes], dtype="str"),
            "metric_key": pd.Series([change.metric_key for change in changes], dtype="str"),
            "events_then": pd.Series([change.events_then for change in changes], dtype="int64"),
            "events_later": pd.Series([change.events for change in changes], dtype="int64"),
            "events_now": pd.Series([change.events_now for change in changes], dtype="int64"),
            "quantity_then": pd.Series([change.quantity_then for change in changes], dtype="object"),
            "quantity_later": pd.Series([change.quantity for change in changes], dtype="object"),
            "quantity_now": pd.Series([change.quantity_now for change in changes], dtype="object"),
        }
    )


CHECK = Check(
    name=NAME,
    title="Arrived after finalization",
    means="This usage is on no invoice of the period: bill it with the next, or correct the invoice.",
    parameters=lambda: {
        "after": "ingested later than finalized_at, and by the time the data is looked at",
        "high": f"{MIN_BATCH_EVENTS()} events or more that change the events or the quantity of the customer's metric"
        f" by {percent(HIGH_SHARE())} or more, or fewer that change them by {percent(LARGE_SHARE())} or more",
        "low": f"fewer than {MIN_BATCH_EVENTS()} events that change both by less than {percent(LARGE_SHARE())}",
        "bulk loads": "what came with bulk loads (see late_arrivals) after it is one finding: medium where that is the"
        " whole period, else high",
        "early": "of a period finalized before it ended all is one finding, the customers and metrics are in the sheet:"
        f" high from {MIN_BATCH_EVENTS()} events and {percent(HIGH_SHARE())} of the period's events on, else medium",
    },
    unit="events",
    one="event",
    bounds=(*BOUNDS, *BULK_LOAD_BOUNDS, *usage_sums.BOUNDS),
    statement=statement,
    examine=examine,
    needs="finalized_at",
)
