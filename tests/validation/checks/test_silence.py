"""Silence: what a plain walk through the days finds, no more and no less."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, steady, store_of
from support.check_results import examine, shown
from support.generated_events import NEIGHBOUR
from support.query_oracle import Row, utc
from usage_explore import AggregateQuery, Store
from usage_explore.demo import Incident
from usage_explore.query.queries import Period
from usage_explore.validation import Finding

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AS_OF = UNTIL + 30 * DAY


def findings(store: Store, period: Period = SEPTEMBER) -> tuple[Finding, ...]:
    outcome = examine(store, "silence", period).outcome
    assert outcome is not None
    return outcome.findings


def silences(times: list[datetime], since: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """The silences of one series by walking through its events, as the check's parameters say."""
    times = sorted(time for time in times if since - 120 * DAY <= time < end)
    day_of = {time: math.floor((time - end) / DAY) for time in times}
    found = []
    for at, (last, back) in enumerate(zip(times, [*times[1:], end], strict=True)):
        if back - max(last, since) < 3 * DAY:
            continue  # most of them; what follows is slow
        recent = [time for time in times[: at + 1] if day_of[time] > day_of[last] - 28]
        anew = [b for a, b in itertools.pairwise(times[: at + 1]) if b - a > 28 * DAY]
        days = min(28, day_of[last] - day_of[[times[0], *anew][-1]] + 1)
        gaps = [
            b - a for a, b in itertools.pairwise(times) if b in recent and day_of[a] != day_of[b] and b - a <= 28 * DAY
        ]
        gap = back - last
        if (
            last >= since - 92 * DAY
            and (back < end or last >= since - 30 * DAY)
            and all(gap >= 2 * earlier for earlier in gaps)
            and days >= 14
            and len({day_of[time] for time in recent}) >= 0.64 * days
            and len(recent) * (gap / DAY) >= 20 * days
        ):
            found.append((last, back))
    return found


def test_what_a_plain_walk_finds(events_database_url: str) -> None:
    draw = random.Random(4)
    events: list[Row] = []
    for customer in range(40):
        away = SINCE + DAY * draw.choice([*range(-10, 25), *range(-80, -10, 2)])
        back = away + DAY * draw.choice([0, 2.9, 3.1, 6, 40, 90])
        for metric in ("calls", "seats"):
            time, rate = SINCE - draw.choice([40, 110]) * DAY, draw.choice([0.5, 2, 5])
            while time < UNTIL + DAY:
                if not away <= time < back:
                    events.append(event(customer, time, metric))
                time += DAY * (draw.expovariate(rate) + (draw.random() < 0.01) * draw.randrange(2, 9))
    series: dict[Any, list[datetime]] = defaultdict(list)
    for row in events:
        series[row.customer_id, row.metric_key].append(row.timestamp)
        series[row.customer_id, None].append(row.timestamp)
    expected = {
        (*key, last + timedelta(microseconds=1), back)
        for key, times in series.items()
        for last, back in silences(times, SINCE, UNTIL)
    }
    own = {each for each in expected if each[1] is None}
    told = own | {
        each
        for each in expected - own
        if not any(
            mine[0] == each[0]
            and each[2] <= mine[2]
            and mine[3] <= each[3]
            and each[3] - each[2] < mine[3] - mine[2] + 3 * DAY
            for mine in own
        )
    }
    with store_of(events_database_url, events) as store:
        found = {(each.customer_id, each.metric_key, each.since, each.until) for each in findings(store)}
    assert len(told) > 5
    assert len(own) > 1
    assert found == told


def test_weekends_are_no_silence_and_a_week_is(events_database_url: str) -> None:
    workdays = [
        time
        for each in range(60 * 24)
        if (time := SINCE - 30 * DAY + each * HOUR).weekday() < 5 and not 14 <= (time - SINCE).days < 21
    ]
    with store_of(events_database_url, [event(0, time) for time in workdays]) as store:
        (found,) = findings(store)
    assert (found.since, found.until) == (utc(2026, 9, 14, 23, 0, 0, 1), utc(2026, 9, 22))
    assert found.severity == "high"
    assert (found.events, found.quantity) == (0, None)


def renamed(*names: tuple[str, str], customers: int = 6, kept: int = 1) -> list[Row]:
    """Usage every two hours or so, of metrics that have another name from the 13th on; some are kept."""
    draw, cut = random.Random(3), SINCE + 12 * DAY
    times = [(n, SINCE + (n + draw.random()) * 2 * HOUR) for n in range(-45 * 12, 30 * 12)]
    return [
        event(who, time, former if time < cut else name)
        for who in range(customers)
        for former, name in names
        for n, time in times
        if time < cut or n % kept == 0
    ] + [row for who in range(customers) for row in steady(who, SINCE - 45 * DAY, UNTIL, 6 * HOUR)]


def test_a_renamed_metric_is_one_finding_with_both_names(events_database_url: str) -> None:
    events = renamed(("tokens", "tokens_v2"))
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.kind, found.severity, found.metric_key, found.customer_id) == (
            "renamed",
            "medium",
            "tokens_v2",
            None,
        )
        assert (found.events, found.quantity) == (6 * 18 * 12, Decimal(6 * 18 * 12))
        assert found.sentence.startswith("tokens of 6 customers stopped, 12 Sep 2026")
        assert "tokens_v2 began at the same time: 1,296 events" in found.sentence
        since = found.question.since  # type: ignore[union-attr]
        both = [row for row in events if row.metric_key != "calls" and row.timestamp >= since]  # type: ignore[operator]
        assert shown(store, found) == len(both)


def test_two_metrics_renamed_at_once_are_named_by_their_likeness(events_database_url: str) -> None:
    events = renamed(("llm.in", "in_tokens"), ("llm.out", "out_tokens"), customers=2)
    with store_of(events_database_url, events) as store:
        assert sorted((dict(f.facts)["former metric"], f.metric_key) for f in findings(store)) == [
            ("llm.in", "in_tokens"),
            ("llm.out", "out_tokens"),
        ]


def test_half_of_the_usage_under_another_name_is_a_silence(events_database_url: str) -> None:
    with store_of(events_database_url, renamed(("tokens", "tokens_v2"), customers=3, kept=2)) as store:
        assert [(f.kind, f.metric_key) for f in findings(store)] == [("", "tokens")] * 3


def test_one_metrics_silence_is_told_of_that_metric(events_database_url: str) -> None:
    events = steady(0, SINCE - 30 * DAY, UNTIL, HOUR, metric="calls")
    events += steady(0, SINCE - 30 * DAY, SINCE + 10 * DAY, HOUR, metric="")
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.metric_key, found.severity, found.until) == ("", "medium", UNTIL)
        assert dict(found.facts)["still silent"] == "yes"
        assert isinstance(found.question, AggregateQuery)
        assert store.aggregate(found.question).total > 0


@pytest.mark.parametrize("lasts", [timedelta(days=2, hours=22), timedelta(days=3, hours=1)])
def test_three_days_and_not_less(events_database_url: str, lasts: timedelta) -> None:
    events = steady(0, SINCE - 30 * DAY, SINCE + 10 * DAY, 2 * HOUR)
    events += steady(0, SINCE + 10 * DAY - 2 * HOUR + lasts, UNTIL, 2 * HOUR)
    with store_of(events_database_url, events) as store:
        assert len(findings(store)) == (lasts > 3 * DAY)


@pytest.mark.parametrize(("apart", "is_reported"), [(0.6 * HOUR, False), (HOUR / 3, True)])
def test_a_day_without_fifty_expected_events_of_any_metric_is_an_outage(
    events_database_url: str, apart: timedelta, is_reported: bool
) -> None:
    """40 and 72 events of two metrics in the 24 hours from 18:00 on, which have no whole day without any."""
    gone = SINCE + 10 * DAY + 18 * HOUR
    events = [
        row
        for metric in ("calls", "tokens")
        for since, until in ((SINCE - 30 * DAY, gone), (gone + 24 * HOUR + HOUR / 2, UNTIL))
        for row in steady(0, since, until, 2 * apart, metric=metric)
    ]
    with store_of(events_database_url, events) as store:
        every = findings(store)
        assert len(every) == is_reported
        for finding in every:
            assert (finding.metric_key, finding.severity) == (None, "high")
            assert finding.since <= gone <= gone + 24 * HOUR <= finding.until


def test_what_cannot_be_complete_yet_is_not_silent(events_database_url: str) -> None:
    events = steady(0, SINCE - 30 * DAY, SINCE + 10 * DAY, HOUR)
    with store_of(events_database_url, events) as store:
        assert not findings(store, SEPTEMBER.replace(as_of=SINCE + 12 * DAY))
        assert findings(store, SEPTEMBER.replace(as_of=SINCE + 13 * DAY))
        assert not findings(store, SEPTEMBER.replace(as_of=SINCE - DAY))


def test_the_demos_silent_customer_is_found_and_hardly_anything_beside(
    planted_demo: tuple[Store, Period, list[Incident]],
) -> None:
    store, period, incidents = planted_demo
    planted = [each for each in incidents if each.kind == "silent_customer"]
    grave = [each for each in findings(store, period) if each.severity == "high"]
    assert planted
    for incident in planted:
        (found,) = [each for each in grave if each.customer_id == incident.customer_id]
        assert found.since <= incident.starts
        assert incident.ends <= found.until
    assert len(grave) <= len(planted) + 1


def test_where_the_data_ends_that_is_one_first_finding(events_database_url: str) -> None:
    ends = SINCE + 14 * DAY
    events = [row for who in range(30) for row in steady(who, SINCE - 30 * DAY, ends, 6 * HOUR)]
    events += steady(31, SINCE - 30 * DAY, ends - 6 * DAY, HOUR)  # silent before the others
    events += steady(0, SINCE, UNTIL, HOUR, organization_id=NEIGHBOUR)
    with store_of(events_database_url, events) as store:
        first, silent = store.validate(SEPTEMBER, checks=["silence"]).findings
        assert (first.severity, first.customer_id, first.is_general) == ("high", None, True)
        assert first.sentence.startswith("The data ends on 14 Sep 2026 at 18:00, 16 days 6 hours before the period")
        assert (first.since, first.until) == (ends - 6 * HOUR + timedelta(microseconds=1), UNTIL)
        assert first.share.quantize(Decimal("0.00001")) == Decimal("0.54167")  # 16.25 of 30 days
        assert isinstance(first.question, AggregateQuery)
        assert store.aggregate(first.question).total > 0
        assert silent.customer_id == CUSTOMERS[31]
        (only,) = findings(store, Period(since=UNTIL, until=UNTIL + 30 * DAY))
        assert only.share == 1
        (filtered,) = findings(store, SEPTEMBER.replace(customer_id=CUSTOMERS[3]))
        assert filtered.is_general


@pytest.mark.parametrize("apart", [timedelta(days=2), timedelta(days=7)])
def test_sparse_data_does_not_end_before_its_next_event_is_due(events_database_url: str, apart: timedelta) -> None:
    events = steady(0, UNTIL - 10 * apart, UNTIL, apart)
    with store_of(events_database_url, events) as store:
        assert not findings(store)
        assert findings(store, SEPTEMBER.replace(until=UNTIL + 2 * apart))
