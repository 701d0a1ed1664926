"""Corrections where a later sign-off has a part of a period: each change is in the last sign-off before it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from support import generated_events
from support.generated_events import Insert
from support.plain_events import event
from support.query_oracle import Row
from support.record_places import as_role
from usage_explore import Period, QueryError, Store
from usage_explore.db import ddl
from usage_explore.decimals import total
from usage_explore.records.signoffs import SignOff
from usage_explore.validation.signed_usage import Changes

MONTH = Period(since="2026-09-01T00:00:00Z", until="2026-10-01T00:00:00Z")
WEEKS = Period(since="2026-09-15T00:00:00Z", until="2026-10-01T00:00:00Z")
BEFORE, COMMON = datetime(2026, 9, 3, 12, tzinfo=UTC), datetime(2026, 9, 20, 12, tzinfo=UTC)
CLOSED = datetime(2026, 10, 2, tzinfo=UTC)
CUSTOMER = UUID(int=0xC0)
PRICES = [{"metric_key": "tokens", "unit_amount": 2, "currency": "USD"}]

pytestmark = pytest.mark.usefixtures("brief_checks")


@pytest.fixture
def stored() -> list[Row]:
    """An event of the month alone, and one that the weeks have as well."""
    return [event(at, quantity=Decimal(100), customer_id=CUSTOMER) for at in (BEFORE, COMMON)]


@pytest.fixture
def store(
    stored: list[Row], events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> Iterator[Store]:
    with as_role("file", events_connection, events_database_url, tmp_path) as opened:
        generated_events.insert(events_connection, stored)
        events_connection.commit()
        yield opened


def signed(store: Store, period: Period, days: int) -> SignOff:
    """The period signed off as known some days after its end."""
    validation = store.validate(period.replace(as_of=CLOSED + timedelta(days=days)))
    return store.sign_off(validation, by="ana", rating=store.rate(validation.period, prices=PRICES))


def billed(changes: Changes) -> tuple[Decimal, Decimal]:
    """The quantity and the amount of the rows for billing."""
    assert (changes.uncompared, changes.amounts_note) == (0, "")
    assert {line.correction for line in changes.lines} <= {"supplement", "credit"}
    return total(line.quantity or 0 for line in changes.lines), total(line.amount or 0 for line in changes.lines)


@pytest.mark.parametrize(
    "steps",
    [
        "late 5, sign",
        "late 5, sign, late 7",
        "edit 5, sign",
        "edit 5, sign, edit 7",
        "late 5, sign, edit late 7",
        "late 5, sign, back 7",
        "late 5, edit 3, sign, edit late 7, edit 11, late 13",
        "late 5, edit 3, sign, edit 7, sign, edit 11",
        "late 5, sign, late 7, sign, edit late 11",
        "edit 3, sign, edit own 5, edit 7",
        "edit 5, sign, edit -5",
        "late 5, sign, edit 7",
        "late 5, sign, remove 5",
        "late 50, sign, late 60, sign, remove 50, edit late -59",
    ],
)
def test_each_change_is_in_the_sign_off_before_it(
    store: Store, stored: list[Row], insert: Insert, events_connection: ddl.Connection, steps: str
) -> None:
    """What was to be billed when an overlapping period was signed was afterwards in no CSV: the first was lost so."""
    signoffs, expected = [signed(store, MONTH, 0)], [0]
    own, common = stored
    late: list[Row] = []
    for day, step in enumerate(steps.split(", "), 1):
        *what, number = step.split() if step != "sign" else ["sign", "0"]
        if what == ["sign"]:
            signoffs.append(signed(store, WEEKS, day))
            expected.append(0)
        elif what[0] == "remove":
            events_connection.execute("DELETE FROM usage_events WHERE id = %s", [late.pop(0).id])
            events_connection.commit()
            expected[-1] -= int(number)
        elif what[0] == "edit":
            edited = {"edit": common, "edit own": own, "edit late": late[-1] if late else common}[" ".join(what)]
            events_connection.execute(
                "UPDATE usage_events SET quantity = quantity + %s WHERE id = %s", [number, edited.id]
            )
            events_connection.commit()
            expected[0 if edited is own else -1] += int(number)
        else:
            arrived = CLOSED + timedelta(days=day) if what == ["late"] else signoffs[-1].as_of
            late.append(event(COMMON, quantity=Decimal(number), customer_id=CUSTOMER, ingested_at=arrived))
            insert(late[-1:])
            expected[-1] += int(number)
    month, *weeks = signoffs
    following = [None, *weeks[1:], None]
    assert [
        billed(store.changes_since(one, until=until, **({} if until else {"prices": PRICES})))
        for one, until in zip(signoffs, following, strict=True)
    ] == [(number, 2 * number) for number in expected]
    moved = [line for one in store.changes_since(month, prices=PRICES).taken_over for line in one.corrections]
    assert total(line.quantity or 0 for line in moved) == sum(expected[1:])
    assert total(line.amount or 0 for line in moved) == 2 * sum(expected[1:])


def test_what_two_sign_offs_have_is_to_be_billed_once(store: Store, insert: Insert) -> None:
    month = signed(store, MONTH, 0)
    insert([event(COMMON, quantity=Decimal(5), customer_id=CUSTOMER, ingested_at=CLOSED + timedelta(days=1))])
    weeks = signed(store, WEEKS, 2)
    changes = store.changes_since(month, prices=PRICES)
    assert changes
    assert changes.sentence == (
        "+1 event, arrived late, and in what was signed with a later sign-off: bill it once;"
        " expected amounts +10.00 USD"
    )
    assert changes.overlap_note.endswith(
        "what had arrived before that is counted here, and in what was signed there: bill it once"
    )
    assert [line.reason for line in changes.lines] == ["arrived before a later sign-off"]
    assert store.changes_since(weeks, prices=PRICES).sentence == "nothing changed since"


def test_amounts_that_cancel_are_in_the_sign_off_of_their_usage(store: Store, insert: Insert) -> None:
    """+50 in one part and -50 in the other: the row of +50 had an amount of 0, as the whole had not changed."""
    month, weeks = signed(store, MONTH, 0), signed(store, WEEKS, 0)
    late = {"customer_id": CUSTOMER, "ingested_at": CLOSED + timedelta(days=1)}
    insert([event(at, quantity=Decimal(units), **late) for at, units in ((BEFORE, 50), (COMMON, -50))])
    assert [billed(store.changes_since(one, prices=PRICES)) for one in (month, weeks)] == [(50, 100), (-50, -100)]


def test_an_older_state_of_an_overlapping_period_is_not_signed(store: Store, insert: Insert) -> None:
    """What the newer sign-off had billed was a supplement of the other one again."""
    insert([event(COMMON, quantity=Decimal(5), customer_id=CUSTOMER, ingested_at=CLOSED + timedelta(days=2))])
    month = signed(store, MONTH, 3)
    with pytest.raises(
        QueryError,
        match=r"is older than a sign-off that has events of it: ana signed Usage, 1–30 Sep 2026, UTC on .* run the",
    ):
        signed(store, WEEKS, 1)
    assert store.signoffs() == [month]
    assert signed(store, WEEKS, 3)
