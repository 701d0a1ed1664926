"""Check: the same event under another key: same customer, metric, time, quantity and dimensions.

Of the events that look alike one counts; each further one with a key of its own may be a copy. (One with the same key
is a duplicate, which is another check.) Events at whole milliseconds may agree by chance, and on a grid of times, such
as each 10 minutes, they often do: `coincidences` tells copies from chance. Times of microseconds exclude chance: such
look-alikes are copies, unless as many came before the period (`coincidences.usual_days`). Rows of an export that were
loaded again with other amounts, options, columns, zones or digits of times (`loaded_again`), or by the hour and by the
day (`aggregated`), are reported as such.

Events are compared by their columns first, which an index covers, and by their dimensions where those agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    case,
    cast,
    extract,
    false,
    func,
    not_,
    or_,
    select,
)

from usage_explore.formatting import duration, percent
from usage_explore.load.loaded_again import MIN_DIGITS, MIN_EVIDENCE, MIN_FINE, MIN_METRICS, MIN_RARE
from usage_explore.load.other_zone import MAX_DISTANCE
from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions, count
from usage_explore.validation import batches, usage_sums
from usage_explore.validation.batches import (
    BATCH_GAP,
    STEADY_GAP,
    Batch,
    BatchWording,
    batch_columns,
    batched,
    outcome,
    small_batches,
)
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Check, Examination, Outcome, Severity
from usage_explore.validation.checks import coincidences, pair_counts
from usage_explore.validation.checks.aggregated import AGGREGATED, aggregated
from usage_explore.validation.checks.loaded_again import (
    CUT,
    OTHER_ZONE,
    RELOADED,
    RESTATED,
    copied,
    copied_rows,
    exported,
    on_grid,
    other_columns,
    reloaded_rows,
    restated_rows,
    row_hash_times,
)
from usage_explore.validation.periods import at_times, part, preceding
from usage_explore.validation.usage_sums import LARGE_SHARE, metrics_query

Verdicts = Mapping[tuple[UUID, str, datetime], coincidences.Verdict]
"""Verdicts by customer, metric and day."""

Copies = dict[pair_counts.Series, tuple[int, int]]
"""Of customers' metrics the copies that no habit accounts for, and all events, see `coincidences.beyond_habit`."""

BOUNDS = CheckBounds("look_alikes")

# fmt: off
HIGH_EVENTS = BOUNDS.add("high_events", 100, "events", 1, 1000000,
    "Look-alikes in one batch that are high if they are `LARGE_SHARE` of what the customer sent meanwhile; fewer are "
    "high if they are that share of its usage of a metric.")

HIGH_RESTATED_SHARE = BOUNDS.add("high_restated_share", Decimal("0.001"), "share", 0, 1,
    "Share of a customer's own usage from which restated rows are high.")

NAME = "look_alikes"
CERTAIN, COPIES, UNDECIDED, USUAL = "certain", "copies", "undecided", "usual"
"""Look-alikes of a metric whose times are finer than a millisecond; more than chance makes; possibly none; and of such
times, but as many as the customer's metric had before the period."""

MIN_FINE_SHARE = BOUNDS.add("min_fine_share", 0.5, "share", 0, 1,
    "Share of a customer's look-alikes of a metric with times finer than a millisecond from which all are certain.")
# fmt: on

_RESTATED = (
    "each is like a row of an earlier load in all but amounts, and has a hash of the row as its key: an export was"
    " loaded again with other amounts, and both count"
)


_RELOADED = (
    "each has the customer, metric, time and quantity of a row of an earlier load, as most rows of one of the two loads"
    " have: a file was loaded again with other options or columns, or other values or keys in these, and both count"
)

_LIKE = "like another event that counts, in time, quantity and dimensions, under another idempotency key"

_CHANCE = {
    CERTAIN: ": times to the microsecond do not agree by chance",
    COPIES: ": chance makes fewer",
    UNDECIDED: "; their times and quantities are so few that they may be copies or usage of its own",
    USUAL: "; there were as many in the {history} before, so the meter sends equal events, or has long sent events"
    " again",
}

_OTHER_ZONE = (
    "each has the customer, metric, quantity and common dimensions of a row of an earlier load at a time that another"
    " time zone gives, and one of the two has a hash of the row as its key: a file was loaded again with another zone,"
    " and both count"
)

_CUT = (
    "each has the customer, metric, quantity and common dimensions of a row of an earlier load, and one of the two has"
    " a hash of the row as its key; one has its times cut or rounded, such as to seconds: the same file was loaded"
    " again, and both count"
)

_AGGREGATED = (
    "by customer, metric and day they have exactly the sums of the other events, in more or fewer rows: the same usage"
    " was loaded by the hour and by the day, and both count"
)

_OF_LOADS = {
    RESTATED: _RESTATED,
    RELOADED: _RELOADED,
    OTHER_ZONE: _OTHER_ZONE,
    CUT: _CUT,
    AGGREGATED: _AGGREGATED,
}


def repeated_times(table: Table, period: Period) -> Select[Any]:
    """The times of all events of which there are several with the same customer, metric and quantity."""
    return select(_repeated(table, period, None).c.timestamp).distinct()


def _repeated(table: Table, period: Period, times: Sequence[datetime] | None) -> CTE:
    """What several events have in common: time, customer, metric and quantity."""
    c = table.c
    covered = [c.timestamp, c.customer_id, c.metric_key, c.quantity]
    return (
        select(*covered)
        .where(*conditions(table, period), *at_times(c.timestamp, times))
        .group_by(*covered)
        .having(func.count() > 1)
        .cte("repeated")
        .prefix_with("MATERIALIZED", dialect="postgresql")  # else each worker of the join makes it again
    )


def statement(
    table: Table,
    period: Period,
    verdicts: Verdicts | None = None,
    times: Sequence[datetime] | None = None,
    reloaded: Sequence[datetime] = (),
) -> Select[Any]:
    """The look-alikes of a resolved period, see `batched`; of events at these `repeated_times`, if they are given.

    Without the rows of `reloaded` loads that have other columns than the row that they are like: `reloaded_rows`.

    `kind` is RESTATED, CERTAIN (USUAL with that verdict), or the verdict on the customer's metric and day; UNDECIDED
    for all without `verdicts`. Others without a verdict are left out: they agree by chance.
    """
    alike = _alike(table, period, times, reloaded)
    if verdicts is None:
        return batched(alike)
    a, instant = alike.c, table.c.timestamp.type
    kinds: list[str] = list(verdicts.values())
    judged = (
        func.unnest(
            array((customer for customer, _, _ in verdicts), Uuid()),
            array((metric for _, metric, _ in verdicts), Text()),
            array((day for _, _, day in verdicts), instant),
            array(kinds, Text()),
        )
        .table_valued("customer", "metric", "day", "verdict")
        .render_derived(name="judged")
    )
    day = pair_counts.day(a.timestamp, period)
    on_day = and_(a.customer_id == judged.c.customer, a.metric_key == judged.c.metric, day == judged.c.day)
    is_decided = a.kind != UNDECIDED
    kind = case((a.kind == RESTATED, a.kind), else_=func.coalesce(judged.c.verdict, a.kind)).label("kind")
    return batched(
        select(*(column for column in a if column.name != "kind"), kind)
        .select_from(alike.outerjoin(judged, on_day))
        .where(or_(is_decided, judged.c.verdict.is_not(None)))
        .cte("judged_alike")
    )


def _alike(table: Table, period: Period, times: Sequence[datetime] | None, reloaded: Sequence[datetime]) -> CTE:
    c = table.c
    within = and_(*conditions(table, period), *at_times(c.timestamp, times))
    repeated = _repeated(table, period, times)
    content = [c.timestamp, c.customer_id, c.metric_key, c.quantity, c.dimensions]
    r = repeated.c
    by_key: dict[str, Any] = {"partition_by": [*content, c.idempotency_key], "order_by": [c.ingested_at, c.id]}
    candidates = (
        select(*content, c.id, c.ingested_at, c.external_cost_amount, *other_columns(table))
        .add_columns(func.row_number().over(**by_key).label("of_key"), exported(table).label("exported"))
        .add_columns(c.idempotency_key.like("row:%").label("without_key"))
        .join_from(
            table,
            repeated,
            and_(
                c.timestamp == r.timestamp,
                c.customer_id == r.customer_id,
                c.metric_key == r.metric_key,
                c.quantity == r.quantity,
            ),
        )
        .where(within)
        .cte("each")
    )
    e = candidates.c
    by_content: dict[str, Any] = {
        "partition_by": [e.timestamp, e.customer_id, e.metric_key, e.quantity, e.dimensions],
        "order_by": [e.ingested_at, e.id],
    }

    def differs(*columns: ColumnElement[Any]) -> ColumnElement[bool]:
        """Whether one of the columns is another one than of the first of the content."""
        return or_(*(each.is_distinct_from(func.first_value(each).over(**by_content)) for each in columns))

    arrived = (
        select(
            candidates,
            func.row_number().over(**by_content).label("arrival"),
            (e.ingested_at > func.first_value(e.ingested_at).over(**by_content)).label("later"),
            differs(e.external_cost_amount, e.external_cost_currency).label("costs_differ"),
            differs(*other_columns(candidates)).label("others_differ"),
            differs(e.without_key).label("keys_differ"),
            or_(*(each != func.first_value(each).over(**by_content) for each in other_columns(candidates))).label(
                "is_of_another"
            ),
        )
        .where(e.of_key == 1)
        .cte("arrived")
    )
    a = arrived.c
    is_other = or_(and_(a.without_key, a.others_differ), a.keys_differ)
    is_reloaded = and_(a.ingested_at.in_(reloaded), a.later, is_other)
    # two products of a customer may have 10 seats each at one hour: no look-alikes, as those of two regions are none
    is_of_another = and_(on_grid(a.timestamp), func.coalesce(a.is_of_another, false()))
    kept = [a[column.name] for column in batch_columns(table)]
    is_fine = func.mod(cast(extract("microseconds", a.timestamp), BigInteger), 1000) != 0
    fine_share = func.avg(case((is_fine, 1.0), else_=0.0)).over(partition_by=[a.customer_id, a.metric_key])
    kind = case(
        (and_(a.exported, a.later, a.costs_differ), RESTATED),
        (fine_share >= MIN_FINE_SHARE(), CERTAIN),
        else_=UNDECIDED,
    )
    return select(*kept, kind.label("kind")).where(a.arrival > 1, not_(is_reloaded), not_(is_of_another)).cte("alike")


def examine(examination: Examination) -> Outcome:
    """The batches of look-alikes by customer."""
    copies: Copies = {}

    def severity(batch: Batch, own: Decimal) -> Severity:
        if batch.kind in _OF_LOADS:
            return "high" if own >= HIGH_RESTATED_SHARE() else "medium"
        if batch.kind in (UNDECIDED, USUAL):
            return "low"
        again = [copies[key] for metric in batch.metrics if (key := (batch.customer, metric)) in copies]
        if again and max(own, *(part(*counts) for counts in again)) >= LARGE_SHARE():
            return "high"
        if batch.events < HIGH_EVENTS():
            return "medium"
        question = metrics_query(
            examination,
            batch.metrics,
            customer_id=batch.customer_id,
            occurred_after=batch.since,
            occurred_before=batch.until,
        )
        around = examination.connection.execute(count(examination.table, question)).scalar_one()
        return "high" if part(batch.events, around) >= LARGE_SHARE() else "medium"

    def predicate(batch: Batch) -> str:
        return f": {_OF_LOADS[batch.kind]}" if batch.kind in _OF_LOADS else f": each is {_LIKE}"

    wording = BatchWording(
        check=NAME,
        severity=severity,
        predicate=predicate,
        stray_predicate=lambda stray: (
            predicate(stray) + _CHANCE.get(stray.kind, "").format(history=duration(coincidences.HISTORY()))
        ),
        stray_severity=lambda stray, own: "medium" if stray.kind in (*_OF_LOADS, CERTAIN, COPIES) else "low",
        is_of_a_load=lambda batch: batch.kind in _OF_LOADS,
    )
    table, period = examination.table, examination.period
    of_loads: list[Any] = []
    loads: set[datetime] = set()
    reloaded: list[datetime] = []
    hashed = examination.times(row_hash_times(table, period))
    if hashed != []:
        found = copied(examination)
        if found:
            of_loads += examination.rows(copied_rows(table, period, found))
        sums = aggregated(examination)
        of_loads += sums
        loads |= {load for load, _ in found} | set(sums[0].loads if sums else ())
        of_loads += examination.rows(restated_rows(table, period, loads))
    times = examination.times(repeated_times(table, period))
    if times != []:
        again = list(examination.rows(reloaded_rows(table, period, loads, times)))
        reloaded = again[0].loads if again else []
        of_loads += again
    rows = [] if times == [] else list(examination.rows(statement(table, period, times=times, reloaded=reloaded)))
    unjudged = sorted({(row.customer_id, row.metric_key) for row in rows if row.kind == UNDECIDED})
    certain = sorted({(row.customer_id, row.metric_key) for row in rows if row.kind == CERTAIN})
    verdicts = {**_verdicts(examination, unjudged, copies), **_usual(examination, certain, copies)}
    if unjudged or verdicts:
        rows = list(examination.rows(statement(table, period, verdicts, times, reloaded)))
    return outcome(examination, [*rows, *of_loads], wording, examination.totals.events)


def _verdicts(examination: Examination, unjudged: Sequence[pair_counts.Series], copies: Copies) -> Verdicts:
    """The verdicts on these customers' metrics; on copies also by the time before the period. Adds the `copies`."""
    if not unjudged:
        return {}
    table, period = examination.table, examination.period
    series = _counted(examination, period, unjudged)
    verdicts = coincidences.verdicts(
        series, lambda days: examination.rows(pair_counts.shared_times(table, period, days))
    )
    copied = {(customer, metric) for (customer, metric, _), verdict in verdicts.items() if verdict == "copies"}
    left = coincidences.open_series(series, verdicts)
    before = preceding(period, coincidences.HISTORY())
    chosen = sorted(copied.union(left))
    known = _counted(examination, before, chosen) if before is not None and chosen else {}
    verdicts = coincidences.with_history(verdicts, series, known)
    sure = {key for key, verdict in verdicts.items() if verdict == "copies"}
    copies |= coincidences.beyond_habit(series, known, sure)
    return {**verdicts, **coincidences.sent_again(series, known, left)}


def _usual(examination: Examination, certain: Sequence[pair_counts.Series], copies: Copies) -> Verdicts:
    """The days of these customers' metrics with no more equal events than before the period. Adds the `copies`."""
    if not certain:
        return {}
    before = preceding(examination.period, coincidences.HISTORY())
    known = _counted(examination, before, certain) if before is not None else {}
    series = _counted(examination, examination.period, certain)
    usual = coincidences.usual_days(series, known)
    others = {(*key, start) for key, days in series.items() for start in days}.difference(usual)
    copies |= coincidences.beyond_habit(series, known, others)
    return dict.fromkeys(usual, "usual")


def _counted(examination: Examination, span: Period, series: Sequence[pair_counts.Series]) -> coincidences.Days:
    return coincidences.counted(
        examination.rows(pair_counts.statement(examination.table, span, series, coincidences.PROMPT()))
    )


CHECK = Check(
    name=NAME,
    title="Look-alike events",
    means="Events sent again under new idempotency keys are billed again, and nothing but their content tells.",
    parameters=lambda: {
        "alike": "customer, metric, quantity, dimensions and time to the microsecond, and at quarters of an hour no"
        " other product, subscription, price, cost currency or wallet, where both have one; the first to arrive counts,"
        " of several at one instant any one",
        "batch": f"events of one customer less than {duration(BATCH_GAP())} apart are one batch, and batches of"
        f" a metric within {duration(STEADY_GAP())}; {small_batches()}",
        "habit": "equal events with times finer than a millisecond that are, for their different contents, no more than"
        f" in the {duration(coincidences.HISTORY())} before, and were on half of the days there: low",
        "chance": "not possible for times finer than a millisecond; else a day's events of one time must be equal more"
        " often than those of neighbouring times, or lie off the minute and share their times more often, than chance"
        " makes in 1 of 1,000,000 cases; where quantities are equal and other days have fewer, or all are equal and as"
        f" often as in the {duration(coincidences.HISTORY())} before, or there are fewer than"
        f" {coincidences.MIN_JUDGED_TIMES()} times, or all are equal and twice as often as in that time before, or,"
        f" without it, arrive more than {duration(coincidences.PROMPT())} apart, it is undecided and low; the rest is"
        " no finding",
        "restated": "rows without a key of their own, with a time on a quarter of an hour as exports have, that are"
        " like one of an earlier load in all but quantity, cost and dimensions that are amounts, and no credits or"
        " corrections by quantities of the other sign: medium, and high from"
        f" {percent(HIGH_RESTATED_SHARE())} of the customer's usage on",
        "reloaded": "rows without a key of their own, at least half of a load, with the customer, metric, time and"
        " quantity of a row of an earlier load, and dimensions of which one has all of the other's; or nine tenths of a"
        " load, with other dimensions of other names, where a third of them have a time between quarters of an hour and"
        " a quantity that at most half of the load's rows of the customer's metric have; or most of what an earlier"
        f" load has in the time and the customers' metrics of both: nine tenths, if {MIN_EVIDENCE} are between quarters"
        f" of an hour, with rare quantities or at irregular times, or {MIN_RARE} have rare quantities, or half, if"
        f" {MIN_FINE} have times finer than a millisecond. Rows with any keys, and other values of one dimension or"
        f" column, are nine tenths of the two loads' common time, of which {MIN_EVIDENCE} have rare quantities at"
        f" irregular times between quarters of an hour; or {MIN_RARE} quantities of {MIN_DIGITS} digits, of"
        f" {MIN_METRICS} metrics, and their costs are equal; or, where texts in dimensions are equal and a documented"
        f" column, number or date is not, or both have keys, {MIN_RARE} have a quantity that at most a tenth of the"
        " customer's metric have: medium and high as restated ones",
        "other_zone": "rows without a key of their own that an earlier load has with another time: at least half of the"
        f" smaller load, and nine tenths of the rows that both have, are {duration(MAX_DISTANCE)} at most apart, by one"
        " multiple of a quarter of an hour, or two an hour apart, as they are or cut to minutes or finer; rows at whole"
        " minutes of a customer's metric with one quantity are not counted as evidence: medium and high as restated"
        " ones",
        "cut": "such rows at times that one load has cut or rounded to milliseconds, seconds, minutes, hours or days,"
        " where all of its times are on that grid and at most half of the other's, and as many of equal content are at"
        " each time; rows of one quantity at quarters of an hour, or of a metric whose rows come at equal intervals,"
        " are not counted as evidence: medium and high as restated ones",
        "aggregated": "rows of a load without keys whose sums by customer, metric and day are those of all other"
        f" events, on half of the days that both have, with {MIN_EVIDENCE} different sums of another number of"
        " rows, which no constants give; a load that has other values of a label than all other events of a customer's"
        " metric is not compared there: medium and high as restated ones",
        "high": f"copies that make {percent(LARGE_SHARE())} or more of the customer's usage of a metric in the period,"
        f" be it one event, if they are more than twice as many as in the {duration(coincidences.HISTORY())} before"
        f" and agree in different contents beyond chance, or arrive more than {duration(coincidences.PROMPT())} after"
        f" the first; and a batch of {HIGH_EVENTS()} or more that makes {percent(LARGE_SHARE())} or more of what the"
        " customer sent meanwhile of its metrics",
    },
    unit="events",
    one="event",
    bounds=(*BOUNDS, *coincidences.BOUNDS, *batches.BOUNDS, *usage_sums.BOUNDS),
    statement=statement,
    examine=examine,
)
