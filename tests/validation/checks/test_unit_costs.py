"""Unit costs off their usual: which events, and exactly how much more or less they cost."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, store_of
from support.check_results import examine, shown
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.decimals import plain
from usage_explore.demo import Incident
from usage_explore.query.queries import Period
from usage_explore.validation import Finding

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RATES = {("large", "USD"): Decimal("0.003"), ("large", "EUR"): Decimal("0.0028"), ("small", "USD"): Decimal("0.00001")}


def findings(store: Store, period: Period = SEPTEMBER) -> tuple[Finding, ...]:
    outcome = examine(store, "unit_costs", period).outcome
    assert outcome is not None
    return outcome.findings


def costed(customer: int, time: datetime, quantity: int, model: str, currency: str, **given: object) -> Row:
    return event(
        customer,
        time,
        quantity=Decimal(quantity),
        dimensions={"model": model, "key": f"k{time.timestamp()}"},
        external_cost_amount=given.pop("factor", 1) * RATES[model, currency] * quantity,  # type: ignore[operator]
        external_cost_currency=currency,
        **given,
    )


def ordinary(since: datetime, until: datetime) -> list[Row]:
    draw = random.Random(3)
    hours = (until - since) // HOUR
    return [
        costed(draw.randrange(5), since + HOUR * at, draw.randrange(1, 9_000), *draw.choice(list(RATES)))
        for at in range(hours)
        for _ in range(2)
    ]


def test_what_a_model_costs_differs_and_is_no_finding(events_database_url: str) -> None:
    with store_of(events_database_url, ordinary(SINCE - 30 * DAY, UNTIL)) as store:
        result = examine(store, "unit_costs", SEPTEMBER)
        assert result.is_clean
        assert result.outcome is not None
        assert result.outcome.looked_at == len(RATES)


def test_charges_that_are_taken_back_come_to_nothing_and_are_found(events_database_url: str) -> None:
    start = SINCE + 12 * DAY
    wrong = [costed(7, start + at * HOUR / 10, 100 * (-1) ** at, "large", "USD", factor=20) for at in range(60)]
    with store_of(events_database_url, [*ordinary(SINCE - 30 * DAY, UNTIL), *wrong]) as store:
        (found,) = findings(store)
        assert (found.events, found.quantity, found.amounts) == (60, Decimal(0), (("USD", Decimal(0)),))
        assert "about 20 times" in found.sentence
        assert found.severity == "high"
        assert found.share_of == f"cost in {found.amounts[0][0]}"


def test_a_usual_cost_of_as_many_credits_as_charges_is_what_each_of_them_costs(events_database_url: str) -> None:
    usual = [
        costed(0, SINCE - 20 * DAY + at * HOUR, (1000 if at else 1) * (-1) ** at, "large", "USD") for at in range(480)
    ]
    wrong = [costed(0, SINCE + DAY + at * HOUR / 10, 100, "large", "USD", factor=20) for at in range(60)]
    with store_of(events_database_url, [*usual, *wrong]) as store:
        (found,) = findings(store)
        assert found.amounts == (("USD", 19 * 60 * 100 * RATES["large", "USD"]),)


def test_the_excess_is_exact(events_database_url: str) -> None:
    start = SINCE + 12 * DAY
    wrong = [costed(7, start + at * HOUR / 10, 100 + at, "large", "USD", factor=1000) for at in range(60)]
    credit = costed(7, start, -50, "large", "USD", factor=1000)
    unknown = [event(7, start, external_cost_amount=Decimal(9)), event(7, start, external_cost_currency="USD")]
    events = [*ordinary(SINCE - 30 * DAY, UNTIL), *wrong, credit, *unknown]
    quantity = sum((row.quantity for row in [*wrong, credit]), Decimal(0))
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.severity, found.customer_id, found.metric_key) == ("high", CUSTOMERS[7], "calls")
        assert (found.events, found.quantity) == (61, quantity)
        assert (found.since, found.until) == (start, start + 59 * HOUR / 10 + timedelta(microseconds=1))
        assert found.amounts == (("USD", 999 * RATES["large", "USD"] * quantity),)
        assert dict(found.facts)["cost in USD"] == plain(1000 * RATES["large", "USD"] * quantity)
        assert "about 1,000 times" in found.sentence
        assert shown(store, found) == 61


def test_a_price_that_changed_for_good_is_told_by_the_history_before(events_database_url: str) -> None:
    cheaper = [
        costed(1, SINCE + at * HOUR, 1_000, "large", "EUR", factor=Decimal("0.05")) for at in range(24, 30 * 24, 6)
    ]
    with store_of(events_database_url, ordinary(SINCE - 30 * DAY, SINCE) + cheaper) as store:
        (found,) = findings(store)
        assert (found.severity, found.events) == ("high", len(cheaper))
        assert found.amounts == (("EUR", Decimal("-0.95") * Decimal("2.8") * len(cheaper)),)


def test_a_few_events_make_no_incident_and_a_little_more_no_finding(events_database_url: str) -> None:
    events = ordinary(SINCE - 30 * DAY, UNTIL)
    events += [costed(6, SINCE + DAY, 10, "small", "USD", factor=100) for _ in range(3)]
    events += [costed(6, SINCE + DAY, 10, "small", "USD", factor=Decimal("1.02")) for _ in range(30)]
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.severity, found.events) == ("low", 3)


@pytest.mark.parametrize("factor", ["0.95", "1.05"])
def test_five_percent_of_a_constant_unit_cost_are_one_finding(events_database_url: str, factor: str) -> None:
    """Of all customers, by night and day, with two days without an event: 30 events say what is constant."""
    events = [costed(at % 3, SINCE - 40 * HOUR + HOUR * at, 10 + at, "small", "USD") for at in range(40)]
    changed = [
        costed(at % 3, SINCE + DAY * day + HOUR * at, 10 + at, "small", "USD", factor=Decimal(factor))
        for day in (1, 2, 4, 5)
        for at in range(9)
    ]
    with store_of(events_database_url, events + changed) as store:
        (found,) = findings(store)
        assert (found.customer_id, found.events) == (None, len(changed))
        assert dict(found.facts)["times the usual cost"] == factor


def test_a_few_events_that_make_much_of_the_cost_are_not_low(events_database_url: str) -> None:
    events = ordinary(SINCE - 30 * DAY, UNTIL)
    events += [costed(6, SINCE + DAY, 100_000, "small", "USD", factor=100) for _ in range(3)]
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.severity, found.events) == ("medium", 3)


def test_numbers_no_float_can_hold_are_left_aside(events_database_url: str) -> None:
    huge = [event(0, SINCE, quantity=Decimal(1), external_cost_currency="USD", external_cost_amount=Decimal("1e400"))]
    tiny = [event(0, SINCE, quantity=Decimal("1e-400"), external_cost_currency="", external_cost_amount=Decimal(1))]
    with store_of(events_database_url, ordinary(SINCE, SINCE + 5 * DAY) + huge + tiny) as store:
        assert not findings(store)


def test_the_demos_mispriced_costs_are_found(planted_demo: tuple[Store, Period, list[Incident]]) -> None:
    store, period, incidents = planted_demo
    planted = [each for each in incidents if each.kind == "mispriced_cost"]
    found = findings(store, period)
    assert planted
    for incident in planted:
        (mine,) = [each for each in found if each.metric_key == incident.metric_key]
        assert mine.severity == "high"
        assert incident.starts <= mine.since
        assert mine.until <= incident.ends
        assert incident.events * 0.95 <= mine.events <= incident.events
    assert sum(each.severity == "high" for each in found) == len(planted)
