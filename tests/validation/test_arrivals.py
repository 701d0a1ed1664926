"""Bulk loads: where `ingested_at` is the time of loading, lateness is not judged, and what did arrive late still is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from support.check_results import examine, shown
from support.plain_events import JUNE, SINCE, SMALL, UNTIL, beside, event, september
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.validation.batches import MIN_BATCH_EVENTS

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
LOADED = UNTIL + 40 * DAY
JUDGING = ("late_arrivals", "impossible_times", "after_finalization")

Make = Callable[[list[Row]], Store]


def history(loaded: datetime, first: int = 0, last: int = 30, **fields: object) -> list[Row]:
    """Three events a day, all ingested at one time."""
    return [
        event(SINCE + day * DAY + hour * HOUR, ingested_at=loaded, **fields)
        for day in range(first, last)
        for hour in (1, 9, 17)
    ]


def live(first: int, last: int, lag: timedelta = MINUTE, **fields: object) -> list[Row]:
    """The same events, each of which arrives by itself."""
    return [
        event(row.timestamp, ingested_at=row.timestamp + lag, **fields)
        for row in history(LOADED, first, last, **fields)
    ]


@pytest.mark.parametrize("loaded", [LOADED, UNTIL + 2 * DAY, SINCE + 29 * DAY])
def test_lateness_of_a_loaded_file_is_not_judged(make: Make, loaded: datetime) -> None:
    rows = history(loaded, last=29)
    store = make(rows + beside(rows))
    validation = store.validate(september(finalized_at=LOADED + DAY), checks=JUDGING)
    assert validation.findings == ()
    late, _, impossible = validation.results
    assert not late.is_clean
    assert late.skipped.startswith("arrival times unknown, lateness not judged: 87 events of 1 customer")
    assert impossible.outcome is not None
    unjudged = "arrival times of 87 events unknown (see late_arrivals), age not judged"
    assert impossible.outcome.note == (unjudged if loaded > UNTIL else "")


@pytest.mark.parametrize("rows", [history(LOADED, last=1), history(LOADED, 3, 5), history(LOADED, 5, 6)[:2]])
def test_so_is_that_of_a_small_file(make: Make, rows: list[Row]) -> None:
    assert make(rows).validate(september(), checks=JUDGING).findings == ()


@pytest.mark.each_value
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("first", [history(LOADED), history(SINCE + 20 * DAY, last=20), []])
@pytest.mark.parametrize("lag", [5 * DAY, 60 * DAY])
def test_a_second_file_of_a_few_rows_is_a_load_too(make: Make, first: list[Row], rows: int, lag: timedelta) -> None:
    second = history(SINCE + 21 * DAY + lag, 21, 22)[:rows]
    validation = make(first + second).validate(september(), checks=JUDGING)
    assert validation.findings == ()
    assert validation.results[0].skipped.startswith("arrival times unknown, lateness not judged")


@pytest.mark.parametrize("first_live_day", [27, 55])
def test_a_late_event_beside_a_load_is_late_where_others_arrived_as_they_occurred(
    make: Make, first_live_day: int
) -> None:
    late = event(SINCE + 22 * DAY, ingested_at=SINCE + 60 * DAY)
    store = make([*history(SINCE + 20 * DAY, 0, 20), *live(first_live_day, first_live_day + 3), late])
    (finding,) = store.validate(september(), checks=["impossible_times"]).findings
    assert (finding.events, finding.since) == (1, late.timestamp)


def test_several_files_loaded_at_one_time_are_one_load(make: Make) -> None:
    files = [
        history(LOADED + number * MINUTE, number, number + 1, customer_id=customer)
        for number in range(30)
        for customer in (JUNE, SMALL)
    ]
    store = make([row for file in files for row in file])
    assert store.validate(september(), checks=JUDGING).findings == ()


def test_a_load_among_live_events_is_one_finding(make: Make) -> None:
    loaded = history(SINCE + 20 * DAY, 0, 10) + history(SINCE + 20 * DAY, 0, 10, customer_id=SMALL)
    store = make(loaded + live(10, 30) + live(10, 30, customer_id=SMALL))
    (finding,) = store.validate(september(), checks=JUDGING).findings
    assert (finding.severity, finding.events, finding.check) == ("medium", 60, "late_arrivals")
    assert "60 events of 2 customers share their ingested_at" in finding.sentence
    assert "Arrival times unknown, lateness not judged." in finding.sentence
    assert shown(store, finding) == 60


def test_what_arrived_late_beside_a_load_is_judged(make: Make) -> None:
    held_back = live(12, 13, 3 * DAY)
    store = make(history(SINCE + 20 * DAY, 0, 10) + live(10, 12) + live(13, 30) + held_back)
    bulk, late = sorted(store.validate(september(), checks=["late_arrivals"]).findings, key=lambda each: -each.events)
    assert (bulk.events, late.events) == (30, len(held_back))
    assert (late.since, late.until) == (held_back[0].timestamp, held_back[-1].timestamp + timedelta(microseconds=1))


def test_a_customers_batch_sent_late_in_one_statement_is_late(make: Make) -> None:
    batch = history(SINCE + 20 * DAY, 10, 14, customer_id=SMALL)
    others = [row for customer in (JUNE, SMALL) for _ in range(2) for row in live(0, 30, customer_id=customer)]
    store = make(
        batch + [row for row in others if row.customer_id == JUNE or not 10 <= (row.timestamp - SINCE).days < 14]
    )
    for period in (september(), september(customer_id=SMALL)):
        (finding,) = store.validate(period, checks=["late_arrivals"]).findings
        assert (finding.severity, finding.events, finding.customer_id) == ("medium", len(batch), SMALL)


def nightly(first: int, last: int, **fields: object) -> list[Row]:
    """The same events, those of a day ingested together an hour after its end."""
    return [
        row for day in range(first, last) for row in history(SINCE + (day + 1) * DAY + HOUR, day, day + 1, **fields)
    ]


@pytest.mark.parametrize(
    "late",
    [
        [*history(SINCE + 15 * DAY + HOUR, 8, 9), *history(SINCE + 16 * DAY + HOUR, 9, 10)],  # with regular nights
        history(SINCE + 15 * DAY + HOUR, 8, 10),
        history(SINCE + 15 * DAY + 12 * HOUR, 8, 10),  # with none
    ],
)
def test_a_late_batch_of_a_source_that_sends_each_night_is_late_and_the_other_nights_are_not(
    make: Make, late: list[Row]
) -> None:
    store = make(nightly(-10, 8) + late + nightly(10, 30))
    (finding,) = store.validate(september(), checks=["late_arrivals"]).findings
    assert (finding.events, finding.customer_id) == (len(late), JUNE)
    assert "unknown" not in finding.sentence
    assert (finding.since.date(), finding.until.date()) == ((SINCE + 8 * DAY).date(), (SINCE + 9 * DAY).date())


def test_a_history_that_was_loaded_before_the_first_regular_night_is_not_judged(make: Make) -> None:
    store = make(history(SINCE + 15 * DAY + HOUR, -20, 10) + nightly(10, 30))
    (finding,) = store.validate(september(), checks=["late_arrivals"]).findings
    assert "Arrival times unknown" in finding.sentence


def test_events_of_the_future_are_impossible_however_they_arrived(make: Make) -> None:
    store = make(history(SINCE + 15 * DAY))
    (finding,) = store.validate(september(), checks=["impossible_times"]).findings
    assert (finding.events, finding.severity) == (len(history(LOADED, 15, 30)), "medium")


@pytest.mark.parametrize(("others", "severity"), [([], "medium"), (live(10, 30, customer_id=SMALL), "high")])
def test_a_load_after_the_finalization_is_one_finding(make: Make, others: list[Row], severity: str) -> None:
    rows = [
        row for number in range(MIN_BATCH_EVENTS()) for row in history(LOADED, 0, 10, metric_key=f"metric {number}")
    ]
    store = make(rows + others)
    result = examine(store, "after_finalization", september(finalized_at=UNTIL + DAY))
    assert result.outcome is not None
    (finding,) = result.outcome.findings
    assert (finding.severity, finding.events) == (severity, len(rows))
    assert "arrival times are unknown" in finding.sentence
    assert result.outcome.sheet is not None
    assert result.outcome.sheet["events_later"].sum() == len(rows)


def test_a_small_load_after_the_finalization_is_judged_by_its_customers_and_share(make: Make) -> None:
    second = history(UNTIL + 20 * DAY, 21, 22)
    store = make([*history(UNTIL + DAY), *second])
    (finding,) = store.validate(september(finalized_at=UNTIL + 2 * DAY), checks=["after_finalization"]).findings
    assert (finding.severity, finding.events, finding.customer_id) == ("low", len(second), JUNE)


def test_the_finding_on_loads_after_the_finalization_names_their_time_alone(make: Make) -> None:
    store = make([*history(UNTIL + DAY, 0, 15), *history(UNTIL + 20 * DAY, 15, 30)])
    (finding,) = store.validate(september(finalized_at=UNTIL + 2 * DAY), checks=["after_finalization"]).findings
    assert (finding.severity, finding.events) == ("high", 45)
    assert "after the period was finalized, 21 Oct 2026" in finding.sentence
