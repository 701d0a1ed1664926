"""Duplicates: every event after a key's first arrival counts, wherever that first one lies, and nothing else."""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from support.check_results import examine, found, shown
from support.generated_events import ORGANIZATION
from support.plain_events import JUNE, SINCE, SMALL, UNTIL, beside, event, september, store_of, total
from support.query_oracle import Row
from support.thoroughness import seeds
from usage_explore.db import ddl
from usage_explore.decimals import plain
from usage_explore.errors import QueryError
from usage_explore.validation.batches import MAX_SMALL_CUSTOMERS, MIN_BATCH_EVENTS
from usage_explore.validation.check import MAX_FINDINGS_PER_CHECK
from usage_explore.validation.checks.duplicates import KEY_MARGIN
from usage_explore.validation.handover import pairs_csv

HOUR = timedelta(hours=1)


def superfluous(rows: list[Row]) -> list[Row]:
    """What arrived after another event with its key that lies in or around the period."""
    near = [row for row in rows if SINCE - KEY_MARGIN() <= row.timestamp < UNTIL + KEY_MARGIN()]
    arrived: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(near, key=lambda row: (row.ingested_at, row.timestamp, row.id)):
        arrived[row.idempotency_key].append(row)
    return [row for same in arrived.values() for row in same[1:] if SINCE <= row.timestamp < UNTIL]


def random_rows(seed: int) -> list[Row]:
    draw = random.Random(seed)
    rows = []
    for _ in range(600):
        when = SINCE - timedelta(days=20) + timedelta(seconds=draw.randrange(70 * 86_400))
        rows.append(
            event(
                when,
                customer_id=draw.choice([JUNE, SMALL]),
                metric_key=draw.choice(["tokens", "a\x1bb,'\"", ""]),
                quantity=Decimal(draw.choice(["1", "-0.5", "12345678901234567890123456789.000000001"])),
                ingested_at=when + draw.choice([timedelta(0), HOUR, timedelta(days=3)]),
                idempotency_key=f"k{draw.randrange(350)}",
                external_cost_amount=draw.choice([None, Decimal("0.000000000000001"), Decimal("7")]),
                external_cost_currency=draw.choice([None, "EUR", "USD"]),
            )
        )
    return rows


@pytest.mark.parametrize("seed", seeds(range(3)))
def test_what_is_superfluous_equals_the_oracle(
    events_connection: ddl.Connection, events_database_url: str, seed: int
) -> None:
    rows = random_rows(seed)
    store = store_of(events_connection, events_database_url, rows + beside(rows))
    result = examine(store, "duplicates", september())
    store.close()
    expected = superfluous(rows)
    assert expected
    assert result.outcome is not None
    findings = result.outcome.findings
    assert sum(finding.events for finding in findings) == len(expected)
    for currency in ("EUR", "USD"):
        costs = [row.external_cost_amount for row in expected if row.external_cost_currency == currency]
        amounts = [dict(finding.amounts).get(currency, Decimal(0)) for finding in findings]
        assert total(amounts) == total(cost for cost in costs if cost is not None)
    for finding in findings:
        if finding.metric_key is not None:
            mine = [
                row
                for row in expected
                if row.metric_key == finding.metric_key
                and finding.since <= row.timestamp < finding.until
                and finding.customer_id in (None, row.customer_id)
            ]
            assert finding.quantity is not None
            assert len(mine) >= finding.events


def test_a_batch_sent_twice_is_one_finding_with_its_exact_worth(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    ordinary = [event(SINCE + timedelta(minutes=10 * number)) for number in range(1_000)]
    sent = [
        event(SINCE + timedelta(days=10, minutes=number), metric_key=metric, external_cost_amount=Decimal("0.1"))
        for number in range(60)
        for metric in ("tokens", "calls")
    ]
    sent = [Row(**{**vars(row), "external_cost_currency": "EUR"}) for row in sent]
    again = [
        event(
            row.timestamp,
            **{
                name: getattr(row, name)
                for name in (
                    "metric_key",
                    "quantity",
                    "idempotency_key",
                    "external_cost_amount",
                    "external_cost_currency",
                )
            },
            ingested_at=row.ingested_at + 2 * HOUR,
        )
        for row in sent
    ]
    store = store_of(events_connection, events_database_url, [*again, *ordinary, *sent, *beside(again + sent)])
    validation = store.validate(september(), checks=["duplicates"])
    (finding,) = found(validation, "duplicates")
    assert (finding.severity, finding.events, finding.customer_id) == ("high", 120, JUNE)
    assert finding.since == sent[0].timestamp
    assert finding.until == sent[-1].timestamp + timedelta(microseconds=1)
    assert finding.amounts == (("EUR", Decimal("12.0")),)
    worth = total(row.quantity for row in sent if row.metric_key == "calls")
    assert dict(finding.facts)["affected calls"] == f"60 events, quantity {plain(worth)}"
    assert finding.share == worth / total(row.quantity for row in sent + again if row.metric_key == "calls")
    assert shown(store, finding) == 240  # the question shows the copies beside what they are copies of
    filtered = store.validate(september(metric_key="calls"), checks=["duplicates"])
    assert [each.events for each in filtered.findings] == [60]
    assert examine(store, "duplicates", september(as_of=sent[-1].ingested_at)).is_clean
    store.close()


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (SINCE - HOUR, MIN_BATCH_EVENTS()),
        (SINCE - KEY_MARGIN(), MIN_BATCH_EVENTS()),
        (SINCE - KEY_MARGIN() - HOUR, 0),
        (UNTIL, MIN_BATCH_EVENTS()),
    ],
)
def test_the_first_arrival_may_lie_outside_the_period(
    events_connection: ddl.Connection, events_database_url: str, first: object, expected: int
) -> None:
    keys = [f"again {number}" for number in range(MIN_BATCH_EVENTS())]
    outside = [event(first, ingested_at=SINCE - HOUR, idempotency_key=key) for key in keys]  # type: ignore[arg-type]
    inside = [event(SINCE + HOUR, idempotency_key=key) for key in keys]
    store = store_of(events_connection, events_database_url, inside + outside)
    findings = store.validate(september(), checks=["duplicates"]).findings
    store.close()
    assert sum(finding.events for finding in findings) == expected
    assert all(finding.severity == "medium" for finding in findings)  # other content under the same key


def test_further_batches_are_summed_in_the_note(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = [
        event(
            SINCE + 7 * number * HOUR,
            customer_id=UUID(int=number),
            quantity=Decimal("0.1"),
            idempotency_key=f"b{number}",
        )
        for number in range(MAX_FINDINGS_PER_CHECK + 2)
        for _ in range(MIN_BATCH_EVENTS() + 1)
    ]
    store = store_of(events_connection, events_database_url, rows)
    outcome = examine(store, "duplicates", september()).outcome
    store.close()
    assert outcome is not None
    assert len(outcome.findings) == MAX_FINDINGS_PER_CHECK
    assert outcome.note == f"2 more smaller batches, {2 * MIN_BATCH_EVENTS()} events: tokens 2"


def again(row: Row, **fields: object) -> Row:
    """The event sent again an hour later, with other fields where given."""
    return Row(**{**vars(row), "id": uuid4(), "ingested_at": row.ingested_at + HOUR, **fields})


@pytest.mark.parametrize(("weekends", "apart", "expected"), [(True, 1, 1), (False, 1, 1), (True, 5, 3)])
def test_copies_day_by_day_are_one_finding(
    events_connection: ddl.Connection, events_database_url: str, weekends: bool, apart: int, expected: int
) -> None:
    """Sent twice from nine to five: nights and weekends do not cut it, days between do."""
    days = [SINCE + timedelta(days=day, hours=9) for day in range(0, 14, apart)]
    days = [day for day in days if weekends or day.weekday() < 5]
    rows = [
        event(day + timedelta(minutes=10 * number), quantity=Decimal(1), idempotency_key=f"{day} {number}")
        for day in days
        for number in range(48)
        for _ in range(2)
    ]
    store = store_of(events_connection, events_database_url, rows)
    found = store.validate(september(), checks=["duplicates"]).findings
    store.close()
    assert [each.severity for each in found] == ["high"] * expected
    assert sum(each.events for each in found) == 48 * len(days)


def test_a_few_copies_are_told_together(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = [
        event(SINCE + timedelta(hours=number), customer_id=customer, quantity=Decimal(1))
        for number in range(100)
        for customer in (JUNE, SMALL)
    ]
    rows += [again(row) for row in rows[:10]]
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(), checks=["duplicates"]).findings
    store.close()
    assert (finding.severity, finding.events, finding.customer_id, finding.quantity) == (
        "high",
        10,
        None,
        Decimal(10),
    )
    assert "2 customers" in finding.sentence


def test_all_events_of_a_small_customer_sent_twice_are_its_own_high_finding(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    busy = [event(SINCE + timedelta(minutes=10 * number)) for number in range(1_000)]
    small = [event(SINCE + timedelta(days=3 * day), customer_id=SMALL) for day in range(9)]
    copies = [again(row) for row in small]
    store = store_of(events_connection, events_database_url, [*busy, again(busy[0]), *small, *copies])
    high, medium = store.validate(september(), checks=["duplicates"]).findings
    assert (high.severity, high.events, high.customer_id) == ("high", 9, SMALL)
    assert high.quantity == total(row.quantity for row in copies)
    assert "50.0 % of the customer's events of tokens in the period" in high.sentence
    assert shown(store, high) == 18
    assert (medium.severity, medium.events, medium.customer_id) == ("medium", 1, JUNE)
    assert f"of customer {JUNE}" in medium.sentence
    store.close()


@pytest.mark.parametrize("moved", [timedelta(0), HOUR, timedelta(days=9)])
@pytest.mark.parametrize(
    ("usual", "more", "severity"), [(900, 0, "high"), (1_100, 0, "medium"), (900, 1, "medium"), (5, 0, "high")]
)
def test_one_event_sent_again_is_high_where_it_is_billed_twice(
    events_connection: ddl.Connection,
    events_database_url: str,
    moved: timedelta,
    usual: int,
    more: int,
    severity: str,
) -> None:
    """From a thousandth of the customer's usage on; another content under its key may be a correction."""
    rows = [event(SINCE + timedelta(minutes=10 * number), quantity=Decimal(1)) for number in range(usual)]
    first = rows[3]
    copy = again(first, timestamp=first.timestamp + moved, quantity=first.quantity + more)
    store = store_of(events_connection, events_database_url, [*rows, copy])
    (finding,) = store.validate(september(), checks=["duplicates"]).findings
    store.close()
    assert (finding.severity, finding.events, finding.quantity) == (severity, 1, copy.quantity)


def test_single_copies_of_customers_with_little_and_much_usage_are_one_finding(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    """One of 100 events is high, one of 2,000 is medium: together they are high."""
    rows = [
        event(SINCE + timedelta(minutes=number), customer_id=customer, quantity=Decimal(1))
        for customer, events in ((SMALL, 100), (JUNE, 2_000))
        for number in range(events)
    ]
    store = store_of(events_connection, events_database_url, [*rows, again(rows[0]), again(rows[-1])])
    (finding,) = store.validate(september(), checks=["duplicates"]).findings
    store.close()
    assert (finding.severity, finding.events, finding.customer_id) == ("high", 2, None)


def test_many_small_customers_sent_twice_are_one_high_finding(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    small = [
        event(SINCE + timedelta(days=number), customer_id=UUID(int=0xF00 + number))
        for number in range(MAX_SMALL_CUSTOMERS() + 1)
    ]
    copies = [again(row) for row in small]
    store = store_of(events_connection, events_database_url, small + copies)
    (finding,) = store.validate(september(), checks=["duplicates"]).findings
    store.close()
    assert (finding.severity, finding.events, finding.customer_id) == ("high", MAX_SMALL_CUSTOMERS() + 1, None)
    assert f"{MAX_SMALL_CUSTOMERS() + 1} customers" in finding.sentence


def test_the_same_content_at_another_time_is_billed_twice(
    events_connection: ddl.Connection, events_database_url: str
) -> None:
    usual = [event(SINCE + timedelta(minutes=10 * number)) for number in range(1_000)]
    moved = [again(row, timestamp=row.timestamp + timedelta(days=2)) for row in usual[:20]]
    corrected = [again(row, quantity=row.quantity + 1) for row in usual[500:520]]
    store = store_of(events_connection, events_database_url, usual + moved + corrected)
    high, medium = store.validate(september(), checks=["duplicates"]).findings
    store.close()
    assert (high.severity, high.events, high.quantity) == ("high", 20, total(row.quantity for row in moved))
    assert "with the same content at another time: sent again with a new time, billed twice" in high.sentence
    assert (medium.severity, medium.events) == ("medium", 20)
    assert "a correction" in medium.sentence


def test_nothing_is_found_in_nothing(events_connection: ddl.Connection, events_database_url: str) -> None:
    store = store_of(events_connection, events_database_url, [])
    result = examine(store, "duplicates", september())
    store.close()
    assert result.outcome is not None
    assert result.outcome.findings == ()
    assert not result.is_clean  # nothing was examined


def test_the_rows_of_a_neighbour_are_no_duplicates(events_connection: ddl.Connection, events_database_url: str) -> None:
    mine = [event(SINCE + HOUR) for _ in range(MIN_BATCH_EVENTS())]
    store = store_of(events_connection, events_database_url, mine + beside(mine))
    assert store.organization_id == ORGANIZATION
    assert examine(store, "duplicates", september()).is_clean
    store.close()


@pytest.mark.parametrize(
    ("copies", "apart", "words"),
    [
        ([1] * 12, timedelta(0), "the same content: sent twice, billed twice;"),
        ([2] * 12, timedelta(0), "the same content: sent 3 times, billed 3 times;"),
        ([1, 3] * 6, timedelta(0), "the same content: sent up to 4 times, billed up to 4 times;"),
        ([2] * 12, timedelta(minutes=1), "at another time: sent again with a new time, billed 3 times;"),
    ],
)
def test_the_sentence_says_how_often_the_events_were_sent(
    events_connection: ddl.Connection, events_database_url: str, copies: list[int], apart: timedelta, words: str
) -> None:
    rows = [
        event(
            SINCE + timedelta(hours=number) + copy * apart,
            quantity=Decimal(5),
            idempotency_key=f"k{number}",
            ingested_at=SINCE + timedelta(days=2, minutes=copy),
        )
        for number, extra in enumerate(copies)
        for copy in range(extra + 1)
    ]
    store = store_of(events_connection, events_database_url, rows)
    (finding,) = store.validate(september(), checks=["duplicates"]).findings
    store.close()
    assert words in finding.sentence
    assert (finding.events, finding.quantity) == (sum(copies), 5 * sum(copies))


@pytest.mark.parametrize("seed", range(2))
def test_the_pairs_of_all_findings_are_the_superfluous_events_beside_those_that_count(
    events_connection: ddl.Connection, events_database_url: str, seed: int
) -> None:
    rows = random_rows(seed)
    store = store_of(events_connection, events_database_url, rows + beside(rows))
    validation = store.validate(september(), checks=["duplicates"])
    arrived: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.ingested_at, row.timestamp, row.id)):
        if SINCE - KEY_MARGIN() <= row.timestamp < UNTIL + KEY_MARGIN():
            arrived[row.idempotency_key].append(row)
    pairs = [(same[0], copy) for same in arrived.values() for copy in same[1:]]
    expected = {str(copy.id): (kept, copy) for kept, copy in pairs if SINCE <= copy.timestamp < UNTIL}
    seen: dict[str, dict[str, str]] = {}
    for finding in validation.findings:
        frame = store.duplicate_pairs(validation, finding)
        written = list(csv.DictReader(io.StringIO(pairs_csv(frame).decode(), newline="")))
        # other findings of the customer and kind may lie in the same time
        assert len(written) == len(frame) >= finding.events
        seen |= {line["copy_id"]: line for line in written}
    store.close()
    assert seen.keys() == expected.keys()
    for id_, line in seen.items():
        for side, row in zip(("kept", "copy"), expected[id_], strict=True):
            assert line[f"{side}_id"] == str(row.id)
            assert line["idempotency_key"] == row.idempotency_key
            assert line[f"{side}_customer_id"] == str(row.customer_id)
            assert line[f"{side}_metric_key"] == row.metric_key
            assert line[f"{side}_quantity"] == plain(row.quantity)
            cost = row.external_cost_amount
            assert line[f"{side}_external_cost_amount"] == ("" if cost is None else plain(cost))
            assert line[f"{side}_external_cost_currency"] == (row.external_cost_currency or "")
            for time in ("timestamp", "ingested_at"):
                assert datetime.fromisoformat(line[f"{side}_{time}"]) == getattr(row, time)


def test_pairs_are_of_duplicates_only(events_connection: ddl.Connection, events_database_url: str) -> None:
    rows = [event(SINCE + timedelta(minutes=minute), idempotency_key=f"k{minute // 2}") for minute in range(40)]
    store = store_of(events_connection, events_database_url, rows)
    validation = store.validate(september(), checks=["duplicates"])
    (finding,) = validation.findings
    assert len(store.duplicate_pairs(validation, finding)) == finding.events == 20
    with store, pytest.raises(QueryError, match="finding: is of the check silence"):
        store.duplicate_pairs(validation, replace(finding, check="silence"))
