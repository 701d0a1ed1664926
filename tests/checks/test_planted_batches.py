"""The demo's batches: sent twice, held back, ahead of their time. Each is found by its check, to the event, alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from checks.examined import found
from servers import fresh_database
from usage_explore import Store, connect, demo, writing
from usage_explore.checks import Validation
from usage_explore.demo import Incident
from usage_explore.query import Period
from usage_explore.schema import events_table

UNTIL = datetime(2026, 11, 20, tzinfo=UTC)
DAYS, PER_DAY = 45, 3_000
CHECKS = {"duplicated_batch": "duplicates", "late_backfill": "late_arrivals", "future_batch": "impossible_times"}
QUIET = ("look_alikes", "quantities", "unit_slips")


@pytest.fixture(scope="module")
def planted(server_url: str, _template: str) -> Iterator[tuple[Store, list[Incident]]]:
    """The main organization of a demo with more than a cycle of incidents, and what was planted."""
    with fresh_database(server_url, _template) as url:
        with writing.connect(url) as connection:
            demo.append(connection, events_table(), until=UNTIL, days=DAYS, per_day=PER_DAY)
            incidents = demo.incidents(connection)
        store = connect(url, next(iter(demo.ORGANIZATIONS)))
        yield store, [incident for incident in incidents if incident.kind in CHECKS]
        store.close()


@pytest.fixture(scope="module")
def validation(planted: tuple[Store, list[Incident]]) -> Validation:
    period = Period(since=UNTIL - timedelta(days=DAYS), until=UNTIL, timezone="Europe/Berlin", as_of=UNTIL)
    return planted[0].validate(period, checks=[*CHECKS.values(), *QUIET])


def test_each_planted_batch_is_one_finding_to_the_event(
    planted: tuple[Store, list[Incident]], validation: Validation
) -> None:
    _, incidents = planted
    assert {incident.kind for incident in incidents} == set(CHECKS)
    for kind, check in CHECKS.items():
        notable = [finding for finding in found(validation, check) if finding.severity != "low"]
        expected = [incident for incident in incidents if incident.kind == kind]
        assert {(finding.customer_id, finding.events) for finding in notable} == {
            (incident.customer_id, incident.events) for incident in expected
        }
        for finding in notable:
            (mine,) = (each for each in expected if each.starts <= finding.since < finding.until <= each.ends)
            assert mine.customer_id == finding.customer_id


def test_what_was_sent_twice_is_high(validation: Validation) -> None:
    assert {finding.severity for finding in found(validation, "duplicates")} == {"high"}


def test_ordinary_usage_has_nothing_that_anybody_should_look_at(validation: Validation) -> None:
    assert [finding for finding in validation.findings if finding.check in QUIET and finding.severity != "low"] == []
    assert sum(finding.severity == "low" for finding in validation.findings) < 10
