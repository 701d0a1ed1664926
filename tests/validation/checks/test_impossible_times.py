"""Impossible times: what occurred after it arrived or long before, and whose clock is to blame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from support.check_results import examine, shown
from support.plain_events import JUNE, SINCE, SMALL, UNTIL, beside, event, september, store_of, total
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.db import ddl
from usage_explore.validation import Finding
from usage_explore.validation.batches import MIN_BATCH_EVENTS
from usage_explore.validation.checks.impossible_times import MAX_AGE, MAX_CLOCK_DIFFERENCE

INSTANT = timedelta(microseconds=1)
DAY = timedelta(days=1)


def lagging(lag: timedelta, number: int = MIN_BATCH_EVENTS(), **fields: object) -> list[Row]:
    """Events that arrived so long after they occurred, a minute apart."""
    times = [SINCE + 10 * DAY + timedelta(minutes=minute) for minute in range(number)]
    return [event(time, ingested_at=time + lag, **fields) for time in times]


def findings(store: Store, **parameters: object) -> tuple[Finding, ...]:
    outcome = examine(store, "impossible_times", september(**parameters)).outcome
    store.close()
    assert outcome is not None
    return outcome.findings


@pytest.mark.parametrize(
    ("lag", "found"),
    [
        (-MAX_CLOCK_DIFFERENCE() - INSTANT, True),
        (-3 * DAY, True),
        (timedelta(0), False),
        (MAX_AGE(), False),
        (MAX_AGE() + INSTANT, True),
    ],
)
def test_the_bounds_are_those_that_are_stated(
    events_connection: ddl.Connection, events_database_url: str, lag: timedelta, found: bool
) -> None:
    rows = lagging(lag)
    store = store_of(events_connection, events_database_url, rows + beside(rows))
    (*found_ones,) = findings(store)
    assert [(each.events, each.severity) for each in found_ones] == ([(MIN_BATCH_EVENTS(), "medium")] if found else [])
    for each in found_ones:
        assert each.quantity == total(row.quantity for row in rows)
        assert (each.since, each.until) == (rows[0].timestamp, rows[-1].timestamp + INSTANT)
        assert (each.customer_id, each.metric_key, each.share) == (JUNE, "tokens", Decimal(1))


@pytest.mark.parametrize(
    ("occurred", "arrived", "found"),
    [
        (SINCE + 375 * DAY, SINCE + 10 * DAY, True),  # dated a year ahead
        (SINCE + 4_000 * DAY, SINCE + 10 * DAY, True),
        (UNTIL + timedelta(hours=1), UNTIL - timedelta(hours=1), True),
        (UNTIL + timedelta(minutes=1), UNTIL - timedelta(minutes=1), False),  # clocks differ by as much
        (UNTIL + 12 * DAY, UNTIL + 11 * DAY, False),  # another period's
        (SINCE + 375 * DAY, UNTIL + 11 * DAY, True),  # still to occur
        (SINCE + 375 * DAY, SINCE - 40 * DAY, True),
        (UNTIL + 4 * DAY, SINCE - DAY, False),  # occurred since, arrived before
    ],
)
def test_what_is_dated_after_the_period_is_found(
    events_connection: ddl.Connection,
    events_database_url: str,
    occurred: datetime,
    arrived: datetime,
    found: bool,
) -> None:
    usual = lagging(timedelta(seconds=5), 100)
    ahead = [event(occurred + timedelta(seconds=each), ingested_at=arrived) for each in range(MIN_BATCH_EVENTS())]
    store = store_of(events_connection, events_database_url, usual + ahead + beside(ahead))
    as_of = UNTIL + 30 * DAY
    result = store.validate(september(as_of=as_of), checks=["impossible_times"]).findings
    assert [(each.events, each.customer_id) for each in result] == ([(MIN_BATCH_EVENTS(), JUNE)] if found else [])
    for each in result:
        assert each.severity == ("high" if arrived >= SINCE else "medium")
        assert "they lie after the period" in each.sentence
        assert shown(store, each) == MIN_BATCH_EVENTS()
        assert each.quantity == total(row.quantity for row in ahead)
    store.close()


@pytest.mark.parametrize(
    ("occurred", "found"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), True),  # seconds of 0
        (SINCE - 365 * DAY, True),
        (SINCE + 10 * DAY - MAX_AGE() - DAY, True),
        (SINCE - DAY, False),  # late, of the period before
    ],
)
def test_what_is_dated_long_before_the_period_it_arrives_in_is_found(
    events_connection: ddl.Connection, events_database_url: str, occurred: datetime, found: bool
) -> None:
    usual = lagging(timedelta(seconds=5), 100)
    usual += [event(SINCE - day * DAY, ingested_at=SINCE - day * DAY, customer_id=SMALL) for day in range(1, 9)]
    past = [
        event(occurred + timedelta(seconds=each), ingested_at=SINCE + 10 * DAY + timedelta(minutes=each))
        for each in range(MIN_BATCH_EVENTS())
    ]
    store = store_of(events_connection, events_database_url, usual + past + beside(past))
    result = store.validate(september(), checks=["impossible_times"]).findings
    expected = [(MIN_BATCH_EVENTS(), JUNE, "medium")] if found else []
    assert [(each.events, each.customer_id, each.severity) for each in result] == expected
    for each in result:
        assert "they lie before the period, and its invoice does not have them" in each.sentence
        assert shown(store, each) == MIN_BATCH_EVENTS()
        assert each.quantity == total(row.quantity for row in past)
    store.close()


def test_a_history_that_is_loaded_in_the_period_has_no_wrong_times(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    loaded = SINCE + 10 * DAY
    history = [event(SINCE - hour * timedelta(hours=5), ingested_at=loaded) for hour in range(1, 500)]
    store = store_of(events_connection, events_database_url, lagging(timedelta(seconds=5), 100) + history)
    assert findings(store) == ()


def test_a_clock_that_is_wrong_each_day_is_one_finding(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = [
        event(time := SINCE + day * DAY + timedelta(minutes=minute), ingested_at=time - timedelta(hours=2))
        for day in range(1, 20)
        for minute in range(MIN_BATCH_EVENTS())
    ]
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = findings(store)
    assert (finding.events, finding.since, finding.until) == (
        len(rows),
        rows[0].timestamp,
        rows[-1].timestamp + INSTANT,
    )


def test_the_question_shows_a_batch_alone_in_its_hours(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = [*lagging(-3 * DAY, 40), event(SINCE + DAY), event(SINCE + 10 * DAY, customer_id=SMALL)]
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(), checks=["impossible_times"]).findings
    assert shown(store, finding) == finding.events == 40
    assert "occurred up to 3 days after they arrived" in finding.sentence
    store.close()


def test_a_single_event_is_named_as_one(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = [*lagging(timedelta(seconds=5), 100), *lagging(-3 * DAY, 1)]
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(), checks=["impossible_times"]).findings
    assert finding.events == 1
    assert "occurred 3 days after it arrived, though nothing can; its time, and so its period" in finding.sentence
    store.close()


def test_what_arrived_before_its_period_began_is_high(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    store = store_of(events_connection, events_database_url, lagging(-11 * DAY))
    (finding,) = findings(store)
    assert finding.severity == "high"
    assert "belong to an earlier one" in finding.sentence


def test_a_few_are_told_together(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = lagging(-DAY, MIN_BATCH_EVENTS() - 1) + lagging(-DAY, MIN_BATCH_EVENTS() - 1, customer_id=SMALL)
    rows += lagging(timedelta(0), 200) + lagging(timedelta(0), 200, customer_id=SMALL)
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = findings(store)
    assert (finding.severity, finding.events, finding.customer_id) == ("low", 2 * (MIN_BATCH_EVENTS() - 1), None)
    assert "2 customers" in finding.sentence


@pytest.mark.parametrize("key", ["fast \x1b[2J\u202e'\"", None, ""])
def test_a_fast_clock_is_told_by_sender(
    events_connection: ddl.Connection, events_database_url: str, key: str | None
) -> None:
    import json

    dimensions = json.dumps({} if key is None else {"api_key": key})
    ahead = lagging(-timedelta(seconds=30), 20, dimensions=dimensions)
    others = lagging(timedelta(seconds=5), 30, dimensions='{"api_key": "sound"}')
    sometimes = lagging(-timedelta(seconds=1), 20, customer_id=SMALL) + lagging(timedelta(0), 21, customer_id=SMALL)
    store = store_of(events_connection, events_database_url, ahead + others + sometimes)
    (finding,) = store.validate(september(), checks=["impossible_times"]).findings
    assert (finding.severity, finding.events, finding.customer_id) == ("low", 20, JUNE)
    assert finding.sentence.isprintable()
    assert "20 of its 20 events (100 %) occurred up to 30 seconds after" in finding.sentence
    assert shown(store, finding) == 20
    store.close()


def test_other_periods_and_what_arrived_later_are_left_alone(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    outside = [
        event(UNTIL + timedelta(seconds=second), ingested_at=SINCE - DAY) for second in range(MIN_BATCH_EVENTS())
    ]
    late = lagging(MAX_AGE() + DAY)
    store = store_of(events_connection, events_database_url, outside + late)
    assert findings(store, as_of=UNTIL) == ()
