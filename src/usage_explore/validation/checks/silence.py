"""Silence: regular usage that stopped, for a while or for good, and data that ends before the period does.

Days are of 24 hours, counted back from the end of what can be complete; a silence lasts from the last event before it
to the first one after it, exactly. It may have begun before the period: usage that came back in it is missing from it,
and usage that has not is reported once more in the period after the one in which it stopped. Where the organization's
data ends, that is one finding, and silences are judged up to there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    DateTime,
    Integer,
    Interval,
    Numeric,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    extract,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
)

from usage_explore.decimals import plain
from usage_explore.formatting import counted, data_value, date, duration, percent, span_in
from usage_explore.query import validators
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    MAX_FINDINGS_PER_CHECK,
    SEVERITIES,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited,
)
from usage_explore.validation.checks import data_end, missing_batches, renamed
from usage_explore.validation.checks.data_end import DAY, HISTORY_DAYS, LOOK_BACK, MIN_PAUSE_RATIO, MIN_SILENCE, NAME
from usage_explore.validation.checks.quiet import Quiet, Silence
from usage_explore.validation.checks.usual_hours import EDGE, usual_by_hour
from usage_explore.validation.periods import INSTANT, closed, earlier, part
from usage_explore.validation.usage_sums import events_share, valid_filters

BOUNDS = CheckBounds(data_end.NAME)

# fmt: off
MIN_OUTAGE = BOUNDS.add("min_outage", timedelta(hours=24), "hours", 1, 2400,
    "Time from which a customer's whole usage fell silent if at least `MIN_OUTAGE_EVENTS` would have come in it.")

MIN_OUTAGE_EVENTS = BOUNDS.add("min_outage_events", 50, "events", 1, 1000000,
    "Events that would have come in so short a silence, at least: chance leaves none of 50 with a probability below "
    "1E-20, and of events in bursts of 10 below 1 %.")

HIGH_PAUSE_RATIO = BOUNDS.add("high_pause_ratio", 3, "factor", 1, 100,
    "A silence is high from this many times as long as any pause in the days before: usage that comes in bursts has "
    "a pause twice as long as the longest of 28 days in one of a hundred months, three times as long in one of some "
    "thousand.")

MIN_KNOWN_DAYS = BOUNDS.add("min_known_days", 14, "days", 1, 400,
    "Days since the first event, or since the first one after more than `HISTORY_DAYS` days without, at least, that "
    "say what is regular; the note counts what fell silent earlier.")

MIN_ACTIVE_DAYS_SHARE = BOUNDS.add("min_active_days_share", Decimal("0.64"), "share", 0, 1,
    "Share of those days with events in regular usage: 5 days a week are 0.71, with a holiday or two 0.64.")

MIN_EXPECTED_EVENTS = BOUNDS.add("min_expected_events", 20, "events", 1, 1000000,
    "Events that would have come at the rate of those days, at least: fewer may stay away by chance.")

HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.01"), "share", 0, 1,
    "Share of the organization's events before, from which a customer's silence is high.")

MEDIUM_SHARE = BOUNDS.add("medium_share", Decimal("0.001"), "share", 0, 1,
    "Share of the organization's events before, from which a customer's silence is medium.")

MEDIUM_METRIC_SHARE = BOUNDS.add("medium_metric_share", Decimal("0.01"), "share", 0, 1,
    "Share of a metric's events before, from which a customer's silence in it is medium.")
# fmt: on

_MAX_BY_HOURS = 100
"""Silences, those that miss most, whose missing events are counted by hour of the week: one statement for each."""

CHART_MARGIN = timedelta(days=7)
"""Time after a silence that its chart shows."""


def statement(table: Table, period: Period) -> Select[Any]:
    """The silences of customers (`metric_key` NULL) and of their usage of metrics, beside how many of both there are.

    Those of at least `MIN_SILENCE` are among them if as long a time before is known.

    Columns: `pairs` bigint, then all NULL where there are none: `customer_id`, `metric_key`, `last`, `back`
    timestamptz, `days`, `active` integer, `usual` bigint, `longest` integer (seconds of the longest pause).
    """
    since, end = period.span[0], closed(period)
    earliest = earlier(min(since, end), LOOK_BACK())
    read = period.replace(since=earlier(earliest, HISTORY_DAYS() * DAY), until=end)
    c, instant = table.c, DateTime(timezone=True)
    day = func.date_bin(literal(DAY, Interval), c.timestamp, literal(end, instant), type_=instant).label("day")
    time = c.timestamp
    days = (
        select(
            c.customer_id,
            c.metric_key,
            day,
            func.count().label("events"),
            func.min(time).label("first"),
            func.max(time).label("last"),
        )
        .where(*conditions(table, read))
        .group_by(c.customer_id, c.metric_key, day)
        .cte("days")
    )
    d = days.c
    number = cast(extract("epoch", d.day - literal(end, instant)) / 86_400, Integer).label("day")
    # text in the database's own order takes several times as long to sort
    metric = d.metric_key.collate("C").label("metric_key")
    whole = select(
        d.customer_id, cast(null(), Text), number, func.sum(d.events), func.min(d.first), func.max(d.last)
    ).group_by(d.customer_id, d.day)
    every = union_all(select(d.customer_id, metric, number, d.events, d.first, d.last), whole).cte("every_day")
    e = every.c
    whose: Any = {"partition_by": [e.customer_id, e.metric_key], "order_by": e.day}
    spaced = select(
        every,
        # whole seconds: the longest of 28 days is found anew for every day, which numbers of any length make slow
        cast(extract("epoch", e.first - func.lag(e.last).over(**whose)), Integer).label("gap"),
        func.lead(e.first, type_=instant).over(**whose).label("back"),
    ).cte("spaced")
    s = spaced.c
    is_pause = s.gap <= HISTORY_DAYS() * 86_400  # after more days without, usage begins anew
    began = func.max(case((s.gap.is_(None) | ~is_pause, s.day))).over(
        partition_by=[s.customer_id, s.metric_key], order_by=s.day
    )
    recent: Any = {"partition_by": [s.customer_id, s.metric_key], "order_by": s.day, "range_": (1 - HISTORY_DAYS(), 0)}
    regular = select(
        s.customer_id,
        s.metric_key,
        s.last,
        s.back,
        func.coalesce(s.back, literal(end, instant)).label("end"),
        func.least(s.day - began + 1, HISTORY_DAYS(), type_=Integer()).label("days"),
        func.count().over(**recent).label("active"),
        func.sum(s.events).over(**recent).label("usual"),
        func.max(case((is_pause, s.gap))).over(**recent).label("longest"),
    ).cte("regular")
    r = regular.c
    gap = cast(extract("epoch", r.end - r.last), Integer)
    quiet, outage = literal(MIN_SILENCE(), Interval), literal(MIN_OUTAGE(), Interval)
    inside = r.end - func.greatest(r.last, literal(since, instant))
    is_outage = and_(
        r.metric_key.is_(None),
        inside >= outage,
        cast(r.usual, Numeric) * gap >= r.days * 86_400 * MIN_OUTAGE_EVENTS(),
        r.days >= MIN_KNOWN_DAYS(),
    )
    silences = (
        select(
            r.customer_id,
            *(r.metric_key, r.last, r.back, r.days, r.active),
            cast(r.usual, Integer).label("usual"),
            func.coalesce(r.longest, 0).label("longest"),
        )
        .where(
            r.last >= literal(earliest, instant),
            or_(and_(inside >= quiet, r.days >= MIN_SILENCE().days), is_outage),
            or_(r.longest.is_(None), gap >= r.longest * MIN_PAUSE_RATIO()),
            r.active >= r.days * literal(MIN_ACTIVE_DAYS_SHARE(), Numeric),
            cast(r.usual, Numeric) * gap >= r.days * 86_400 * MIN_EXPECTED_EVENTS(),
        )
        .cte("silences")
    )
    pairs = select(func.count().label("pairs")).select_from(select(d.customer_id, d.metric_key).distinct().subquery())
    looked_at = pairs.cte("pairs")
    return select(looked_at, silences).select_from(looked_at.outerjoin(silences, true()))


@dataclass(frozen=True, slots=True)
class _Judged:
    """The silences of a period, those that miss most first. `last` is the last event where the data ends before.

    Besides, `unknown` silences came after too few days to be judged, and `left` ones began before `reach` and go on.
    """

    last: datetime | None = None
    looked_at: int = 0
    silences: tuple[Silence, ...] = ()
    unknown: int = 0
    left: int = 0
    reach: datetime = validators.EARLIEST

    def notes(self, zone: tzinfo) -> Iterator[str]:
        """What is said of silences that are no findings."""
        if self.unknown:
            number = counted(self.unknown, "silence was", "silences were")
            yield f"{number} not judged: fewer than {MIN_KNOWN_DAYS()} days of usage before are known"
        if self.left:
            number, began = counted(self.left, "silence"), date(self.reach.astimezone(zone))
            yield f"{number} that began before {began} and went on: left to earlier periods"


def examine(examination: Examination) -> Outcome:
    """The silences, a customer's once where all its usage fell silent, up to where the data ends."""
    judged = _judged(examination)
    in_data = _until(examination, judged.last) if judged.last and judged.silences else examination
    gone_on = renamed.renamed(in_data, judged.silences)
    named = {id(one) for each in gone_on for one in each.silences}
    shown, note = limited(
        [one for one in judged.silences if id(one) not in named],
        "silences",
        lambda rest: f"about {sum(silence.missing for silence in rest):,.0f} events",
    )
    is_ended, until = judged.last is not None, closed(examination.period)
    missing: tuple[Finding, ...] = ()
    more = ""
    if judged.looked_at:
        missing = tuple(missing_batches.findings(examination, until, ended=is_ended))
        own, more = limited(_own_batches(examination, judged, missing), "missing batches", _expected_in)
        missing += tuple(own)
    removed = data_end.removed(examination)
    ended: tuple[Finding, ...] = () if removed is None else (removed,)
    if judged.last:
        ended += (data_end.finding(examination, judged.last, closed(examination.period)),)
    findings = tuple(_finding(in_data, silence) for silence in shown)
    for each in gone_on:
        severity = min((_severity(in_data, one) for one in each.silences), key=list(SEVERITIES).index)
        findings = (renamed.finding(in_data, each, severity), *findings)
    short = ""
    if judged.looked_at and until - examination.period.span[0] < MIN_OUTAGE():
        short = f"silences are not judged in a period of less than {duration(MIN_OUTAGE())}"
    return Outcome(
        findings=ended + missing + findings,
        looked_at=judged.looked_at,
        note="; ".join(filter(None, (short, note, more, *judged.notes(examination.period.zone)))),
        is_partial=bool(short) or judged.unknown > 0,
    )


def _own_batches(examination: Examination, judged: _Judged, whole: Sequence[Finding]) -> list[Finding]:
    """The customers' missing batches that are no silence of the customer and no batch of all."""

    def is_known(customer: UUID, day: datetime) -> bool:
        silent = any(one.customer_id == customer and one.last < day < one.end for one in judged.silences)
        return silent or any(one.since - DAY < day < one.until + DAY for one in whole)

    until, is_ended = closed(examination.period), judged.last is not None
    return list(missing_batches.of_customers(examination, until, ended=is_ended, known=is_known))


def _expected_in(findings: Sequence[Finding]) -> str:
    return f"about {sum(int(dict(finding.facts)['expected']) for finding in findings):,} events"


def reported(examination: Examination) -> Iterator[Quiet]:
    """The silences of `MIN_SILENCE` or longer that the check reports, for checks that leave them to it."""
    judged = _judged(examination)
    if judged.last:
        yield Quiet(None, None, judged.last, closed(examination.period))
    for silence in judged.silences:
        if silence.length >= MIN_SILENCE():
            yield Quiet(silence.customer_id, silence.metric_key, silence.last, silence.end)


def _judged(examination: Examination) -> _Judged:
    """The silences, computed once for all checks of an examination."""
    if NAME not in examination.shared:
        examination.shared[NAME] = _judge(examination)
    judged: _Judged = examination.shared[NAME]
    return judged


def _judge(examination: Examination) -> _Judged:
    since, until = examination.period.span[0], closed(examination.period)
    if until <= since:
        return _Judged()
    # what has not come back is reported in the period in which it stopped and in the next one
    reach = earlier(since, min(examination.period.span[1] - since, LOOK_BACK()))
    if last := data_end.last_event(examination, since, until):
        if last < since:
            return _Judged(last)
        examination = _until(examination, last)
    looked_at, every = 0, []
    for row in examination.extracted_rows(statement(examination.table, examination.period)):
        looked_at = row.pairs
        if row.customer_id is not None:
            every.append(_silence(examination, row))
    ranked = _ranked(_without_parts(every))
    ranked = _ranked((*_by_hours(examination, ranked[:_MAX_BY_HOURS]), *ranked[_MAX_BY_HOURS:]))
    known = [one for one in ranked if _is_known(one)]
    reported = tuple(one for one in known if one.back or one.last >= reach)
    return _Judged(last, looked_at, reported, len(ranked) - len(known), len(known) - len(reported), reach)


def _is_known(silence: Silence) -> bool:
    """Whether there were enough days before to say that it was regular."""
    return silence.days >= MIN_KNOWN_DAYS()


def _ranked(silences: Iterable[Silence]) -> list[Silence]:
    return sorted(silences, key=lambda one: (-one.missing, str(one.customer_id), one.metric_key or "", one.last))


def _by_hours(examination: Examination, silences: Iterable[Silence]) -> Iterator[Silence]:
    """The silences whose events would have come at these hours of the week, with how many of them are missing.

    What is missing at the mean rate may be a night's or a weekend's, when none would have come. Of a daily batch the
    last one before a silence and the first one after it came, a little before or after its usual time.
    """
    since = examination.period.span[0]
    for silence in silences:
        if not _is_known(silence):
            yield silence
            continue
        whose = silence.customer_id, silence.metric_key
        usual = usual_by_hour(examination, *whose, silence.last, silence.end, silence.days)
        last, end, start = silence.last, silence.end, max(silence.last, since)
        least = MIN_EXPECTED_EVENTS() if silence.length >= MIN_SILENCE() else MIN_OUTAGE_EVENTS()
        if usual.between(last, end) >= least:
            came = min(usual.beyond_before(last), usual.between(start, min(last + EDGE, end)))
            came += min(usual.beyond_after(end), usual.between(max(start, end - EDGE), end))
            yield replace(silence, missing=max(usual.between(start, end) - came, Decimal(0)))


def _until(examination: Examination, last: datetime) -> Examination:
    """The examination up to and with the last event."""
    return replace(examination, period=examination.period.replace(until=last + INSTANT))


def _silence(examination: Examination, row: Any) -> Silence:
    since, end = examination.period.span[0], row.back or closed(examination.period)
    missed = Decimal((end - max(row.last, since)) // INSTANT) / (DAY // INSTANT)
    missing = Decimal(row.usual) * missed / row.days
    longest = timedelta(seconds=row.longest)
    return Silence(
        row.customer_id, row.metric_key, row.last, row.back, end, row.days, row.active, row.usual, missing, longest
    )


def _without_parts(every: Iterable[Silence]) -> list[Silence]:
    """The silences without those of metrics that are the customer's own, or hardly longer."""
    customers: dict[UUID, list[Silence]] = {}
    for silence in every:
        customers.setdefault(silence.customer_id, []).append(silence)
    reported = []
    for silences in customers.values():
        own = [silence for silence in silences if silence.metric_key is None]
        reported += own
        reported += [
            silence
            for silence in silences
            if silence.metric_key is not None
            and not any(_within(mine, silence) and silence.length < mine.length + MIN_SILENCE() for mine in own)
        ]
    return reported


def _within(one: Silence, other: Silence) -> bool:
    return other.last <= one.last and one.end <= other.end


def _finding(examination: Examination, silence: Silence) -> Finding:
    zone = examination.period.zone
    since, until = examination.period.span
    metric = silence.metric_key
    rate = Decimal(silence.usual) / silence.days
    of_all = _of_all(examination, silence)
    who = f"{'U' if metric is None else data_value(metric) + ': the u'}sage of customer {silence.customer_id}"
    regular = f"on {silence.active} of {counted(silence.days, 'day')} before, {counted(silence.usual, 'event')}"
    lasted = (
        f"stopped for {duration(silence.length)}, {span_in(silence.last, silence.end, zone)}"
        if silence.back
        else f"stopped {duration(silence.length)} before the end, {span_in(silence.last, silence.end, zone)}"
    )
    away = f"about {silence.missing:,.0f} events stayed away"
    if silence.last < since:
        lasted += f", {duration(since - silence.last)} of it before the period"
        away += " in it"
    return Finding(
        check=NAME,
        severity=_severity(examination, silence),
        sentence=f"{who} was regular ({regular}) and {lasted}: {away}.",
        since=silence.last + INSTANT,
        until=silence.end,
        events=0,
        question=examination.aggregate_question(
            **valid_filters(customer_id=silence.customer_id, metric_key=metric),
            since=earlier(silence.last, HISTORY_DAYS() * DAY),
            until=min(silence.end + CHART_MARGIN, max(until, silence.end)),
        ),
        **events_share(examination, silence.missing, metric),
        customer_id=silence.customer_id,
        metric_key=metric,
        facts=(
            ("events per day before", plain(round(rate, 2))),
            ("part of all events, before", percent(of_all)),
            ("still silent", "no" if silence.back else "yes"),
        ),
    )


def _of_all(examination: Examination, silence: Silence) -> Decimal:
    """The events per day before, as a share of the organization's, or of the metric's, in the period."""
    period, totals, metric = examination.period, examination.totals, silence.metric_key
    whole = totals.events if metric is None else totals.metrics.get(metric, (0, Decimal(0)))[0]
    looked_at = Decimal((closed(period) - period.span[0]) // INSTANT) / (DAY // INSTANT)
    return part(Decimal(silence.usual) / silence.days, whole / looked_at)


def _severity(examination: Examination, silence: Silence) -> Severity:
    of_all = _of_all(examination, silence)
    if silence.metric_key is None:
        is_far = silence.length >= HIGH_PAUSE_RATIO() * silence.longest
        return "high" if of_all >= HIGH_SHARE() and is_far else "medium" if of_all >= MEDIUM_SHARE() else "low"
    return "medium" if of_all >= MEDIUM_METRIC_SHARE() else "low"


CHECK = Check(
    name=NAME,
    title="Silence",
    means="Regular usage stopped: it was not sent or not ingested and is missing from the invoice, or the customer has"
    " left.",
    parameters=lambda: {
        "end": f"the organization has no event for {MIN_SILENCE().days} days before the end of what is examined, and"
        f" {MIN_PAUSE_RATIO()} times as long as ever in the {HISTORY_DAYS()} days before, unless such pauses are most"
        " of the months before, as between batches: one finding, high; silences are judged up to there",
        "removed": "events of the period's beginning were removed, by a retention policy or by DELETE, so far as the"
        " catalog or an extract knows: one finding, high",
        "quiet": f"no events for {MIN_SILENCE().days} days at least, so much of it within the period; no event of any"
        f" metric of a customer for {duration(MIN_OUTAGE())}, if {MIN_OUTAGE_EVENTS()} would have come in that time",
        "regular": f"events on {percent(MIN_ACTIVE_DAYS_SHARE())} of the {HISTORY_DAYS()} days before (of"
        f" {MIN_KNOWN_DAYS()} at least, where there are fewer since the first event, or the first one after more than"
        f" {HISTORY_DAYS()} days without)",
        "before": f"it may have begun up to {LOOK_BACK().days} days before the period; usage that has not come back is"
        " reported if it stopped in the period or in as long a time before it, and then left to the earlier periods",
        "longer": f"{MIN_PAUSE_RATIO()} times as long as any silence in those days",
        "expected": f"{MIN_EXPECTED_EVENTS()} events at least would have come by the mean of the same hours of the week"
        " in those days",
        "customer": f"a customer whose whole usage stopped: high where it sent {percent(HIGH_SHARE())} of all events"
        f" and was silent {HIGH_PAUSE_RATIO()} times as long as ever in the {HISTORY_DAYS()} days before, medium from"
        f" {percent(MEDIUM_SHARE())} on, else low",
        "metric": f"a customer's usage of one metric: medium where it was {percent(MEDIUM_METRIC_SHARE())} of the"
        " metric's events, else low",
        "renamed": "a metric that customers begin to use when another one stops, with"
        f" {percent(renamed.MIN_RENAMED_SHARE())} or more of the events that would have come, and at most as many"
        " times more: one finding that names both, as grave as the silence",
        "most": f"the {MAX_FINDINGS_PER_CHECK} that miss most",
    },
    unit="customers' metrics",
    one="customer's metric",
    bounds=(*data_end.BOUNDS, *missing_batches.BOUNDS, *renamed.BOUNDS, *BOUNDS),
    statement=statement,
    examine=examine,
)
