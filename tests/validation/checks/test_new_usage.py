"""New usage without a subscription: seen for the first time in the period, and never with one."""

from __future__ import annotations

from datetime import timedelta

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, steady, store_of
from support.check_results import examine, shown
from usage_explore import Store
from usage_explore.demo import Incident
from usage_explore.query.queries import Period
from usage_explore.validation.check import Outcome

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LONG_AGO = SINCE - 80 * DAY


def outcome(store: Store, period: Period = SEPTEMBER) -> Outcome:
    found = examine(store, "new_usage", period).outcome
    assert found is not None
    return found


def test_who_and_what_is_new_without_a_subscription(events_database_url: str) -> None:
    start = SINCE + 10 * DAY
    events = steady(0, LONG_AGO, UNTIL, HOUR)
    events += steady(1, start, UNTIL, HOUR)  # new, but subscribed
    events += steady(2, start, UNTIL, HOUR, subscription_id=None)  # new, in two metrics
    events += steady(2, start, UNTIL, HOUR, metric="", subscription_id=None)
    events += steady(0, start, UNTIL, HOUR, metric="seats", subscription_id=None)  # known, new metric
    events += steady(3, LONG_AGO, UNTIL, DAY, subscription_id=None)  # known to have none
    events += steady(3, start, UNTIL, DAY, metric="jobs", subscription_id=None)
    events += steady(4, start, start + 9 * HOUR, HOUR, subscription_id=None)  # too few
    events += steady(5, start, UNTIL, HOUR, subscription_id=None)  # one event has one
    events += [event(5, start + DAY)]
    with store_of(events_database_url, events) as store:
        found = {each.customer_id: each for each in outcome(store).findings}
        assert found.keys() == {CUSTOMERS[0], CUSTOMERS[2], CUSTOMERS[3]}
        assert [found[CUSTOMERS[each]].severity for each in (0, 2, 3)] == ["high", "high", "low"]
        assert [found[CUSTOMERS[each]].metric_key for each in (0, 2, 3)] == ["seats", None, "jobs"]
        assert [found[CUSTOMERS[each]].events for each in (0, 2, 3)] == [480, 960, 20]
        assert all(shown(store, each) == each.events for each in found.values())
        assert found[CUSTOMERS[2]].since == start
        assert not outcome(store, SEPTEMBER.replace(as_of=start)).findings


def test_where_the_data_begins_nothing_is_new_and_that_is_said(events_database_url: str) -> None:
    events = steady(0, SINCE, UNTIL, HOUR, subscription_id=None)
    events += steady(1, SINCE + 13 * DAY, UNTIL, HOUR, subscription_id=None)
    events += steady(2, SINCE + 14 * DAY, UNTIL, HOUR, subscription_id=None)
    events += [event(0, UNTIL)]
    with store_of(events_database_url, events) as store:
        found = outcome(store)
        assert [each.customer_id for each in found.findings] == [CUSTOMERS[2]]
        assert "1–14 Sep 2026" in found.note


def test_an_empty_period_has_nothing_new(events_database_url: str) -> None:
    with store_of(events_database_url, []) as store:
        assert outcome(store) == Outcome()


def test_the_demo_has_nothing_grave(planted_demo: tuple[Store, Period, list[Incident]]) -> None:
    store, period, _ = planted_demo
    assert not [each for each in outcome(store, period).findings if each.severity == "high"]


def test_usage_filtered_to_what_has_no_subscription_says_nothing_of_subscriptions(events_database_url: str) -> None:
    events = steady(0, SINCE - timedelta(days=60), UNTIL, timedelta(hours=1))
    events += [event(0, SINCE + timedelta(days=5, minutes=each), subscription_id=None) for each in range(40)]
    with store_of(events_database_url, events) as store:
        found = examine(store, "new_usage", SEPTEMBER.replace(missing="subscription_id")).outcome
        assert found is not None
        assert found.findings == ()
        assert "is not seen" in found.note


def test_where_nobody_ever_has_a_subscription_it_is_skipped_with_the_reason(events_database_url: str) -> None:
    events = steady(0, LONG_AGO, UNTIL, HOUR, subscription_id=None)
    events += steady(2, SINCE + 10 * DAY, UNTIL, HOUR, subscription_id=None)
    with store_of(events_database_url, events) as store:
        result = examine(store, "new_usage", SEPTEMBER)
        assert result.outcome is None
        assert result.skipped.startswith("no event of the organization has a subscription")
