"""An incident is one finding: usage that stays away is a silence or a drop, never both."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, store_of
from support.database_servers import fresh_database
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.query.queries import Period

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BEFORE = SINCE - 63 * DAY
AWAY = SINCE + 10 * DAY
BOTH = ("calls", "seats")

PLANTED: dict[int, tuple[Sequence[str], datetime, datetime, float, str]] = {
    # customer: metrics, since, until, the part of the usage that is left there, and the check that reports it
    0: (BOTH, AWAY, AWAY + 5 * DAY, 0, "silence"),
    1: (("calls",), AWAY, AWAY + 4 * DAY, 0, "silence"),
    2: (BOTH, AWAY + 7 * HOUR, AWAY + 3 * DAY + 9 * HOUR, 0, "silence"),
    3: (BOTH, UNTIL - 6 * DAY, UNTIL + 9 * DAY, 0, "silence"),
    4: (BOTH, AWAY, AWAY + 12 * DAY, 0, "silence"),
    5: (BOTH, SINCE - 4 * DAY, SINCE + 4 * DAY, 0, "silence"),
    6: (("calls",), AWAY, AWAY + 4 * DAY, 0.1, "shifts"),
    7: (BOTH, AWAY, AWAY + DAY, 0, "silence"),  # 72 events of both metrics; shifts alone reports it too
}


def usage(ends: datetime, planted: dict[int, tuple[Sequence[str], datetime, datetime, float, str]]) -> list[Row]:
    draw, rows = random.Random(7), []
    for customer in range(14):
        metrics, since, until, left, _ = planted.get(customer, ((), ends, ends, 1, ""))
        pace = 6 if 0 < left < 1 else 1  # of few events a drop to a tenth is within the band
        for metric in BOTH:
            time = BEFORE + draw.random() * HOUR
            while time < ends:
                if not (metric in metrics and since <= time < until) or draw.random() < left:
                    rows.append(event(customer, time, metric))
                time += HOUR / pace * (0.5 + draw.random() / 3)
    return rows


@pytest.fixture(scope="module")
def planted(server_url: str, _template: str) -> Iterator[Store]:
    """A store on usage with all the planted incidents, which takes seconds to make."""
    with fresh_database(server_url, _template) as url, store_of(url, usage(UNTIL + 9 * DAY, PLANTED)) as store:
        yield store


@pytest.mark.parametrize("checks", [["silence", "shifts"], ["shifts", "silence"]])
def test_a_planted_incident_is_reported_by_one_check(planted: Store, checks: list[str]) -> None:
    findings = planted.validate(SEPTEMBER, checks=checks).findings
    got = sorted((found.customer_id, found.check) for found in findings)  # type: ignore[type-var]
    assert got == [(CUSTOMERS[customer], check) for customer, (*_, check) in sorted(PLANTED.items())]


def test_shifts_alone_leave_silences_to_their_check(planted: Store) -> None:
    findings = planted.validate(SEPTEMBER, checks=["shifts"]).findings
    assert {found.customer_id for found in findings} == {CUSTOMERS[6], CUSTOMERS[7]}


def test_where_the_data_ends_no_drop_is_reported_beside_it(events_database_url: str) -> None:
    period = Period(since=SINCE, until=UNTIL, as_of=UNTIL + DAY)
    with store_of(events_database_url, usage(UNTIL - 5 * DAY, {})) as store:
        (found,) = store.validate(period, checks=["silence", "shifts"]).findings
    assert (found.check, found.customer_id, found.is_general) == ("silence", None, True)


def test_a_drop_before_a_short_silence_is_reported_beside_it(events_database_url: str) -> None:
    rows = usage(UNTIL + 9 * DAY, {0: (BOTH, AWAY, AWAY + 4 * DAY, 0, "")})
    thinned = random.Random(8)
    kept = [
        row
        for row in rows
        if not (row.customer_id == CUSTOMERS[0] and AWAY - 9 * DAY <= row.timestamp < AWAY) or thinned.random() < 0.2
    ]
    with store_of(events_database_url, kept) as store:
        findings = store.validate(SEPTEMBER, checks=["silence", "shifts"]).findings
    assert sorted((found.customer_id, found.check) for found in findings) == [  # type: ignore[type-var]
        (CUSTOMERS[0], "shifts"),
        (CUSTOMERS[0], "silence"),
    ]
