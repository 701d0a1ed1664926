"""Batches that did not come: those of a regular rhythm, each once; none where usage is irregular, daily or new."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, store_of
from support.thoroughness import seeds
from usage_explore import AggregateQuery
from usage_explore.validation.checks.missing_batches import missing

DAY = timedelta(days=1)
LENGTH = 150


def days(every: int, first: int = 3, jitter: int = 0, width: int = 1, seed: int = 1) -> list[int]:
    """Days with events: a batch of `width` days at intervals of `every` days, each up to `jitter` days late."""
    draw = random.Random(seed)
    begins = [day + draw.randint(0, jitter) for day in range(first, LENGTH, every)]
    return [day + step for day in begins for step in range(width) if day + step < LENGTH]


def found(used: list[int], *, ended: bool = False, length: int = LENGTH) -> list[tuple[int, ...]]:
    counts = [10 * (day in used) for day in range(length)]
    return [one.days for one in missing(counts, ended=ended)]


@pytest.mark.each_value
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize(("every", "jitter"), [(7, 0), (7, 1), (14, 0), (14, 2), (10, 1), (15, 3)])
def test_batches_that_came_are_none(every: int, jitter: int, width: int) -> None:
    for seed in range(20):
        assert found(days(every, jitter=jitter, width=width, seed=seed)) == []


@pytest.mark.parametrize(("every", "jitter"), [(7, 0), (7, 1), (14, 2)])
def test_one_that_did_not_come_is_found_where_it_was_expected(every: int, jitter: int) -> None:
    used = days(every, jitter=jitter)
    gone = used[-4]
    ((day,),) = found([one for one in used if one != gone])
    assert abs(day - gone) <= 1 + jitter


def test_the_last_one_is_late_before_it_is_missing() -> None:
    used = [day for day in days(7) if day < 130]
    assert found(used, length=used[-1] + 9) == []
    assert found(used, length=used[-1] + 11) == [(used[-1] + 7,)]
    assert found(used, length=used[-1] + 11, ended=True) == []


def test_twice_a_month_is_regular() -> None:
    used = [day for month in range(5) for day in (30 * month + 1, 30 * month + 15)]
    assert found(used) == []
    assert found([day for day in used if day != 135]) == [(136,)] or found([day for day in used if day != 135])


@pytest.mark.parametrize("seed", seeds(range(30)))
def test_irregular_daily_and_new_usage_has_none(seed: int) -> None:
    draw = random.Random(seed)
    assert found(sorted(draw.sample(range(LENGTH), 12))) == []
    assert found([day for day in range(LENGTH) if day % 7 < 5]) == []
    assert found([day for day in range(LENGTH) if draw.random() < 0.7]) == []
    assert found([120, 127, 141]) == []


def test_weekly_batches_of_all_months_are_clean(events_database_url: str) -> None:
    rows = [event(customer, UNTIL - DAY * (3 + 7 * week)) for week in range(20) for customer in range(30)]
    with store_of(events_database_url, rows) as store:
        assert store.validate(SEPTEMBER).findings == ()


def test_a_missing_batch_is_a_finding_with_its_events(events_database_url: str) -> None:
    begins = [UNTIL - DAY * (3 + 7 * week) for week in range(20)]
    rows = [event(customer, at + customer * timedelta(minutes=1)) for at in begins for customer in range(30)]
    came = [row for row in rows if not begins[1] <= row.timestamp < begins[1] + DAY]
    with store_of(events_database_url, came) as store:
        (finding,) = store.validate(SEPTEMBER).findings
    assert (finding.check, finding.kind, finding.severity) == ("silence", "missing batch", "high")
    assert f"The batch of about {begins[1]:%-d %b %Y} did not come" in finding.sentence
    assert "every 7 days" in finding.sentence
    assert "about 30 events stayed away" in finding.sentence
    assert begins[2] < finding.since < begins[1] < finding.until <= begins[0]


@pytest.mark.parametrize("weeks", [5, 6])
def test_a_period_without_any_batch_is_the_end_of_the_data(events_database_url: str, weeks: int) -> None:
    begins = [UNTIL - DAY * (3 + 7 * week) for week in range(weeks, 22)]
    rows = [event(customer, at) for at in begins for customer in range(30)]
    with store_of(events_database_url, rows) as store:
        (finding,) = store.validate(SEPTEMBER, checks=["silence"]).findings
    assert finding.kind == "end of the data"


@pytest.mark.parametrize("events", [25, 5])
def test_a_customers_batch_that_did_not_come_is_found_beside_others(events_database_url: str, events: int) -> None:
    """Ten customers send a file a week, each on a day of its own, so that there are events on most days."""
    files = {customer: [SINCE + (customer % 5 + 7 * week) * DAY for week in range(-12, 5)] for customer in range(10)}
    gone = files[3][14]
    rows = [
        event(customer, day + timedelta(hours=2, seconds=number))
        for customer, days in files.items()
        for day in days
        for number in range(events if customer == 3 else 25)
        if day < UNTIL and (customer, day) != (3, gone)
    ]
    with store_of(events_database_url, rows) as store:
        (finding,) = store.validate(SEPTEMBER).findings
        assert isinstance(finding.question, AggregateQuery)
        assert store.aggregate(finding.question).total > 0
    assert (finding.check, finding.kind, finding.customer_id) == ("silence", "missing batch", CUSTOMERS[3])
    assert finding.severity == ("high" if events == 25 else "medium")
    assert (finding.events, finding.is_general, dict(finding.facts)["expected"]) == (0, False, str(events))
    assert f"of about {gone:%-d %b %Y} did not come, after 9 that came every 7 days" in finding.sentence


def test_customers_with_files_at_any_time_have_no_missing_batch(events_database_url: str) -> None:
    draw = random.Random(8)
    rows = []
    for customer in range(40):
        day = SINCE - 120 * DAY
        while day < UNTIL:
            rows += [event(customer, day + timedelta(hours=draw.randrange(24), seconds=number)) for number in range(4)]
            day += DAY * draw.randint(2, 13)
    with store_of(events_database_url, [row for row in rows if row.timestamp < UNTIL]) as store:
        assert not [one for one in store.validate(SEPTEMBER).findings if one.kind == "missing batch"]
