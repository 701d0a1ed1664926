"""The demo's batches: sent twice, held back, ahead of their time. Each is found by its check, to the event, alone."""

from __future__ import annotations

import pytest

from support.check_results import found
from usage_explore import Store
from usage_explore.demo import Incident
from usage_explore.query.queries import Period
from usage_explore.validation import Validation

CHECKS = {"duplicated_batch": "duplicates", "late_backfill": "late_arrivals", "future_batch": "impossible_times"}
QUIET = ("look_alikes", "quantities", "unit_slips")


@pytest.fixture(scope="module")
def validation(planted_demo: tuple[Store, Period, list[Incident]]) -> Validation:
    store, period, _ = planted_demo
    return store.validate(period.replace(timezone="Europe/Berlin"), checks=[*CHECKS.values(), *QUIET])


def test_each_planted_batch_is_one_finding_to_the_event(
    planted_demo: tuple[Store, Period, list[Incident]], validation: Validation
) -> None:
    incidents = [incident for incident in planted_demo[2] if incident.kind in CHECKS]
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
