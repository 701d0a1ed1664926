"""Unit errors: found where every quantity is multiplied, on the very days, and nowhere where quantities merely vary."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Context, Decimal
from fractions import Fraction

import pytest

from support.check_results import examine, shown
from support.plain_events import JUNE, SINCE, SMALL, UNTIL, beside, event, september, store_of, total
from support.query_oracle import Row
from usage_explore.db import ddl
from usage_explore.validation.checks.unit_errors import (
    FACTORS,
    MIN_DAILY_EVENTS,
    MIN_HISTORY_DAYS,
    Day,
    factor_words,
    unit_errors,
)

DAY = timedelta(days=1)
DIGITS = Context(prec=25)
SHAPES: dict[str, Callable[[random.Random], float]] = {
    "heavy-tailed": lambda draw: draw.lognormvariate(6, 1.5),
    "two models": lambda draw: draw.lognormvariate(2, 0.3) if draw.random() < 0.5 else draw.lognormvariate(9, 0.3),
    "narrow": lambda draw: draw.gauss(500, 20),
    "ones": lambda draw: 1.0,
}


def drawn(
    shape: str, seed: int, days: range, per_day: int, factor: Fraction = Fraction(1), **fields: object
) -> list[Row]:
    draw = random.Random(seed)
    rows = []
    for day in days:
        for _ in range(per_day):
            quantity = DIGITS.divide(
                Decimal(round(SHAPES[shape](draw) * 10**6)) * factor.numerator, Decimal(10**6 * factor.denominator)
            )
            rows.append(
                event(SINCE + day * DAY + timedelta(seconds=draw.randrange(86_400)), quantity=quantity, **fields)
            )
    return rows


@pytest.mark.each_value
@pytest.mark.parametrize("shape", ["heavy-tailed", "narrow", "ones"])
@pytest.mark.parametrize("factor", [*map(Fraction, FACTORS), *(Fraction(1, factor) for factor in FACTORS)])
def test_a_slip_is_one_finding_of_its_very_days(
    events_connection: ddl.Connection, events_database_url: str, shape: str, factor: Fraction
) -> None:
    usual = drawn(shape, 1, range(-14, 10), 40) + drawn(shape, 2, range(13, 30), 40)
    slipped = drawn(shape, 3, range(10, 13), 40, factor, external_cost_amount=Decimal("0.1"))
    others = drawn(shape, 4, range(-14, 30), 40, customer_id=SMALL)
    store = store_of(events_connection, events_database_url, usual + slipped + others + beside(slipped))
    (finding,) = store.validate(september(), checks=["unit_slips"]).findings
    assert (finding.severity, finding.customer_id, finding.metric_key) == ("high", JUNE, "tokens")
    assert finding.events == len(slipped) == shown(store, finding)
    assert finding.quantity == total(row.quantity for row in slipped)
    assert finding.since == min(row.timestamp for row in slipped)
    assert finding.until == max(row.timestamp for row in slipped) + timedelta(microseconds=1)
    assert dict(finding.facts)["cost without a currency"] == "12"
    store.close()


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (Fraction(60), "about 60 times those of the customer's days before, as a unit wrong by 60 makes them."),
        (Fraction(1, 100), "about 100 times smaller than those of the customer's days before, as a unit wrong by 100"),
        (Fraction(44), "about 44 times those of the customer's days before, which no usual unit explains: 60 comes"),
    ],
)
def test_a_unit_is_named_where_it_fits(
    events_connection: ddl.Connection, events_database_url: str, factor: Fraction, said: str
) -> None:
    rows = drawn("ones", 1, range(-14, 10), 40) + drawn("ones", 2, range(10, 13), 40, factor)
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(), checks=["unit_slips"]).findings
    assert said in finding.sentence
    store.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_what_merely_varies_is_no_slip(events_connection: ddl.Connection, events_database_url: str, shape: str) -> None:
    rows = [
        row
        for seed, per_day in enumerate((MIN_DAILY_EVENTS(), 20, 60))
        for row in drawn(shape, seed, range(-20, 30), per_day, metric_key=f"metric {seed}")
    ]
    store = store_of(events_connection, events_database_url, rows)
    result = examine(store, "unit_slips", september())
    store.close()
    assert result.is_clean
    assert result.outcome is not None
    assert result.outcome.looked_at == 90


def test_a_few_large_quantities_and_a_runaway_are_no_slip(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    usual = drawn("heavy-tailed", 1, range(-14, 30), 40)
    large = drawn("heavy-tailed", 2, range(20, 21), 9, Fraction(1_000))
    many = drawn("heavy-tailed", 3, range(15, 16), 4_000)
    store = store_of(events_connection, events_database_url, usual + large + many)
    assert examine(store, "unit_slips", september()).is_clean
    store.close()


def test_without_a_history_nothing_is_said(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = drawn("ones", 1, range(MIN_HISTORY_DAYS() - 1), 20) + drawn(
        "ones", 2, range(MIN_HISTORY_DAYS() - 1, MIN_HISTORY_DAYS()), 20, Fraction(1_000)
    )
    store = store_of(events_connection, events_database_url, rows)
    first, empty = (
        examine(store, "unit_slips", period)
        for period in (september(), september().replace(since=UNTIL, until=UNTIL + DAY))
    )
    store.close()
    assert first.outcome is not None
    assert empty.outcome is not None
    assert (first.outcome.findings, first.is_clean, first.is_partial) == ((), False, True)
    assert first.outcome.note.startswith("1 of 1 customers' metrics not judged")
    assert (empty.outcome.findings, empty.is_clean, empty.is_partial) == ((), False, False)


def test_a_slip_before_the_period_is_not_the_periods_and_is_not_learned_from(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    rows = drawn("narrow", 1, range(-20, -6), 20) + drawn("narrow", 2, range(-6, 4), 20, Fraction(60))
    store = store_of(events_connection, events_database_url, rows + drawn("narrow", 3, range(4, 30), 20))
    (finding,) = store.validate(september(), checks=["unit_slips"]).findings
    assert (finding.events, shown(store, finding)) == (80, 80)
    assert finding.since >= SINCE
    store.close()


@pytest.mark.parametrize("exponent", [-900, 900])
def test_numbers_beyond_floats_are_judged_too(exponent: int) -> None:
    def day(number: int, factor: int) -> Day:
        quantity = Decimal(factor).scaleb(exponent)
        return Day(number, (quantity, quantity, quantity), 10, quantity, SINCE, SINCE)

    usual = [day(number, 1) for number in range(MIN_HISTORY_DAYS())]
    (error,) = unit_errors([*usual, day(MIN_HISTORY_DAYS(), 1_024), day(MIN_HISTORY_DAYS() + 1, 1)])
    assert (error.factors, error.multiplies, [each.number for each in error.days]) == (
        (1_024,),
        True,
        [MIN_HISTORY_DAYS()],
    )
    assert error.corrected(error.days[0].quantity) == usual[0].quantity


def test_a_slip_of_few_events_that_are_most_of_the_quantity_is_high(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    usual = drawn("narrow", 1, range(-14, 10), 40) + drawn("narrow", 2, range(11, 30), 40)
    slipped = drawn("narrow", 3, range(10, 11), 10, Fraction(1000))
    store = store_of(events_connection, events_database_url, usual + slipped)
    (finding,) = store.validate(september(), checks=["unit_slips"]).findings
    assert (finding.severity, finding.events) == ("high", 10)
    store.close()


@pytest.mark.parametrize(
    ("shape", "per_day", "slipped_days", "factor", "words"),
    [
        ("ones", 12, 1, 1_000, "a unit wrong by 1,000 makes"),
        ("ones", 12, 1, 1_024, "a unit wrong by 1,024 makes"),
        ("narrow", 12, 1, 1_000, "a unit wrong by 1,000 or 1,024 makes"),
        ("narrow", 12, 1, 60, "a unit wrong by 60 makes"),
        ("narrow", 200, 10, 1_000, "a unit wrong by 1,000 makes"),
        ("narrow", 200, 10, 1_024, "a unit wrong by 1,024 makes"),
    ],
)
@pytest.mark.parametrize("multiplies", [True, False])
def test_it_names_the_factors_that_the_quantities_cannot_tell_apart(
    shape: str, per_day: int, slipped_days: int, factor: int, words: str, multiplies: bool
) -> None:
    draw = random.Random(7)

    def day(number: int, factor: Fraction) -> Day:
        quantities = sorted(
            DIGITS.divide(Decimal(SHAPES[shape](draw)) * factor.numerator, Decimal(factor.denominator))
            for _ in range(per_day)
        )
        quartiles = [quantities[per_day * part // 4] for part in (1, 2, 3)]
        return Day(number, quartiles, per_day, sum(quantities, Decimal(0)), SINCE, SINCE)

    slip = Fraction(factor) if multiplies else Fraction(1, factor)
    (error,) = unit_errors(day(number, slip if number >= 28 else Fraction(1)) for number in range(28 + slipped_days))
    assert error.multiplies == multiplies
    assert f"a unit wrong by {factor_words(error.factors)} makes" == words
