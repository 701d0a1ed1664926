"""Exports that were loaded again with other amounts: each changed row counts twice, and is found; new rows are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from support import generated_events as made
from support.check_results import shown
from support.plain_events import JUNE, LARGE, SINCE, SMALL, beside, event, september, total
from support.query_oracle import Row
from usage_explore import Period, Store, connect
from usage_explore.cli.main import main

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST, SECOND = SINCE + 20 * DAY, SINCE + 25 * DAY

Make = Callable[[list[Row]], Store]


def line(hour: int, cost: str = "1.5", loaded: object = FIRST, **fields: object) -> Row:
    """A row of an export, as `load` stores it: its key is a hash of all it says."""
    dimensions = {"ResourceId": "disk", "AccountId": "123", "EffectiveCost": cost, **fields.pop("dimensions", {})}  # type: ignore[dict-item]
    given = {"quantity": Decimal(2), "external_cost_amount": Decimal(cost), "external_cost_currency": "USD", **fields}
    key = blake2b(f"{hour} {given} {dimensions}".encode(), digest_size=16).hexdigest()
    return event(
        SINCE + hour * HOUR,
        ingested_at=loaded,
        idempotency_key=f"row:{key}",
        dimensions=json.dumps(dimensions),
        **given,
    )


def test_changed_rows_are_found_and_the_rest_is_not(make: Make) -> None:
    export = [line(hour) for hour in range(400)]
    changed = [line(hour, "1.75", SECOND) for hour in range(3)]
    changed += [line(hour, quantity=Decimal(3), loaded=SECOND) for hour in range(3, 6)]
    changed += [line(hour, dimensions={"ListUnitPrice": "7"}, loaded=SECOND) for hour in range(6, 9)]
    new = [line(400, loaded=SECOND), line(3, dimensions={"ResourceId": "tape"}, loaded=SECOND)]
    new += [line(4, dimensions={"AccountId": "456"}, loaded=SECOND)]
    store = make(export + changed[:6] + new + beside(changed))
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events, finding.customer_id) == ("medium", 6, JUNE)
    assert finding.quantity == total(row.quantity for row in changed[:6])
    assert "like a row of an earlier load in all but amounts" in finding.sentence
    assert shown(store, finding) == 6 + 6 + 2


def test_a_restated_month_is_high(make: Make) -> None:
    export = [line(hour) for hour in range(100)]
    other = [line(hour, customer_id=SMALL) for hour in range(100)]
    store = make(export + other + [line(hour, "1.75", SECOND) for hour in range(20)])
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events, finding.customer_id) == ("high", 20, JUNE)
    assert finding.amounts == (("USD", Decimal("35.00")),)


def test_credits_and_corrections_are_no_restated_rows(make: Make) -> None:
    """They were high, as an export that counts twice: right usage could not be signed off."""
    rows = [line(hour, customer_id=customer) for customer in (JUNE, SMALL) for hour in range(100)]
    corrections = [(JUNE, "-2"), (JUNE, "-0.3"), (SMALL, "-2"), (SMALL, "2.5")]  # the last two in one load
    for (customer, quantity), day in zip(corrections, (0, 1, 2, 2), strict=True):
        credited = {"customer_id": customer, "quantity": Decimal(quantity), "loaded": SECOND + day * DAY}
        rows += [line(hour, **credited) for hour in range(40)]  # type: ignore[arg-type]
    store = make([*rows, *(line(hour, "1.75", SECOND + 3 * DAY, quantity=Decimal(3)) for hour in range(90, 95))])
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    assert (finding.events, finding.kind) == (5, "restated")


def test_a_restated_month_with_refunds_is_found(make: Make) -> None:
    """A tenth of refunds made credits of all, and the doubled month was clean."""
    rows = [line(hour, quantity=Decimal(100 + hour)) for hour in range(60)]
    rows += [line(hour, loaded=SECOND, quantity=Decimal("100.5") + hour) for hour in range(60)]
    rows += [line(hour, loaded=SECOND, quantity=Decimal(-1 - hour)) for hour in range(10)]
    (finding,) = make(rows).validate(september(), checks=["look_alikes"]).findings
    assert (finding.kind, finding.severity) == ("restated", "high")
    assert finding.events >= 60


def test_credits_of_costs_alone_are_no_restated_rows(make: Make) -> None:
    """They were high, as an export that counts twice."""
    rows = [line(hour, quantity=Decimal(100 + hour)) for hour in range(60)]
    rows += [line(hour, "-0.5", SECOND, quantity=Decimal(0)) for hour in range(60)]
    assert make(rows).validate(september(), checks=["look_alikes"]).findings == ()


@pytest.mark.parametrize("is_daily_first", [False, True])
def test_usage_by_the_hour_and_by_the_day_is_one_finding(make: Make, is_daily_first: bool) -> None:
    """It was signed off at twice the usage: no event of one looks like one of the other."""
    loads = (SECOND, FIRST) if is_daily_first else (FIRST, SECOND)
    random = Random(1)
    amounts = [Decimal(random.randrange(1, 9_000)) for _ in range(2 * 240)]

    def sums(of: int, hours: int, loaded: datetime) -> list[Row]:
        """The usage of a customer in rows that each sum up a number of `hours`."""
        chosen = amounts[240 * of : 240 * (of + 1)]
        rows = [(hour, sum(chosen[hour : hour + hours], Decimal(0))) for hour in range(0, 240, hours)]
        who = (JUNE, SMALL)[of]
        return [line(hour, "1.5", loaded, quantity=quantity, customer_id=who) for hour, quantity in rows]

    store = make([*sums(0, 1, loads[0]), *sums(0, 24, loads[1]), *sums(1, 1, FIRST)])
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    assert (finding.kind, finding.severity, finding.customer_id) == ("aggregated", "high", JUNE)
    assert finding.events == (240 if is_daily_first else 10)
    assert finding.quantity == sum(amounts[:240])


def test_constant_or_other_usage_by_the_hour_and_by_the_day_is_no_finding(make: Make) -> None:
    """Seats of a server by the hour and of another one by the day were signed off as usage that counts twice."""
    rows = []
    for who in (JUNE, SMALL):  # of one customer the quantities vary, of 12 metrics they do not
        for metric in range(12):
            each = [Decimal(metric + 1 if who == JUNE else 977 * (hour + 1) ** 2) for hour in range(240)]
            fields = {"customer_id": who, "metric_key": f"m{metric}"}
            for hour, quantity in enumerate(each):
                rows.append(line(hour, quantity=quantity, dimensions={"ResourceId": "a"}, **fields))
            resource = {"ResourceId": "a" if who == JUNE else "b"}
            for hour in range(0, 240, 24):
                total_of_day = sum(each[hour : hour + 24], Decimal(0))
                rows.append(line(hour, loaded=SECOND, quantity=total_of_day, dimensions=resource, **fields))
    findings = make(rows).validate(september(), checks=["look_alikes"]).findings
    assert [finding for finding in findings if finding.kind == "aggregated"] == []


def test_scattered_rows_of_one_load_are_one_finding(make: Make) -> None:
    """Restated rows of three customers, spread over 19 days, that arrived in one load."""
    hours = {JUNE: range(50, 460, 250), SMALL: range(0, 460, 30), LARGE: range(12, 460, 30)}
    export = [line(hour, customer_id=customer) for customer in hours for hour in range(460)]
    changed = [line(hour, "1.75", SECOND, customer_id=customer) for customer in hours for hour in hours[customer]]
    (finding,) = make(export + changed).validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events, finding.customer_id) == ("high", len(changed), None)
    assert "3 customers" in finding.sentence


def test_an_equal_row_under_another_key_is_no_restated_one(make: Make) -> None:
    again = replace(line(1, loaded=SECOND), idempotency_key=f"row:{'0' * 32}")
    (finding,) = make([line(1), again]).validate(september(), checks=["look_alikes"]).findings
    assert finding.events == 1
    assert "like another event that counts, in time, quantity and dimensions, under another" in finding.sentence
    assert finding.severity == "low"
    assert "amounts" not in finding.sentence


def test_a_further_row_of_the_same_identity_is_new(make: Make) -> None:
    later = [line(1, "0.1", SECOND), line(1, "0.2", SECOND)]
    (finding,) = make([line(1), *later]).validate(september(), checks=["look_alikes"]).findings
    assert finding.events == 1


def test_unlike_rows_of_one_load_and_of_logs_are_left_alone(make: Make) -> None:
    tiers = [line(hour, cost) for hour in range(20) for cost in ("1", "2")]
    logged = [line(hour, cost, loaded) for hour in range(20) for cost, loaded in (("1", FIRST), ("2", SECOND))]
    logged = [replace(row, timestamp=row.timestamp + timedelta(seconds=7)) for row in logged]
    sent = [event(SINCE + hour * HOUR, quantity=Decimal(2), ingested_at=SECOND) for hour in range(20)]
    assert make(tiers + logged + sent).validate(september(), checks=["look_alikes"]).findings == ()


FOCUS = """SubAccountId,ServiceName,SkuId,ConsumedQuantity,BilledCost,EffectiveCost,BillingCurrency,ChargePeriodStart
a,Disk,disk,24,1.20,1.10,USD,2026-09-01T00:00:00Z
a,Disk,disk,24,1.20,1.10,USD,2026-09-02T00:00:00Z
"""


@pytest.mark.parametrize("effective", ["1.10", "49"])
def test_a_focus_export_loaded_again_with_one_changed_cost_is_found(
    events_database_url: str, tmp_path: Path, effective: str
) -> None:
    file = tmp_path / "focus.csv"
    command = ["load", str(file), "--format", "focus", "--database-url", events_database_url]
    for text in (FOCUS, FOCUS.replace("1.20,1.10", f"50.0566,{effective}", 1)):
        file.write_text(text, encoding="utf-8")
        result = CliRunner().invoke(main, [*command, "--organization-id", str(made.ORGANIZATION)])
        assert result.exit_code == 0, result.output
    with connect(events_database_url) as store:
        period = Period(since="2026-09-01T00:00:00Z", until="2026-10-01T00:00:00Z", as_of=store.now())
        (finding,) = store.validate(period, checks=["look_alikes"]).findings
        assert (finding.events, finding.severity) == (1, "high")
        assert finding.amounts == (("USD", Decimal("50.0566")),)
        assert "an export was loaded again with other amounts" in finding.sentence


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"dimensions": {"Team": "ops"}}, 100),  # a column more
        ({"dimensions": {"Team": "ops"}, "price_key": "p1"}, 100),
        ({"price_key": "p1"}, 100),
        ({"dimensions": {"ResourceId": "tape"}}, 0),  # another disk
        ({"quantity": Decimal(3), "dimensions": {"Team": "ops"}}, 0),
    ],
)
def test_a_file_that_was_loaded_again_with_other_columns_is_found(
    make: Make, more: dict[str, object], found: int
) -> None:
    """Rows that differ in more than amounts were in no finding, and all of them counted twice."""
    export = [line(hour, quantity=Decimal(hour % 7 + 2)) for hour in range(100)]
    again = [line(hour, loaded=SECOND, **{"quantity": Decimal(hour % 7 + 2), **more}) for hour in range(100)]
    new = [line(hour, loaded=SECOND, quantity=Decimal(9)) for hour in range(500, 560)]
    result = make(export + again + new + beside(again)).validate(september(), checks=["look_alikes"]).findings
    reloaded = [each for each in result if "loaded again with other options or columns" in each.sentence]
    assert [(each.events, each.severity) for each in reloaded] == ([(found, "high")] if found else [])


def of_regions(names: tuple[str, ...], loaded: datetime) -> list[Row]:
    """Four equal quantities at each hour, of two models and two regions; with columns of these names."""
    rows = []
    for number in range(400):
        values = {"m": "sl"[number % 2], "r": ("eu", "us")[number // 2 % 2]}
        dimensions = {name: values[name[0].lower()] for name in names}
        key = blake2b(f"{number} {dimensions}".encode(), digest_size=16).hexdigest()
        rows.append(
            replace(line(number // 4, loaded=loaded), idempotency_key=f"row:{key}", dimensions=json.dumps(dimensions))
        )
    return rows


@pytest.mark.parametrize("names", [("Modell", "Region"), ("model", "Region"), ("Region",)])
def test_a_file_that_was_loaded_again_with_columns_renamed_is_found(make: Make, names: tuple[str, ...]) -> None:
    """It was in no finding, and all of it counted twice; with a column less, too."""
    again = of_regions(names, SECOND)
    found = make(of_regions(("model", "region"), FIRST) + again + beside(again))
    (finding,) = found.validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events) == ("high", 400)
    assert "loaded again with other options or columns" in finding.sentence


def test_usage_with_the_same_values_in_other_columns_was_not_loaded_again(make: Make) -> None:
    """From a to b is not from b to a."""
    there, back = (
        [line(hour, loaded=load, dimensions=ends) for hour in range(100)]
        for load, ends in ((FIRST, {"from": "a", "to": "b"}), (SECOND, {"from": "b", "to": "a"}))
    )
    assert make(there + back).validate(september(), checks=["look_alikes"]).findings == ()


@pytest.mark.parametrize("minute", [0, 7])
@pytest.mark.parametrize(
    "without", [{"external_cost_amount": None, "external_cost_currency": None}, {"price_key": None}]
)
def test_a_file_that_was_loaded_again_without_columns_is_one_finding(
    make: Make, minute: int, without: dict[str, object]
) -> None:
    """It was two: its rows were look-alikes, or restated ones, besides."""

    def loaded(again: dict[str, object]) -> list[Row]:
        rows = [line(hour, **{"price_key": "p1", **usage(hour), **again}) for hour in range(300)]
        return [replace(row, timestamp=row.timestamp + timedelta(minutes=minute)) for row in rows]

    export, again = loaded({}), loaded({"loaded": SECOND, **without})
    (finding,) = make(export + again + beside(again)).validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events) == ("high", 300)
    assert "loaded again with other options or columns" in finding.sentence


@pytest.mark.parametrize("keyed_first", [True, False])
@pytest.mark.parametrize("is_dimension", [True, False])
def test_a_file_that_was_loaded_with_its_keys_and_without_them_is_one_finding(
    make: Make, keyed_first: bool, is_dimension: bool
) -> None:
    """Each event counted twice, and nothing was found: the keys were a dimension of one of the two loads."""

    def loaded(at: datetime, is_keyed: bool) -> list[Row]:
        rows = [line(hour, loaded=at, **usage(hour)) for hour in range(100)]
        rows = [replace(row, timestamp=row.timestamp + timedelta(seconds=0 if is_dimension else 7)) for row in rows]
        if is_keyed:
            return [replace(row, idempotency_key=f"ref-{hour}") for hour, row in enumerate(rows)]
        more = [{"ref": f"ref-{hour}"} if is_dimension else {} for hour in range(100)]
        return [
            replace(row, dimensions=json.dumps({**json.loads(row.dimensions), **ref}))
            for row, ref in zip(rows, more, strict=True)
        ]

    again = loaded(SECOND, not keyed_first)
    rows = loaded(FIRST, keyed_first) + again + beside(again)
    (finding,) = make(rows).validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events) == ("high", 100)
    assert "loaded again with other options or columns" in finding.sentence


def other_dimensions(
    load: datetime, dimension: str, *, seconds: bool = True, quantities: int = 101, numbers: range = range(100)
) -> list[Row]:
    """Events at irregular seconds, or at whole hours, with up to `quantities` quantities and one dimension."""
    rows = []
    for number in numbers:
        row = line(number, loaded=load, quantity=Decimal(number * 37 % quantities + 1), dimensions={dimension: "ops"})
        apart = timedelta(seconds=number * 37 % 59 + 1) if seconds else timedelta(0)
        rows.append(replace(row, timestamp=row.timestamp + apart))
    return rows


@pytest.mark.parametrize("is_keyed", [False, True])
def test_a_file_with_one_dimension_dropped_and_another_added_was_loaded_again(make: Make, is_keyed: bool) -> None:
    """It was in no finding, and all of it counted twice: none of the two has all values of the other."""
    first = other_dimensions(FIRST, "Team")
    if is_keyed:
        first = [replace(row, idempotency_key=f"ref-{number}") for number, row in enumerate(first)]
    again = other_dimensions(SECOND, "Export")
    again = [replace(row, dimensions=row.dimensions.replace('"ops"', '"v2"')) for row in again]
    (finding,) = make(first + again + beside(again)).validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events) == ("high", 100)
    assert "loaded again with other options or columns" in finding.sentence


@pytest.mark.parametrize(
    "how", [{"seconds": False}, {"quantities": 1}, {"numbers": range(10, 190, 2)}, {"numbers": range(9)}]
)
def test_other_usage_with_other_dimensions_was_not_loaded_again(make: Make, how: dict[str, object]) -> None:
    """Of regular times or equal quantities, or where a part alone of their common time is in both."""
    same = {name: value for name, value in how.items() if name != "numbers"}
    again = other_dimensions(SECOND, "Export", **how)  # type: ignore[arg-type]
    again = [replace(row, dimensions=row.dimensions.replace('"ops"', '"v2"')) for row in again]
    assert (
        make(other_dimensions(FIRST, "Team", **same) + again)
        .validate(  # type: ignore[arg-type]
            september(), checks=["look_alikes"]
        )
        .findings
        == ()
    )


def test_a_few_rows_that_an_earlier_load_has_too_are_no_file_that_was_loaded_again(make: Make) -> None:
    export = [line(hour) for hour in range(100)]
    other = [line(hour, loaded=SECOND, dimensions={"Team": "ops"}) for hour in range(40)]
    other += [line(hour, loaded=SECOND, dimensions={"Team": "ops"}) for hour in range(200, 260)]
    assert make(export + other).validate(september(), checks=["look_alikes"]).findings == ()


def zoned(distance: Callable[[int], timedelta]) -> list[Row]:
    """The rows of 300 hours by another zone, and by a third, as two later loads have them."""
    rows: list[Row] = []
    for load, times in ((SECOND, 1), (SECOND + HOUR, 2)):
        for hour in range(300):
            time = SINCE + hour * HOUR + times * distance(hour)
            rows.append(replace(line(hour, loaded=load, **usage(hour)), timestamp=time))
    return rows


def usage(hour: int) -> dict[str, object]:
    return {"quantity": Decimal(hour * 37 % 101 + 1), "dimensions": {"Team": "ops"}}


@pytest.mark.parametrize(
    "distance",
    [
        lambda hour: timedelta(hours=5, minutes=45),
        lambda hour: timedelta(hours=-2),
        lambda hour: timedelta(hours=1 if hour < 100 else 2),
    ],
)
def test_a_file_that_was_loaded_again_in_another_zone_is_found(
    make: Make, distance: Callable[[int], timedelta]
) -> None:
    """It was in no finding, and all of it counted twice; rows that met others at the hour were called restated."""
    export = [line(hour, **usage(hour)) for hour in range(300)]
    again = zoned(distance)
    (finding,) = make(export + again + beside(again)).validate(september(), checks=["look_alikes"]).findings
    assert "at a time that another time zone gives" in finding.sentence
    inside = [row for row in again if row.timestamp >= SINCE]
    assert (finding.severity, finding.events) == ("high", len(inside))
    assert finding.quantity == total(row.quantity for row in inside)


@pytest.mark.parametrize("seconds", [0, 37])
def test_an_export_that_moved_on_in_another_zone_is_found(make: Make, seconds: int) -> None:
    """It was clean, where `load` warned of it: of the time that one zone's clock gives both had less than half."""

    def at(hour: int, load: datetime, distance: timedelta) -> Row:
        row = line(hour, loaded=load, quantity=Decimal(hour * 37 % 101 + 1))
        between = timedelta(seconds=hour * seconds % 997)
        return replace(row, timestamp=row.timestamp + distance + between)

    first = [at(hour, FIRST, timedelta()) for hour in range(84)]
    moved = [at(hour, SECOND, timedelta(hours=12, minutes=45)) for hour in range(36, 120)]
    (finding,) = make(first + moved + beside(moved)).validate(september(), checks=["look_alikes"]).findings
    assert (finding.kind, finding.events) == ("other_zone", 48)


@pytest.mark.parametrize(
    "fields",
    [
        {"dimensions": {"Team": "dev"}},  # another team's
        {"customer_id": SMALL},
        {"metric_key": "calls"},
    ],
)
def test_the_same_usage_of_others_at_other_times_is_not_found(make: Make, fields: dict[str, object]) -> None:
    export = [line(hour, **usage(hour)) for hour in range(300)]
    other = [
        replace(line(hour, loaded=SECOND, **{**usage(hour), **fields}), timestamp=SINCE + (hour + 2) * HOUR)
        for hour in range(300)
    ]
    assert make(export + other).validate(september(), checks=["look_alikes"]).findings == ()


def request(number: int, **fields: object) -> Row:
    """One of equal requests at random times, as `load` stores it without a key."""
    time = SINCE + 9 * HOUR + Random(number).uniform(0, 20_000) * timedelta(seconds=1)
    return replace(line(number, quantity=Decimal(1), dimensions={"Team": "ops"}), timestamp=time, **fields)


@pytest.mark.each_value
@pytest.mark.parametrize("grid", [timedelta(milliseconds=1), timedelta(seconds=1), timedelta(minutes=1)])
@pytest.mark.parametrize("is_cut_first", [False, True])
@pytest.mark.parametrize(
    ("distance", "sentence"),
    [(timedelta(0), "has its times cut or rounded"), (timedelta(hours=2), "at a time that another time zone gives")],
)
def test_a_file_that_was_loaded_again_with_times_cut_is_found(
    make: Make, grid: timedelta, is_cut_first: bool, distance: timedelta, sentence: str
) -> None:
    """It was in no finding, and all of it counted twice."""
    first, second = (SECOND, FIRST) if is_cut_first else (FIRST, SECOND)
    whole = [request(number, ingested_at=first, idempotency_key=f"row:{number:032x}") for number in range(300)]
    cut = [
        replace(row, timestamp=row.timestamp - (row.timestamp - SINCE) % grid + distance, ingested_at=second)
        for row in (request(number, idempotency_key=f"row:{number + 1000:032x}") for number in range(300))
    ]
    (finding,) = make(whole + cut + beside(cut)).validate(september(), checks=["look_alikes"]).findings
    assert sentence in finding.sentence
    assert (finding.severity, finding.events) == ("high", 300)


@pytest.mark.parametrize("grid", [timedelta(seconds=1), timedelta(minutes=15)])
@pytest.mark.parametrize("keyed", [FIRST, SECOND, None])
@pytest.mark.parametrize("name", ["Team", "Gruppe"])
def test_a_file_with_times_cut_and_other_columns_or_keys_is_found(
    make: Make, grid: timedelta, keyed: datetime | None, name: str
) -> None:
    """Each difference alone was found, both at once were in no finding."""
    rows = []
    for load, names in ((FIRST, "Team"), (SECOND, name)):
        for number in range(300):
            row = replace(request(number, ingested_at=load), quantity=Decimal(number * 37 % 101 + 1))
            time = row.timestamp - (row.timestamp - SINCE) % (grid if load == SECOND else timedelta.resolution)
            key = f"key {number}" if load == keyed else f"row:{load.day * 1000 + number:032x}"
            row = replace(row, timestamp=time, idempotency_key=key, dimensions=json.dumps({names: "ops"}))
            rows.append(row)
    (finding,) = make(rows + beside(rows[300:])).validate(september(), checks=["look_alikes"]).findings
    assert "has its times cut or rounded" in finding.sentence
    assert (finding.severity, finding.events) == ("high", 300)


WRITINGS = [
    ({"seats": "3"}, {"seats": 3}),
    ({"ratio": "1.50"}, {"ratio": 1.5}),
    ({"ratio": "1.50", "model": "s"}, {"ratio": "1.5", "model": "s"}),
    ({"total": "007"}, {"total": 7}),
    ({"flag": "True"}, {"flag": True}),
    ({"region": "EU"}, {"region": "eu"}),
]
"""Dimensions of a row as a CSV, JSON or Parquet file or a spreadsheet gives them."""


def written(first: dict[str, object], second: dict[str, object], change: Callable[[datetime], datetime]) -> list[Row]:
    """Requests loaded twice, with dimensions in another writing and, the second time, changed times."""
    rows = []
    for load, dimensions in ((FIRST, first), (SECOND, second)):
        for number in range(100):
            row = replace(request(number, ingested_at=load), quantity=Decimal(number * 37 % 101 + 1))
            time = row.timestamp.replace(second=number % 60, microsecond=0)
            time = time if load == FIRST else change(time)
            key = f"row:{load.day * 1000 + number:032x}"
            rows.append(replace(row, timestamp=time, idempotency_key=key, dimensions=json.dumps(dimensions)))
    return rows


@pytest.mark.parametrize(("first", "second"), WRITINGS)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda time: time, "loaded again with other options or columns"),
        (lambda time: time + 2 * HOUR, "at a time that another time zone gives"),
        (lambda time: time.replace(second=0), "has its times cut or rounded"),
    ],
)
def test_a_file_that_was_loaded_again_with_its_values_written_otherwise_is_found(
    make: Make,
    first: dict[str, object],
    second: dict[str, object],
    change: Callable[[datetime], datetime],
    sentence: str,
) -> None:
    """A row of a CSV file and of a JSON file is one event: "3" and 3 were two, and in no finding."""
    rows = written(first, second, change)
    (finding,) = make(rows + beside(rows[100:])).validate(september(), checks=["look_alikes"]).findings
    assert sentence in finding.sentence
    assert (finding.severity, finding.events) == ("high", 100)


@pytest.mark.parametrize(("first", "second"), WRITINGS[:1])
def test_minutes_that_were_cut_to_five_with_values_written_otherwise_are_found(
    make: Make, first: dict[str, object], second: dict[str, object]
) -> None:
    """Of the fifth that is on the grid before, each row was taken for one that both loads have once."""
    rows = written(first, second, lambda time: time.replace(minute=time.minute // 5 * 5, second=0))
    rows = [replace(row, timestamp=row.timestamp.replace(second=0)) for row in rows]
    (finding,) = make(rows + beside(rows[100:])).validate(september(), checks=["look_alikes"]).findings
    assert "has its times cut or rounded" in finding.sentence
    assert (finding.severity, finding.events) == ("high", 100)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ({"cost": "1.50"}, {"cost": 1.51}, timedelta(0)),
        ({"cost": "1.50"}, {"cost": 1.51}, 2 * HOUR),
        ({"version": "v1.50"}, {"version": "v1.5"}, 2 * HOUR),
        ({"region": "EU"}, {"region": "us"}, 2 * HOUR),
        ({"shard": "1.0"}, {"shard": "10"}, 2 * HOUR),
        ({"shard": "-1.0"}, {"shard": 1}, 2 * HOUR),
    ],
)
def test_other_values_are_no_other_writing(
    make: Make, first: dict[str, object], second: dict[str, object], distance: timedelta
) -> None:
    rows = written(first, second, lambda time: time + distance)
    assert make(rows).validate(september(), checks=["look_alikes"]).findings == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"version": "v1.50"}, {"version": "v1.5"}),
        ({"region": "EU", "model": "l"}, {"region": "us", "model": "l"}),
        ({"region": "EU", "model": "l"}, {"region": "us", "team": "ops"}),
    ],
)
@pytest.mark.parametrize("are_keyed", [False, True])
def test_single_events_with_other_values_were_loaded_again(
    make: Make, first: dict[str, object], second: dict[str, object], are_keyed: bool
) -> None:
    """All counted twice in no finding: hundreds of equal quantities at equal seconds are no coincidence."""
    rows = written(first, second, lambda time: time)
    if are_keyed:
        rows = [replace(row, idempotency_key=f"ref-{number}") for number, row in enumerate(rows)]
    (finding,) = make(rows).validate(september(), checks=["look_alikes"]).findings
    assert (finding.kind, finding.severity, finding.events) == ("reloaded", "high", 100)


@pytest.mark.parametrize("quantities", [1, 3, 100])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"product_id": JUNE}, {"product_id": SMALL}),
        ({"price_key": "a"}, {"price_key": "b"}),
        ({"wallet_currency": "EUR"}, {"wallet_currency": "USD"}),
        ({"dimensions": {"server": "1"}}, {"dimensions": {"server": "2"}}),
        ({"dimensions": {"version": "1.10"}}, {"dimensions": {"version": "1.20"}}),
        ({"dimensions": {"rate": "1.5"}}, {"dimensions": {"rate": "2.5"}}),
        ({"dimensions": {"since": "2026-01-01"}}, {"dimensions": {"since": "2026-03-01"}}),
        ({"dimensions": {"region": "eu"}}, {"dimensions": {"region": "us"}}),
    ],
)
def test_equal_hours_of_two_products_or_servers_were_not_loaded_again(
    make: Make, first: dict[str, object], second: dict[str, object], quantities: int
) -> None:
    """They were high, where two regions were no finding; so are those of quantities that are hardly equal by chance."""
    rows = [
        line(hour, quantity=Decimal(hour * 37 % quantities + 1), loaded=load, **values)
        for load, values in ((FIRST, first), (SECOND, second))
        for hour in range(100)
    ]
    kinds = [each.kind for each in make(rows).validate(september(), checks=["look_alikes"]).findings]
    assert kinds == (["reloaded"] if quantities == 100 and "region" not in str(first) else [])


def test_requests_of_their_own_in_the_same_seconds_are_not_found(make: Make) -> None:
    whole = [request(number, ingested_at=FIRST, idempotency_key=f"row:{number:032x}") for number in range(300)]
    other = [
        replace(row, timestamp=row.timestamp.replace(microsecond=0), ingested_at=SECOND)
        for row in (request(number, idempotency_key=f"row:{number:032x}") for number in range(1000, 1300))
    ]
    assert make(whole + other).validate(september(), checks=["look_alikes"]).findings == ()
