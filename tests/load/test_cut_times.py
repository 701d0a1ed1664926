"""A file without keys that is loaded again with its times cut to seconds or the like: counted twice, with a warning."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import pytest

MILLISECOND, SECOND, MINUTE = timedelta(milliseconds=1), timedelta(seconds=1), timedelta(minutes=1)
DAY = timedelta(days=1)
START = datetime(2026, 10, 20, 8, tzinfo=UTC)

Time = Callable[[datetime], datetime]
Row = tuple[datetime, str, int]
"""Time, customer and quantity."""


def requests(rate: float, number: int = 600, *, seed: int = 1, quantities: int = 1, customers: int = 3) -> list[Row]:
    """Events at random times, `rate` a second, to the microsecond; with random quantities up to this one."""
    chance = random.Random(seed)
    time, rows = START, []
    for _ in range(number):
        time += timedelta(seconds=chance.expovariate(rate))
        rows.append((time, f"c{chance.randrange(customers)}", chance.randint(1, quantities)))
    return rows


def heartbeats(every: timedelta, offset: timedelta) -> list[Row]:
    return [(START + number * every + offset, "c1", 1) for number in range(600)]


def text(rows: Iterable[Row], time: Time = lambda at: at, model: str = "m") -> str:
    """The rows as CSV, their times made others."""
    lines = [f"{customer},calls,{quantity},{time(at).isoformat()},{model}" for at, customer, quantity in rows]
    return "\n".join(["customer_id,metric_key,quantity,timestamp,model", *lines]) + "\n"


def cut(grid: timedelta) -> Time:
    return lambda at: at - (at - datetime(2026, 1, 1, tzinfo=UTC)) % grid


def rounded(grid: timedelta) -> Time:
    return lambda at: cut(grid)(at + grid / 2)


@pytest.mark.each_value
@pytest.mark.parametrize("rate", [0.05, 20])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda at: at, cut(SECOND)),
        (cut(SECOND), lambda at: at),
        (cut(MILLISECOND), cut(SECOND)),
        (lambda at: at, rounded(MILLISECOND)),  # as Excel has them
        (lambda at: at, rounded(SECOND)),
    ],
)
def test_a_file_that_is_loaded_again_with_its_times_cut_is_warned_of(load_again, rate, first, second):
    """All of it was counted twice without a word, of equal requests, too."""
    rows = requests(rate)
    assert load_again.csv(text(rows, first)).cut_times == 0
    report = load_again.csv(text(rows, second))
    assert 500 < report.cut_times <= report.loaded
    assert report.restated == report.loaded_again == report.other_zone == 0
    assert "has its times cut or rounded, such as to seconds" in str(report)


@pytest.mark.each_value
@pytest.mark.parametrize("quantities", [1, 500])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda at: at, cut(SECOND)),
        (cut(SECOND), lambda at: at),
        (cut(MILLISECOND), cut(SECOND)),
        (lambda at: at, rounded(MILLISECOND)),
        (lambda at: at, cut(MINUTE)),
    ],
)
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_times_cut_and_in_another_zone_are_warned_of(load_again, first, second, quantities, zone):
    """Each alone was found, both at once were counted twice without a word, as Excel has local times."""
    rows = requests(0.005, quantities=quantities)
    load_again.csv(text(rows, lambda at: first(at).replace(tzinfo=None)), timezone="UTC")
    report = load_again.csv(text(rows, lambda at: second(at).replace(tzinfo=None)), timezone=zone)
    assert 590 < report.other_zone <= report.loaded
    assert report.restated == report.loaded_again == report.cut_times == 0


@pytest.mark.parametrize("grid", [*(number * MINUTE for number in (1, 5, 10, 15, 30, 60)), DAY])
def test_times_cut_to_minutes_hours_or_days_are_warned_of(load_again, grid):
    rows = requests(0.0005, quantities=500)
    load_again.csv(text(rows))
    assert load_again.csv(text(rows, cut(grid))).cut_times == 600


@pytest.mark.parametrize(("fine", "coarse"), [(5, 10), (15, 30), (30, 60)])
def test_times_of_which_half_are_as_cut_are_warned_of(load_again, fine, coarse):
    """The rows whose time stays have the same key, and are not loaded again; the others may be of another zone."""
    rows = requests(0.0005, 601, quantities=500)
    load_again.csv(text(rows, cut(fine * MINUTE)))
    report = load_again.csv(text(rows, cut(coarse * MINUTE)))
    assert report.cut_times + report.other_zone == report.loaded > 250


def keyed(csv: str, name: str = "idempotency_key") -> str:
    """With a column of keys."""
    return "".join(f"{line},{f'key-{number}' if number else name}\n" for number, line in enumerate(csv.splitlines()))


def same(csv: str) -> str:
    return csv


@pytest.mark.each_value
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (keyed, same),
        (keyed, lambda csv: keyed(csv, "request_id")),
        (same, lambda csv: keyed(csv, "request_id")),
        (same, lambda csv: csv.replace("model", "Modell")),
        (keyed, lambda csv: csv.replace("model", "Modell")),
    ],
)
@pytest.mark.parametrize("grid", [MILLISECOND, SECOND, MINUTE, 60 * MINUTE])
@pytest.mark.parametrize("is_cut_first", [False, True])
def test_times_cut_and_other_columns_or_keys_are_warned_of(load_again, one, other, grid, is_cut_first):
    """Each difference alone was found, both at once were counted twice without a word."""
    rows = requests(0.001, quantities=500)
    first, second = (cut(grid), lambda at: at) if is_cut_first else (lambda at: at, cut(grid))
    for before, after in ((one, other), (other, one)):
        load_again.connection.execute("TRUNCATE usage_events")
        load_again.csv(before(text(rows, first)))
        report = load_again.csv(after(text(rows, second)))
        assert report.cut_times == report.loaded == 600


@pytest.mark.parametrize(
    ("one", "other"), [(keyed, same), (same, keyed), (same, lambda csv: csv.replace("model", "Modell"))]
)
def test_another_zone_and_other_columns_or_keys_are_warned_of(load_again, one, other):
    rows = requests(0.001, quantities=500)
    load_again.csv(one(text(rows, lambda at: at.replace(tzinfo=None))), timezone="UTC")
    again = other(text(rows, lambda at: at.replace(tzinfo=None)))
    assert load_again.csv(again, timezone="Asia/Kathmandu").other_zone == 600


def test_an_export_of_a_later_time_is_warned_of(load_again):
    rows = requests(0.5)
    load_again.csv(text(rows[:400]))
    assert load_again.csv(text(rows[200:], cut(SECOND))).cut_times > 190


@pytest.mark.parametrize("grid", [MINUTE, 60 * MINUTE])
@pytest.mark.parametrize("is_part_first", [False, True])
def test_a_small_part_of_a_file_with_its_times_cut_is_warned_of(load_again, grid, is_part_first):
    """A customer's only row in it was no evidence: its quantity was that of all its rows."""
    rows = requests(0.0005, 120, quantities=500, customers=12)
    files = [text(rows), text(rows[50:60], cut(grid))]
    first, second = reversed(files) if is_part_first else files
    load_again.csv(first)
    assert load_again.csv(second).cut_times == 10


@pytest.mark.parametrize("customers", [1, 300])
@pytest.mark.parametrize("grid", [60 * MINUTE, DAY])
def test_small_files_of_other_usage_are_not_warned_of(load_again, customers, grid):
    """Of few quantities, of which some are equal at the same hour or day."""
    load_again.csv(text(requests(0.0005, 600, quantities=3, customers=customers)))
    other = text(requests(0.0005, 60, quantities=3, customers=customers, seed=2), cut(grid))
    report = load_again.csv(other)
    assert report.cut_times == report.other_zone == 0


@pytest.mark.each_value
@pytest.mark.parametrize("rate", [0.05, 1, 1000])
@pytest.mark.parametrize("time", [cut(SECOND), cut(MINUTE), rounded(MILLISECOND)])
def test_other_usage_whose_times_fall_in_the_same_seconds_is_not_warned_of(load_again, rate, time):
    load_again.csv(text(requests(rate, 2000)))
    report = load_again.csv(text(requests(rate, 2000, seed=2), time))
    assert report.cut_times == report.other_zone == 0


@pytest.mark.each_value
@pytest.mark.parametrize("rate", [0.05, 1, 1000])
@pytest.mark.parametrize("time", [cut(SECOND), cut(MINUTE), cut(5 * MINUTE)])
@pytest.mark.parametrize("quantities", [1, 3])
def test_other_usage_with_other_columns_or_keys_is_not_warned_of(load_again, rate, time, quantities):
    load_again.csv(keyed(text(requests(rate, 2000, quantities=quantities))))
    other = text(requests(rate, 2000, seed=2, quantities=quantities), time).replace("model", "Modell")
    report = load_again.csv(other)
    assert report.cut_times == report.other_zone == 0


@pytest.mark.parametrize("one", [keyed, same])
def test_meters_that_mostly_send_one_are_not_warned_of(load_again, one):
    """They were: some quantities differed, so each row at the same hour was evidence."""
    first, second = (
        [(at, customer, 1 + (random.Random(number + seed).random() < 0.03)) for number, (at, customer, _) in pulses]
        for seed, offset in ((0, 433 * SECOND), (7000, timedelta()))
        for pulses in [enumerate(heartbeats(60 * MINUTE, offset))]
    )
    load_again.csv(one(text(first)))
    report = load_again.csv(text(second))
    assert report.cut_times == report.other_zone == 0


@pytest.mark.parametrize("every", [SECOND, MINUTE, 5 * MINUTE, 60 * MINUTE])
def test_heartbeats_of_two_sources_with_other_columns_are_not_warned_of(load_again, every):
    load_again.csv(keyed(text(heartbeats(every, timedelta(microseconds=123_456)))))
    other = text(heartbeats(every, timedelta(0)), cut(SECOND)).replace("model", "Modell")
    report = load_again.csv(other)
    assert report.cut_times == report.other_zone == 0


@pytest.mark.parametrize("every", [SECOND / 10, SECOND, 10 * SECOND, MINUTE, 60 * MINUTE])
def test_heartbeats_of_two_sources_are_not_warned_of(load_again, every):
    load_again.csv(text(heartbeats(every, timedelta(microseconds=123_456))))
    later = START + 900 * SECOND * (every >= 10 * SECOND)
    report = load_again.csv(text(heartbeats(every, later - START), cut(SECOND)))
    assert report.cut_times == report.other_zone == 0


def test_usage_of_another_model_is_not_warned_of(load_again):
    rows = requests(0.5)
    load_again.csv(text(rows))
    assert load_again.csv(text(rows, cut(SECOND), model="other")).cut_times == 0
