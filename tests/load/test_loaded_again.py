"""A file that is loaded again with other columns, also as a part of a longer one, and right data that looks like it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

START = datetime(2026, 10, 1, 8, tzinfo=UTC)
CELLS = {
    "model": lambda number: "sl"[number % 2],
    "Modell": lambda number: ("klein", "gross")[number % 2],
    "region": lambda number: ("eu", "us")[number // 2 % 2],
    "team": lambda number: f"t{number % 3}",
    "export": lambda number: "v2",
    "idempotency_key": lambda number: f"ref-{number}",
}


def usage(
    columns: str,
    *,
    rows: range = range(80),
    times: Callable[[int], float] | None = None,
    most: int = 500,
    seed: int = 1,
) -> str:
    """Rows of random quantities up to `most`; at random seconds, but for `times`, the second of each row."""
    chance = random.Random(seed)
    seconds = [chance.randrange(2_000_000) for _ in range(200)]
    quantities = [chance.randint(1, most) for _ in range(200)]
    lines = [f"customer_id,metric_key,quantity,timestamp,{columns}"]
    for number in rows:
        time = START + timedelta(seconds=times(number) if times else seconds[number])
        cells = [CELLS[name](number) for name in columns.split(",")]
        lines.append(",".join([f"c{number % 3}", "calls", str(quantities[number]), time.isoformat(), *cells]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("model,region", "model,team"),
        ("model,region", "model,export"),
        ("model,region", "team"),
        ("model,region", "region,Modell"),  # renamed, and its values translated
        ("model,region,idempotency_key", "model,team"),
        ("model,team", "model,region,idempotency_key"),
    ],
)
def test_a_file_with_one_dimension_dropped_and_another_added_is_warned_of(load_again, first, second):
    """All of it was counted twice without a word: none of the two has all values of the other."""
    assert load_again.csv(usage(first)).loaded_again == 0
    report = load_again.csv(usage(second))
    assert report.loaded == report.loaded_again == 80
    assert "with other columns, values or keys, as when a file is loaded again with other options" in str(report)


def test_whole_minutes_are_no_export_of_hours_or_days(load_again):
    minutes = {"times": lambda number: 60 * (number * 37 % 601)}
    load_again.csv(usage("model,region", **minutes))
    assert load_again.csv(usage("model,team", **minutes)).loaded_again == 80


def test_a_part_of_a_file_with_one_dimension_dropped_and_another_added_is_warned_of(load_again):
    load_again.csv(usage("model,region"))
    report = load_again.csv(usage("model,team", rows=range(20, 82)))
    assert (report.loaded, report.loaded_again) == (62, 60)


GROWN = [
    ("model,region", "model,region,team", {}),
    ("model,region", "Modell,region", {}),
    ("model,region", "model,region,idempotency_key", {"rename": "region"}),
    ("model,region", "model,region", {"upper": True}),
    ("model,region", "model,team", {}),  # one dropped and one added
]


def in_order(number: int) -> int:
    """A second for each row, the later for the higher number; at irregular distances."""
    return 9_000 * number + number * number * 37 % 8_999


def other_columns(text: str, *, rename: str = "", upper: bool = False) -> str:
    head, _, rows = text.partition("\n")
    rows = rows.replace(",eu", ",EU").replace(",us", ",US") if upper else rows
    return f"{head.replace(rename, 'Gebiet') if rename else head}\n{rows.replace('klein', 's').replace('gross', 'l')}"


@pytest.mark.parametrize(("first", "second", "how"), GROWN)
@pytest.mark.parametrize(
    ("one", "other", "repeated"),
    [
        (range(40), range(100), 40),  # from the first of the month to its day
        (range(80), range(60, 140), 20),  # a moving window
    ],
)
def test_an_export_that_grew_and_has_other_columns_is_warned_of(load_again, first, second, how, one, other, repeated):
    """Each common row was counted twice without a word: they are few of the new rows."""
    load_again.csv(usage(first, rows=one, times=in_order))
    report = load_again.csv(other_columns(usage(second, rows=other, times=in_order), **how))
    assert (report.loaded, report.loaded_again) == (len(other), repeated)


@pytest.mark.parametrize("second", ["model,region,team", "model,region,idempotency_key", "region"])
@pytest.mark.parametrize(
    ("most", "times", "rows"),
    [
        (1, lambda number: in_order(number) + 0.000_137 * (number + 1), 5),  # a few rows at times of microseconds
        (1, in_order, 12),
        (500, lambda number: 3_600 * number, 30),  # hourly
        (500, lambda number: 86_400 * (number // 3), 30),  # daily
    ],
)
def test_few_rows_or_regular_times_of_an_export_that_grew_are_warned_of(load_again, second, most, times, rows):
    load_again.csv(usage("model,region", rows=range(rows), times=times, most=most))
    report = load_again.csv(usage(second, rows=range(130), times=times, most=most))
    assert report.loaded_again + report.restated == rows


def test_an_export_that_grew_after_loads_of_a_few_rows_each_is_warned_of(load_again):
    for number in range(0, 40, 4):
        load_again.csv(usage("model,region", rows=range(number, number + 4), times=in_order))
    assert load_again.csv(usage("model,region,team", rows=range(130), times=in_order)).loaded_again == 40


def test_an_export_of_a_part_of_the_customers_that_moved_on_is_warned_of(load_again):
    load_again.csv(usage("model,region", rows=range(90), times=in_order))
    head, *rows = usage("model,region,team", rows=range(30, 180), times=in_order).splitlines()
    report = load_again.csv("\n".join([head, *(row for row in rows if row.startswith("c1"))]))
    assert (report.loaded, report.loaded_again) == (50, 20)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"times": lambda number: 3_600 * (number // 3), "most": 1}, {}),  # an hourly constant
        ({"times": lambda number: 60 * (number // 3) + 7, "most": 1}, {}),  # a constant of each minute
        ({"times": lambda number: 3_600 * (number // 3), "most": 3}, {"seed": 2}),
        ({"times": lambda number: 3_600 * (number // 30), "most": 9}, {"seed": 2}),  # many rows each hour
        ({"times": lambda number: number // 3, "most": 2}, {"seed": 2}),
        ({"times": lambda number: number // 30, "most": 9}, {"seed": 2}),
        ({"times": lambda number: number // 9, "most": 1}, {"seed": 2}),
        ({"times": lambda number: number * 0.001, "most": 2}, {"seed": 2}),
        ({"times": in_order}, {"seed": 2}),
    ],
)
@pytest.mark.parametrize("second", ["model,region,team", "region"])
def test_other_usage_of_a_longer_time_with_other_columns_is_not_loaded_again(load_again, second, one, other):
    load_again.csv(usage("model,region", rows=range(60), **one))
    report = load_again.csv(usage(second, rows=range(199), **{**one, **other}))
    assert (report.loaded, report.loaded_again) == (199, 0)


EVERY_MINUTE = {"times": lambda number: 60 * (number // 3) + 7}
EVERY_SECOND = {"times": lambda number: number // 3}


@pytest.mark.parametrize(
    ("first", "second", "one", "other"),
    [
        ("model,region", "model,team", {}, {"rows": range(50, 130)}),  # a third of the rows
        ("model,region", "model,team", {}, {"rows": range(9)}),
        ("model,region", "model,team", {**EVERY_MINUTE, "most": 1}, {**EVERY_MINUTE, "most": 1}),
        ("model,region", "model,team", {**EVERY_SECOND, "most": 3}, {**EVERY_SECOND, "most": 3, "seed": 2}),
        ("model,region", "model,team", {"most": 1}, {"most": 1}),
        (
            "model,region",
            "model,team",
            *({"times": lambda number: 3_600 * number, "seed": seed} for seed in (1, 1)),  # as a daily or hourly report
        ),
        ("model,region", "model,team", {}, {"seed": 2}),
    ],
)
def test_other_usage_with_other_columns_is_not_loaded_again(load_again, first, second, one, other):
    load_again.csv(usage(first, **one))
    report = load_again.csv(usage(second, **other))
    assert report.loaded_again == 0
    assert "counted twice" not in str(report)


def other_values(text: str) -> str:
    return text.replace(",s,", ",x,").replace(",l,", ",y,")


KEYED = "model,region,idempotency_key"


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (usage("model,region"), other_values(usage("model,region"))),
        (usage("model,region"), other_values(usage("model,team"))),
        (usage(KEYED), other_values(usage(KEYED)).replace("ref-", "new-")),
        (usage(KEYED), usage(KEYED).replace("ref-", "new-")),
        (usage(KEYED), usage("model,region,team,idempotency_key").replace("ref-", "new-")),
    ],
)
def test_single_events_with_other_values_or_keys_are_warned_of(load_again, first, again):
    """All counted twice without a warning: hundreds of equal quantities at equal seconds are no coincidence."""
    load_again.csv(first)
    report = load_again.csv(again)
    assert report.loaded == report.loaded_again == 80


def test_the_rest_of_a_file_in_which_a_status_changed_is_warned_of(load_again):
    first, again = usage("model,region"), usage("model,region")
    load_again.csv(first)
    head, *rows = again.splitlines()
    report = load_again.csv("\n".join([head, *(other_values(row) if row[1] == "2" else row for row in rows)]))
    assert report.loaded == report.loaded_again == 26


HOURLY = {"times": lambda number: 3_600 * (number // 3)}


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("column", ["product_id", "price_key", "wallet_currency", "server", "version", "since", "rate"])
def test_equal_constants_of_two_products_or_servers_are_not_loaded_again(load_again, column, most):
    """10 seats of two products on each day were "counted twice", where two regions were not."""
    values = {"wallet_currency": ("EUR", "USD"), "server": "12", "version": ("1.10", "1.20"), "rate": ("1.5", "2.5")}
    one, other = values.get(column, ("2026-01-01", "2026-03-01"))
    lines = usage("model", **HOURLY, most=most).replace(",model", f",model,{column}").splitlines()
    load_again.csv("\n".join([lines[0], *(f"{line},{one}" for line in lines[1:])]))
    report = load_again.csv("\n".join([lines[0], *(f"{line},{other}" for line in lines[1:])]))
    assert (report.loaded, report.loaded_again, report.restated) == (80, 0, 0)


@pytest.mark.parametrize("how", [HOURLY, {"most": 1}, {"times": lambda number: 300 * (number // 3) + 7}])
def test_equal_usage_of_two_regions_is_not_loaded_again(load_again, how):
    """Replicated storage at regular times, or one event that is metered twice with the quantity 1."""
    load_again.csv(usage("model,region", **how))
    report = load_again.csv(other_values(usage("model,region", **how)))
    assert (report.loaded, report.loaded_again, report.restated) == (80, 0, 0)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_values_in_other_case_are_the_same(load_again, zone):
    """The regions EU and eu were two, and the file counted twice without a word."""
    lower = usage("model,region").replace("+00:00", "")
    load_again.csv(lower.replace(",eu", ",EU").replace(",us", ",US"), timezone="UTC")
    report = load_again.csv(lower, timezone=zone)
    assert (report.loaded, report.loaded_again, report.other_zone) == ((80, 80, 0) if zone == "UTC" else (80, 0, 80))


def test_values_of_another_file_format_are_the_same_at_other_times(load_again):
    """The seats "3" and 3 were two where the times were shifted as well."""
    lines = usage("model").replace("+00:00", "").splitlines()
    load_again.csv("\n".join([f"{lines[0]},seats", *(f"{line},{line[1]}.50" for line in lines[1:])]), timezone="UTC")
    names = lines[0].split(",")
    rows = [{**dict(zip(names, line.split(","), strict=True)), "seats": int(line[1]) + 0.5} for line in lines[1:]]
    again = load_again.file("events.jsonl", "\n".join(map(json.dumps, rows)))
    assert load_again(again, timezone="Asia/Tokyo").other_zone == 80


def calls(seed: int, rows: int = 600) -> list[str]:
    """One call in each row, at a random second of an hour, of three customers."""
    chance = random.Random(seed)
    times = sorted((START + timedelta(seconds=chance.randrange(3_600)), chance.randrange(3)) for _ in range(rows))
    return [f"c{customer},calls,1,{time.isoformat()}\n" for time, customer in times]


def as_file(rows: list[str]) -> str:
    return "".join(["customer_id,metric_key,quantity,timestamp\n", *rows])


def test_equal_rows_of_two_sources_are_not_lost_without_a_word(load_again):
    """27 of 600 calls of a second server counted as loaded already; what the warning advises brings them back."""
    one, other = as_file(calls(1)), as_file(calls(2))
    load_again.csv(one)
    report = load_again.csv(other)
    assert report.loaded < 600
    assert f"warning: {report.already_there} rows without a key equal stored events and are not loaded" in str(report)
    load_again.csv(one, constants={"product_id": "a"}, replace_by=["customer_id"])
    load_again.csv(other, constants={"product_id": "b"})
    assert load_again.count() == 1_200


@pytest.mark.parametrize(
    ("stored", "again"),
    [
        (slice(0, 300), slice(0, 600)),  # a growing export
        (slice(0, 400), slice(200, 600)),  # a moving window
        (slice(0, 600, 10), slice(0, 600)),  # one region of ten first
        (slice(0, 300, 5), slice(100, 600)),
    ],
)
def test_rows_of_an_earlier_file_that_a_file_overlaps_bring_no_warning(load_again, stored, again):
    load_again.csv(as_file(calls(1)[stored]))
    report = load_again.csv(as_file(calls(1)[again]))
    assert report.already_there
    assert "equal stored events and are not loaded" not in str(report)


RESTATED = [(day, 100 + day + day % 3, 9) for day in range(30)]


@pytest.mark.parametrize(
    ("again", "restated", "credits"),
    [
        (RESTATED, 30, 0),
        ([*RESTATED, *((day, -1 - day, 9) for day in range(10))], 40, 0),
        ([(day, -quantity if day < 6 else quantity, 9) for day, quantity, _ in RESTATED], 24, 6),
        ([(day, -10 - day, -1) for day in range(30)], 0, 30),
        ([(day, one, 9) for day in range(9) for one in (-100 - day, 103 + day)], 0, 18),
        ([(day, (-1) ** day * (1 + day), 9) for day in range(30)], 0, 30),
        ([(day, 0, -2) for day in range(30)], 0, 30),
        ([(day, 0, (-1) ** day) for day in range(30)], 0, 30),
        ([(day, 0, 2) for day in range(30)], 30, 0),
    ],
    ids=["restated", "refunds", "negative days", "credits", "rebooked", "deltas", "costs", "deltas of costs", "fees"],
)
def test_a_restated_export_with_refunds_is_none_of_credits(load_again, again, restated, credits):
    """A tenth of refunds made all of a restated month credits: it was counted twice, and said to be right."""

    def file(rows: list[tuple[int, int, int]]) -> str:
        lines = [f"c1,calls,{quantity},{cost},EUR,2026-10-{day + 1:02}\n" for day, quantity, cost in rows]
        head = "customer_id,metric_key,quantity,external_cost_amount,external_cost_currency,timestamp\n"
        return "".join([head, *lines])

    load_again.csv(file([(day, 100 + day, 10) for day in range(30)]), timezone="UTC")
    report = load_again.csv(file(again), timezone="UTC")
    assert (report.restated - report.credits, report.credits) == (restated, credits)
    assert ("a restated export is counted twice" in str(report)) == bool(restated)


def of_days(rows: list[str]) -> list[str]:
    """The sums of these rows by customer and day."""
    sums: Counter[tuple[str, str]] = Counter()
    for row in rows:
        customer, _, quantity, time = row.strip().split(",")
        sums[customer, time[:10]] += int(quantity)
    return [f"{customer},calls,{quantity},{day}\n" for (customer, day), quantity in sums.items()]


def hours(seed: int, first: int = 0) -> list[str]:
    """Random quantities of three customers at each hour of ten days, from the hour `first` on."""
    chance = random.Random(seed)
    start = START.replace(hour=0) + timedelta(hours=first)
    times = [(start + timedelta(hours=number)).isoformat() for number in range(240)]
    return [f"c{customer},calls,{chance.randrange(1, 900)},{time}\n" for time in times for customer in range(3)]


def constants(running: int, of: Callable[[int, int], int] = lambda customer, day: customer) -> list[str]:
    """Hourly rows of twelve customers on ten days: a constant quantity in the first `running` hours, then 0."""
    each = [(customer, day, hour) for customer in range(1, 13) for day in range(1, 11) for hour in range(24)]
    amounts = [of(customer, day) if hour < running else 0 for customer, day, hour in each]
    return [
        f"c{customer},calls,{amount},2026-10-{day:02}T{hour:02}:00:00Z\n"
        for (customer, day, hour), amount in zip(each, amounts, strict=True)
    ]


@pytest.mark.parametrize(
    ("stored", "again", "rows"),
    [
        (hours(1), of_days(hours(1)), 30),
        (of_days(hours(1)), hours(1), 720),
        (hours(1)[:-300], of_days(hours(1)), 15),  # the last day that both have is a part of one
        (calls(1) + hours(1, 24), of_days(calls(1) + hours(1, 24)), 33),
        (hours(1), of_days(hours(2)), 0),
        (hours(1), [row.replace("calls,", "calls,-") for row in of_days(hours(1))], 0),
        (
            ["c1,calls,4," + row.split(",")[3] for row in hours(1)],
            [f"c1,calls,288,2026-10-{day:02}\n" for day in range(1, 11)],
            0,
        ),
        (constants(24), of_days(constants(24)), 0),
        (constants(8), of_days(constants(8)), 0),  # the other hours have 0
        (constants(24, lambda customer, day: day * day), of_days(constants(24, lambda customer, day: day * day)), 120),
    ],
)
def test_usage_by_the_hour_and_by_the_day_is_warned_of(load_again, stored, again, rows):
    """All was counted twice without a word: no row of one equals one of the other."""
    load_again.csv(as_file(stored), timezone="UTC")
    report = load_again.csv(as_file(again), timezone="UTC")
    assert (f"warning: {rows:,} rows have, by customer, metric and day, exactly the sums" in str(report)) == bool(rows)
    assert ("exactly the sums" in str(report)) == bool(rows)


@pytest.mark.parametrize(
    ("column", "values", "is_warned"),
    [("server", "12", False), ("server", "11", True), ("interval", "hd", True), ("product_id", "pq", False)],
)
def test_usage_by_the_hour_of_another_server_than_by_the_day_brings_no_warning(load_again, column, values, is_warned):
    for rows, value in zip((hours(1), of_days(hours(1))), values, strict=True):
        head, *lines = as_file(rows).splitlines()
        text = "\n".join([f"{head},{column}", *(f"{line},{value}" for line in lines), ""])
        report = load_again.csv(text, timezone="UTC")
    assert ("exactly the sums" in str(report)) == is_warned


def test_what_the_warning_of_daily_sums_advises_keeps_other_metrics(load_again):
    """It named customer_id alone, which deleted the other metrics, and advised then to load the hourly usage again."""
    other = [row.replace("calls", "gb") for row in hours(2)]
    load_again.csv(as_file(hours(1) + other), timezone="UTC")
    daily = as_file(of_days(hours(1)))
    columns = ["customer_id", "metric_key"]
    assert " ".join(f"--replace-by {column}" for column in columns) in str(load_again.csv(daily, timezone="UTC"))
    report = load_again.csv(daily, timezone="UTC", replace_by=columns)
    assert (report.superseded, load_again.count()) == (720, 750)
    assert "nothing in place" not in str(report)
    assert "came in other loads" not in str(report)
