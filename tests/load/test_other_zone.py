"""A file without keys that is loaded again with its times in another zone: counted twice, with a warning."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

HOUR = timedelta(hours=1)
START = datetime(2026, 10, 20, tzinfo=UTC)

Quantity = Callable[[int, int], int]


def made(quantity: Quantity, *, hours: int = 240, minute: int = 0, region: str = "eu", start: datetime = START) -> str:
    """An hourly meter of three customers; `quantity` is asked with (customer, hour)."""
    lines = ["customer_id,metric_key,quantity,timestamp,region"]
    for hour in range(hours):
        time = start + hour * HOUR + timedelta(minutes=minute)
        lines += [f"c{customer},calls,{quantity(customer, hour)},{time:%F %T},{region}" for customer in range(3)]
    return "\n".join(lines) + "\n"


def varied(customer: int, hour: int) -> int:
    return random.Random(customer * 1000 + hour).randint(1, 90)


def steady(customer: int, hour: int) -> int:
    return customer + 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("UTC", "Asia/Kathmandu"),
        ("Asia/Kolkata", "America/Los_Angeles"),  # 12.5 hours
        ("UTC", "Europe/Berlin"),  # 2 hours, after 25 October 1
        ("Europe/Berlin", "UTC"),
    ],
)
def test_a_file_that_is_loaded_again_in_another_zone_is_warned_of(load_again, first, second):
    """All of it was counted twice without a word."""
    text = made(varied)
    assert load_again.csv(text, timezone=first).other_zone == 0
    report = load_again.csv(text, timezone=second)
    assert 700 < report.other_zone <= report.loaded <= 720  # times when clocks change need not be clear
    assert report.restated == report.loaded_again == 0
    assert "at times that another time zone gives" in str(report)


def local(zone: str, form: str, quantity: Quantity, *, hours: int = 240) -> str:
    """The hourly meter with the clock times of a zone, with offsets where the form has them."""
    lines = ["customer_id,metric_key,quantity,timestamp"]
    for hour in range(hours):
        time = (START + hour * HOUR).astimezone(ZoneInfo(zone))
        lines += [f"c{customer},calls,{quantity(customer, hour)},{time:{form}}" for customer in range(3)]
    return "\n".join(lines) + "\n"


LOCAL, WITH_OFFSETS = "%F %T", "%FT%T%z"
TWICE = "the hour that a clock shows twice when summer time ends"


@pytest.mark.parametrize("quantity", [varied, steady])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles"])
@pytest.mark.parametrize("forms", [(LOCAL, WITH_OFFSETS), (WITH_OFFSETS, LOCAL)])
def test_the_repeated_hour_of_a_file_with_local_times_and_with_offsets_is_warned_of(load_again, zone, quantity, forms):
    """Its events were counted twice without a word: of local times both hours are the first one."""
    texts = [local(zone, form, quantity, hours=400) for form in forms]
    assert TWICE not in str(load_again.csv(texts[0], timezone=zone))
    report = load_again.csv(texts[1], timezone=zone)
    assert report.loaded == 3
    assert f"3 rows equal stored events at the other instant of {TWICE}" in str(report)


@pytest.mark.parametrize("quantity", [varied, steady])
@pytest.mark.parametrize("form", [LOCAL, WITH_OFFSETS])
@pytest.mark.parametrize("hours", [120, 121, 122, 240])
def test_a_growing_file_does_not_repeat_the_hour_that_a_clock_shows_twice(load_again, quantity, form, hours):
    for until in (hours, 400):
        assert TWICE not in str(
            load_again.csv(local("Europe/Berlin", form, quantity, hours=until), timezone="Europe/Berlin")
        )


def keyed(text: str, key: Callable[[int, str], str]) -> str:
    """The file with a column of keys, made of a row's number and customer."""
    header, *rows = text.splitlines()
    keys = (key(number, row.partition(",")[0]) for number, row in enumerate(rows))
    return "\n".join([f"idempotency_key,{header}", *(f"{one},{row}" for one, row in zip(keys, rows, strict=True))])


@pytest.mark.parametrize("hours", [4, 240])
@pytest.mark.parametrize(("first", "second"), [("UTC", "Europe/Berlin"), ("Pacific/Kiritimati", "America/Los_Angeles")])
def test_a_file_with_keys_that_is_loaded_again_in_another_zone_is_warned_of(load_again, first, second, hours):
    """Its keys were said to be "also at another time", in a line among others."""
    text = keyed(made(steady, hours=hours, start=START - timedelta(days=30)), lambda number, _: f"k{number}")
    assert load_again.csv(text, timezone=first).other_zone == 0
    report = load_again.csv(text, timezone=second)
    assert report.other_zone == report.other_times == report.loaded == 3 * hours
    assert "at times that another time zone gives" in str(report)
    assert load_again.csv(text, timezone=second).other_zone == 0, "all of it is there"


def test_keys_of_a_meter_and_of_a_day_are_not_warned_of(load_again):
    """Such keys repeat at each hour or day of the next file, too."""
    for day in range(3):
        text = made(steady, hours=24, start=START + timedelta(days=day))
        meter = load_again.csv(keyed(text, lambda _, customer: customer), timezone="UTC")
        daily = made(steady, hours=1, start=START - timedelta(days=60 - day))
        assert (
            meter.other_zone,
            load_again.csv(keyed(daily, lambda _, customer: customer), timezone="UTC").other_zone,
        ) == (0, 0)


def test_steady_usage_at_its_own_seconds_tells(load_again):
    text = made(steady).replace(":00,", ":17,")
    load_again.csv(text, timezone="UTC")
    assert load_again.csv(text, timezone="Asia/Kolkata").other_zone == 720


def test_a_longer_export_of_the_same_source_in_another_zone_is_warned_of(load_again):
    load_again.csv(made(varied, hours=120), timezone="UTC")
    assert load_again.csv(made(varied, hours=240), timezone="Asia/Kolkata").other_zone == 360


@pytest.mark.parametrize(
    "other",
    [
        made(steady, minute=30),  # another meter of the same customers, which agrees in all but its time
        made(varied, minute=30, region="us"),
        made(lambda customer, hour: varied(customer, hour + 7000)),
        made(varied, start=START + 240 * HOUR),
    ],
)
def test_usage_of_its_own_is_not_warned_of(load_again, other):
    load_again.csv(made(steady if other == made(steady, minute=30) else varied), timezone="UTC")
    assert load_again.csv(other, timezone="UTC").other_zone == 0


def test_a_file_for_each_hour_of_a_steady_meter_is_not_warned_of(load_again):
    for hour in range(12):
        text = made(lambda customer, _: customer + 1, hours=1, start=START + hour * HOUR).replace(":00,", ":17,")
        assert load_again.csv(text, timezone="UTC").other_zone == 0


def of_months(*months: int, start: datetime = datetime(2026, 8, 1, tzinfo=UTC)) -> str:
    """Months of 2026 of an hourly meter by local time, each hour of the year with its quantity, in 2 accounts."""
    lines = made(varied, hours=24 * 153, minute=40, start=start).splitlines()
    chosen = [line for line in lines[1:] if int(line.split(",")[3][5:7]) in months]
    return "\n".join([lines[0], *chosen]) + "\n"


@pytest.mark.parametrize(
    ("first", "second", "month"),
    [("UTC", "Europe/Berlin", 10), ("UTC", "America/Los_Angeles", 9), ("Asia/Kolkata", "America/Los_Angeles", 11)],
)
def test_a_month_that_was_loaded_in_another_zone_is_replaced_whole(load_again, first, second, month):
    """Its rows at one edge counted twice, and at the other those of the neighbouring month were lost."""
    load_again.csv(of_months(month - 1, month, month + 1), timezone=first)
    before = load_again.rows("id")
    report = load_again.csv(of_months(month), timezone=second, replace_by=["region"])
    assert report.loaded + report.already_there == of_months(month).count("\n") - 1
    assert load_again.count() == len(before)
    of_file = load_again.rows("customer_id", "quantity", "timestamp")
    load_again.connection.execute("TRUNCATE usage_events")
    load_again.csv(of_months(month - 1, month + 1), timezone=first)
    load_again.csv(of_months(month), timezone=second)
    assert of_file == load_again.rows("customer_id", "quantity", "timestamp")
    assert "loaded in another time zone, would be of others in the file's: kept" in str(report)


@pytest.mark.parametrize("keys", [False, True])
def test_a_few_rows_that_were_loaded_in_another_zone_are_replaced(load_again, keys):
    times = ("2026-10-01 00:10", "2026-10-10 12:00", "2026-10-15 12:00", "2026-10-31 23:40")
    header = "timestamp,customer_id,metric_key,quantity,acct" + ",idempotency_key" * keys
    rows = [f"{time}:00,c,calls,{at + 1},A" + f",k{at}" * keys for at, time in enumerate(times)]
    text = "\n".join([header, *rows])
    load_again.csv(text, timezone="UTC")
    report = load_again.csv(text, timezone="Europe/Berlin", replace_by=["acct"])
    assert (report.superseded, report.loaded, load_again.count()) == (4, 4, 4)
    assert "warning" not in str(report)


def test_rows_of_the_same_zone_are_replaced_where_the_clocks_change(load_again):
    """By the offset of most of November its first hour would be one of October."""
    text = of_months(10, 11)
    load_again.csv(text, timezone="America/Los_Angeles")
    november = [line for line in of_months(11).splitlines() if " 00:40" not in line]
    report = load_again.csv("\n".join(november), timezone="America/Los_Angeles", replace_by=["region"])
    assert (report.superseded, report.loaded) == (90, 0)
