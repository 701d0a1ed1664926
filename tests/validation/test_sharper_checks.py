"""The smallest input of each incident that a validation must name once: thin, mixed, short or hidden in a sum."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, steady, store_of
from support.check_results import shown
from support.plain_events import total
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.validation import Finding

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BEFORE = SINCE - 63 * DAY
INSTANT = timedelta(microseconds=1)


def thin(customer: int, per_day: float, seed: int = 1, last: int = 30, sigma: float = 1.0) -> list[Row]:
    """A few events a day at random times, quantities log-normal around 100."""
    draw = random.Random(seed)
    rows = []
    for day in range(-63, last):
        for _ in range(int(per_day) + (draw.random() < per_day % 1)):
            at = SINCE + (day + draw.random()) * DAY
            rows.append(event(customer, at, quantity=Decimal(f"{100 * draw.lognormvariate(0, sigma):.2f}")))
    return sorted(rows, key=lambda row: row.timestamp)


def within(rows: list[Row], first: float, last: float) -> list[Row]:
    return [row for row in rows if SINCE + first * DAY <= row.timestamp < SINCE + last * DAY]


def change(rows: list[Row], wrong: list[Row], **changes: Callable[[Row], object]) -> list[Row]:
    """Change fields of some of the rows, in place; the changed ones."""
    ids = {row.id for row in wrong}
    changed = []
    for place, row in enumerate(rows):
        if row.id in ids:
            rows[place] = replace(row, **{name: made(row) for name, made in changes.items()})  # type: ignore[arg-type]
            changed.append(rows[place])
    return changed


def multiply(rows: list[Row], wrong: list[Row], factor: Decimal) -> list[Row]:
    return change(rows, wrong, quantity=lambda row: row.quantity * factor)


def findings(store: Store) -> tuple[Finding, ...]:
    return tuple(finding for finding in store.validate(SEPTEMBER).findings if finding.check != "wallets")


def only(url: str, rows: list[Row]) -> Iterator[tuple[Store, Finding]]:
    """The store and its one finding."""
    with store_of(url, rows) as store:
        (finding,) = findings(store)
        yield store, finding


@pytest.mark.parametrize("factor", [20, 1000])
def test_one_event_of_many_usual_months_is_high_however_few_events_there_are(
    events_database_url: str, factor: int
) -> None:
    """A customer with an event every other day, billed 20 to 1,000 times what a month is."""
    rows = thin(0, 0.5)
    month = total(row.quantity for row in within(rows, -56, 0)) * 30 / 56
    (wrong,) = change(rows, within(rows, 10, 30)[:1], quantity=lambda row: factor * month)
    for store, finding in only(events_database_url, rows):
        assert (finding.check, finding.severity, finding.customer_id) == ("quantities", "high", CUSTOMERS[0])
        assert finding.since <= wrong.timestamp < finding.until
        assert finding.events == 1 <= shown(store, finding)


@pytest.mark.parametrize("factor", ["1000", "1024", "0.001"])
def test_a_wrong_unit_of_one_event_a_day_is_one_finding_of_all_events(events_database_url: str, factor: str) -> None:
    rows = thin(0, 1)
    wrong = multiply(rows, within(rows, 8, 24), Decimal(factor))
    for store, finding in only(events_database_url, rows):
        assert (finding.check, finding.severity) == ("unit_slips", "high")
        assert (finding.since, finding.until) == (wrong[0].timestamp, wrong[-1].timestamp + INSTANT)
        assert finding.events == shown(store, finding) == len(wrong)
        assert "1,000 or 1,024" in finding.sentence


@pytest.mark.parametrize("factor", ["1000", "0.001"])
def test_a_part_in_a_wrong_unit_is_one_finding_of_that_part(events_database_url: str, factor: str) -> None:
    rows = thin(0, 8, sigma=0.3)
    wrong = multiply(rows, within(rows, 8, 12)[::2], Decimal(factor))
    for store, finding in only(events_database_url, rows):
        assert finding.check == "unit_slips"
        assert finding.events == shown(store, finding) == len(wrong)
        assert finding.quantity == total(row.quantity for row in wrong)


def test_a_multiple_that_is_no_unit_is_outsized(events_database_url: str) -> None:
    rows = thin(0, 2, sigma=0.5)
    wrong = multiply(rows, within(rows, 5, 15), Decimal(200))
    for _, finding in only(events_database_url, rows):
        assert (finding.check, finding.severity) == ("quantities", "high")
        assert finding.events == len(wrong)
        assert "times the median of the customer's weeks before" in finding.sentence


@pytest.mark.each_value
@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.8])
@pytest.mark.parametrize("per_day", [0.5, 3])
def test_a_few_events_that_differ_as_ever_are_clean(events_database_url: str, sigma: float, per_day: float) -> None:
    rows = [row for customer in range(3) for row in thin(customer, per_day, seed=customer + 5, sigma=sigma)]
    with store_of(events_database_url, rows) as store:
        assert not [one for one in findings(store) if one.check in ("quantities", "unit_slips")]


def test_three_hours_without_anything_of_anybody_are_high_with_their_hours(events_database_url: str) -> None:
    """Six customers, each with three events an hour: 54 are missing, and no customer's day shows it."""
    gone = SINCE + 12 * DAY + 9 * HOUR
    rows = [
        row
        for customer in range(6)
        for row in steady(customer, BEFORE + customer * MINUTE, UNTIL, 20 * MINUTE)
        if not gone <= row.timestamp < gone + 3 * HOUR
    ]
    for _, finding in only(events_database_url, rows):
        assert (finding.check, finding.severity, finding.customer_id) == ("shifts", "high", None)
        last, back = gone - 15 * MINUTE + INSTANT, gone + 3 * HOUR
        assert (finding.since, finding.until) == (last, back)
        assert dict(finding.facts)["hours without events"] == "3 hours"
        assert "13 Sep 2026 09:00 to 13 Sep 2026 12:00" in finding.sentence


def test_nights_without_events_are_no_lost_hours(events_database_url: str) -> None:
    rows = [
        row
        for customer in range(6)
        for row in steady(customer, BEFORE, UNTIL, 10 * MINUTE)
        if 8 <= row.timestamp.hour < 18
    ]
    with store_of(events_database_url, rows) as store:
        assert not findings(store)


@pytest.mark.parametrize(("before", "after"), [(2, 6), (9, 3)])
def test_a_new_level_of_a_few_events_accumulates_over_weeks(
    events_database_url: str, before: float, after: float
) -> None:
    rows = [row for row in thin(0, before, sigma=0.3) if row.timestamp < SINCE + 8 * DAY]
    rows += [row for row in thin(0, after, seed=2, sigma=0.3) if row.timestamp >= SINCE + 8 * DAY]
    for _, finding in only(events_database_url, rows):
        assert (finding.check, finding.customer_id, finding.until) == ("shifts", CUSTOMERS[0], UNTIL)
        assert abs(finding.since - (SINCE + 8 * DAY)) <= 2 * DAY
        assert ("rose" if after > before else "fell") + " to a new level" in finding.sentence


def test_bursts_as_large_as_ever_are_no_spike_of_all(events_database_url: str) -> None:
    """A job that sends 300 events within an hour, at random, is most of all usage in that hour."""
    draw = random.Random(3)
    rows = [row for customer in range(1, 5) for row in steady(customer, BEFORE, UNTIL, 40 * MINUTE)]
    for day in range(-63, 30):
        if draw.random() < 0.3:
            at = SINCE + (day + draw.random()) * DAY
            rows += [event(0, at + draw.random() * HOUR) for _ in range(300)]
    with store_of(events_database_url, [row for row in rows if row.timestamp < UNTIL]) as store:
        assert not [one for one in findings(store) if one.check == "shifts" and one.customer_id is None]


def test_a_customers_spike_does_not_hide_an_outage_of_all(events_database_url: str) -> None:
    """One customer's quantities times 1,000 for a week are its finding; the hours lost in that week are one of all."""
    rows = [
        row
        for customer in range(6)
        for row in steady(customer, BEFORE + customer * MINUTE, UNTIL, 20 * MINUTE, quantity=Decimal(10))
        if not SINCE + 12 * DAY <= row.timestamp < SINCE + 12 * DAY + 5 * HOUR
    ]
    multiply(rows, [row for row in within(rows, 9, 16) if row.customer_id == CUSTOMERS[0]], Decimal(1000))
    with store_of(events_database_url, rows) as store:
        got = sorted((one.check, one.customer_id is None, one.severity) for one in findings(store))
    assert got == [("shifts", True, "high"), ("unit_slips", False, "high")]


@pytest.mark.parametrize("lag", [0, 5])
def test_what_several_customers_get_at_one_time_is_one_finding(events_database_url: str, lag: int) -> None:
    """The replay of two hours of all customers, or their late arrival."""
    rows = [row for customer in range(5) for row in steady(customer, BEFORE, UNTIL, 10 * MINUTE + customer * MINUTE)]
    affected = [row for row in rows if SINCE + 8 * DAY <= row.timestamp < SINCE + 8 * DAY + 2 * HOUR]
    if lag:
        change(rows, affected, ingested_at=lambda row: row.ingested_at + lag * DAY)
    else:
        rows += [replace(row, id=event(0, SINCE).id, ingested_at=SINCE + 9 * DAY) for row in affected]
    for store, finding in only(events_database_url, rows):
        assert finding.check == ("late_arrivals" if lag else "duplicates")
        assert (finding.customer_id, finding.events) == (None, len(affected))
        assert "5 customers" in finding.sentence
        customers = [name for name, _ in finding.facts if name.startswith("customer ")]
        assert customers[0] == f"customer {CUSTOMERS[0]}"
        assert len(customers) == 5
        assert shown(store, finding) >= finding.events


def test_negative_quantities_and_the_drop_they_make_are_one_finding(events_database_url: str) -> None:
    rows = steady(0, BEFORE, UNTIL, 20 * MINUTE, quantity=Decimal(10))
    multiply(rows, within(rows, 10, 13), Decimal(-1))
    for _, finding in only(events_database_url, rows):
        assert (finding.check, finding.events) == ("quantities", 216)
        assert finding.also_seen_by == ("shifts",)


def test_a_clock_that_is_ahead_and_the_gap_it_leaves_are_one_finding(events_database_url: str) -> None:
    rows = steady(0, BEFORE, UNTIL, 20 * MINUTE) + steady(1, BEFORE, UNTIL, 20 * MINUTE)
    mine = [row for row in within(rows, 10, 12) if row.customer_id == CUSTOMERS[0]]
    change(rows, mine, timestamp=lambda row: row.timestamp + 5 * DAY + 7 * MINUTE)
    for _, finding in only(events_database_url, rows):
        assert (finding.check, finding.customer_id, finding.events) == ("impossible_times", CUSTOMERS[0], 144)
        assert set(finding.also_seen_by) >= {"shifts"}
