"""Check: how long events take to arrive, by metric, and the batches that took unusually long.

An event is late if its lag exceeds both 24 hours and a multiple of the metric's ordinary lag, so a metric that is
always read a day later is not late every day. The ordinary lag is never longer than before the period: however many of
the period's events are late, they do not make lateness ordinary; nor does one load of a customer's history, however
many events it has: a lag is ordinary if it recurs. Lags over 30 days are left to `impossible_times`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import CTE, DateTime, Float, Interval, Select, Table, and_, case, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.formatting import counted, duration, listed, percent, span_in
from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions
from usage_explore.validation import usage_sums
from usage_explore.validation.batches import (
    BATCH_GAP,
    STEADY_GAP,
    Batch,
    BatchWording,
    SignedSpan,
    batch_columns,
    batched,
    is_soon,
    not_settled,
    outcome,
    signed_kind,
    small_batches,
)
from usage_explore.validation.batches import BOUNDS as BATCH_BOUNDS
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.bulk_loads import BOUNDS as BULK_LOAD_BOUNDS
from usage_explore.validation.bulk_loads import (
    MAX_LOAD_DURATION,
    MIN_LATE_LAG,
    MIN_LIVE_ARRIVALS,
    MIN_LOADED_DAYS,
    MIN_NIGHTS,
    NIGHTS,
    BulkLoads,
    bulk_loads,
    load_times,
    outside_loads,
)
from usage_explore.validation.check import Check, Examination, Finding, Outcome, Severity
from usage_explore.validation.checks.impossible_times import MAX_AGE
from usage_explore.validation.periods import INSTANT, part, preceding
from usage_explore.validation.usage_sums import UsageSum

if TYPE_CHECKING:
    import pandas as pd

BOUNDS = CheckBounds("late_arrivals")

# fmt: off
LATE_LAG_RATIO = BOUNDS.add("late_lag_ratio", 4, "factor", 1, 1000,
    "An event is late if its lag is more than this many times the metric's ordinary lag.")

HISTORY = BOUNDS.add("history", timedelta(days=28), "days", 1, 400,
    "Time before the period whose events say what lag is ordinary.")

MIN_HISTORY_EVENTS = BOUNDS.add("min_history_events", 50, "events", 1, 1000000,
    "Events of a metric before the period, at least, that say what lag is ordinary.")

MIN_RECURRENCES = BOUNDS.add("min_recurrences", 3, "days", 1, 60,
    "Days on which late events of a metric arrived, each with at least half as many as the most, for their lag to be "
    "ordinary: fewer, or all within half of the time examined, are loads, such as of one customer's history.")

MEDIUM_SHARE = BOUNDS.add("medium_share", Decimal("0.001"), "share", 0, 1,
    "Share of a customer's own usage from which a late batch is medium.")

LIKE_LAG_RATIO = BOUNDS.add("like_lag_ratio", 1.5, "factor", 1, 1000,
    "Batches whose lags differ by less than this factor may be one incident.")

USUAL_LOAD_SHARE = BOUNDS.add("usual_load_share", Decimal("0.5"), "share", 0, 1,
    "Share of the period's events from which bulk loads are the rule: their finding is low.")
# fmt: on

NAME = "late_arrivals"
_LAG_QUANTILES = (0.5, 0.9, 0.99)
_DAY = timedelta(days=1)


def statement(
    table: Table,
    period: Period,
    loads: Sequence[datetime] = (),
    left_out: Mapping[datetime, Sequence[str]] = MappingProxyType({}),
) -> Select[Any]:
    """How long the events of a resolved period took to arrive, those that came with bulk loads at these times left out.

    So are late events of these metrics that arrived within 24 hours from a time of `left_out`.

    Columns: `metric_key`, `events` bigint, `quantiles` interval[] (50, 90 and 99 of 100), `longest` interval, `late`
    bigint: the events beyond `MIN_LATE_LAG`. Ordered by metric.
    """
    c = table.c
    lag = c.ingested_at - c.timestamp
    quantiles = func.percentile_disc(array(_LAG_QUANTILES, Float()))
    single = [
        and_(c.ingested_at >= day, c.ingested_at < day + _DAY, c.metric_key.in_(metrics))
        for day, metrics in left_out.items()
    ]
    kept = [or_(lag <= literal(MIN_LATE_LAG()), ~or_(*single))] if single else []
    return (
        select(
            c.metric_key,
            func.count().label("events"),
            quantiles.within_group(lag).cast(ARRAY(Interval)).label("quantiles"),
            func.max(lag).label("longest"),
            func.count().filter(lag > literal(MIN_LATE_LAG())).label("late"),
        )
        .where(*conditions(table, period), *outside_loads(c.ingested_at, loads), *kept)
        .group_by(c.metric_key)
        .order_by(c.metric_key.collate("C"))
    )


def late_days(table: Table, period: Period, metrics: Collection[str], loads: Sequence[datetime] = ()) -> Select[Any]:
    """The late `events` of these metrics by `metric_key` and the `day` of 24 hours, counted from the period's start, on
    which they arrived; without those that came with bulk loads at these times.
    """
    c = table.c
    instant = DateTime(timezone=True)
    day = func.date_bin(literal(_DAY, Interval), c.ingested_at, literal(period.span[0], instant), type_=instant)
    is_late = c.ingested_at > c.timestamp + literal(MIN_LATE_LAG())
    where = (*conditions(table, period), *outside_loads(c.ingested_at, loads), is_late, c.metric_key.in_(metrics))
    return (
        select(c.metric_key, day.label("day"), func.count().label("events"))
        .where(*where)
        .group_by(c.metric_key, day.label("day"))
    )


def late(
    table: Table,
    period: Period,
    bounds: Mapping[str, timedelta],
    loads: Sequence[datetime] = (),
    signed: SignedSpan | None = None,
) -> Select[Any]:
    """The events that took longer than their metric's bound, by arrival, see `batched`; without those of `loads`.

    And without those that arrived between the sign-offs of `signed`: the last one includes them.
    """
    c = table.c
    lag = c.ingested_at - c.timestamp
    slow = {metric: bound for metric, bound in bounds.items() if bound > MIN_LATE_LAG()}
    late_of_slow = [and_(c.metric_key == metric, lag > literal(bound)) for metric, bound in slow.items()]
    events = (
        select(
            signed_kind(NAME, c.ingested_at, signed).label("kind"),
            *batch_columns(table),
        )
        .where(
            *conditions(table, period),
            *outside_loads(c.ingested_at, loads),
            *not_settled(c.ingested_at, signed),
            lag > literal(MIN_LATE_LAG()),
            lag <= literal(MAX_AGE()),
            or_(c.metric_key.not_in(slow), *late_of_slow),
        )
        .cte("late")
    )
    return batched(_clustered(events), "ingested_at", "cluster")


def _clustered(late_events: CTE) -> CTE:
    """The events with the number of their `cluster`: a customer's lags in order, apart by `LIKE_LAG_RATIO` or more."""
    e = late_events.c
    lag = e.ingested_at - e.timestamp
    shorter = func.lag(lag).over(partition_by=e.customer_id, order_by=lag)
    marked = select(late_events, lag.label("lag"), case((lag > shorter * LIKE_LAG_RATIO(), 1), else_=0).label("longer"))
    m = marked.cte("by_lag")
    cluster = func.sum(m.c.longer).over(partition_by=m.c.customer_id, order_by=m.c.lag)
    columns = [column for column in m.c if column.name not in ("lag", "longer")]
    return select(*columns, cluster.label("cluster")).cte("clustered")


def examine(examination: Examination) -> Outcome:
    """The late batches by customer and arrival, and the lag of each metric as the sheet, see `sheet`.

    What came with bulk loads is one finding, or nothing is judged where all did: when it arrived is unknown.
    """
    lags = list(examination.extracted_rows(statement(examination.table, examination.period)))
    loads = bulk_loads(examination) if any(row.late for row in lags) else BulkLoads()
    if loads.usage and loads.events == examination.totals.events:
        return Outcome(
            skipped=f"arrival times unknown, lateness not judged: {_together(examination, loads, loads.usage)}"
        )
    if loads.times:
        lags = list(examination.extracted_rows(statement(examination.table, examination.period, loads.times)))
    usual, unknown = _ordinary_lags(examination, lags, loads.times)
    bounds = {metric: max(MIN_LATE_LAG(), LATE_LAG_RATIO() * lag) for metric, lag in usual.items()}
    zone = examination.period.zone

    def severity(batch: Batch, own: Decimal) -> Severity:
        return "medium" if own >= MEDIUM_SHARE() else "low"

    def facts(affected: Batch) -> tuple[tuple[str, str], ...]:
        bound = min(bounds[metric] for metric in affected.metrics)
        return (*affected.arrival(zone), ("late is later than", duration(bound)))

    wording = BatchWording(
        check=NAME,
        severity=severity,
        predicate=lambda batch: f", arrived {_longest(batch)} late, {span_in(*batch.arrived, zone)}",
        stray_predicate=lambda stray: f", arrived {_longest(stray)} late",
        facts=facts,
        continues=_continues,
    )
    suspects = late(examination.table, examination.period, bounds, loads.times, examination.signed_span)
    rows = examination.extracted_rows(suspects) if lags else ()
    result = outcome(examination, rows, wording, examination.totals.events - loads.events)
    bulk = (_bulk(examination, loads, loads.usage),) if loads.usage else ()
    note = "; ".join(filter(None, (result.note, unknown)))
    return Outcome(findings=result.findings + bulk, looked_at=result.looked_at, sheet=sheet(lags), note=note)


def _ordinary_lags(
    examination: Examination, lags: Sequence[Any], loads: Sequence[datetime]
) -> tuple[dict[str, timedelta], str]:
    """The ordinary lag of each metric, and a note on the metrics without events enough before the period.

    It is the 90th percentile, of the period or of the time before it, whichever is shorter; without events enough
    before, the median of the period. The time before is read only if a metric's lag in the period raises its bound.
    """
    usual = {row.metric_key: row.quantiles[1] for row in lags}
    slow = {metric for metric, lag in usual.items() if LATE_LAG_RATIO() * lag > MIN_LATE_LAG()}
    if not slow:
        return usual, ""
    before = preceding(examination.period, HISTORY())
    known = _recurring_lags(examination, before, slow, load_times(examination, before)) if before else {}
    unknown = sorted(slow - known.keys())
    own = _recurring_lags(examination, examination.period, unknown, loads) if unknown else {}
    for row in lags:
        if row.metric_key in known:
            usual[row.metric_key] = min(row.quantiles[1], known[row.metric_key].quantiles[1])
        elif row.metric_key in slow:
            usual[row.metric_key] = own.get(row.metric_key, row).quantiles[0]
    note = (
        f"the ordinary lag of {listed(unknown)} is the median of the period itself: fewer than {MIN_HISTORY_EVENTS()}"
        f" events in the {duration(HISTORY())} before show it"
    )
    return usual, note if unknown else ""


def _recurring_lags(
    examination: Examination, period: Period, metrics: Collection[str], loads: Sequence[datetime]
) -> dict[str, Any]:
    """The lags of each metric with events enough, see `statement`, without late events that came on single days."""
    by_metric: dict[str, list[tuple[int, datetime]]] = defaultdict(list)
    for row in examination.extracted_rows(late_days(examination.table, period, metrics, loads)):
        by_metric[row.metric_key].append((row.events, row.day))
    single: dict[datetime, list[str]] = defaultdict(list)
    since, until = period.span
    for metric, days in by_metric.items():
        days.sort()
        while days:
            alike = [day for events, day in days if 2 * events >= days[-1][0]]
            if len(alike) >= MIN_RECURRENCES() and 2 * (max(alike) - min(alike)) >= until - since:
                break
            single[days.pop()[1]].append(metric)
    rows = examination.extracted_rows(statement(examination.table, period, loads, single))
    return {row.metric_key: row for row in rows if row.metric_key in metrics and row.events >= MIN_HISTORY_EVENTS()}


def _bulk(examination: Examination, loads: BulkLoads, usage: UsageSum) -> Finding:
    """That events came with bulk loads, in_loads others whose arrival is known."""
    share = part(usage.events, examination.totals.events)
    return Finding(
        check=NAME,
        kind="bulk load",
        severity="low" if share >= USUAL_LOAD_SHARE() else "medium",
        sentence=f"{_together(examination, loads, usage)}; {percent(share)} of the period's events."
        " Arrival times unknown, lateness not judged.",
        question=examination.events_question(occurred_after=usage.since, occurred_before=usage.until),
        facts=usage.facts(),
        **usage.fields(examination),
    )


def _together(examination: Examination, loads: BulkLoads, usage: UsageSum) -> str:
    spell = span_in(loads.times[0], loads.times[-1] + INSTANT, examination.period.zone)
    theirs = "share their ingested_at" if usage.events > 1 else "has the ingested_at of a load"
    return (
        f"{counted(usage.events, 'event')} of {counted(len(usage.customers), 'customer')} {theirs}, {spell}, as when a"
        " history or a file without ingested_at is loaded"
    )


def sheet(lags: list[Any]) -> pd.DataFrame:
    """The lag by metric, as `statement` gives it.

    Columns: `metric_key` (str), `events` (int64), `p50`, `p90`, `p99`, `longest` (timedelta64[us]; the time from an
    event to its arrival), `late_events` (int64, beyond 24 hours), `late_share` (`Decimal`, of the metric's events).
    """
    import pandas as pd

    times = {
        "p50": [row.quantiles[0] for row in lags],
        "p90": [row.quantiles[1] for row in lags],
        "p99": [row.quantiles[2] for row in lags],
        "longest": [row.longest for row in lags],
    }
    return pd.DataFrame(
        {
            "metric_key": pd.Series([row.metric_key for row in lags], dtype="str"),
            "events": pd.Series([row.events for row in lags], dtype="int64"),
            **{name: pd.Series(values, dtype="timedelta64[us]") for name, values in times.items()},
            "late_events": pd.Series([row.late for row in lags], dtype="int64"),
            "late_share": pd.Series([part(row.late, row.events) for row in lags], dtype="object"),
        }
    )


def _continues(batch: Batch, later: Batch) -> bool:
    """Whether a later batch arrived soon after, about as late: 4 days late, then 4 days 2 hours, not 2 days."""
    shortest, longest = batch.lags
    is_alike = later.lags[0] <= LIKE_LAG_RATIO() * longest and shortest <= LIKE_LAG_RATIO() * later.lags[1]
    return is_alike and is_soon(batch.arrived[1], later.arrived[0])


def _longest(affected: Batch) -> str:
    shortest, longest = affected.lags
    return f"up to {duration(longest)}" if longest - shortest > timedelta(hours=1) else duration(longest)


CHECK = Check(
    name=NAME,
    title="Late arrivals",
    means="What arrives after the period is finalized is on no invoice; what arrives late may be late again.",
    parameters=lambda: {
        "late": f"a lag of more than {duration(MIN_LATE_LAG())}, and more than {LATE_LAG_RATIO()} times the metric's"
        f" ordinary lag: what 9 of 10 of its events take, in the period or in the {duration(HISTORY())} before it,"
        f" whichever is shorter; what half of the period's take, where fewer than {MIN_HISTORY_EVENTS()} events lie"
        " before it; late events are left out of it where those of fewer than"
        f" {MIN_RECURRENCES()} days of arrival are about as many, or all of these within half of the time",
        "bulk loads": f"most events of {MIN_LOADED_DAYS()} days, or of all days, share an ingested_at (within"
        f" {duration(MAX_LOAD_DURATION())}) that is more than {duration(MIN_LATE_LAG())} later, unless events of"
        f" {MIN_NIGHTS()} of the {NIGHTS()} days before arrived together in time, as from a source that sends each"
        f" night: when they arrived is unknown, lateness is not judged; medium below {percent(USUAL_LOAD_SHARE())} of"
        " the period's events, else low, and skipped where all of them are; so of a few further late events, where"
        f" fewer than {MIN_LIVE_ARRIVALS()} arrivals were in time in the period, and in the {NIGHTS()} days before"
        " theirs",
        "far past": f"later than {duration(MAX_AGE())} is an impossible time",
        "batch": f"events of one customer that arrived less than {duration(BATCH_GAP())} apart are one batch; those of"
        f" a metric that arrive within {duration(STEADY_GAP())} and about as late, by the factor {LIKE_LAG_RATIO()},"
        f" are one incident; low ones are one finding; {small_batches()}",
        "medium": f"a batch that makes {percent(MEDIUM_SHARE())} or more of the customer's usage in the period",
    },
    unit="events",
    one="event",
    bounds=(*BOUNDS, *BULK_LOAD_BOUNDS, *BATCH_BOUNDS, *usage_sums.BOUNDS),
    statement=statement,
    examine=examine,
)
