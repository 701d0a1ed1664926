"""Late arrivals: the lag by metric as an oracle counts it, and batches later than their metric ever is."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from support.check_results import examine, shown
from support.plain_events import JUNE, LARGE, SINCE, SMALL, UNTIL, beside, event, september, store_of, total
from support.query_oracle import Row
from usage_explore.db import ddl
from usage_explore.validation.batches import MIN_BATCH_EVENTS
from usage_explore.validation.bulk_loads import MIN_LATE_LAG
from usage_explore.validation.checks.impossible_times import MAX_AGE
from usage_explore.validation.checks.late_arrivals import LATE_LAG_RATIO

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)


def lagging(lag: timedelta, number: int, day: int = 10, **fields: object) -> list[Row]:
    times = [SINCE + day * DAY + minute * MINUTE for minute in range(number)]
    return [event(time, ingested_at=time + lag, **fields) for time in times]


def test_the_sheet_equals_the_oracle(events_connection: ddl.Connection, events_database_url: str) -> None:
    draw = random.Random(5)
    rows = [
        event(
            when := SINCE + timedelta(hours=draw.randrange(-50, 700)),
            metric_key=draw.choice(["tokens", "Calls", "a\x1b,'"]),
            ingested_at=when + timedelta(seconds=draw.choice([1, 60, 80_000, 90_000, 900_000]) * draw.random()),
        )
        for _ in range(700)
    ]
    store = store_of(events_connection, events_database_url, rows + beside(rows))
    outcome = examine(store, "late_arrivals", september()).outcome
    store.close()
    assert outcome is not None
    assert outcome.sheet is not None
    lags: dict[str, list[timedelta]] = defaultdict(list)
    for row in rows:
        if SINCE <= row.timestamp < UNTIL:
            lags[row.metric_key].append(row.ingested_at - row.timestamp)
    assert list(outcome.sheet["metric_key"]) == sorted(lags)
    for line in outcome.sheet.to_dict("records"):
        mine = sorted(lags[line["metric_key"]])
        late = sum(lag > MIN_LATE_LAG() for lag in mine)
        assert (line["events"], line["longest"], line["late_events"]) == (len(mine), mine[-1], late)
        assert line["late_share"] == Decimal(late) / len(mine)
        for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            assert line[name] == mine[math.ceil(part * len(mine)) - 1]


@pytest.mark.parametrize(
    ("lag", "found"),
    [(MIN_LATE_LAG(), False), (MIN_LATE_LAG() + INSTANT, True), (MAX_AGE(), True), (MAX_AGE() + INSTANT, False)],
)
def test_a_batch_that_took_long_is_one_finding(
    events_connection: ddl.Connection, events_database_url: str, lag: timedelta, found: bool
) -> None:
    ordinary = [row for day in range(20) for row in lagging(MINUTE, 20, day)]
    held_back = lagging(lag, 30, metric_key="calls") + lagging(lag, 30)
    quick = lagging(MINUTE, 300, 22, metric_key="calls")
    store = store_of(events_connection, events_database_url, ordinary + held_back + quick)
    findings = store.validate(september(), checks=["late_arrivals"]).findings
    assert [(each.events, each.severity, each.customer_id) for each in findings] == (
        [(60, "medium", JUNE)] if found else []
    )
    for each in findings:
        assert (each.since, each.until) == (held_back[0].timestamp, held_back[29].timestamp + INSTANT)
        assert shown(store, each) == 60 + 20  # what occurred meanwhile and came in time is among them
    store.close()


def test_batches_are_told_apart_by_when_they_arrived(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    ordinary = lagging(MINUTE, 2_000, 20)
    one, other = lagging(2 * DAY, 20), lagging(4 * DAY, 15)
    store = store_of(events_connection, events_database_url, ordinary + one + other)
    findings = store.validate(september(), checks=["late_arrivals"]).findings
    store.close()
    assert [each.quantity for each in findings] == [total(row.quantity for row in same) for same in (one, other)]


def steadily_late(lag: timedelta, seed: int, **fields: object) -> list[Row]:
    """8 events a day of the month at any time of the day, each up to 2.8 hours later than the lag."""
    draw = random.Random(seed)
    times = [SINCE + (day + draw.random()) * DAY for day in range(28) for _ in range(8)]
    return [event(time, ingested_at=time + lag + draw.random() * 2.8 * HOUR, **fields) for time in times]


@pytest.mark.parametrize("per_day", [1, 300])
def test_a_steady_lateness_is_one_finding(
    events_connection: ddl.Connection, events_database_url: str, per_day: int
) -> None:
    ordinary = [row for day in range(29) for row in lagging(MINUTE, per_day, day)]
    ordinary += [row for day in range(29) for row in lagging(MINUTE, 20, day, customer_id=SMALL)]
    late = steadily_late(4 * DAY, 1)
    store = store_of(events_connection, events_database_url, ordinary + late)
    (finding,) = store.validate(september(), checks=["late_arrivals"]).findings
    store.close()
    assert (finding.severity, finding.customer_id, finding.events) == ("medium", JUNE, len(late))
    times = [row.timestamp for row in late]
    assert (finding.since, finding.until) == (min(times), max(times) + INSTANT)
    quantity = total(row.quantity for row in late)
    assert finding.quantity == quantity
    assert finding.share == pytest.approx(quantity / total(row.quantity for row in ordinary + late))
    assert finding.share_of == "quantity of tokens"


def test_unlike_latenesses_at_one_time_stay_apart(events_connection: ddl.Connection, events_database_url: str) -> None:
    ordinary = [row for day in range(29) for row in lagging(MINUTE, 20, day)]
    ordinary += [row for day in range(29) for row in lagging(MINUTE, 20, day, customer_id=SMALL)]
    one, other = steadily_late(4 * DAY, 2), steadily_late(4 * DAY, 3, customer_id=SMALL)
    longer = lagging(12 * DAY, 20, 12)
    store = store_of(events_connection, events_database_url, ordinary + one + other + longer)
    findings = store.validate(september(), checks=["late_arrivals"]).findings
    store.close()
    assert sorted((finding.customer_id, finding.events) for finding in findings if finding.customer_id) == [
        (JUNE, 20),
        (JUNE, len(one)),
        (SMALL, len(other)),
    ]


def test_what_always_takes_a_day_is_not_late(events_connection: ddl.Connection, events_database_url: str) -> None:
    usual = [row for day in range(10) for row in lagging(26 * HOUR, 20, day)]
    later = lagging(LATE_LAG_RATIO() * 26 * HOUR, 15, 12)
    store = store_of(events_connection, events_database_url, usual + later)
    assert examine(store, "late_arrivals", september()).is_clean
    store.close()


@pytest.mark.each_value
@pytest.mark.parametrize("late_customers", [1, 4, 12, 18])
@pytest.mark.parametrize("history_days", [20, 0])
def test_lateness_is_found_however_many_events_are_late(
    events_connection: ddl.Connection, events_database_url: str, late_customers: int, history_days: int
) -> None:
    rows = []
    for number in range(20):
        for day in range(-history_days, 30):
            is_late = number < late_customers and 0 <= day < 28
            times = [SINCE + day * DAY + (6 * hour + number / 3) * HOUR for hour in range(4)]
            lag = 9 * DAY if is_late else MINUTE
            rows += [event(time, ingested_at=time + lag, customer_id=UUID(int=number)) for time in times]
    store = store_of(events_connection, events_database_url, rows)
    outcome = examine(store, "late_arrivals", september()).outcome
    store.close()
    assert outcome is not None
    if history_days or late_customers <= 10:
        assert {each.customer_id for each in outcome.findings} == {UUID(int=number) for number in range(late_customers)}
        assert {each.severity for each in outcome.findings} == {"medium"}
    assert ("median of the period itself" in outcome.note) == (not history_days and late_customers > 2)


def test_a_metric_that_took_a_day_before_the_period_is_not_late(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = [row for day in range(-10, 10) for row in lagging(26 * HOUR, 20, day)]
    store = store_of(events_connection, events_database_url, rows)
    assert examine(store, "late_arrivals", september()).is_clean
    store.close()


def test_a_history_that_was_loaded_at_once_says_nothing_of_the_ordinary_lag(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    loaded = [event(row.timestamp, ingested_at=SINCE) for day in range(-25, 0) for row in lagging(MINUTE, 10, day)]
    live = [row for day in range(20) for row in lagging(MINUTE, 20, day)] + lagging(5 * DAY, 80, 21)
    store = store_of(events_connection, events_database_url, loaded + live)
    (finding,) = store.validate(september(), checks=["late_arrivals"]).findings
    store.close()
    assert (finding.severity, finding.events) == ("medium", 80)


@pytest.mark.parametrize("days_before", [31, 0])
def test_one_load_of_a_customers_history_makes_lateness_ordinary_for_none(
    events_connection: ddl.Connection, events_database_url: str, days_before: int
) -> None:
    loaded_at = UNTIL + 4 * DAY
    times = [SINCE + (day + number / 40) * DAY for day in range(-days_before, 30) for number in range(40)]
    live = [event(time, ingested_at=time + MINUTE, customer_id=SMALL) for time in times]
    loaded = [event(time, ingested_at=loaded_at) for time in times[::5]]  # 17 %, or more than half of their metric
    loaded += [event(time, ingested_at=loaded_at, metric_key="calls") for time in times[::5]]
    few = [event(time, ingested_at=time + MINUTE, metric_key="calls", customer_id=SMALL) for time in times[::8]]
    late = lagging(14 * DAY, 60, customer_id=LARGE)
    store = store_of(events_connection, events_database_url, live + loaded + few + late)
    findings = store.validate(september(), checks=["late_arrivals"]).findings
    store.close()
    judged = [row for row in loaded if row.timestamp >= SINCE and loaded_at - row.timestamp <= MAX_AGE()]
    assert {(each.customer_id, each.events) for each in findings} == {(JUNE, len(judged)), (LARGE, len(late))}
    assert {each.severity for each in findings} == {"medium"}


def test_nor_do_loads_on_a_few_days_that_follow_each_other(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    times = [SINCE + (day + number / 40) * DAY for day in range(-31, 30) for number in range(40)]
    live = [event(time, ingested_at=time + MINUTE, customer_id=SMALL) for time in times]
    loaded = [event(time, ingested_at=UNTIL + (4 + n % 5) * DAY) for n, time in enumerate(times[::5])]
    late = lagging(14 * DAY, 60, customer_id=LARGE)
    store = store_of(events_connection, events_database_url, live + loaded + late)
    findings = store.validate(september(), checks=["late_arrivals"]).findings
    store.close()
    named: Counter[UUID | None] = Counter()
    for each in findings:
        named[each.customer_id] += each.events
    judged = [row for row in loaded if row.timestamp >= SINCE and row.ingested_at - row.timestamp <= MAX_AGE()]
    assert named == {JUNE: len(judged), LARGE: len(late)}


def test_a_source_that_sends_each_week_beside_live_ones_is_not_late(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    times = [SINCE + (day + number / 40) * DAY for day in range(-28, 28) for number in range(40)]
    live = [event(time, ingested_at=time + MINUTE, customer_id=SMALL) for time in times]
    weekly = [event(time, ingested_at=SINCE + ((time - SINCE) // (7 * DAY) + 1) * 7 * DAY) for time in times[::5]]
    store = store_of(events_connection, events_database_url, live + weekly)
    assert examine(store, "late_arrivals", september()).is_clean
    store.close()


def test_a_few_late_events_are_told_together(events_connection: ddl.Connection, events_database_url: str) -> None:
    few = lagging(3 * DAY, MIN_BATCH_EVENTS() - 1) + lagging(3 * DAY, MIN_BATCH_EVENTS() - 1, customer_id=SMALL)
    usual = lagging(MINUTE, 500, 15) + lagging(MINUTE, 500, 15, customer_id=SMALL)
    store = store_of(events_connection, events_database_url, few + usual)
    (finding,) = store.validate(september(), checks=["late_arrivals"]).findings
    store.close()
    assert (finding.severity, finding.events, finding.customer_id) == ("low", 2 * (MIN_BATCH_EVENTS() - 1), None)


def test_all_events_of_a_small_customer_late_are_its_own_finding(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    few = lagging(3 * DAY, MIN_BATCH_EVENTS() - 1, customer_id=SMALL)
    store = store_of(events_connection, events_database_url, few + lagging(MINUTE, 500, 15))
    (finding,) = store.validate(september(), checks=["late_arrivals"]).findings
    store.close()
    assert (finding.severity, finding.events, finding.customer_id) == ("medium", MIN_BATCH_EVENTS() - 1, SMALL)


def test_an_empty_period_has_an_empty_sheet(events_connection: ddl.Connection, events_database_url: str) -> None:
    store = store_of(events_connection, events_database_url, [])
    outcome = examine(store, "late_arrivals", september()).outcome
    store.close()
    assert outcome is not None
    assert outcome.sheet is not None
    assert outcome.sheet.empty
    assert outcome.findings == ()
