"""Faults at the edges of a period, at clock changes, or after one like them: named once, with what the period has."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest

from support.billing_events import event, store_of
from support.check_results import stayed_away
from support.query_oracle import Row, utc
from usage_explore.query.queries import AggregateQuery, Period
from usage_explore.validation import Finding

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST, LAST, AS_OF = utc(2026, 7, 27), utc(2026, 11, 8), utc(2026, 11, 9)
CUT = Period(since=utc(2026, 10, 3, 8), until=utc(2026, 11, 2, 8), as_of=AS_OF)
"""It begins at 08:00 and, so, within a day."""


def usage(seed: int = 5, customers: int = 3, hours: Sequence[int] = range(24), an_hour: int = 3) -> list[Row]:
    """Events of customers at these hours of each day, with quantities from 1 to 99."""
    draw = random.Random(seed)
    return [
        event(
            customer,
            at + draw.random() * HOUR,
            quantity=Decimal(draw.randint(1, 99)),
        )
        for customer in range(customers)
        for number in range((LAST - FIRST) // HOUR)
        if (at := FIRST + number * HOUR).hour in hours
        for _ in range(draw.choice([an_hour - 1, an_hour, an_hour + 1]))
    ]


def findings(url: str, rows: Iterable[Row], period: Period) -> tuple[Finding, ...]:
    with store_of(url, [*rows]) as store:
        return store.validate(period).findings


def more(rows: Iterable[Row], since: datetime, until: datetime, times: int) -> list[Row]:
    """The events of the first customer in a time that many times."""
    found = [row for row in rows if row.customer_id.int == 0xC0 and since <= row.timestamp < until]
    return [
        event(0, row.timestamp + number * timedelta(milliseconds=7), quantity=row.quantity + number % 5)
        for row in found
        for number in range(1, times)
    ]


def test_a_fault_before_a_period_that_begins_within_a_day_is_not_its(events_database_url: str) -> None:
    rows = usage()
    rows += more(rows, utc(2026, 10, 3), utc(2026, 10, 3, 7), 12)
    rows.append(event(1, utc(2026, 10, 3, 2), quantity=Decimal(-60_000)))
    assert findings(events_database_url, rows, CUT) == ()


def test_a_fault_on_the_cut_first_day_of_a_period_is(events_database_url: str) -> None:
    rows = usage()
    rows += more(rows, utc(2026, 10, 3, 9), utc(2026, 10, 3, 15), 12)
    (finding,) = findings(events_database_url, rows, CUT)
    assert finding.sentence.startswith("calls of customer 00000000-0000-0000-0000-0000000000c0 spiked, 3 Oct 2026")
    assert finding.events == sum(
        row.customer_id.int == 0xC0 and CUT.span[0] <= row.timestamp < utc(2026, 10, 4) for row in rows
    )


@pytest.mark.each_value
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
@pytest.mark.parametrize(
    ("since", "until"),
    [(utc(2026, 10, 24, 21), utc(2026, 10, 25, 18)), (utc(2026, 10, 31, 22), utc(2026, 11, 1, 20))],
)
def test_an_outage_over_a_clock_change_is_one_with_all_its_events(
    events_database_url: str, zone: str, since: datetime, until: datetime
) -> None:
    rows = usage(customers=2)
    gone = [row for row in rows if since <= row.timestamp < until]
    period = Period(since=utc(2026, 10, 5), until=utc(2026, 11, 7), timezone=zone, as_of=AS_OF)
    (finding,) = findings(events_database_url, [row for row in rows if row not in gone], period)
    assert finding.sentence.startswith("No customer has an event on ")
    assert finding.customer_id is None
    assert abs(stayed_away(finding) - len(gone)) <= 0.1 * len(gone)


@pytest.mark.each_value
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("moved", [0, 1, 3])
def test_a_nightly_job_by_another_clock_or_at_another_hour_lost_nothing(
    events_database_url: str, zone: str, moved: int
) -> None:
    """From a clock change on, or the 13th, its events come at hours at which there were none."""
    rows = usage(hours=[2], an_hour=60, customers=2)
    rows = [
        replace(row, timestamp=row.timestamp + moved * HOUR, ingested_at=row.ingested_at + moved * HOUR)
        if row.timestamp >= utc(2026, 10, 13)
        else row
        for row in rows
    ]
    period = Period(since=utc(2026, 10, 1), until=utc(2026, 11, 1), timezone=zone, as_of=AS_OF)
    assert findings(events_database_url, rows, period) == ()


def test_a_spike_just_before_an_outage_hides_it_not(events_database_url: str) -> None:
    rows = usage()
    rows += more(rows, utc(2026, 10, 13, 6), utc(2026, 10, 13, 8), 60)
    since, until = utc(2026, 10, 13, 8), utc(2026, 10, 13, 22)
    kept = [row for row in rows if not since <= row.timestamp < until]
    said = [one.sentence for one in findings(events_database_url, kept, Period(window="2026-10", as_of=AS_OF))]
    assert any(sentence.startswith("No customer has an event on 13 Oct 2026 08:00") for sentence in said)
    assert any("spiked, 13 Oct 2026" in sentence for sentence in said)


def test_an_outage_in_business_hours_is_no_drop_of_its_day_too(events_database_url: str) -> None:
    """Six of its nine hours are most of the day's usage, but a quarter of its time."""
    rows = usage(hours=range(8, 17), an_hour=7)
    since, until = utc(2026, 10, 20, 9), utc(2026, 10, 20, 15)
    kept = [row for row in rows if not since <= row.timestamp < until]
    (finding,) = findings(events_database_url, kept, Period(window="2026-10", as_of=AS_OF))
    assert finding.sentence.startswith("No customer has an event on 20 Oct 2026 09:00 to 20 Oct 2026 15:00")


def test_hours_without_any_event_while_usage_is_three_times_as_high_are_an_outage(events_database_url: str) -> None:
    rows = usage()
    level = [row for row in rows if utc(2026, 10, 6) <= row.timestamp < utc(2026, 10, 23)]
    rows += [replace(event(0, row.timestamp), customer_id=row.customer_id) for row in level for _ in range(2)]
    since, until = utc(2026, 10, 12, 8), utc(2026, 10, 13, 16)
    kept = [row for row in rows if not since <= row.timestamp < until]
    said = [one.sentence for one in findings(events_database_url, kept, Period(window="2026-10", as_of=AS_OF))]
    assert sum(sentence.startswith("No customer has an event on 12 Oct 2026 08:00") for sentence in said) == 1
    assert not any(sentence.startswith("Usage of customer") for sentence in said)


@pytest.mark.parametrize(
    ("earlier", "number", "is_found"), [(0, 9, True), (1, 9, True), (2, 9, True), (2, 4, False), (5, 9, False)]
)
def test_one_or_two_outsized_quantities_before_make_nine_not_usual(
    events_database_url: str, earlier: int, number: int, is_found: bool
) -> None:
    """They and the days that they make are one finding."""
    days = [utc(2026, 9, 25) - 3 * place * DAY for place in range(earlier)]
    days += [utc(2026, 10, 4) + 3 * place * DAY for place in range(number)]
    rows = usage() + [event(0, day + 9 * HOUR, quantity=Decimal(50_000)) for day in days]
    found = findings(events_database_url, rows, Period(window="2026-10", as_of=AS_OF))
    outsized = [one for one in found if one.check == "quantities"]
    assert bool(outsized) is is_found
    if is_found:
        assert found == (outsized[0],)
        assert (outsized[0].severity, outsized[0].events, outsized[0].quantity) == ("high", 9, 450_000)
        assert outsized[0].also_seen_by == ("shifts",)
        but = {0: "", 1: " but one", 2: " but two"}[earlier]
        assert f"times the largest{but} of the customer's weeks before, 99." in outsized[0].sentence


def test_days_without_one_of_many_outsized_quantities_are_no_drop(events_database_url: str) -> None:
    """They are on two days of three, so that these seem usual."""
    days = [utc(2026, 10, 1) + place * DAY for place in range(31) if place % 3]
    rows = usage() + [event(0, day + 9 * HOUR, quantity=Decimal(200_000)) for day in days]
    (finding,) = findings(events_database_url, rows, Period(window="2026-10", as_of=AS_OF))
    assert (finding.check, finding.severity, finding.events) == ("quantities", "high", len(days))


@pytest.mark.parametrize(
    ("since", "until", "zone", "unjudged"),
    [
        (utc(2026, 10, 13, 9), utc(2026, 10, 13, 9, 15), "UTC", {"shifts", "silence"}),
        (utc(2026, 10, 13, 9), utc(2026, 10, 13, 10), "UTC", {"shifts", "silence"}),
        (utc(2026, 10, 13, 9), utc(2026, 10, 13, 17, 30), "UTC", {"shifts", "silence"}),
        (utc(2026, 10, 13), utc(2026, 10, 14), "UTC", set()),
        (utc(2026, 10, 24, 22), utc(2026, 10, 25, 23), "Europe/Berlin", set()),
        (utc(2026, 10, 25), utc(2026, 10, 25, 2), "Europe/Berlin", {"shifts", "silence"}),
        (utc(2026, 11, 1, 4), utc(2026, 11, 2, 5), "America/New_York", set()),
        (utc(2026, 10, 12, 18, 15), utc(2026, 10, 13, 18, 15), "Asia/Kathmandu", set()),
        (AS_OF - 400 * DAY, AS_OF, "UTC", {"quantities"}),
    ],
)
def test_what_a_short_period_cannot_show_is_not_clean(
    events_database_url: str, since: datetime, until: datetime, zone: str, unjudged: set[str]
) -> None:
    rows = usage(an_hour=5)
    with store_of(events_database_url, rows) as store:
        validation = store.validate(Period(since=since, until=until, timezone=zone, as_of=AS_OF))
    assert not validation.failed
    assert validation.totals.events == sum(since <= row.timestamp < until for row in rows)
    partial = {result.check.name: result.outcome for result in validation.results if result.is_partial}
    assert unjudged <= partial.keys()
    if until - since < DAY:
        assert partial.keys() == unjudged
        assert all(outcome.note for outcome in partial.values() if outcome)


@pytest.mark.parametrize(("days", "bucket"), [(1, "hour"), (31, "day"), (400, "week")])
def test_a_finding_on_the_whole_period_is_shown_in_a_bucket_that_fits(
    events_database_url: str, days: int, bucket: str
) -> None:
    period = Period(since=utc(2026, 1, 1), until=utc(2026, 1, 1) + days * DAY)
    one = event(0, utc(2026, 1, 1, 3), quantity=Decimal(5))
    line = {"customer_id": str(one.customer_id), "metric_key": one.metric_key, "quantity": "7"}
    with store_of(events_database_url, [one]) as store:
        (found,) = store.validate(period, checks=["reconciliation"], invoices=pd.DataFrame([line])).findings
        assert isinstance(found.question, AggregateQuery)
        assert found.question.bucket == bucket
