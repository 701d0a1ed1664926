"""After finalization: the answer then beside the answer now, as the store itself gives both, to the last digit."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from support.check_results import examine
from support.plain_events import JUNE, SINCE, SMALL, UNTIL, beside, event, september, store_of, total
from support.query_oracle import Row
from usage_explore import AggregateQuery
from usage_explore.db import ddl
from usage_explore.decimals import plain
from usage_explore.validation.batches import MIN_BATCH_EVENTS

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
FINALIZED = UNTIL + DAY


def random_rows(seed: int) -> list[Row]:
    draw = random.Random(seed)
    return [
        event(
            when := SINCE + timedelta(hours=draw.randrange(-48, 800)),
            customer_id=draw.choice([JUNE, SMALL]),
            metric_key=draw.choice(["tokens", "calls"]),
            quantity=Decimal(draw.choice(["1", "-3", "12345678901234567890123456789.000000000001"])),
            ingested_at=max(when, FINALIZED + timedelta(microseconds=draw.choice([-1, 0, 1]))),
            external_cost_amount=draw.choice([None, Decimal("0.1")]),
            external_cost_currency=draw.choice([None, "EUR"]),
        )
        for _ in range(500)
    ]


def in_time(per_day: int) -> list[Row]:
    """Events of another customer that arrive as they occur, more than are late: those are no load of a file."""
    return [
        event(SINCE + day * DAY + number * MINUTE, customer_id=UUID(int=0xE0))
        for day in range(30)
        for number in range(per_day)
    ]


@pytest.mark.parametrize("seed", range(2))
def test_then_and_now_are_what_the_store_answers(
    events_connection: ddl.Connection, events_database_url: str, seed: int
) -> None:
    rows = random_rows(seed)
    store = store_of(events_connection, events_database_url, rows + beside(rows) + in_time(60))
    period = september(finalized_at=FINALIZED)
    outcome = examine(store, "after_finalization", period).outcome
    assert outcome is not None
    assert outcome.sheet is not None
    later: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if SINCE <= row.timestamp < UNTIL and row.ingested_at > FINALIZED:
            later[str(row.customer_id), row.metric_key].append(row)
    lines = {(line["customer_id"], line["metric_key"]): line for line in outcome.sheet.to_dict("records")}
    assert lines.keys() == later.keys()
    for (customer, metric), mine in later.items():
        line = lines[customer, metric]
        question = AggregateQuery(since=SINCE, until=UNTIL, customer_id=customer, metric_key=metric)
        then = question.replace(as_of=FINALIZED)
        assert line["events_later"] == len(mine)
        assert line["quantity_later"] == total(row.quantity for row in mine)
        assert line["events_then"] == store.aggregate(then).total
        assert line["quantity_then"] == store.aggregate(then.replace(metric="sum_quantity")).total
        assert line["events_now"] == store.aggregate(question).total
        assert line["quantity_now"] == store.aggregate(question.replace(metric="sum_quantity")).total
    assert {(str(each.customer_id), each.metric_key, each.events) for each in outcome.findings} == {
        (*key, len(mine)) for key, mine in later.items()
    }
    for finding in outcome.findings:
        assert isinstance(finding.question, AggregateQuery)
        assert (
            store.aggregate(finding.question).total
            == lines[str(finding.customer_id), finding.metric_key]["quantity_now"]
        )
        costs = [
            row.external_cost_amount
            for row in later[str(finding.customer_id), str(finding.metric_key)]
            if row.external_cost_currency == "EUR" and row.external_cost_amount is not None
        ]
        assert dict(finding.amounts).get("EUR", Decimal(0)) == total(costs)
    store.close()


@pytest.mark.parametrize(
    ("late", "usual", "severity"),
    [
        (MIN_BATCH_EVENTS(), 100, "high"),
        (MIN_BATCH_EVENTS(), 2_000, "medium"),
        (MIN_BATCH_EVENTS() - 1, 100, "low"),
        (MIN_BATCH_EVENTS() - 1, 1, "high"),
        (1, 5, "high"),
    ],
)
def test_what_changes_the_invoice_noticeably_is_high(
    events_connection: ddl.Connection, events_database_url: str, late: int, usual: int, severity: str
) -> None:
    rows = [event(SINCE + number * MINUTE, quantity=Decimal(1)) for number in range(usual)]
    rows += [
        event(SINCE + 9 * DAY + number * MINUTE, quantity=Decimal(1), ingested_at=FINALIZED + DAY)
        for number in range(late)
    ]
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(finalized_at=FINALIZED), checks=["after_finalization"]).findings
    store.close()
    assert (finding.severity, finding.events, finding.quantity) == (severity, late, Decimal(late))
    assert f"the quantity was {usual:,} then and is {usual + late:,} now" in finding.sentence


def test_without_a_finalization_it_is_skipped_and_says_why(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    store = store_of(events_connection, events_database_url, [])
    result = examine(store, "after_finalization", september())
    assert (result.outcome, result.skipped) == (None, "finalized_at was not given")
    result = examine(store, "after_finalization", september(finalized_at=FINALIZED))
    assert (result.skipped, result.failed, result.is_clean) == ("", "", False)
    assert result.outcome is not None
    assert result.outcome.findings == ()
    store.close()


def test_no_number_breaks_nothing(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = [
        event(
            SINCE + DAY, quantity=Decimal(odd), metric_key=metric, customer_id=UUID(int=9), ingested_at=FINALIZED + DAY
        )
        for metric, odd in (("nan", "NaN"), ("nan", "1"), ("infinite", "Infinity"), ("infinite", "-Infinity"))
    ]
    store = store_of(events_connection, events_database_url, rows + in_time(5))
    validation = store.validate(september(finalized_at=FINALIZED), checks=["after_finalization"])
    assert [each.events for each in validation.findings] == [2, 2]
    validation.to_dict()
    assert all(store.aggregate(each.question).total == 2 for each in validation.findings)  # type: ignore[arg-type]
    store.close()


def test_of_nothing_and_of_no_number_there_is_no_part(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    later = {"ingested_at": FINALIZED + DAY}
    rows = [event(SINCE + number * MINUTE, quantity=Decimal(3), **later) for number in range(20)]
    rows += [
        event(SINCE + number * MINUTE, customer_id=SMALL, quantity=Decimal("NaN"), **later) for number in range(20)
    ]
    store = store_of(events_connection, events_database_url, rows + in_time(5))
    findings = store.validate(september(finalized_at=FINALIZED), checks=["after_finalization"]).findings
    store.close()
    assert {each.sentence.partition("the quantity ")[2] for each in findings} == {
        "was 0 then and is 60 now.",
        "was NaN then and is NaN now.",
    }


@pytest.mark.parametrize("seed", range(2))
def test_what_a_period_finalized_before_its_end_goes_on_to_hold_is_one_finding(
    events_connection: ddl.Connection, events_database_url: str, seed: int
) -> None:
    draw = random.Random(seed)
    finalized = SINCE + 10 * DAY
    rows = [
        event(
            SINCE + draw.randrange(30 * 24 * 60) * MINUTE,
            customer_id=UUID(int=draw.randrange(40)),
            metric_key=draw.choice(["tokens", "calls"]),
            quantity=Decimal(draw.choice(["1", "-3", "12345678901234567890123456789.000000000001"])),
            external_cost_amount=Decimal("0.1"),
            external_cost_currency=draw.choice([None, "EUR"]),
        )
        for _ in range(600)
    ]
    rows += [event(SINCE + number * MINUTE, quantity=Decimal(2), ingested_at=finalized + DAY) for number in range(7)]
    store = store_of(events_connection, events_database_url, rows + beside(rows))
    outcome = examine(store, "after_finalization", september(finalized_at=finalized)).outcome
    assert outcome is not None
    (finding,) = outcome.findings
    later = [row for row in rows if row.ingested_at > finalized]
    assert (finding.severity, finding.events, finding.quantity) == ("high", len(later), None)
    euros = total(row.external_cost_amount or Decimal(0) for row in later if row.external_cost_currency == "EUR")
    assert finding.amounts == (("EUR", euros),)
    occurred = sum(row.timestamp <= finalized for row in later)
    assert f"; {occurred} of them had occurred by then." in finding.sentence
    assert "2026-09-11T00:00:00+00:00" in finding.sentence
    for metric in ("tokens", "calls"):
        mine = [row for row in later if row.metric_key == metric]
        told = f"{len(mine)} events, quantity {plain(total(row.quantity for row in mine))}"
        assert dict(finding.facts)[f"affected {metric}"] == told
    assert outcome.sheet is not None
    assert outcome.sheet["events_later"].sum() == len(later)
    assert store.aggregate(finding.question).total == len(rows)  # type: ignore[arg-type]
    assert "sheet alone" in outcome.note
    store.close()


def test_a_finalization_that_is_to_come_is_said(events_connection: ddl.Connection, events_database_url: str) -> None:
    store = store_of(events_connection, events_database_url, [event(SINCE + DAY)])
    result = examine(store, "after_finalization", september(finalized_at=FINALIZED, as_of=FINALIZED))
    store.close()
    assert result.is_clean
    assert result.outcome is not None
    assert "nothing can have arrived" in result.outcome.note
