"""One incident is one finding, with the exact events and amounts; two incidents stay two; a check alone reports."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, store_of
from support.plain_events import total
from support.query_oracle import Row
from usage_explore.validation import Finding, folding
from usage_explore.validation.registry import CHECKS

DAY = timedelta(days=1)
FINALIZED = UNTIL + 2 * DAY
PERIOD = SEPTEMBER.replace(finalized_at=FINALIZED)
PER_DAY = 12

Incident = Callable[[list[Row]], list[Row]]
"""Plants an incident in the rows, in place, and returns its events."""


def regular(customers: range = range(3)) -> list[Row]:
    """Twelve events a day of each customer, with quantities from 80 to 120 and costs by quantity."""
    draw = random.Random(5)
    rows = []
    for customer in customers:
        for day in range(-60, 31):
            for number in range(PER_DAY):
                quantity = Decimal(draw.randint(80, 120))
                at = SINCE + day * DAY + timedelta(seconds=86_400 / PER_DAY * (number + draw.random()))
                rows.append(
                    event(
                        customer,
                        at,
                        quantity=quantity,
                        external_cost_amount=quantity * Decimal("0.002"),
                        external_cost_currency="USD",
                        wallet_currency="USD",
                    )
                )
    return rows


def change(rows: list[Row], first: int, last: int, **changes: Callable[[Row], object]) -> list[Row]:
    """Change the first customer's events on the days from `first` to `last`."""
    mine = rows[0].customer_id
    places = [
        place
        for place, row in enumerate(rows)
        if row.customer_id == mine and SINCE + first * DAY <= row.timestamp < SINCE + (last + 1) * DAY
    ]
    for place in places:
        rows[place] = replace(rows[place], **{name: of(rows[place]) for name, of in changes.items()})
    return [rows[place] for place in places]


def times(factor: Decimal, first: int, last: int) -> Incident:
    return lambda rows: change(rows, first, last, quantity=lambda row: row.quantity * factor)


def late(rows: list[Row]) -> list[Row]:
    return change(rows, 29, 29, ingested_at=lambda row: FINALIZED + 2 * DAY)


def in_euros(rows: list[Row]) -> list[Row]:
    return change(rows, 13, 13, external_cost_currency=lambda row: "EUR")


def euro_wallet(rows: list[Row]) -> list[Row]:
    return change(rows, 13, 29, wallet_currency=lambda row: "EUR")


def unpriced(rows: list[Row]) -> list[Row]:
    return change(rows, 13, 13, price_key=lambda row: None)


def new_customer(rows: list[Row]) -> list[Row]:
    new = [
        replace(
            row,
            id=uuid4(),
            idempotency_key=str(uuid4()),
            customer_id=CUSTOMERS[9],
            subscription_id=None,
            timestamp=row.timestamp + timedelta(seconds=3),
            quantity=row.quantity + 1,
        )
        for row in change(rows, 13, 29)
    ]
    rows += new
    return new


def sent_again(first: int, last: int) -> Incident:
    def plant(rows: list[Row]) -> list[Row]:
        copies = [
            replace(row, id=uuid4(), ingested_at=row.ingested_at + timedelta(minutes=5))
            for row in change(rows, first, last)
        ]
        rows += copies
        return copies

    return plant


THOUSAND, THOUSANDTH = Decimal(1_000), Decimal("0.001")


@pytest.mark.parametrize(
    ("incident", "check", "also_seen_by"),
    [
        (times(THOUSAND, 13, 13), "unit_slips", ("quantities", "unit_costs")),
        (times(THOUSAND, 0, 29), "unit_slips", ("quantities", "unit_costs")),
        (times(THOUSANDTH, 13, 13), "unit_slips", ("unit_costs",)),
        (late, "after_finalization", ("late_arrivals",)),
        (new_customer, "new_usage", ("unrated",)),
        (in_euros, "currencies", ("wallets",)),
        (euro_wallet, "wallets", ()),
        (sent_again(13, 13), "duplicates", ()),
        (sent_again(0, 29), "duplicates", ("shifts",)),
    ],
)
def test_one_incident_is_one_finding(
    events_database_url: str, incident: Incident, check: str, also_seen_by: tuple[str, ...]
) -> None:
    rows = regular()
    events = incident(rows)
    with store_of(events_database_url, rows) as store:
        validation = store.validate(PERIOD)
        (finding,) = validation.findings
        alone = {name: store.validate(PERIOD, checks=[name]).findings for name in also_seen_by}
    assert (finding.check, finding.also_seen_by) == (check, also_seen_by)
    assert (finding.events, finding.quantity) == (len(events), total(row.quantity for row in events))
    assert finding.customer_id == events[0].customer_id
    assert finding.since == min(row.timestamp for row in events)
    assert finding.until == max(row.timestamp for row in events) + timedelta(microseconds=1)
    for name, folded in alone.items():
        (other,) = folded  # alone, the check reports
        assert not other.also_seen_by
        assert dict(finding.facts)[f"also seen by {name}"] == other.sentence
    severities = ("high", "medium", "low")
    (mine,) = store_findings(validation.to_dict(), check)
    assert mine["also_seen_by"] == list(also_seen_by)
    assert severities.index(finding.severity) <= min(
        (severities.index(other.severity) for (other,) in alone.values()), default=2
    )
    titles = "; ".join(CHECKS[name].title for name in also_seen_by)
    assert finding.sentence.endswith(f" Also seen by: {titles}.") == bool(also_seen_by)
    results = {each["check"]: each for each in validation.to_dict()["checks"]}
    assert {name for name, each in results.items() if each["reported_by"]} == set(also_seen_by)
    assert all(not result.is_clean for result in validation.results if result.check.name in also_seen_by)


def store_findings(validation: dict[str, object], check: str) -> list[dict[str, object]]:
    findings = validation["findings"]
    assert isinstance(findings, list)
    return [finding for finding in findings if finding["check"] == check]


def test_a_customer_whose_usage_goes_to_two_wallets_is_told_both_facts(events_database_url: str) -> None:
    rows = regular()
    events = euro_wallet(rows)
    with store_of(events_database_url, rows) as store:
        (finding,) = store.validate(PERIOD, checks=["wallets"]).findings
    assert finding.sentence.startswith(f"{len(events)} events of customer ")
    assert "cost us" in finding.sentence
    assert "goes to 2 wallets" in finding.sentence


def two(first: Incident, second: Incident) -> Incident:
    return lambda rows: [*first(rows), *second(rows)]


@pytest.mark.parametrize(
    ("incident", "checks"),
    [
        (two(sent_again(13, 13), times(THOUSAND, 13, 13)), ["duplicates", "unit_slips"]),
        (two(unpriced, times(THOUSAND, 13, 13)), ["unit_slips", "unrated"]),
        (
            two(late, lambda rows: change(rows, 13, 13, ingested_at=lambda row: SINCE + 20 * DAY)),
            ["after_finalization", "late_arrivals"],
        ),
        (
            two(
                times(THOUSAND, 13, 13),
                lambda rows: change(rows, 20, 20, external_cost_amount=lambda row: row.external_cost_amount * 10),
            ),
            ["unit_costs", "unit_slips"],
        ),
    ],
)
def test_two_incidents_stay_two_findings(events_database_url: str, incident: Incident, checks: list[str]) -> None:
    rows = regular()
    incident(rows)
    with store_of(events_database_url, rows) as store:
        findings: tuple[Finding, ...] = store.validate(PERIOD).findings
    assert sorted(finding.check for finding in findings) == checks


def test_regular_usage_has_no_finding(events_database_url: str) -> None:
    with store_of(events_database_url, regular()) as store:
        assert not store.validate(PERIOD).findings


def test_an_error_in_folding_leaves_every_finding_by_itself(
    events_database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended the whole validation."""

    def fails(findings: object, other: object) -> tuple[Finding, ...]:
        raise ZeroDivisionError

    rows = regular()
    times(THOUSAND, 13, 13)(rows)
    with store_of(events_database_url, rows) as store:
        folded = {finding.check for finding in store.validate(PERIOD).findings}
        monkeypatch.setattr(folding, "RULES", [replace(rule, explaining=fails) for rule in folding.RULES])
        findings = store.validate(PERIOD).findings
    assert folded < {finding.check for finding in findings}
    assert "could not be folded" in caplog.text
