"""Unrated usage: what lacks something that such events have, told of whom it concerns; nothing that never had it."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from support.billing_events import CUSTOMERS, PRODUCT, SEPTEMBER, SINCE, UNTIL, event, steady, store_of
from support.check_results import examine, shown
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.demo import Incident
from usage_explore.query.queries import Period
from usage_explore.validation import Finding
from usage_explore.validation.check import Outcome
from usage_explore.validation.decided import decided
from usage_explore.validation.review import recorded

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
COLUMNS = {"price": "price_key", "product": "product_id", "subscription": "subscription_id"}


def outcome(store: Store, period: Period = SEPTEMBER) -> Outcome:
    found = examine(store, "unrated", period).outcome
    assert found is not None
    return found


def of(findings: tuple[Finding, ...], what: str) -> list[Finding]:
    return [each for each in findings if dict(each.facts)["missing"] == what]


def test_complete_usage_and_metrics_that_never_have_a_product_are_clean(events_database_url: str) -> None:
    events = steady(0, SINCE, UNTIL, HOUR) + steady(1, SINCE, UNTIL, HOUR, metric="jobs", product_id=None)
    with store_of(events_database_url, events) as store:
        assert outcome(store) == Outcome(looked_at=2)


@pytest.mark.parametrize("what", COLUMNS)
def test_here_and_there_is_one_finding_that_shows_every_event(events_database_url: str, what: str) -> None:
    draw = random.Random(1)
    events = [
        event(draw.randrange(5), SINCE + HOUR * each, draw.choice(["calls", "seats"]), quantity=Decimal(each))
        for each in range(700)
    ]
    lacking = set(draw.sample(range(700), 14))
    events = [
        dataclasses.replace(row, **{COLUMNS[what]: None}) if at in lacking else row for at, row in enumerate(events)
    ]
    with store_of(events_database_url, events) as store:
        (found,) = outcome(store).findings
        assert (found.severity, found.events, shown(store, found)) == ("medium", 14, 14)
        assert dict(found.facts)["missing"] == what
        assert "2.0 %" in found.sentence


@pytest.mark.parametrize("what", COLUMNS)
def test_a_customer_that_suddenly_lacks_it_is_found_with_the_days(events_database_url: str, what: str) -> None:
    events = [each for who in range(4) for each in steady(who, SINCE, UNTIL, HOUR)]
    days = (SINCE + 10 * DAY, SINCE + 14 * DAY)
    events = [
        dataclasses.replace(row, **{COLUMNS[what]: None})
        if row.customer_id == CUSTOMERS[2] and days[0] <= row.timestamp < days[1]
        else row
        for row in events
    ]
    with store_of(events_database_url, events) as store:
        (found,) = outcome(store).findings
        assert (found.customer_id, found.metric_key) == (CUSTOMERS[2], "calls")
        assert found.severity == ("medium" if what == "product" else "high")
        assert (found.events, found.quantity, shown(store, found)) == (96, Decimal(96), 96)
        assert (found.since, found.until) == (days[0], days[1] - HOUR + timedelta(microseconds=1))
        assert found.share == Decimal(96) / Decimal(4 * 720)


def test_one_customer_alone_is_not_called_clean(events_database_url: str) -> None:
    """The customer's page lists its calls without a price, found beside others; alone they were "clean"."""
    events = [each for who in range(4) for each in steady(who, SINCE, UNTIL, HOUR)]
    events += steady(2, SINCE, UNTIL, HOUR, metric="seats")
    events = [
        dataclasses.replace(row, price_key=None)
        if row.customer_id == CUSTOMERS[2] and row.metric_key == "calls"
        else row
        for row in events
    ]
    with store_of(events_database_url, events) as store:
        (found,) = outcome(store).findings
        assert (found.events, found.severity) == (720, "high")
        alone = outcome(store, SEPTEMBER.replace(customer_id=CUSTOMERS[2]))
        assert (alone.findings, alone.looked_at, alone.is_partial) == ((), 1, True)
        assert alone.note.startswith("720 events of calls have no price: whether such events otherwise have one")


def test_a_customer_without_subscriptions_is_another_story(events_database_url: str) -> None:
    events = [each for who in range(5) for each in steady(who, SINCE, UNTIL, HOUR)]
    events = [
        dataclasses.replace(row, subscription_id=None) if row.customer_id == CUSTOMERS[0] or at % 70 == 3 else row
        for at, row in enumerate(events)
    ]
    lacking = Counter(row.customer_id for row in events if row.subscription_id is None)
    with store_of(events_database_url, events) as store:
        never, here = sorted(outcome(store).findings, key=lambda each: -each.events)
        assert "never had a subscription" in never.sentence
        assert (never.events, shown(store, never)) == (720, 720)
        assert (here.events, shown(store, here)) == ((lacking.total() - 720,) * 2)


def test_a_decision_on_events_here_and_there_is_none_on_customers_that_never_had_it(events_database_url: str) -> None:
    """Both are on several customers, and the time of one contains the other's: a decision on one settled the other."""
    events = [each for who in range(6) for each in steady(who, SINCE, UNTIL, HOUR)]
    events = [
        dataclasses.replace(row, subscription_id=None)
        if row.customer_id in CUSTOMERS[:2] or (at % 3 == 1 and SINCE + DAY < row.timestamp < UNTIL - DAY)
        else row
        for at, row in enumerate(events)
    ]
    with store_of(events_database_url, events) as store:
        validation = store.validate(SEPTEMBER, checks=["unrated"])
        never, here = sorted(validation.findings, key=lambda each: "never" not in each.sentence)
        assert never.events < 2 * here.events, "a decision on one would count for the other"
        store.decide_all([here], "acknowledge", by="Ana")
        assert [item.finding for item in store.review(validation).items if item.is_open] == [never]
        known = [finding for finding in recorded(validation.findings) if finding.identity.kind != here.kind]
        (alone,) = decided(known, store.decisions(), datetime.now(UTC))
        assert alone.settled is None


def test_what_many_lack_is_told_by_metric(events_database_url: str) -> None:
    events = [each for who in range(30) for each in steady(who, SINCE, SINCE + 4 * DAY, HOUR)]
    events = [
        dataclasses.replace(row, price_key=None)
        if row.customer_id in CUSTOMERS[:12] and row.timestamp >= SINCE + 3 * DAY
        else row
        for row in events
    ]
    with store_of(events_database_url, events) as store:
        (found,) = outcome(store).findings
        assert (found.customer_id, found.metric_key, found.events) == (None, "calls", 12 * 24)
        assert shown(store, found) == found.events
        assert "12 customers" in found.sentence


def test_hostile_names_and_the_periods_own_filters(events_database_url: str) -> None:
    hostile = ["", "a,b\\", "\x1b[2J<script>", "x" * 3000]
    events: list[Row] = []
    for metric in hostile:
        events += steady(0, SINCE, SINCE + 2 * DAY, HOUR, metric=metric, price_key=None)
        events += [each for who in (1, 2) for each in steady(who, SINCE, SINCE + 2 * DAY, HOUR, metric=metric)]
    period = SEPTEMBER.replace(exclude={"customer_id": [str(CUSTOMERS[2])]})
    with store_of(events_database_url, events) as store:
        (found,) = outcome(store, period).findings
        assert found.customer_id == CUSTOMERS[0]
        assert (found.events, shown(store, found)) == (4 * 48, 4 * 48)
        assert "\x1b" not in found.sentence


def test_the_demo_lacks_a_little_here_and_there_and_nothing_grave(
    planted_demo: tuple[Store, Period, list[Incident]],
) -> None:
    store, period, _ = planted_demo
    found = outcome(store, period).findings
    assert not [each for each in found if each.severity == "high"]
    assert len(found) <= 8
    for what in COLUMNS:
        assert of(found, what)
    for each in found:
        assert shown(store, each) == each.events


def test_a_period_filtered_by_what_is_missing_keeps_its_filter(events_database_url: str) -> None:
    events = [each for who in range(3) for each in steady(who, SINCE, UNTIL, HOUR)]
    unpriced = [
        event(0, SINCE + 5 * DAY + timedelta(minutes=each), price_key=None, product_id=None if each < 50 else PRODUCT)
        for each in range(80)
    ]
    rest = [event(0, SINCE + HOUR * each + timedelta(minutes=1), product_id=None) for each in range(400)]
    with store_of(events_database_url, [*events, *unpriced, *rest]) as store:
        period = SEPTEMBER.replace(missing="product_id")
        found = outcome(store, period)
        (price,) = of(found.findings, "price")
        assert (price.events, price.quantity, shown(store, price)) == (50, Decimal(50), 50)
        assert not of(found.findings, "product")
        assert found.note == "the period is filtered to what has no product: whether it should is not judged"
        nothing = outcome(store, SEPTEMBER.replace(missing=("subscription_id", "product_id")))
        assert not of(nothing.findings, "subscription")


def test_a_part_of_several_metrics_is_called_the_largest(events_database_url: str) -> None:
    events = [
        each for who in range(4) for name in ("calls", "") for each in steady(who, SINCE, UNTIL, HOUR, metric=name)
    ]
    lacking = [event(5, SINCE + HOUR * each, "calls", price_key=None) for each in range(30)]
    lacking += [event(5, SINCE + HOUR * each, "", price_key=None if each < 30 else "p") for each in range(40)]
    other = [event(5, SINCE + HOUR * each, "never", price_key=None) for each in range(30)]
    with store_of(events_database_url, [*events, *lacking, *other]) as store:
        (found,) = outcome(store).findings
        assert found.events == 60, "what cannot be asked for is counted all the same"
        assert "up to 100 % of a customer's usage of a metric" in found.sentence


BARE = {"price_key": None, "product_id": None, "subscription_id": None}


def test_what_the_organization_never_has_is_not_missing(events_database_url: str) -> None:
    with store_of(events_database_url, steady(0, SINCE - 30 * DAY, UNTIL, HOUR, **BARE)) as store:
        result = examine(store, "unrated", SEPTEMBER)
        assert result.outcome is None
        assert result.skipped.startswith("no event of the organization has a price or a product or a subscription")


def test_what_it_has_is_still_judged(events_database_url: str) -> None:
    some = {**BARE, "price_key": "p"}
    events = steady(0, SINCE, UNTIL, HOUR, **some) + steady(1, SINCE, SINCE + DAY, HOUR, **BARE)
    with store_of(events_database_url, events) as store:
        found = outcome(store)
        assert [dict(each.facts)["missing"] for each in found.findings] == ["price"]
        assert "no event of the organization has a product or a subscription" in found.note


@pytest.mark.parametrize("what", COLUMNS)
def test_what_a_whole_period_lacks_and_events_before_have_is_one_finding(events_database_url: str, what: str) -> None:
    events = steady(0, SINCE - 30 * DAY, SINCE, HOUR) + steady(0, SINCE, UNTIL, HOUR, **{COLUMNS[what]: None})
    with store_of(events_database_url, events) as store:
        (found,) = outcome(store).findings
        assert (found.severity, found.events) == ("medium" if what == "product" else "high", 720)
        assert found.sentence.startswith(f"None of the 720 events of the period has a {what}, while events before it")
        assert shown(store, found) == 720
        before = outcome(store, SEPTEMBER.replace(since=SINCE - 10 * DAY, until=SINCE))
        assert before.findings == ()
