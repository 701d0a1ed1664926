"""Quantities: what is zero, negative or no number where it otherwise never is, and nothing that is usual."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from support.check_results import examine, shown
from support.plain_events import JUNE, SINCE, SMALL, beside, event, september, store_of, total
from support.query_oracle import Row
from support.thoroughness import seeds
from usage_explore import Store
from usage_explore.db import ddl
from usage_explore.query.describe import describe
from usage_explore.validation import Finding
from usage_explore.validation.batches import MIN_BATCH_EVENTS
from usage_explore.validation.checks.quantities import CHANCE_DEVIATIONS, MIN_OTHER_EVENTS

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def findings(store: Store, **parameters: object) -> tuple[Finding, ...]:
    outcome = examine(store, "quantities", september(**parameters)).outcome
    assert outcome is not None
    return outcome.findings


def on_day(day: int, number: int, **fields: object) -> list[Row]:
    return [event(SINCE + day * DAY + minute * MINUTE, **fields) for minute in range(number)]


def ordinary(customer_id: UUID, per_day: int = 60) -> list[Row]:
    return [row for day in range(20) for row in on_day(day, per_day, customer_id=customer_id, quantity=Decimal(100))]


def unusual(rows: list[Row]) -> dict[tuple[str, UUID, str], int]:
    """The events of each kind, customer and metric on the days that have more than was to be expected."""
    cells: dict[tuple[UUID, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        cells[row.customer_id, row.metric_key, (row.timestamp - SINCE).days].append(row)
    result: dict[tuple[str, UUID, str], int] = defaultdict(int)
    for kind, holds in (("zero", lambda row: row.quantity == 0), ("negative", lambda row: row.quantity < 0)):
        for (customer, metric, day), members in cells.items():
            events = sum(map(holds, members))
            same = [row for row in rows if row.metric_key == metric]
            own = [row for row in same if row.customer_id == customer and (row.timestamp - SINCE).days != day]
            others = [row for row in same if row.customer_id != customer]
            rates = [sum(map(holds, some)) / len(some) for some in (own, others) if some]
            expected = len(members) * max(rates, default=0.0)
            if len(others) >= MIN_OTHER_EVENTS() and not any(map(holds, others)):
                expected = 0.0
            of_customer = [row for row in same if row.customer_id == customer]
            taken = -total(row.quantity for row in members if holds(row))
            positive = total(row.quantity for row in of_customer if row.quantity > 0)
            is_large = kind == "negative" and 0 < positive <= 2 * taken
            if events and (
                is_large
                or not expected
                or events > expected + CHANCE_DEVIATIONS() * math.sqrt(expected) + CHANCE_DEVIATIONS() / 2
            ):
                result[kind, customer, metric] += events
    return result


@pytest.mark.parametrize("seed", seeds(range(3)))
def test_what_is_unusual_equals_the_oracle(
    events_connection: ddl.Connection, events_database_url: str, seed: int
) -> None:
    draw = random.Random(seed)
    rows = []
    for customer in (JUNE, SMALL, UUID(int=7)):
        for metric in ("tokens", "calls"):
            rates = draw.choice([0.0, 0.0, 0.01, 0.3]), draw.choice([0.0, 0.01])
            for day in range(8):
                burst = draw.random() < 0.1
                for row in on_day(day, 90, customer_id=customer, metric_key=metric, quantity=Decimal("2.5")):
                    chance = draw.random()
                    if burst or chance < rates[0]:
                        row = Row(**{**vars(row), "quantity": Decimal(0)})
                    elif chance > 1 - rates[1]:
                        row = Row(**{**vars(row), "quantity": Decimal("-12345678901234567890123456789.5")})
                    rows.append(row)
    store = store_of(events_connection, events_database_url, rows + beside(rows))
    found = {
        ("negative" if "is negative" in each.sentence else "zero", each.customer_id, each.metric_key): each.events
        for each in findings(store)
    }
    store.close()
    assert found == unusual(rows)


def test_credits_as_there_always_were_are_nothing_to_say(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = [
        event(row.timestamp, customer_id=row.customer_id, quantity=-row.quantity if number % 20 == 0 else row.quantity)
        for number, row in enumerate(ordinary(JUNE) + ordinary(SMALL))
    ]
    store = store_of(events_connection, events_database_url, rows)
    assert findings(store) == ()
    store.close()


@pytest.mark.parametrize(
    ("quantity", "number", "severity"),
    [
        ("0", 30, "medium"),
        ("0", MIN_BATCH_EVENTS() - 1, "low"),
        ("-1", MIN_BATCH_EVENTS() - 1, "low"),
        ("-1", 30, "medium"),
        ("-900", 30, "high"),
        ("-480000", 1, "high"),
        ("-20000", 1, "high"),
        ("-5000", 1, "low"),
    ],
)
def test_a_day_of_what_there_never_was_is_one_finding(
    events_connection: ddl.Connection, events_database_url: str, quantity: str, number: int, severity: str
) -> None:
    planted = on_day(12, number, quantity=Decimal(quantity), external_cost_amount=Decimal("0.5"))
    planted = [Row(**{**vars(row), "external_cost_currency": "EUR"}) for row in planted]
    store = store_of(events_connection, events_database_url, ordinary(JUNE) + ordinary(SMALL) + planted)
    (finding,) = findings(store)
    assert (finding.severity, finding.events, finding.customer_id) == (severity, number, JUNE)
    assert finding.quantity == total(row.quantity for row in planted)
    assert finding.amounts == (("EUR", Decimal("0.5") * number),)
    assert (finding.since, finding.until) == (planted[0].timestamp, planted[-1].timestamp + timedelta(microseconds=1))
    store.close()


def test_a_large_credit_is_not_hidden_by_those_of_others(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    """Nor by another one of the customer; what it had in the weeks before is usual."""
    large = [event(SINCE + day * DAY, quantity=Decimal(-480_000)) for day in (3, 12)]
    small = event(SINCE + DAY, customer_id=SMALL, quantity=Decimal(-1))
    rows = ordinary(JUNE) + ordinary(SMALL) + [*large, small]
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = findings(store)
    assert (finding.severity, finding.events, finding.customer_id) == ("high", 2, JUNE)
    assert finding.quantity == Decimal(-960_000)
    before = [event(row.timestamp - 25 * DAY, customer_id=row.customer_id, quantity=row.quantity) for row in rows]
    store.close()
    store = store_of(events_connection, events_database_url, before)
    assert findings(store) == ()
    store.close()


@pytest.mark.parametrize(("credit", "severity"), [("-480000", "high"), ("-20000", "high"), ("-5000", "low")])
def test_one_credit_that_is_much_of_the_month_is_high(
    events_connection: ddl.Connection, events_database_url: str, credit: str, severity: str
) -> None:
    planted = on_day(12, 1, quantity=Decimal(credit))
    store = store_of(events_connection, events_database_url, ordinary(JUNE) + ordinary(SMALL) + planted)
    (finding,) = findings(store)
    store.close()
    assert (finding.severity, finding.events, finding.customer_id) == (severity, 1, JUNE)


def test_single_credits_and_zeros_of_many_metrics_are_told_together(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    credits = [event(SINCE + day * DAY, metric_key=f"m{day}", quantity=Decimal("-0.001")) for day in range(12)]
    zeros = [
        event(SINCE + day * DAY, metric_key=f"z{day}", customer_id=customer, quantity=Decimal(0))
        for day, customer in enumerate((JUNE, SMALL, JUNE, SMALL))
    ]
    store = store_of(events_connection, events_database_url, ordinary(JUNE) + ordinary(SMALL) + credits + zeros)
    zero, negative = sorted(findings(store), key=lambda finding: finding.events)
    assert [(each.severity, each.events) for each in (zero, negative)] == [("low", 4), ("low", 12)]
    assert (zero.customer_id, negative.customer_id, negative.metric_key) == (None, JUNE, None)
    assert "12 events of 1 customer and 12 metrics, here and there: the quantity is negative" in negative.sentence
    assert shown(store, negative) == 12
    store.close()


@pytest.mark.parametrize("odd", ["NaN", "Infinity", "-Infinity"])
def test_what_cannot_be_summed_is_said_and_breaks_nothing(
    events_connection: ddl.Connection, events_database_url: str, odd: str
) -> None:
    planted = [event(SINCE + DAY, quantity=Decimal(odd)), event(SINCE + 9 * DAY, quantity=Decimal("NaN"))]
    store = store_of(events_connection, events_database_url, ordinary(JUNE) + planted)
    validation = store.validate(september(), checks=["quantities"])
    (finding,) = validation.findings
    assert (finding.severity, finding.events, finding.quantity) == ("high", 2, None)
    assert "no sum to bill" in finding.sentence
    written = validation.to_dict()["findings"][0]
    assert written["quantity"] is None
    assert written["query"] == describe(finding.question)
    assert shown(store, finding) == sum(finding.since <= row.timestamp < finding.until for row in ordinary(JUNE)) + 2
    store.close()


def sparse(
    customer: int, since: int = -60, until: int = 30, per_day: int = 4, seed: int = 1, sigma: float = 1
) -> list[Row]:
    """A few events a day of a customer, with log-normal quantities, before and in the period."""
    draw = random.Random(seed * 1_000 + customer)
    size = Decimal(10 ** draw.randrange(4))
    return [
        event(
            SINCE + day * DAY + number * (DAY / per_day),
            customer_id=UUID(int=customer),
            quantity=size * Decimal(f"{draw.lognormvariate(0, sigma):.6f}"),
        )
        for day in range(since, until)
        for number in range(per_day)
    ]


def multiplied(rows: list[Row], factor: int, first: int, days: float) -> list[Row]:
    """The rows, those of some days of the period with quantities too large by a factor."""
    since, until = SINCE + first * DAY, SINCE + (first + days) * DAY
    return [
        Row(**{**vars(row), "quantity": row.quantity * factor}) if since <= row.timestamp < until else row
        for row in rows
    ]


@pytest.mark.parametrize(
    ("per_day", "factor", "days", "least"),
    [(4, 1_000, 13, 50), (1, 100, 3, 1), (4, 100_000, 0.25, 1), (12, 100, 2, 6)],
)
def test_quantities_too_large_by_a_factor_are_found_among_few_events(
    events_connection: ddl.Connection, events_database_url: str, per_day: int, factor: int, days: float, least: int
) -> None:
    ordinary = [row for customer in range(1, 9) for row in sparse(customer, per_day=per_day, sigma=0.7)]
    planted = multiplied(sparse(9, per_day=per_day, sigma=0.5), factor, 10, days)
    store = store_of(events_connection, events_database_url, ordinary + planted)
    (finding,) = findings(store)
    assert (finding.severity, finding.customer_id) == ("high", UUID(int=9))
    assert least <= finding.events <= math.ceil(days * per_day)
    assert "far too large" in finding.sentence
    assert shown(store, finding) >= finding.events
    store.close()


@pytest.mark.each_value
@pytest.mark.parametrize("seed", seeds(range(3)))
@pytest.mark.parametrize("sigma", [0.2, 1, 1.5])
def test_quantities_that_differ_as_they_always_did_are_nothing_to_say(
    events_connection: ddl.Connection, events_database_url: str, seed: int, sigma: float
) -> None:
    rows = [row for customer in range(1, 41) for row in sparse(customer, per_day=2, seed=seed, sigma=sigma)]
    store = store_of(events_connection, events_database_url, rows)
    assert findings(store) == ()
    store.close()


def test_growth_is_no_more_than_medium(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = multiplied(sparse(1, sigma=0.2), 60, 2, 28)
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = findings(store)
    store.close()
    assert finding.severity == "medium"


def test_a_new_customer_is_compared_with_the_others_or_said_not_to_be_judged(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    others = [row for customer in range(1, 9) for row in sparse(customer, sigma=0.5)]
    new = multiplied(sparse(9, since=0, sigma=0.5), 10_000_000, 10, 1)
    store = store_of(events_connection, events_database_url, others + new)
    (finding,) = findings(store)
    store.close()
    assert (finding.severity, finding.events, finding.customer_id) == ("high", 4, UUID(int=9))


def test_what_has_no_history_is_counted_in_the_note(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = sparse(1) + multiplied(sparse(2, since=0), 100_000, 10, 1)
    store = store_of(events_connection, events_database_url, rows)
    outcome = examine(store, "quantities", september()).outcome
    store.close()
    assert outcome is not None
    assert (outcome.findings, outcome.is_partial) == ((), True)
    assert "was not judged for 1 of 2 customers' metrics" in outcome.note


@pytest.mark.parametrize(("share_before", "found"), [(0.5, []), (0.6, []), (0.1, ["high"]), (0.0, ["high"])])
def test_zeros_as_a_customer_always_had_are_nothing_to_say(
    events_connection: ddl.Connection, events_database_url: str, share_before: float, found: list[str]
) -> None:
    """Though others have none: "620 zeros, where about 643.8 would be usual" was high each month."""
    draw = random.Random(7)
    rows = []
    for day in range(-60, 30):
        share = share_before if day < 0 else 0.5
        for customer in (JUNE, SMALL, UUID(int=1)):
            zeros = [customer == JUNE and draw.random() < share for _ in range(40)]
            for minute, zero in enumerate(zeros):
                quantity = Decimal(0 if zero else 1 + minute % 20)
                rows.append(event(SINCE + day * DAY + 36 * minute * MINUTE, customer_id=customer, quantity=quantity))
    store = store_of(events_connection, events_database_url, rows)
    result = findings(store)
    store.close()
    assert [finding.severity for finding in result] == found


@pytest.mark.parametrize(("days", "found"), [(range(30), []), (range(13, 14), ["medium"])])
def test_no_more_zeros_than_before_are_a_finding_only_on_one_day(
    events_connection: ddl.Connection, events_database_url: str, days: range, found: list[str]
) -> None:
    """29 steady zeros after 36 and 32 were medium: counted on the days that have some, where fewer would be usual."""
    draw = random.Random(4)
    zeros = {(draw.randrange(*month), draw.randrange(40)) for month in ((-60, -30), (-30, 0)) for _ in range(34)}
    while sum(day >= 0 for day, _ in zeros) < 29:
        zeros.add((draw.choice(days), draw.randrange(40)))
    rows = [
        event(
            SINCE + day * DAY + 36 * minute * MINUTE,
            customer_id=customer,
            quantity=Decimal(0 if customer == JUNE and (day, minute) in zeros else 1 + minute % 20),
        )
        for day in range(-60, 30)
        for customer in (JUNE, SMALL, UUID(int=1))
        for minute in range(40)
    ]
    store = store_of(events_connection, events_database_url, rows)
    result = findings(store)
    store.close()
    assert [finding.severity for finding in result] == found


@pytest.mark.parametrize("others", [2, 8])
def test_usual_zeros_of_one_customer_do_not_hide_new_ones_of_another(
    events_connection: ddl.Connection, events_database_url: str, others: int
) -> None:
    draw = random.Random(4)
    rows = []
    for day in range(-60, 30):
        for customer in (JUNE, SMALL, *(UUID(int=number) for number in range(others))):
            share = 0.5 if customer == JUNE or (customer == SMALL and day >= 0) else 0.0
            for number in range(12):
                quantity = Decimal(0 if draw.random() < share else 1 + number)
                rows.append(event(SINCE + day * DAY + 110 * number * MINUTE, customer_id=customer, quantity=quantity))
    store = store_of(events_connection, events_database_url, rows)
    result = findings(store)
    store.close()
    assert SMALL in {finding.customer_id for finding in result if finding.severity == "high"}


@pytest.mark.parametrize(("history_days", "zeros"), [(60, 108), (60, 30), (6, 108)])
def test_a_period_of_zeros_is_not_learned_from(
    events_connection: ddl.Connection, events_database_url: str, history_days: int, zeros: int
) -> None:
    rows = sparse(1, since=-history_days, until=31)
    first = next(number for number, row in enumerate(rows) if row.timestamp >= SINCE)
    for number in range(zeros):
        place = first + number * (len(rows) - first) // zeros
        rows[place] = Row(**{**vars(rows[place]), "quantity": Decimal(0)})
    others = [row for customer in (2, 3) for row in sparse(customer)]
    store = store_of(events_connection, events_database_url, rows + others)
    (finding,) = findings(store)
    store.close()
    assert (finding.severity, finding.customer_id) == ("high" if zeros == 108 else "medium", UUID(int=1))
    assert finding.events == sum(row.quantity == 0 and row.timestamp < SINCE + 30 * DAY for row in rows)
    assert "the quantity is zero" in finding.sentence


def test_a_period_of_zeros_of_all_customers_is_not_taken_for_usual(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = [row for customer in (1, 2, 3) for row in sparse(customer, since=-60, until=31)]
    rows = [Row(**{**vars(row), "quantity": Decimal(0)}) if row.timestamp >= SINCE else row for row in rows]
    store = store_of(events_connection, events_database_url, rows)
    found = findings(store)
    store.close()
    assert {finding.customer_id for finding in found} == {UUID(int=1), UUID(int=2), UUID(int=3)}
    assert all("the quantity is zero" in finding.sentence for finding in found)


@pytest.mark.parametrize(("per_day", "expected"), [(20, "medium"), (2, "high")])
def test_zeros_of_a_customer_are_high_where_they_are_a_part_of_all_usage(
    events_connection: ddl.Connection, events_database_url: str, per_day: int, expected: str
) -> None:
    zeros = [event(SINCE + timedelta(days=day), quantity=Decimal(day < 0)) for day in range(-50, 11)]
    others = [row for day in range(30) for row in on_day(day, 10 * per_day, customer_id=SMALL)]
    store = store_of(events_connection, events_database_url, zeros + others)
    (finding,) = findings(store)
    store.close()
    assert (finding.severity, finding.events, finding.customer_id) == (expected, 11, JUNE)


def test_hostile_names_do_no_harm(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = [
        row
        for metric in ("", "\x1b[2J\u202e';--", "x" * 5_000)
        for row in on_day(3, 20, metric_key=metric, quantity=Decimal(0))
    ]
    store = store_of(events_connection, events_database_url, rows)
    found = findings(store)
    assert sorted(each.events for each in found) == [20, 20, 20]
    assert all(each.sentence.isprintable() for each in found)
    store.close()


def test_opposite_infinities_break_no_check(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = [
        event(SINCE + DAY, quantity=Decimal(odd), idempotency_key="again", external_cost_currency=currency)
        for odd, currency in (("Infinity", "EUR"), ("-Infinity", "USD"), ("NaN", None)) * MIN_BATCH_EVENTS()
    ]
    store = store_of(events_connection, events_database_url, rows)
    checks = ["duplicates", "look_alikes", "late_arrivals", "impossible_times", "quantities", "unit_slips"]
    validation = store.validate(september(), checks=checks)
    store.close()
    assert {each.check for each in validation.findings} == {"duplicates", "quantities"}
    validation.to_dict()
    assert all(each.share.is_finite() for each in validation.findings)


@pytest.mark.parametrize(
    ("others", "quantity", "words"),
    [(0, "5", ", so that nothing is left to bill."), (150, "5", ", 25.0 % of what is left to bill."), (1, "NaN", ".")],
)
def test_of_nothing_that_is_left_to_bill_there_is_no_part(
    events_connection: ddl.Connection, events_database_url: str, others: int, quantity: str, words: str
) -> None:
    rows = [event(SINCE + timedelta(minutes=number), quantity=Decimal(5), customer_id=SMALL) for number in range(2_000)]
    rows += [event(SINCE + timedelta(minutes=number), quantity=Decimal(-5)) for number in range(30)]
    rows += [event(SINCE + timedelta(days=1, minutes=number), quantity=Decimal(quantity)) for number in range(others)]
    store = store_of(events_connection, events_database_url, rows)
    found = store.validate(september(), checks=["quantities"]).findings
    store.close()
    (finding,) = [each for each in found if "negative" in each.sentence]
    assert finding.sentence.endswith(f"; they take 150 off{words}")


def with_nights(customer_id: UUID = JUNE, dead: tuple[int, ...] = (), seed: int = 1, noise: float = 0.0) -> list[Row]:
    """An event an hour for 80 days: zero at night and at weekends, on the `dead` days of the period always."""
    draw = random.Random(seed)
    times = [SINCE + day * DAY + hour * 60 * MINUTE for day in range(-50, 30) for hour in range(24)]
    return [
        event(
            time,
            customer_id=customer_id,
            quantity=Decimal(
                0
                if not 8 <= time.hour < 18 or time.weekday() > 4 or (time - SINCE).days in dead or draw.random() < noise
                else draw.randrange(1, 100)
            ),
        )
        for time in times
    ]


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4])
def test_zeros_at_night_are_usual(events_connection: ddl.Connection, events_database_url: str, noise: float) -> None:
    rows = with_nights(noise=noise) + with_nights(SMALL, seed=2, noise=noise)
    store = store_of(events_connection, events_database_url, rows)
    assert findings(store) == ()
    store.close()


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York"])
def test_zeros_by_day_are_not_hidden_by_those_at_night(
    events_connection: ddl.Connection, events_database_url: str, timezone: str
) -> None:
    working = [day for day in range(10, 17) if (SINCE + day * DAY).weekday() < 3]
    rows = with_nights(dead=tuple(working)) + with_nights(SMALL, seed=2)
    store = store_of(events_connection, events_database_url, rows)
    outcome = examine(store, "quantities", september(timezone=timezone)).outcome
    store.close()
    assert outcome is not None
    (finding,) = outcome.findings
    assert (finding.severity, finding.customer_id, finding.quantity) == ("medium", JUNE, 0)
    assert "zero" in finding.sentence
    first, last = SINCE + working[0] * DAY, SINCE + working[-1] * DAY
    assert first - DAY < finding.since <= first + 8 * 60 * MINUTE
    assert last + 17 * 60 * MINUTE < finding.until <= last + 2 * DAY
