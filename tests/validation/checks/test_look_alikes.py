"""Look-alikes: the same event under another key, once for each further key, and never what is a duplicate."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from support.check_results import examine, shown
from support.plain_events import JUNE, SINCE, SMALL, UNTIL, beside, event, september, store_of, total
from support.query_oracle import Row
from support.thoroughness import seeds
from usage_explore.db import ddl
from usage_explore.validation.batches import MIN_BATCH_EVENTS
from usage_explore.validation.checks.look_alikes import HIGH_EVENTS

HOUR, TEN_MINUTES = timedelta(hours=1), timedelta(minutes=10)


def alike(rows: list[Row]) -> list[Row]:
    """What arrived after another event of its content, the first of its key alone."""
    arrived: dict[tuple[object, ...], dict[str, Row]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: (row.ingested_at, row.id)):
        if SINCE <= row.timestamp < UNTIL:
            content = (row.customer_id, row.metric_key, row.timestamp, row.quantity, row.dimensions)
            arrived[content].setdefault(row.idempotency_key, row)
    return [row for by_key in arrived.values() for row in list(by_key.values())[1:]]


@pytest.mark.parametrize("seed", seeds(range(3)))
def test_what_looks_alike_equals_the_oracle(
    events_connection: ddl.Connection, events_database_url: str, seed: int
) -> None:
    draw = random.Random(seed)
    rows = [
        event(
            when := SINCE + timedelta(hours=draw.randrange(-20, 40), microseconds=1),
            customer_id=draw.choice([JUNE, SMALL]),
            metric_key=draw.choice(["tokens", "calls"]),
            quantity=Decimal(draw.choice(["1", "1.0", "12345678901234567890123456789.5"])),
            dimensions=draw.choice(["{}", '{"model": "large"}', '{"model": 1}']),
            ingested_at=when + timedelta(seconds=draw.randrange(5)),
            idempotency_key=f"k{draw.randrange(300)}",
        )
        for _ in range(900)
    ]
    store = store_of(events_connection, events_database_url, rows + beside(rows))
    expected = alike(rows)
    findings = store.validate(september(), checks=["look_alikes"]).findings
    assert sum(finding.events for finding in findings) == len(expected) > MIN_BATCH_EVENTS()
    calls = store.validate(september(metric_key="calls"), checks=["look_alikes"]).findings
    quantities = [finding.quantity for finding in calls if finding.quantity is not None]
    assert total(quantities) == total(row.quantity for row in expected if row.metric_key == "calls")
    store.close()


def batch(number: int, day: int = 3) -> list[Row]:
    """Events of one customer, a minute apart, and the same under other keys."""
    sent = [event(SINCE + timedelta(days=day, minutes=minute)) for minute in range(number)]
    return sent + [
        event(row.timestamp, quantity=row.quantity, ingested_at=row.ingested_at + HOUR, dimensions=row.dimensions)
        for row in sent
    ]


@pytest.mark.parametrize("number", [HIGH_EVENTS(), HIGH_EVENTS() - 1, MIN_BATCH_EVENTS(), MIN_BATCH_EVENTS() - 1])
def test_a_batch_of_a_small_customer_sent_again_under_other_keys_is_grave(
    events_connection: ddl.Connection, events_database_url: str, number: int
) -> None:
    rows = batch(number)
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events, finding.customer_id) == ("high", number, JUNE)
    assert finding.quantity == total(row.quantity for row in rows[number:])
    assert shown(store, finding) == 2 * number
    store.close()


def small(number: int, grain: timedelta, quantities: list[int] | None = None, first_day: int = 0) -> list[Row]:
    """Events of the small customer at random times of this grain, from a first day to the end of the period."""
    draw = random.Random(number)
    return [
        event(
            SINCE + timedelta(days=first_day) + draw.randrange(timedelta(days=30 - first_day) // grain) * grain,
            customer_id=SMALL,
            quantity=Decimal(draw.choice(quantities) if quantities else draw.randrange(1, 1_000_000)),
        )
        for _ in range(number)
    ]


MICROSECOND, MILLISECOND, SECOND = (timedelta(**{unit: 1}) for unit in ("microseconds", "milliseconds", "seconds"))


@pytest.mark.each_value
@pytest.mark.parametrize("others", [0, 500])
@pytest.mark.parametrize(
    ("number", "grain"),
    [(number, MICROSECOND) for number in (1, 2, 9, 20, 99)]
    + [(number, grain) for number in (9, 20, 99) for grain in (MILLISECOND, SECOND)],
)
def test_all_events_of_a_small_customer_sent_again_are_high(
    events_connection: ddl.Connection, events_database_url: str, number: int, grain: timedelta, others: int
) -> None:
    """As where their keys are repeated; be it one event whose time chance cannot repeat."""
    rows = small(number, grain)
    busy = [event(SINCE + 7 * grain + TEN_MINUTES * place) for place in range(others)]
    store = store_of(events_connection, events_database_url, [*rows, *resent(rows, TEN_MINUTES), *busy])
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert {(finding.severity, finding.customer_id) for finding in findings} == {("high", SMALL)}
    assert sum(finding.events for finding in findings) == number


def test_many_batches_that_are_a_large_share_together_are_high(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    """Six busy times, each of them less than a tenth of the customer's usage, together a fifth."""
    rows = [row for number in range(6) for row in batch(MIN_BATCH_EVENTS() + 1, 5 * number)]
    unlike = [event(SINCE + timedelta(hours=hour)) for hour in range(24 * 8)]
    store = store_of(events_connection, events_database_url, [*rows, *unlike])
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert [finding.severity for finding in findings] == ["high"] * 6


@pytest.mark.parametrize(("copied", "severity"), [(24, "high"), (6, "medium")])
def test_copies_are_high_from_a_tenth_of_the_usage_on(
    events_connection: ddl.Connection, events_database_url: str, copied: int, severity: str
) -> None:
    rows = small(100, MICROSECOND)
    store = store_of(events_connection, events_database_url, [*rows, *resent(rows[:copied], TEN_MINUTES)])
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert {finding.severity for finding in findings} == {severity}


@pytest.mark.parametrize(
    ("number", "quantities"), [(1, [1]), (2, [1]), (3, [1]), (9, [1]), (1, None), (2, None), (3, None)]
)
def test_equal_events_that_a_job_sends_at_once_are_not_high(
    events_connection: ddl.Connection, events_database_url: str, number: int, quantities: list[int] | None
) -> None:
    """Equal quantities, or few events: without a later arrival nothing shows that they were sent again."""
    rows = small(number, MICROSECOND, quantities)
    store = store_of(events_connection, events_database_url, [*rows, *resent(rows, SECOND)])
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.events) == ("medium", number)


def test_equal_events_as_in_the_few_before_the_period_are_not_high(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    """Six jobs before the period are too few for a habit that makes them low, and enough to doubt copies."""
    rows = [
        event(SINCE + timedelta(days=day, microseconds=7 * day), customer_id=SMALL, quantity=Decimal(1000 + day))
        for day in (-12, -9, -7, -5, -2, -1, *range(1, 30, 2))
    ]
    store = store_of(events_connection, events_database_url, [*rows, *resent(rows, TEN_MINUTES)])
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert {finding.severity for finding in findings} == {"medium"}


@pytest.mark.each_value
@pytest.mark.parametrize("grain", [MILLISECOND, SECOND, HOUR])
@pytest.mark.parametrize("number", [1, 2, 9])
def test_equal_quantities_at_times_that_chance_repeats_are_never_high(
    events_connection: ddl.Connection, events_database_url: str, number: int, grain: timedelta
) -> None:
    rows = [*small(number, grain, [1]), event(SINCE, customer_id=SMALL, quantity=Decimal(1))]
    store = store_of(events_connection, events_database_url, [*rows, *resent(rows[:number], TEN_MINUTES)])
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert {finding.severity for finding in findings} <= {"low"}


def test_a_few_among_far_more_are_told_together(events_connection: ddl.Connection, events_database_url: str) -> None:
    busy = [event(SINCE + timedelta(days=3, seconds=second)) for second in range(MIN_BATCH_EVENTS() * 60)]
    store = store_of(events_connection, events_database_url, batch(MIN_BATCH_EVENTS() - 1) + busy)
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.customer_id) == ("medium", JUNE)
    assert f"of customer {JUNE}" in finding.sentence


@pytest.mark.parametrize("shift", [0, 123_457])
@pytest.mark.parametrize("dimensions", ["{}", '{"request": "f00dfeed42"}'])
@pytest.mark.parametrize(("copies", "grave"), [(24, True), (6, False)])
def test_copies_of_different_quantities_are_no_chance(
    events_connection: ddl.Connection, events_database_url: str, shift: int, dimensions: str, copies: int, grave: bool
) -> None:
    sent = [
        event(
            SINCE + timedelta(hours=7 * number, microseconds=shift),
            dimensions=dimensions.replace("42", f"{number:02}"),
        )
        for number in range(100)
    ]
    again = [
        event(row.timestamp, quantity=row.quantity, ingested_at=row.ingested_at + HOUR, dimensions=row.dimensions)
        for row in sent[:copies]
    ]
    store = store_of(events_connection, events_database_url, sent + again)
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert finding.events == copies
    assert finding.severity == ("high" if grave else "medium")
    assert ("chance makes fewer" in finding.sentence) == (not grave and not shift)


def test_a_steady_double_metering_is_one_grave_finding(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = [row for day in range(10) for row in batch(HIGH_EVENTS() // 2, day)]
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events) == ("high", 5 * HIGH_EVENTS())
    assert (finding.since, finding.metric_key) == (SINCE, "tokens")
    store.close()


def test_a_grave_batch_stays_grave_beside_others(events_connection: ddl.Connection, events_database_url: str) -> None:
    busy = [event(SINCE + timedelta(days=2, seconds=second)) for second in range(HIGH_EVENTS() * 60)]
    store = store_of(
        events_connection, events_database_url, [*batch(MIN_BATCH_EVENTS(), 2), *busy, *batch(HIGH_EVENTS(), 4)]
    )
    grave, other = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (grave.severity, grave.events) == ("high", HIGH_EVENTS())
    assert (other.severity, other.events) == ("medium", MIN_BATCH_EVENTS())


def test_many_among_far_more_are_medium(events_connection: ddl.Connection, events_database_url: str) -> None:
    busy = [event(SINCE + timedelta(days=3, seconds=second)) for second in range(HIGH_EVENTS() * 60)]
    store = store_of(events_connection, events_database_url, batch(HIGH_EVENTS()) + busy)
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert finding.severity == "medium"


def test_a_duplicate_is_not_a_look_alike(events_connection: ddl.Connection, events_database_url: str) -> None:
    once = event(SINCE + HOUR, quantity=Decimal(1))
    again = [event(once.timestamp, quantity=Decimal(1), idempotency_key=once.idempotency_key) for _ in range(20)]
    store = store_of(events_connection, events_database_url, [once, *again])
    assert examine(store, "look_alikes", september()).is_clean
    store.close()


def metered(sources: int, quantities: list[int], seed: int, days: int = 30, **fields: object) -> list[Row]:
    """An event of each source each 10 minutes, of a random quantity of these; all of one time arrive at one instant."""
    draw = random.Random(seed)
    times = [SINCE + number * TEN_MINUTES for number in range(days * 144)]
    return [
        event(time, quantity=Decimal(draw.choice(quantities)), ingested_at=time + HOUR, **fields)
        for time in times
        for _ in range(sources)
    ]


def sent_again(rows: list[Row]) -> list[Row]:
    return [event(row.timestamp, quantity=row.quantity, ingested_at=row.ingested_at) for row in rows]


@pytest.mark.parametrize(
    ("sources", "quantities"), [(2, [1]), (2, [1, 2, 5]), (3, list(range(40))), (12, [1, 1, 1, 9])]
)
def test_a_clean_grid_of_few_quantities_has_no_finding(
    events_connection: ddl.Connection, events_database_url: str, sources: int, quantities: list[int]
) -> None:
    rows = metered(sources, quantities, 1, days=30 if sources < 12 else 8)
    store = store_of(events_connection, events_database_url, rows)
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert [(finding.severity, finding.sentence) for finding in findings] == []


@pytest.mark.parametrize("quantities", [[1], [1, 2, 5], list(range(100))])
def test_random_times_on_a_grid_have_no_finding(
    events_connection: ddl.Connection, events_database_url: str, quantities: list[int]
) -> None:
    draw = random.Random(2)
    rows = [
        event(SINCE + draw.randrange(4_320) * TEN_MINUTES, quantity=Decimal(draw.choice(quantities)))
        for _ in range(2_000)
    ]
    store = store_of(events_connection, events_database_url, rows)
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert [(finding.severity, finding.sentence) for finding in findings] == []


def test_a_few_random_times_of_one_customer_are_no_tenth_of_its_usage_sent_twice(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    draw = random.Random(3)
    rows = [event(SINCE + draw.randrange(400) * TEN_MINUTES, quantity=Decimal(1)) for _ in range(400)]
    store = store_of(events_connection, events_database_url, rows)
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert [(finding.severity, finding.sentence) for finding in findings] == []


@pytest.mark.each_value
@pytest.mark.parametrize(("sources", "quantities"), [(1, [1, 2, 5]), (2, [1, 2, 5]), (1, list(range(1, 500)))])
@pytest.mark.parametrize("days", [2, 30])
def test_copies_on_a_grid_are_found(
    events_connection: ddl.Connection, events_database_url: str, sources: int, quantities: list[int], days: int
) -> None:
    rows = metered(sources, quantities, 4)
    copied = rows[: days * 144 * sources]
    store = store_of(events_connection, events_database_url, rows + sent_again(copied))
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert finding.severity == "high"
    assert finding.events >= len(copied)
    assert finding.events - len(copied) <= len(copied) * (sources - 1)  # those of one time that were equal before
    assert "like another event that counts" in finding.sentence


@pytest.mark.parametrize(("days", "again"), [(5, 2), (30, 3), (30, 5), (30, 10), (30, 15)])
def test_copies_of_equal_quantities_on_a_grid_are_undecided(
    events_connection: ddl.Connection, events_database_url: str, days: int, again: int
) -> None:
    rows = metered(1, [1], days)
    copied = rows[144 : 144 * (again + 1)]
    store = store_of(events_connection, events_database_url, rows + sent_again(copied))
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events) == ("low", len(copied))
    assert "may be copies or usage of its own" in finding.sentence
    store.close()


def hourly(first_day: int, hours: range = range(24), **fields: object) -> list[Row]:
    """A meter that counts 1 in each of these hours of the days from a first one to the end of the period."""
    return [
        event(SINCE + timedelta(days=day, hours=hour), quantity=Decimal(1), **fields)
        for day in range(first_day, 30)
        for hour in hours
    ]


def resent(rows: list[Row], after: timedelta) -> list[Row]:
    """The rows under new keys, each so long after its first arrival."""
    return [
        event(row.timestamp, quantity=row.quantity, customer_id=row.customer_id, ingested_at=row.ingested_at + after)
        for row in rows
    ]


@pytest.mark.each_value
@pytest.mark.parametrize("hours", [range(24), range(9, 12)])
@pytest.mark.parametrize(
    ("first_day", "after"), [(-28, timedelta(0)), (-28, HOUR / 2), (0, HOUR / 2)], ids=["before", "both", "apart"]
)
def test_copies_of_equal_quantities_all_month_are_undecided(
    events_connection: ddl.Connection, events_database_url: str, hours: range, first_day: int, after: timedelta
) -> None:
    """They are found because there were none before the period, or because they arrive later than the first ones."""
    meter, normal = hourly(first_day), hourly(first_day, customer_id=SMALL)
    copies = resent([row for row in meter if row.timestamp >= SINCE and row.timestamp.hour in hours], after)
    store = store_of(events_connection, events_database_url, meter + normal + copies + beside(meter))
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.customer_id) == ("low", JUNE)
    assert (finding.events, finding.quantity) == (len(copies), Decimal(len(copies)))
    assert "may be copies or usage of its own" in finding.sentence


@pytest.mark.parametrize(("copied", "found"), [(30, True), (10, True), (1, False)])
def test_copies_of_one_equal_quantity_a_day_are_undecided(
    events_connection: ddl.Connection, events_database_url: str, copied: int, *, found: bool
) -> None:
    """They are found because no day before the period had two events."""
    meter = hourly(-28, range(1))
    copies = resent([row for row in meter if row.timestamp >= SINCE][:copied], timedelta(0))
    store = store_of(events_connection, events_database_url, meter + copies + hourly(-28, range(1), customer_id=SMALL))
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert [(one.severity, one.customer_id, one.events) for one in findings] == [("low", JUNE, copied)] * found


def test_the_new_level_that_copies_of_equal_quantities_make_is_part_of_their_finding(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    meter = hourly(-35)
    copies = resent([row for row in meter if row.timestamp >= SINCE], HOUR / 2)
    store = store_of(events_connection, events_database_url, meter + copies)
    (finding,) = store.validate(september()).findings
    store.close()
    assert (finding.check, finding.also_seen_by, finding.severity) == ("look_alikes", ("shifts",), "medium")
    assert (finding.events, finding.quantity) == (720, Decimal(720))


@pytest.mark.parametrize("step", [HOUR, timedelta(days=3)])
def test_nine_equal_events_sent_again_later_are_undecided(
    events_connection: ddl.Connection, events_database_url: str, step: timedelta
) -> None:
    rows = [event(SINCE + number * step, quantity=Decimal(5), customer_id=SMALL) for number in range(9)]
    store = store_of(events_connection, events_database_url, [*rows, *resent(rows, HOUR / 2), *hourly(0)])
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.customer_id) == ("low", SMALL)
    assert (finding.events, finding.quantity) == (9, Decimal(45))


@pytest.mark.parametrize(
    ("first_day", "after"), [(-28, timedelta(0)), (-28, HOUR / 2), (0, timedelta(0)), (0, timedelta(minutes=4))]
)
def test_two_meters_of_equal_quantities_have_no_finding(
    events_connection: ddl.Connection, events_database_url: str, first_day: int, after: timedelta
) -> None:
    meter = hourly(first_day)
    store = store_of(events_connection, events_database_url, meter + resent(meter, after))
    assert store.validate(september(), checks=["look_alikes"]).findings == ()
    store.close()


@pytest.mark.parametrize("late", [0.01, 0.1, 1.0])
def test_two_meters_of_equal_quantities_with_late_events_have_no_finding(
    events_connection: ddl.Connection, events_database_url: str, late: float
) -> None:
    draw = random.Random(5)
    rows = [
        event(row.timestamp, quantity=row.quantity, ingested_at=row.timestamp + HOUR * 2 * draw.random())
        if draw.random() < late
        else row
        for row in hourly(0) + hourly(0)
    ]
    store = store_of(events_connection, events_database_url, rows)
    assert store.validate(september(), checks=["look_alikes"]).findings == ()
    store.close()


@pytest.mark.parametrize("growth", [1, 3])
def test_more_random_times_on_a_grid_than_before_have_no_finding(
    events_connection: ddl.Connection, events_database_url: str, growth: int
) -> None:
    draw = random.Random(7)
    rows = [
        event(SINCE + timedelta(days=day) + draw.randrange(144) * TEN_MINUTES, quantity=Decimal(1))
        for day in range(-28, 30)
        for _ in range(draw.randrange(10, 25) * (growth if day >= 0 else 1))
    ]
    store = store_of(events_connection, events_database_url, rows)
    assert store.validate(september(), checks=["look_alikes"]).findings == ()
    store.close()


def test_copies_of_equal_quantities_off_the_grid_are_found(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    draw = random.Random(6)
    rows = [
        event(SINCE + timedelta(days=day, milliseconds=draw.randrange(86_400_000)), quantity=Decimal(1))
        for day in range(20)
        for _ in range(50)
    ]
    store = store_of(events_connection, events_database_url, rows + sent_again(rows[:200]))
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    assert (finding.severity, finding.events) == ("high", 200)
    store.close()


@pytest.mark.parametrize(
    ("fine", "coarse"),
    [
        ("0.000001", "1"),
        ("0.001", "1"),
        ("0.001", "0.01"),
        ("0.01", "1"),
        ("0.01", "0.1"),
        ("1", "60"),
        ("0.001", "0.001"),
    ],
)
def test_two_busy_sources_of_equal_quantities_have_no_finding(
    events_connection: ddl.Connection, events_database_url: str, fine: str, coarse: str
) -> None:
    """The whole seconds of one gateway beside the microseconds of another were copies, half of the usage, and high."""
    draw, seconds = random.Random(8), 600 if fine == "1" else 60
    rows = []
    for grain in (Decimal(fine), Decimal(coarse)):
        rate = 1 if grain >= 1 and fine == "1" else 20
        for _ in range(rate * seconds):
            since = int(draw.randrange(int(seconds / grain)) * grain * 1_000_000)
            rows.append(event(SINCE + timedelta(microseconds=since), quantity=Decimal(1)))
    store = store_of(events_connection, events_database_url, rows)
    assert store.validate(september(), checks=["look_alikes"]).findings == ()
    store.close()


def test_two_events_of_one_millisecond_are_undecided(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    time = SINCE + timedelta(milliseconds=1)
    store = store_of(events_connection, events_database_url, [event(time, quantity=Decimal(1)) for _ in range(2)])
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.events) == ("low", 1)


def daily(customers: int, quantities: int, seed: int, sources: int = 1) -> list[Row]:
    """An event of each source of each customer each midnight, of a random quantity."""
    draw = random.Random(seed)
    return [
        event(
            SINCE + timedelta(days=day),
            customer_id=UUID(int=customer + 1),
            quantity=Decimal(draw.randrange(quantities)),
        )
        for day in range(-30, 30)
        for customer in range(customers)
        for _ in range(sources)
    ]


@pytest.mark.parametrize(("customers", "days"), [(16, 1), (6, 3)])
def test_a_day_of_many_customers_sent_again_is_found_together(
    events_connection: ddl.Connection, events_database_url: str, customers: int, days: int
) -> None:
    """One event a day says little of one customer, but chance does not repeat all of them."""
    rows = daily(customers, 500, 11)
    first = (30 + 11) * customers
    copied = rows[first : first + days * customers]
    again = [
        event(row.timestamp, customer_id=row.customer_id, quantity=row.quantity, ingested_at=row.ingested_at + 2 * HOUR)
        for row in copied
    ]
    store = store_of(events_connection, events_database_url, rows + again)
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert sum(finding.events for finding in findings) == len(copied)
    assert {finding.severity for finding in findings} == {"medium"}


@pytest.mark.parametrize(("customers", "quantities", "sources"), [(40, 1, 1), (40, 1, 3), (40, 20, 2), (60, 5, 3)])
def test_many_customers_of_one_event_a_day_and_source_have_no_finding(
    events_connection: ddl.Connection, events_database_url: str, customers: int, quantities: int, sources: int
) -> None:
    store = store_of(events_connection, events_database_url, daily(customers, quantities, 12, sources))
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert [(finding.severity, finding.sentence) for finding in findings] == []


def test_a_few_days_of_many_equal_events_sent_again_are_found(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    """Four sources of five quantities agree by chance each hour; that all numbers of a time are even is no chance."""
    rows = [row for row in metered(4, [1, 2, 3, 4, 5], 13) if row.timestamp.minute == 0]
    copied = rows[11 * 24 * 4 : 14 * 24 * 4]
    store = store_of(events_connection, events_database_url, rows + sent_again(copied))
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert finding.severity == "high"
    assert finding.events >= len(copied)
    assert (finding.since.day, finding.until.day) == (
        (SINCE + timedelta(days=11)).day,
        (SINCE + timedelta(days=13)).day,
    )


@pytest.mark.each_value
@pytest.mark.parametrize("quantities", [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8]])
@pytest.mark.parametrize(("usual", "grown"), [(3, 6), (2, 4), (1, 2)])
def test_more_sources_for_some_days_are_no_copies(
    events_connection: ddl.Connection, events_database_url: str, quantities: list[int], usual: int, grown: int
) -> None:
    rows = [row for row in metered(grown, quantities, 14) if row.timestamp.minute == 0]
    days = {SINCE.date() + timedelta(days=day) for day in (14, 15)}
    kept = [row for number, row in enumerate(rows) if number % grown < usual or row.timestamp.date() in days]
    store = store_of(events_connection, events_database_url, kept)
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert [finding.sentence for finding in findings if finding.severity != "low"] == []


def fanned_out(first: int, last: int, seed: int, copies: int = 3, *, finer: bool = False) -> list[Row]:
    """Twenty jobs a day at random milliseconds, or microseconds, for each of which equal events are sent."""
    draw = random.Random(seed)
    steps, step = (86_400_000_000, timedelta(microseconds=1)) if finer else (86_400_000, timedelta(milliseconds=1))
    return [
        event(time, quantity=Decimal(1))
        for day in range(first, last)
        for _ in range(20)
        for time in [SINCE + timedelta(days=day) + draw.randrange(steps) * step]
        for _ in range(copies)
    ]


@pytest.mark.parametrize("copies", [2, 3])
def test_equal_events_as_before_the_period_are_undecided_and_one_finding(
    events_connection: ddl.Connection, events_database_url: str, copies: int
) -> None:
    store = store_of(events_connection, events_database_url, fanned_out(-40, 30, 15, copies))
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.events) == ("low", 30 * 20 * (copies - 1))


@pytest.mark.parametrize("copies", [2, 3])
def test_equal_events_at_microseconds_as_before_the_period_are_low(
    events_connection: ddl.Connection, events_database_url: str, copies: int
) -> None:
    rows = fanned_out(-40, 30, 18, copies, finer=True)
    store = store_of(events_connection, events_database_url, rows + beside(rows))
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.events) == ("low", 30 * 20 * (copies - 1))
    assert "there were as many in the 28 days before" in finding.sentence


@pytest.mark.parametrize("again", [1, 5])
def test_events_sent_again_by_a_meter_that_sends_equal_ones_are_high(
    events_connection: ddl.Connection, events_database_url: str, again: int
) -> None:
    rows = fanned_out(-40, 30, 19, finer=True)
    first, last = SINCE + timedelta(days=10), SINCE + timedelta(days=10 + again)
    copied = sent_again([row for row in rows if first <= row.timestamp < last])
    store = store_of(events_connection, events_database_url, rows + copied)
    high, low = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (high.severity, high.events) == ("high", again * 20 * 5)
    assert first <= high.since < high.until <= last
    assert (low.severity, low.events) == ("low", (30 - again) * 20 * 2)


def test_copies_on_one_day_before_the_period_are_no_habit(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = [row for day in range(-28, 30) for row in batch(5, day)[:5]]
    rows = [event(row.timestamp + timedelta(microseconds=1), quantity=row.quantity) for row in rows]
    day = [event(SINCE + timedelta(days=3, minutes=m, microseconds=7)) for m in range(HIGH_EVENTS())]
    past = [event(SINCE - timedelta(days=3, minutes=m, microseconds=7)) for m in range(HIGH_EVENTS())]
    store = store_of(events_connection, events_database_url, [*rows, *past, *sent_again(past), *day, *sent_again(day)])
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.events) == ("high", HIGH_EVENTS())


def test_copies_spread_thinly_over_the_period_are_more_than_before(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = fanned_out(-40, 30, 21, 2, finer=True)
    copied = sent_again([row for number, row in enumerate(rows) if row.timestamp >= SINCE and number % 3 == 0])
    store = store_of(events_connection, events_database_url, rows + copied)
    findings = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert {finding.severity for finding in findings} <= {"high", "medium"}
    assert findings[0].severity == "high"
    assert sum(finding.events for finding in findings) == 30 * 20 + len(copied)


@pytest.mark.parametrize("finer", [False, True])
def test_equal_events_that_began_in_the_period_are_copies(
    events_connection: ddl.Connection, events_database_url: str, finer: bool
) -> None:
    rows = fanned_out(-40, 20, 16, 1, finer=finer) + fanned_out(20, 30, 17, finer=finer)
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.events) == ("high", 10 * 20 * 2)


def test_a_lesser_batch_within_a_grave_incident_is_part_of_it(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    busy = [event(SINCE + timedelta(days=3, seconds=second)) for second in range(HIGH_EVENTS() * 60)]
    rows = [*batch(HIGH_EVENTS(), 1), *batch(MIN_BATCH_EVENTS(), 3), *busy, *batch(HIGH_EVENTS(), 4)]
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(), checks=["look_alikes"]).findings
    store.close()
    assert (finding.severity, finding.events) == ("high", 2 * HIGH_EVENTS() + MIN_BATCH_EVENTS())
