"""Spikes, drops and new levels: series are what plain Python sums, and what leaves its band is told with that band."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from support import generated_events, query_oracle
from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, steady, store_of
from support.check_results import examine
from support.extracts import add, build
from support.query_oracle import EXACT, Row, utc
from usage_explore import AggregateQuery, Store, connect
from usage_explore.db import ddl, engine
from usage_explore.demo import Incident
from usage_explore.query.queries import Period
from usage_explore.validation import Finding
from usage_explore.validation.anomalies import series
from usage_explore.validation.anomalies.deviations import deviations, with_sums
from usage_explore.validation.anomalies.series import Grid, Step
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import totals, totals_statement

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BEFORE = SINCE - 63 * DAY
"""Since when the usage of these tests goes on: more than the history that is read."""


def findings(store: Store, period: Period = SEPTEMBER) -> tuple[Finding, ...]:
    outcome = examine(store, "shifts", period).outcome
    assert outcome is not None
    return outcome.findings


@contextmanager
def examination(store: Store, period: Period) -> Iterator[Examination]:
    with engine.transaction(store.engine, snapshot=True) as connection:
        scoped = period.replace(organization_id=store.organization_id)
        yield Examination(
            connection=connection,
            table=store.table,
            period=scoped,
            now=utc(2026, 11, 22),
            totals=totals(connection.execute(totals_statement(store.table, scoped))),
            extracts=store.extracts,
        )


def sums(given: Examination, grid: Grid, group: series.Group = "customer_id") -> dict[tuple[Any, str, datetime], Any]:
    """(events, quantity) by customer, metric and the start of a column, where there are any."""
    found = {}
    for block in series.blocks(given, grid, group):
        for row, key in enumerate(zip(block.customers, block.metrics, strict=True)):
            for start, events, quantity in zip(
                grid.starts, block.values["count"][row], block.values["sum_quantity"][row], strict=True
            ):
                assert np.isnan(events) == (start is None)
                if events:
                    found[(*key, start)] = (events, quantity)
    return {key: value for key, value in found.items() if key[2] is not None}


def expected_sums(own: list[Row], grid: Grid) -> dict[tuple[Any, str, datetime], Any]:
    exact: dict[tuple[Any, str, datetime], tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    known = {start: end for start, end in zip(grid.starts, grid.ends, strict=True) if start is not None}
    for start, end in known.items():
        assert end is not None
        for row in own:
            if start <= row.timestamp < end:
                events, quantity = exact[row.customer_id, row.metric_key, start]
                exact[row.customer_id, row.metric_key, start] = events + 1, EXACT.add(quantity, row.quantity)
    return {key: (events, float(quantity)) for key, (events, quantity) in exact.items()}


def known_starts(since: datetime, until: datetime, step: Step, zone: ZoneInfo) -> set[datetime]:
    """Where the buckets begin that lie in the window, but for hours cut short and those whose clock time came twice."""
    whole = [
        pair for pair in pairwise(query_oracle.edges(since, until, step, zone)) if since <= pair[0] and pair[1] <= until
    ]
    clocks = Counter((start.astimezone(zone).date(), start.astimezone(zone).hour) for start, _ in whole)
    return {
        start
        for start, end in whole
        if step == "day"
        or (end - start == HOUR and clocks[start.astimezone(zone).date(), start.astimezone(zone).hour] == 1)
    }


@pytest.mark.parametrize("step", ["day", "hour"])
@pytest.mark.parametrize(
    ("zone", "centre"),
    [
        scene
        for scene in generated_events.SCENES
        if scene[0] in ("Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe")
    ],
)
def test_series_are_what_plain_python_sums(
    store: Store, own: list[Row], zone: str, centre: datetime, step: Step
) -> None:
    period = Period(since=centre - DAY, until=centre + DAY, timezone=zone, as_of=generated_events.LAST_INGESTED)
    with examination(store, period) as given:
        grid = series.grid(given, step)
        assert grid is not None
        near = [row for row in own if abs(row.timestamp - centre) < 5 * DAY]
        got = {key: value for key, value in sums(given, grid).items() if abs(key[2] - centre) < 4 * DAY}
    want = {key: value for key, value in expected_sums(near, grid).items() if abs(key[2] - centre) < 4 * DAY}
    assert len(want) > 20
    assert got == want
    first = max(min(row.timestamp for row in own), centre - 57 * DAY)
    assert set(grid.starts) - {None} == known_starts(first, centre + DAY, step, ZoneInfo(zone))


def test_a_column_is_a_clock_time_on_either_side_of_a_shift(store: Store) -> None:
    zone = "Europe/Berlin"
    period = Period(
        since=utc(2026, 10, 20), until=utc(2026, 10, 29), timezone=zone, as_of=generated_events.LAST_INGESTED
    )
    with examination(store, period) as given:
        grid = series.grid(given, "hour")
    assert grid is not None
    clocks = {at % 24: start.astimezone(ZoneInfo(zone)).hour for at, start in enumerate(grid.starts) if start}
    assert all(
        start.astimezone(ZoneInfo(zone)).hour == clocks[at % 24] for at, start in enumerate(grid.starts) if start
    )
    assert len(set(clocks.values())) == 24
    near = [at for at, start in enumerate(grid.starts) if start and start.date() == utc(2026, 10, 24).date()]
    assert np.flatnonzero(grid.unknown[near[0] :]).size == 1  # the hour that came twice


def test_the_extract_gives_the_same_series(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    draw = random.Random(3)
    for number in range(60):
        at = utc(2026, 9, 1) + draw.randrange(30 * 24) * HOUR
        add(
            events_connection,
            at,
            customer_id=CUSTOMERS[draw.randrange(3)],
            metric_key=draw.choice(["tokens", "a,b", ""]),
            quantity=Decimal(draw.choice(["1", "-2.5", "0.1"])),
            ingested_at=at + draw.choice([timedelta(0), 40 * HOUR]),
            number=1 + number % 3,
        )
    build(events_database_url, tmp_path, until=utc(2026, 9, 25))
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION, home=tmp_path) as store:
        found = {}
        for fast in (True, False):
            period = Period(since=utc(2026, 9, 10), until=utc(2026, 9, 30), as_of=utc(2026, 9, 29, 7))
            with examination(store if fast else replace(store, extracts=None), period) as given:
                grid = series.grid(given, "day")
                assert grid is not None
                query = given.aggregate_question(since=grid.edges[0], until=grid.edges[-1], group_by="customer_id")
                assert (given.paths.aggregate(query)[3].because is None) is fast
                found[fast] = sums(given, grid), sums(given, grid, "none")
        assert len(found[True][0]) > 30
        assert found[True] == found[False]


def test_all_customers_together_are_their_sum(store: Store) -> None:
    period = Period(since=utc(2026, 5, 3), until=utc(2026, 5, 8), as_of=generated_events.LAST_INGESTED)
    with examination(store, period) as given:
        grid = series.grid(given, "day")
        assert grid is not None
        blocks = list(with_sums(series.blocks(given, grid, "customer_id"), grid))
        every = {metric: row for row, metric in enumerate(blocks[-1].metrics)}
        (summed,) = series.blocks(given, grid, "none")
    for row, metric in enumerate(summed.metrics):
        np.testing.assert_array_equal(summed.values["count"][row], blocks[-1].values["count"][every[metric]])


def test_steady_usage_is_clean(events_database_url: str) -> None:
    events = steady(0, BEFORE, UNTIL, HOUR) + steady(1, BEFORE, UNTIL, 20 * MINUTE, quantity=Decimal("0.1"))
    workdays = [each for each in steady(2, BEFORE, UNTIL, HOUR) if each.timestamp.weekday() < 5]
    with store_of(events_database_url, events + workdays) as store:
        assert not findings(store)


def test_a_spike_is_told_with_its_numbers_and_hours(events_database_url: str) -> None:
    at = utc(2026, 9, 15, 9)
    events = steady(0, BEFORE, UNTIL, HOUR) + steady(1, BEFORE, UNTIL, HOUR)
    events += steady(0, at, at + 6 * HOUR, MINUTE, quantity=Decimal("2.5"))
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.severity, found.customer_id, found.metric_key) == ("high", CUSTOMERS[0], "calls")
        assert (found.since, found.until) == (utc(2026, 9, 15), utc(2026, 9, 16))
        assert (found.events, found.quantity) == (24 + 360, Decimal(24) + 900)
        facts = dict(found.facts)
        assert (facts["measure"], facts["actual"], facts["expected"]) == ("quantity", "924", "24")
        assert Decimal(facts["low"]) < 24 < Decimal(facts["high"]) < 924
        assert facts["hours"] == "15 Sep 2026 09:00 to 15 Sep 2026 15:00"
        assert str(CUSTOMERS[0]) in found.sentence
        assert isinstance(found.question, AggregateQuery)
        shown = store.aggregate(found.question)
        (point,) = (each for each in shown.series[0].points if each.start.isoformat()[:10] == facts["bucket"][:10])
        assert point.value == Decimal(facts["actual"])


def test_the_chart_of_a_spike_begins_with_a_whole_day_also_across_a_clock_change(events_database_url: str) -> None:
    """28 days of 24 hours before 28 Oct in Berlin began at 01:00: the first bar lacked an hour."""
    berlin = ZoneInfo("Europe/Berlin")
    since, until = (datetime(2026, month, 1, tzinfo=berlin) for month in (10, 11))
    at = datetime(2026, 10, 28, 9, tzinfo=berlin)
    events = steady(0, since - 63 * DAY, until, HOUR) + steady(0, at, at + 6 * HOUR, MINUTE)
    with store_of(events_database_url, events) as store:
        (found,) = findings(store, Period(since=since, until=until, timezone="Europe/Berlin", as_of=utc(2026, 11, 20)))
        assert isinstance(found.question, AggregateQuery)
        assert found.question.since == datetime(2026, 9, 30, tzinfo=berlin)


@pytest.mark.parametrize("days", [10, 14, 21, 30])
def test_a_spike_is_found_without_history(events_database_url: str, days: int) -> None:
    rows = steady(0, SINCE, SINCE + days * DAY, DAY / 60)
    rows += steady(0, SINCE + 7 * DAY, SINCE + 8 * DAY, DAY / 540)
    with store_of(events_database_url, rows) as store:
        outcome = examine(store, "shifts", SEPTEMBER).outcome
    assert outcome is not None
    (spike,) = outcome.findings
    facts = dict(spike.facts)
    assert (spike.severity, spike.customer_id, facts["actual"]) == ("high", CUSTOMERS[0], "600")
    assert 55 < float(facts["expected"]) < 65
    assert (spike.since, spike.until) == (SINCE + 7 * DAY, SINCE + 8 * DAY)
    assert ("with usage on fewer than 28 days" in outcome.note) == outcome.is_partial == (days < 28)


def test_a_busy_day_of_a_few_is_no_spike(events_database_url: str) -> None:
    rows = steady(0, SINCE, SINCE + 14 * DAY, DAY / 60) + steady(0, SINCE + 7 * DAY, SINCE + 8 * DAY, DAY / 100)
    with store_of(events_database_url, rows) as store:
        assert findings(store) == ()


def test_a_spike_of_a_new_customer_has_its_own_numbers(events_database_url: str) -> None:
    rows = [row for customer in range(1, 6) for row in steady(customer, BEFORE, UNTIL, DAY / 60)]
    rows += steady(0, SINCE + 9 * DAY, UNTIL, DAY / 60) + steady(0, SINCE + 11 * DAY, SINCE + 12 * DAY, DAY / 540)
    with store_of(events_database_url, rows) as store:
        (spike,) = findings(store)
    facts = dict(spike.facts)
    assert (spike.severity, spike.customer_id, facts["actual"]) == ("high", CUSTOMERS[0], "600")
    assert 55 < float(facts["expected"]) < 65


def test_hours_of_a_new_customer_have_its_own_numbers(events_database_url: str) -> None:
    rows = [row for customer in range(1, 4) for row in steady(customer, BEFORE, UNTIL, DAY / 120)]
    busy = SINCE + 20 * DAY + 5 * HOUR
    rows += steady(0, SINCE + 19 * DAY, UNTIL, DAY / 24) + steady(0, busy, busy + HOUR, HOUR / 40)
    with store_of(events_database_url, rows) as store:
        (spike,) = findings(store)
    facts = dict(spike.facts)
    assert (spike.customer_id, spike.severity, facts["bucket"]) == (CUSTOMERS[0], "medium", "2026-09-21T05:00:00Z")
    assert [facts[name] for name in ("actual", "expected", "low", "high", "excess")] == ["41", "1", "1", "1", "40"]
    assert facts["reason"] == "above 1, the most of any hour of the customer before"


@pytest.mark.each_value
@pytest.mark.parametrize(("first", "last"), [(12, 22), (8, 16), (5, 19)])
@pytest.mark.parametrize("times", [0.3, 0.6, 1.6, 2, 3])
def test_usage_that_returns_to_what_was_usual_is_no_deviation(first: int, last: int, times: float) -> None:
    """Some days of October differ; the days after them are as those of the two months before."""
    since = utc(2026, 8, 2)
    grid = series.grid_of_edges("day", tuple(since + day * DAY for day in range(92)), ZoneInfo("UTC"))
    usual = 1_000 * np.random.default_rng(first).uniform(0.9, 1.1, (5, 91))
    usual[:, 59 + first : 59 + last] *= times
    values = np.round(usual)
    block = series.Block(tuple(CUSTOMERS[:1] * 5), tuple("abcde"), {"count": values, "sum_quantity": values})
    found = list(deviations(block, grid, 60))
    start, end = utc(2026, 10, first), utc(2026, 10, last)
    assert {one.rises for one in found} == ({times > 1} if times != 0.6 else set())
    assert all(start <= one.since < one.until <= end for one in found)
    if times in (0.3, 2, 3):
        assert {one.metric_key for one in found} == set("abcde")


def test_bursts_are_not_high(events_database_url: str) -> None:
    """Who is used on one day a fortnight, and once more than ever, is no runaway."""
    events = steady(1, BEFORE, UNTIL, 10 * MINUTE)
    for day in range(0, 90, 14):
        at = BEFORE + day * DAY
        events += steady(0, at, at + 6 * HOUR, MINUTE / (20 if day == 70 else 1))
    with store_of(events_database_url, events) as store:
        assert "high" not in {each.severity for each in findings(store)}


def test_a_drop_that_comes_back(events_database_url: str) -> None:
    gone = utc(2026, 9, 8), utc(2026, 9, 10, 23)  # shorter than a silence
    events = [row for row in steady(0, BEFORE, UNTIL, 20 * MINUTE) if not gone[0] <= row.timestamp < gone[1]]
    with store_of(events_database_url, events + steady(1, BEFORE, UNTIL, HOUR)) as store:
        (found,) = findings(store, Period(since=SINCE, until=utc(2026, 9, 21)))
    assert (found.severity, found.since, found.until) == ("high", gone[0], utc(2026, 9, 11))
    assert (found.events, found.quantity) == (3, Decimal(3))
    facts = dict(found.facts)
    assert (facts["actual"], facts["expected"]) == ("0", "72")
    assert "dropped, 8–10 Sep 2026" in found.sentence


def test_a_new_level_is_not_high(events_database_url: str) -> None:
    events = steady(0, BEFORE, UNTIL, HOUR) + steady(1, BEFORE, UNTIL, HOUR)
    events += steady(0, utc(2026, 9, 10, 0, 1), UNTIL, 15 * MINUTE)
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
    assert found.severity == "medium"
    assert found.since.date() == utc(2026, 9, 10).date()
    facts = dict(found.facts)
    assert (facts["actual"], facts["expected"]) == ("120", "24")
    assert "rose to a new level on 10 Sep 2026" in found.sentence


def test_who_comes_or_goes_is_left_to_the_check_of_silences(events_database_url: str) -> None:
    events = steady(0, utc(2026, 9, 10), UNTIL, HOUR) + steady(1, BEFORE, utc(2026, 9, 10), HOUR)
    with store_of(events_database_url, events + steady(2, BEFORE, UNTIL, 10 * MINUTE)) as store:
        assert not findings(store)


@pytest.mark.parametrize(("length", "back"), [(10, 12), (10, 22), (20, 24), (35, 8)])
def test_usage_that_comes_back_after_a_silence_is_no_spike(events_database_url: str, length: int, back: int) -> None:
    """Neither of the customer nor of all with_sums, of whose usage it makes nine tenths."""
    again = SINCE + back * DAY
    events = [row for row in steady(0, BEFORE, UNTIL, 6 * MINUTE) if not again - length * DAY <= row.timestamp < again]
    events += steady(1, BEFORE, UNTIL, HOUR)
    with store_of(events_database_url, events) as store:
        assert not [each for each in findings(store) if "dropped" not in each.sentence]


def test_usage_that_comes_back_tenfold_is_a_spike_against_what_was_usual(events_database_url: str) -> None:
    gone, again = utc(2026, 9, 8), utc(2026, 9, 18)
    events = [row for row in steady(0, BEFORE, UNTIL, HOUR) if not gone <= row.timestamp < again]
    events += steady(0, again, again + DAY, 6 * MINUTE) + steady(1, BEFORE, UNTIL, HOUR)
    with store_of(events_database_url, events) as store:
        (found,) = [each for each in findings(store) if "spiked" in each.sentence]
    facts = dict(found.facts)
    assert (found.severity, found.since, facts["actual"], facts["expected"]) == ("high", again, "264", "24")


def test_metrics_that_move_together_are_one_finding(events_database_url: str) -> None:
    at = utc(2026, 9, 15, 9)
    metrics = ("calls", "", "a,b", "\x1b[31mred\u202e")
    events = [row for metric in metrics for row in steady(0, BEFORE, UNTIL, HOUR, metric=metric)]
    for number, metric in enumerate(metrics):
        events += steady(0, at, at + 6 * HOUR, MINUTE / (number + 1), metric=metric)
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert found.metric_key is None
        assert found.quantity is None
        assert found.events == 4 * 24 + 360 * (1 + 2 + 3 + 4)
        assert found.sentence.isprintable()
        assert all(value.isprintable() for _, value in found.facts)
        assert isinstance(found.question, AggregateQuery)
        assert store.aggregate(found.question).total


def test_a_customers_holiday_is_one_finding(events_database_url: str) -> None:
    holiday = utc(2026, 9, 15)
    metrics = ("calls", "bytes", "seats", "jobs")
    events = [
        row
        for metric in metrics
        for since, until in ((BEFORE, holiday), (holiday + DAY, UNTIL))
        for row in steady(0, since, until, HOUR / 2, metric=metric)
    ]
    events += steady(1, BEFORE, UNTIL, HOUR)  # else it is an outage of all
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert found.metric_key is None
        assert (found.since, found.until) == (holiday, holiday + DAY)
        assert found.events == 0
        assert all(metric in found.sentence or any(metric in value for _, value in found.facts) for metric in metrics)


def test_three_busy_hours_are_found_though_the_day_hides_them(events_database_url: str) -> None:
    draw = random.Random(1)
    at = utc(2026, 9, 15, 9)
    events = [
        row
        for day in range(93)
        for row in steady(0, BEFORE + day * DAY, BEFORE + (day + 1) * DAY, DAY / draw.randrange(400, 560))
    ]
    events += steady(0, at, at + 3 * HOUR, MINUTE)
    with store_of(events_database_url, [row for row in events if row.timestamp < UNTIL]) as store:
        found = [each for each in findings(store) if dict(each.facts)["step"] == "hour"]
    assert [(each.since, each.until, each.customer_id) for each in found] == [(at, at + 3 * HOUR, CUSTOMERS[0])]


def test_what_all_do_is_told_once(events_database_url: str) -> None:
    day = utc(2026, 9, 16), utc(2026, 9, 17)
    events = [
        row
        for customer in range(8)
        for row in steady(customer, BEFORE, UNTIL, 40 * MINUTE)
        if not day[0] <= row.timestamp < day[1] or row.timestamp.hour % 6 == 0
    ]
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
    assert found.customer_id is None
    assert (found.since, found.until) == day
    assert "all customers together dropped" in found.sentence


@pytest.mark.parametrize("as_of", [utc(2026, 9, 14, 3), utc(2026, 9, 15, 0, 0, 1), utc(2026, 9, 14, 23, 59)])
def test_what_cannot_be_complete_is_not_judged(events_database_url: str, as_of: datetime) -> None:
    """At `as_of` the current day and hour are nearly empty, and the spike of today is not over."""
    events = steady(0, BEFORE + 11 * HOUR, UNTIL, 3 * MINUTE) + steady(
        0, utc(2026, 9, 15), utc(2026, 9, 15, 1), MINUTE / 60
    )
    with store_of(events_database_url, events) as store:
        assert not findings(store, SEPTEMBER.replace(as_of=as_of))
        assert not findings(store, SEPTEMBER.replace(until=utc(2026, 9, 15), as_of=utc(2026, 10, 1)))
        assert findings(store, SEPTEMBER.replace(as_of=utc(2026, 9, 17)))


def test_other_months_incidents_are_not_this_ones(events_database_url: str) -> None:
    at = utc(2026, 8, 20, 9)
    events = steady(0, BEFORE, UNTIL, HOUR) + steady(0, at, at + 6 * HOUR, MINUTE)
    with store_of(events_database_url, events) as store:
        assert not findings(store)


def test_quantities_that_are_no_numbers_are_unknown(events_database_url: str) -> None:
    at = utc(2026, 9, 15, 9)
    events = steady(0, BEFORE, UNTIL, HOUR) + steady(0, at, at + 6 * HOUR, MINUTE)
    events += [event(0, utc(2026, 9, 15, 12), quantity=Decimal("NaN")), event(0, at, quantity=Decimal("1e400"))]
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
    assert (found.quantity, found.events) == (None, 24 + 360 + 2)
    assert dict(found.facts)["measure"] == "events"


def test_no_usage_at_all(events_database_url: str) -> None:
    with store_of(events_database_url, [event(0, utc(2020, 1, 1))]) as store:
        assert not findings(store)


def test_the_demos_runaway_is_found_and_named(planted_demo: tuple[Store, Period, list[Incident]]) -> None:
    store, period, planted = planted_demo
    found = findings(store, period)
    runaways = [each for each in planted if each.kind == "runaway_customer"]
    assert runaways
    for incident in runaways:
        (told,) = (
            each
            for each in found
            if each.customer_id == incident.customer_id and each.severity == "high" and each.since <= incident.starts
        )
        assert incident.starts.date() == told.since.date()
        assert told.events > incident.events / 2  # of the metrics that are named; of others it sent too little to tell
    assert sum(each.severity == "high" for each in found) == len(runaways)


def test_a_metric_that_begins_in_the_last_unfinished_day_is_not_judged(events_database_url: str) -> None:
    until = utc(2026, 9, 21, 1)
    events = [*steady(0, BEFORE, until, HOUR), event(0, utc(2026, 9, 21), "new")]
    with store_of(events_database_url, events) as store:
        assert not findings(store, SEPTEMBER.replace(until=until, as_of=utc(2026, 10, 1)))


def test_a_quantity_too_small_for_a_float_is_none(events_database_url: str) -> None:
    events = [*steady(0, BEFORE, UNTIL, HOUR), event(0, utc(2026, 9, 10), "dust", quantity=Decimal("1e-400"))]
    with store_of(events_database_url, events) as store:
        assert not findings(store)
