"""Runs, decisions and sign-offs in both places: what is new, known and gone, who decided, and what changed since."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pandas as pd
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import delete, update

from support import generated_events
from support.generated_events import NEIGHBOUR, ORGANIZATION, Insert
from support.plain_events import beside, event
from support.query_oracle import Row
from support.record_places import as_role, neighbour
from usage_explore import Period, QueryError, Store
from usage_explore.db import ddl
from usage_explore.errors import RecordError, ScopeError, TableMismatch
from usage_explore.pricing.currencies import rounded_sums
from usage_explore.pricing.rating import Rating
from usage_explore.pricing.read import read_prices
from usage_explore.pricing.table import replace_prices
from usage_explore.records import runs
from usage_explore.records.places import create_tables
from usage_explore.records.signoffs import SignOff, period_words
from usage_explore.records.tables import DECISIONS, RUNS, SIGNOFFS
from usage_explore.validation import Finding, Validation, signed_usage
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.signed_again import changes_until, lost_inputs, other_inputs
from usage_explore.validation.signed_periods import overlap_warning
from usage_explore.validation.signed_usage import Changes

DAY = datetime(2026, 9, 10, 12, tzinfo=UTC)
SEPTEMBER = Period(since="2026-09-01T00:00:00Z", until="2026-10-01T00:00:00Z")
AGAIN = datetime(2026, 9, 11, tzinfo=UTC)
CUSTOMERS = [UUID(int=0xC0 + number) for number in range(3)]


IN_ONE_PLACE = pytest.mark.parametrize("store", ["file"], indirect=True)
"""For a test of what is compared, which is read from both places alike."""

pytestmark = pytest.mark.usefixtures("brief_checks")


@pytest.fixture(params=["table", "file"])
def store(
    request: pytest.FixtureRequest, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> Iterator[Store]:
    """A store whose role may create the tables of records, or only SELECT events; with two batches sent twice."""
    with as_role(request.param, events_connection, events_database_url, tmp_path) as opened:
        rows = [*twice(CUSTOMERS[0], DAY, 40), *twice(CUSTOMERS[1], DAY + timedelta(days=5), 60)]
        generated_events.insert(events_connection, [*rows, *beside(rows)])
        events_connection.commit()
        yield opened


def twice(customer: UUID, since: datetime, number: int, metric: str = "tokens", **more: object) -> list[Row]:
    """Events of a customer, each sent again a day later."""
    rows = []
    for index in range(number):
        first = event(since + timedelta(minutes=index), customer_id=customer, metric_key=metric, **more)
        rows.append(first)
        rows.append(Row(**{**vars(first), "id": uuid4(), "ingested_at": first.ingested_at + timedelta(days=1)}))
    return rows


def copies(validation: Validation) -> list[Finding]:
    return sorted((found for found in validation.findings if found.check == "duplicates"), key=lambda one: one.since)


def checked(store: Store, **more: object) -> Validation:
    return store.validate(SEPTEMBER.replace(**more), checks=["duplicates", "late_arrivals"])


def kept(store: Store) -> Validation:
    validation = checked(store)
    store.keep_run(validation)
    return validation


def test_the_next_run_says_what_is_new_known_and_gone(store: Store, insert: Insert) -> None:
    first = kept(store)
    assert {item.is_new for item in store.review(first).items} == {True}
    assert store.review(first).previous is None
    late = [
        replace_row(copies_row, ingested_at=DAY + timedelta(days=8))
        for copies_row in twice(CUSTOMERS[0], DAY - timedelta(minutes=50), 3)
    ]
    insert([*late, *twice(CUSTOMERS[2], DAY, 30)])
    second = kept(store)
    review = store.review(second)
    before, after = copies(first), copies(second)
    assert len(after) == len(before) + 1
    grown = next(one for one in after if one.customer_id == CUSTOMERS[0])
    assert grown.events == 43, "late events raise its count"
    assert grown.since < before[0].since
    assert review.of(grown).first_seen == first.now
    assert {item.finding.customer_id for item in review.new if item.finding.check == "duplicates"} == {CUSTOMERS[2]}
    assert review.previous is not None
    assert review.previous.made_at == first.now
    assert [finding for finding in review.gone if finding.identity.check == "duplicates"] == []


def replace_row(row: Row, **fields: object) -> Row:
    return Row(**{**vars(row), **fields})


def test_what_a_run_no_longer_has_is_gone_and_what_it_did_not_look_for_is_not(
    store: Store, events_connection: ddl.Connection
) -> None:
    kept(store)
    events_connection.execute("DELETE FROM usage_events WHERE customer_id = %s", [CUSTOMERS[1]])
    events_connection.commit()
    review = store.review(checked(store))
    assert [finding.identity.customer_id for finding in review.gone if finding.identity.check == "duplicates"] == [
        str(CUSTOMERS[1])
    ]
    other = store.validate(SEPTEMBER, checks=["late_arrivals"])
    assert all(finding.identity.check != "duplicates" for finding in store.review(other).gone)


def test_runs_of_other_periods_and_filters_are_not_compared(store: Store) -> None:
    kept(store)
    for period in (
        SEPTEMBER.replace(until="2026-09-30T00:00:00Z"),
        SEPTEMBER.replace(customer_id=CUSTOMERS[0]),
        SEPTEMBER.replace(exclude={"not:metric_key": "other"}),
    ):
        assert store.review(store.validate(period, checks=["duplicates"])).previous is None
    same = SEPTEMBER.replace(timezone="Asia/Kolkata", finalized_at="2026-10-02T00:00:00Z")
    assert store.review(store.validate(same, checks=["duplicates"])).previous is not None


def test_what_files_add_is_known_from_when_they_were_added(store: Store) -> None:
    """On the page the checks run first, and a file adds findings to the same validation."""
    first = store.validate(SEPTEMBER, checks=["late_arrivals"])
    store.keep_run(first)
    added = replace(checked(store), now=first.now)
    later = first.now + timedelta(minutes=20)
    store.keep_run(added, made_at=later)
    store.keep_run(added)  # by a sign-off
    assert [run.made_at for run in store.runs()] == [later, first.now]
    assert store.review(added).previous is None
    again = replace(checked(store), now=later + timedelta(minutes=1))
    review = store.review(again)
    assert review.previous is not None
    assert review.previous.made_at == later
    assert {review.of(found).first_seen for found in copies(again)} == {later}


def test_the_run_of_a_window_is_the_one_that_examined_most_of_it(store: Store) -> None:
    day = timedelta(days=1)
    since, until = SEPTEMBER.since, SEPTEMBER.until
    assert isinstance(since, datetime)
    assert isinstance(until, datetime)
    checks = ["duplicates"]
    week = store.keep_run(store.validate(SEPTEMBER.replace(until=since + 7 * day), checks=checks))
    month = store.keep_run(store.validate(SEPTEMBER, checks=checks))
    own = store.keep_run(store.validate(SEPTEMBER.replace(customer_id=CUSTOMERS[0]), checks=checks))
    assert {run.id for run in store.runs(within=(until - day, until))} == {month.id, own.id}
    assert store.runs(within=(until, until + day)) == []
    assert {run.id for run in store.runs(whole=True)} == {week.id, month.id}
    assert month.left_out == tuple(name for name in CHECKS if name != "duplicates")

    def closest(*window: datetime, customer: int | None = None) -> UUID | None:
        filters = [] if customer is None else [("customer_id", str(CUSTOMERS[customer])), ("timezone", "UTC")]
        found = store.closest_run((window[0], window[1]), filters)
        assert found is None or found in store.runs()
        return found and found.id

    assert closest(since, until) == month.id
    assert closest(since, until, customer=0) == own.id  # the newer one
    assert closest(since, until, customer=1) == month.id
    assert closest(until, until + day) is None
    with store._recorded(RUNS) as (_, places, organization_id, _):
        # what it calls its period had not been, mostly
        early = replace(month, id=uuid4(), made_at=month.made_at + day, as_of=since + day)
        runs.keep(places, early)
        fewer = replace(month, id=uuid4(), made_at=month.made_at + day, left_out=(*month.left_out, "duplicates"))
        runs.keep(places, fewer)
        nothing = replace(month, id=uuid4(), made_at=month.made_at + day, left_out=(), events=0, counts={})
        runs.keep(places, nothing)  # within the settle time of a load; the home page called it "Nothing found"
        assert nothing.id in {run.id for run in store.runs()}
        assert nothing.id not in {run.id for run in store.runs(examined=True)}
        for number in range(60):
            runs.keep(places, replace(own, id=uuid4(), made_at=own.made_at + timedelta(seconds=number)))
        assert runs.closest(places, organization_id, (since, since + 2 * day), [("metric_key", "a")] * 200) is not None
    assert closest(since, until) == closest(since, until, customer=1) == month.id
    with pytest.raises(QueryError, match="not a pair of times"):
        store.closest_run((since,))  # type: ignore[arg-type]


def test_the_run_that_was_made_last_is_the_newest_though_an_older_one_found_the_same(store: Store) -> None:
    first, other = (store.validate(SEPTEMBER, checks=[check]) for check in ("duplicates", "late_arrivals"))
    for minute, validation in enumerate((first, other, first, first)):
        store.keep_run(validation, made_at=first.now + timedelta(minutes=minute))
    made = [(run.checks, run.made_at - first.now) for run in store.runs()]
    assert made == [
        (("duplicates",), timedelta(minutes=2)),
        (("late_arrivals",), timedelta(minutes=1)),
        (("duplicates",), timedelta(0)),
    ]


def test_the_same_validation_is_kept_once(store: Store) -> None:
    validation = kept(store)
    store.keep_run(validation, by="ana")
    (run,) = store.runs()
    assert run.author == "local"
    assert run.as_of == validation.period.as_of
    assert run.events == validation.totals.events
    assert run.counts == dict(validation.counts())
    assert run.versions.keys() == {"usage-explore", "bounds"}


@IN_ONE_PLACE
def test_the_hash_of_a_report_is_that_of_its_content(store: Store, insert: Insert) -> None:
    first = checked(store)
    digest = store.review(first).report_hash
    again = checked(store, as_of=first.period.as_of)
    assert store.review(again).report_hash == digest
    insert([event(DAY)])
    assert store.review(checked(store)).report_hash != digest


@IN_ONE_PLACE
def test_other_bounds_are_another_version_and_another_report(store: Store) -> None:
    first = store.validate(SEPTEMBER)
    bounds = {"duplicates": {"high_share": Decimal("0.9")}}
    other = store.validate(SEPTEMBER.replace(as_of=first.period.as_of), bounds=bounds)
    runs = [store.keep_run(validation) for validation in (first, other)]
    assert runs[0].versions["usage-explore"] == runs[1].versions["usage-explore"]
    assert runs[0].versions["bounds"] != runs[1].versions["bounds"]
    assert runs[0].report_hash != runs[1].report_hash


def test_decisions_follow_the_finding_and_stay_a_history(store: Store, insert: Insert) -> None:
    finding = copies(kept(store))[0]
    until = store.now() + timedelta(days=3)
    store.decide(finding, "assign", by="ana", assignee="Metering team")
    store.decide(finding, "note", by="bob", note="A retry of the gateway.\nTicket 4711.")
    store.decide(finding, "mute", by="ana", until=until)
    insert(twice(CUSTOMERS[0], DAY - timedelta(minutes=30), 3))
    validation = kept(store)
    review = store.review(validation)
    item = review.of(copies(validation)[0])
    assert item.states == ("known", "muted", "assigned")
    assert item.assignee == "Metering team"
    assert [(decision.author, decision.action) for decision in item.decisions] == [
        ("ana", "assign"),
        ("bob", "note"),
        ("ana", "mute"),
    ]
    assert item.settled is not None
    assert item.settled.until == until
    store.decide(item.id, "reopen", by="cyd")  # by its id
    store.decide(item.id, "acknowledge", by="cyd", note="Credited.")
    item = store.review(validation).of(copies(validation)[0])
    assert item.states == ("known", "acknowledged", "assigned")
    assert [decision.made_at for decision in store.decisions()] == sorted(one.made_at for one in store.decisions())
    assert len(store.decisions()) == 5
    others = [one for one in store.review(validation).items if one.finding is not item.finding]
    assert all(one.is_open for one in others)


def test_a_mute_ends_and_a_decision_does_not_cover_what_grew(store: Store, insert: Insert) -> None:
    validation = kept(store)
    finding = copies(validation)[0]
    store.decide(finding, "mute", until=store.now() + timedelta(days=1))
    review = store.review(validation)
    later = replace(review.of(finding), now=store.now() + timedelta(days=2))
    assert later.is_open
    assert later.lapsed == "the mute has ended"
    insert(twice(CUSTOMERS[0], DAY + timedelta(hours=1), 50))
    after = checked(store)
    item = store.review(after).of(copies(after)[0])
    assert (item.finding.events, item.is_new, item.is_open) == (90, False, True)
    assert item.lapsed == "it had 40 events when it was decided on"
    graver = replace(review.of(finding), finding=replace(finding, severity="high"))
    then = replace(graver.decisions[0], finding=replace(graver.decisions[0].finding, severity="low"))
    assert "low when it was decided on" in replace(graver, decisions=(then,)).lapsed


@IN_ONE_PLACE
@pytest.mark.parametrize(
    ("then", "now", "lapsed"),
    [
        ("1.00", "2.00", ""),
        ("1.50", "-3.01", "its amount was 1.5 EUR when it was decided on"),
        ("NaN", "77777", ""),
    ],
)
def test_a_decision_does_not_cover_an_amount_that_grew(store: Store, then: str, now: str, lapsed: str) -> None:
    """The events of an invoice line do not grow with what it charges: 1 EUR acknowledged covered 77,777."""
    finding = replace(copies(kept(store))[0], amounts=(("EUR", Decimal(then)),))
    store.decide(finding, "acknowledge")
    validation = kept(store)
    item = store.review(validation).of(copies(validation)[0])
    (decision,) = store.decisions()
    assert decision.finding.amounts == finding.amounts or then == "NaN"
    item = replace(item, decisions=(decision,), finding=replace(item.finding, amounts=(("EUR", Decimal(now)),)))
    assert item.lapsed == lapsed


@IN_ONE_PLACE
@pytest.mark.parametrize(
    ("action", "given", "parameters"),
    [
        ("forget", {}, ["action"]),
        ("acknowlege", {"until": "soon"}, ["action", "until"]),
        ("mute", {}, ["until"]),
        ("mute", {"until": "2026-01-01T00:00:00Z"}, ["until"]),
        ("mute", {"until": "2199-01-01T00:00:00", "note": "x\x07"}, ["until", "note"]),
        ("acknowledge", {"until": "2199-01-01T00:00:00Z"}, ["until"]),
        ("acknowledge", {"assignee": "ana"}, ["assignee"]),
        ("assign", {}, ["assignee"]),
        ("assign", {"assignee": "two\nlines"}, ["assignee"]),
        ("note", {"note": "  "}, ["note"]),
        ("note", {"note": "x" * 2_001}, ["note"]),
    ],
)
def test_a_faulty_decision_is_an_error_and_nothing_is_kept(
    store: Store, action: str, given: dict[str, str], parameters: list[str]
) -> None:
    finding = copies(checked(store))[0]
    with pytest.raises(QueryError) as error:
        store.decide(finding, action, **given)  # type: ignore[arg-type]
    named = [fault.parameter for fault in error.value.faults]
    assert list(dict.fromkeys(named)) == parameters
    assert named.count("note") <= 1  # a long one is not blank, too
    assert store.decisions() == []


def test_an_unknown_id_is_an_error(store: Store) -> None:
    kept(store)
    with pytest.raises(QueryError, match="'0123456789ab' is the id of no finding of a kept run"):
        store.decide("0123456789ab", "acknowledge")


def test_two_who_decide_at_once_both_count(store: Store) -> None:
    finding = copies(kept(store))[0]
    people = [f"person {number}" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda name: store.decide(finding, "assign", by=name, assignee=name), people))
    history = store.decisions()
    assert {decision.author for decision in history} == {*people}
    assert len({decision.made_at for decision in history}) == len(people), "an order in which all agree"
    assert {decision.id for decision in history} == {decision.id for decision in made}


def test_organizations_have_their_own(store: Store) -> None:
    validation = kept(store)
    finding = copies(validation)[0]
    store.decide(finding, "acknowledge")
    theirs = neighbour(store)
    assert theirs.runs() == []
    assert theirs.decisions() == []
    for act in (
        lambda: theirs.decide(finding, "reopen"),
        lambda: theirs.review(validation),
        lambda: theirs.keep_run(validation),
        lambda: theirs.sign_off(full(store), by="ana"),
        lambda: replace(store, organization_id=None).restricted([NEIGHBOUR]).decide(finding, "reopen"),
    ):
        with pytest.raises(ScopeError):
            act()
    with pytest.raises(QueryError, match="no finding of a kept run"):
        theirs.decide(store.review(validation).of(finding).id, "acknowledge")
    signed = store.sign_off(full(store), by="ana")
    assert theirs.signoffs() == []
    with pytest.raises(ScopeError):
        theirs.changes_since(signed)
    same = theirs.review(theirs.validate(SEPTEMBER, checks=["duplicates"]))
    assert {item.states for item in same.items} == {("new", "open")}


def full(store: Store, **more: object) -> Validation:
    return store.validate(SEPTEMBER.replace(**more))


def test_a_sign_off_says_what_changed_since(store: Store, insert: Insert, events_connection: ddl.Connection) -> None:
    cost = {"external_cost_amount": Decimal("0.14"), "external_cost_currency": "usd", "wallet_currency": "EUR"}
    insert([event(DAY + timedelta(days=9), quantity=Decimal("1.5"), customer_id=CUSTOMERS[2], **cost)])
    validation = full(store)
    left_open = [item.id for item in store.review(validation).open("high")]
    signed = store.sign_off(validation, by="ana@example.com", note="Invoice run 9")
    assert store.signoffs() == [signed]
    assert (signed.as_of, signed.events) == (validation.period.as_of, validation.totals.events)
    assert signed.report_hash == store.review(validation).report_hash == store.runs()[0].report_hash
    assert [finding.identity.id for finding in signed.open] == left_open
    unchanged = store.changes_since(signed)
    assert not unchanged
    assert unchanged.sentence == "nothing changed since"
    arrived = store.now()
    insert(
        [
            event(
                DAY + timedelta(hours=hour),
                quantity=Decimal("2"),
                customer_id=CUSTOMERS[2],
                ingested_at=arrived,
                **cost,
            )
            for hour in range(3)
        ]
        + [event(datetime(2026, 10, 2, tzinfo=UTC), ingested_at=arrived)]  # of another period
    )
    changes = store.changes_since(signed)
    assert changes.sentence == "+3 events, external cost +0.42 USD, arrived late"
    (row,) = csv.DictReader(io.StringIO(changes.to_csv().decode()))
    assert {name: row[name] for name in ("correction", "reason", "quantity", "cost", "cost_currency")} == {
        "correction": "supplement",
        "reason": "arrived late",
        "quantity": "6",
        "cost": "0.42",
        "cost_currency": "USD",
    }
    assert row["wallet_currency"] == "EUR"
    assert row["sign_off"] == str(signed.id)
    events_connection.execute("DELETE FROM usage_events WHERE customer_id = %s", [CUSTOMERS[1]])
    events_connection.commit()
    changes = store.changes_since(signed)
    assert changes.sentence == (
        "+3 events, external cost +0.42 USD, arrived late; -120 events, changed or removed after the sign-off; "
        "changed on 15 Sep 2026"
    )
    removed = changes.frame[changes.frame["reason"] == "changed or removed"]
    assert list(removed["correction"]) == ["credit"]
    assert list(removed["events"]) == [-120]


@IN_ONE_PLACE
def test_a_changed_quantity_is_said_though_the_count_is_the_same(
    store: Store, events_connection: ddl.Connection
) -> None:
    signed = store.sign_off(full(store), by="ana")
    events_connection.execute(
        "UPDATE usage_events SET quantity = quantity + 1 WHERE id = (SELECT min(id::text)::uuid FROM usage_events"
        " WHERE organization_id = %s AND timestamp < '2026-10-01')",
        [ORGANIZATION],
    )
    events_connection.commit()
    changes = store.changes_since(signed)
    (row,) = changes.rows
    assert (row.reason, row.events, row.quantity) == ("changed or removed", 0, 1)
    assert changes.sentence.startswith("quantity of tokens +1, changed or removed after the sign-off; changed on ")


EDITS = {
    "two quantities exchanged": "UPDATE usage_events SET quantity = 3 - quantity WHERE metric_key = 'edited'",
    "a time moved": "UPDATE usage_events SET timestamp = timestamp + interval '1 second' WHERE metric_key = 'edited'"
    " AND quantity = 1",
    "a dimension": """UPDATE usage_events SET dimensions = '{"a": "c"}' WHERE metric_key = 'edited' AND quantity = 1""",
    "a price": "UPDATE usage_events SET price_key = 'other' WHERE metric_key = 'edited' AND quantity = 1",
}


@IN_ONE_PLACE
@pytest.mark.parametrize("edit", EDITS)
def test_edited_events_with_the_same_sums_are_noticed(
    store: Store, insert: Insert, events_connection: ddl.Connection, edit: str
) -> None:
    insert([event(DAY, quantity=Decimal(number), customer_id=CUSTOMERS[2], metric_key="edited") for number in (1, 2)])
    signed = store.sign_off(full(store), by="ana")
    assert not store.changes_since(signed)
    for line in (*signed.usage, *signed.days):
        assert line.digest is not None
    events_connection.execute(EDITS[edit])
    events_connection.commit()
    changes = store.changes_since(signed)
    assert changes
    assert changes.sentence == (
        "events edited or exchanged with the same sums in 1 total by customer and metric; changed on 10 Sep 2026"
    )
    ((key, row),) = [(row.key, row) for row in changes.rows]
    assert (key[0], key[1], row.events, row.quantity) == (str(CUSTOMERS[2]), "edited", 0, 0)
    assert changes.corrections == ()
    assert list(changes.frame["correction"]) == ["none"]
    assert changes.to_dict()["changed_days"] == ["2026-09-10"]


@IN_ONE_PLACE
def test_equal_numbers_are_no_edit_and_late_events_do_not_hide_one(
    store: Store, insert: Insert, events_connection: ddl.Connection
) -> None:
    insert([event(DAY, quantity=Decimal(number), customer_id=CUSTOMERS[2], metric_key="edited") for number in (1, 2)])
    signed = store.sign_off(full(store), by="ana")
    events_connection.execute("UPDATE usage_events SET quantity = quantity * 1.00")
    events_connection.commit()
    assert not store.changes_since(signed)
    events_connection.execute(EDITS["two quantities exchanged"])
    insert([event(DAY, quantity=Decimal(3), customer_id=CUSTOMERS[2], metric_key="edited", ingested_at=store.now())])
    assert [row.reason for row in store.changes_since(signed).rows] == ["arrived late", "edited"]


@IN_ONE_PLACE
def test_a_sign_off_of_an_older_version_has_no_hashes_and_says_so(
    store: Store, events_connection: ddl.Connection
) -> None:
    signed = store.sign_off(full(store), by="ana")
    older = replace(signed, usage=tuple(replace(line, digest=None) for line in signed.usage), days=(), hash_probe=None)
    changes = store.changes_since(older)
    assert not changes
    assert changes.content_note == "the sign-off has no hashes of its events"
    assert "hashes otherwise" in store.changes_since(replace(signed, hash_probe=1)).content_note


@IN_ONE_PLACE
@pytest.mark.parametrize("policy", [True, False])
def test_removed_history_is_named_as_retention(store: Store, events_connection: ddl.Connection, policy: bool) -> None:
    prices = [{"metric_key": "tokens", "model": "per_unit", "unit_amount": "0.10", "currency": "USD"}]
    validation = full(store)
    signed = store.sign_off(validation, by="ana", rating=store.rate(validation.period, prices=prices))
    boundary = datetime(2026, 9, 13, tzinfo=UTC)

    def changed() -> Changes:
        with store._transaction(SEPTEMBER) as (connection, _):
            until = boundary if policy else None
            return signed_usage.changes(connection, store.table, signed, store.now(), boundary, policy=until)

    events_connection.execute("DELETE FROM usage_events WHERE timestamp < %s", [boundary])
    events_connection.commit()
    changes = changed()
    assert bool(changes) == (not policy), "nothing is to be corrected of what a policy removed"
    assert changes.sentence.startswith("-80 events before 2026-09-13 00:00:00")
    assert "removed by retention" in changes.sentence
    assert {line.correction for line in changes.lines} == {"none" if policy else "check"}
    assert ("were removed" in changes.amounts_note) == policy
    events_connection.execute(
        "UPDATE usage_events SET quantity = quantity + 1 WHERE customer_id = %s AND timestamp >= '2026-09-15'",
        [CUSTOMERS[1]],
    )
    events_connection.commit()
    changes = changed()
    assert changes
    assert [row.reason for row in changes.corrections] == ["changed or removed"]
    assert changes.days == (date(2026, 9, 15),)


@IN_ONE_PLACE
def test_what_cannot_be_signed(store: Store, events_connection: ddl.Connection) -> None:
    with pytest.raises(QueryError, match="it was run without"):
        store.sign_off(checked(store), by="ana")
    with pytest.raises(QueryError, match="by: is blank"):
        store.sign_off(full(store), by=" ")
    with pytest.raises(QueryError, match="has no events"):
        store.sign_off(store.validate(Period(since="2020-01-01T00:00:00Z", until="2020-02-01T00:00:00Z")), by="ana")
    validation = full(store)
    events_connection.execute("DELETE FROM usage_events WHERE customer_id = %s", [CUSTOMERS[1]])
    events_connection.commit()
    with pytest.raises(QueryError, match="is out of date"):
        store.sign_off(validation, by="ana")
    validation = full(store)
    events_connection.execute(
        "UPDATE usage_events SET quantity = quantity + 1000 WHERE customer_id = %s", [CUSTOMERS[0]]
    )
    events_connection.commit()
    with pytest.raises(QueryError, match="is out of date"):
        store.sign_off(validation, by="ana")
    assert store.signoffs() == []


def test_a_history_is_only_added_to(store: Store) -> None:
    store.decide(copies(kept(store))[0], "acknowledge")
    for kind in (DECISIONS, RUNS, SIGNOFFS):
        with store._recorded(kind) as (_, places, _, _), places.saving.writing() as writer:
            for statement in (delete(writer.table), update(writer.table).values(author="x")):
                with pytest.raises(RecordError, match="are written here"):
                    writer.change(statement)


def test_a_role_needs_select_and_insert_alone(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    opened = as_role("file", events_connection, events_database_url, tmp_path)
    generated_events.insert(events_connection, twice(CUSTOMERS[0], DAY, 40))
    events_connection.commit()
    with opened as store:
        with psycopg.connect(events_database_url, autocommit=True) as admin:
            with ddl.connect(events_database_url) as connection:
                create_tables(connection, store.table)
                connection.commit()
            role = sql.Identifier(opened.role)
            for name in ("usage_decisions", "usage_validation_runs", "usage_signoffs"):
                grant = sql.SQL("GRANT SELECT, INSERT ON {} TO {}").format(sql.Identifier(name), role)
                admin.execute(grant)
        assert store.decide(copies(kept(store))[0], "acknowledge").place == "table"
        assert store.sign_off(full(store), by="ana").place == "table"
        assert store.runs()[0].place == "table"
        assert store.save_view("One", SEPTEMBER).place == "file"  # another kind, another place


def test_expected_amounts_are_frozen_and_compared(store: Store, insert: Insert) -> None:
    prices = [
        {"metric_key": "tokens", "model": "per_unit", "unit_amount": "0.10", "currency": "USD"},
    ]
    insert([event(DAY + timedelta(days=9), quantity=Decimal("100"), customer_id=CUSTOMERS[2])])
    validation = full(store)
    rating = store.rate(validation.period, prices=prices)
    signed = store.sign_off(validation, by="ana", rating=rating)
    (read,) = store.signoffs()
    assert read == signed
    assert read.amount_totals == dict(rating.totals)
    unpriced = validation.totals.events - sum(line.events for line in rating.lines)
    assert read.unpriced_events == read.to_dict()["unpriced_events"] == unpriced
    assert store.sign_off(validation, by="ben").to_dict()["unpriced_events"] is None, "nothing was rated"
    assert not store.changes_since(signed, prices=prices)
    without = store.changes_since(signed)
    assert without.amounts_note == "there is no price book; give the price book of the sign-off"
    assert not without
    insert([event(DAY, quantity=Decimal("4.2"), customer_id=CUSTOMERS[2], ingested_at=store.now())])
    changes = store.changes_since(signed, prices=prices)
    assert changes.sentence == "+1 event, arrived late; expected amounts +0.42 USD"
    rows = list(csv.DictReader(io.StringIO(changes.to_csv().decode())))
    assert [(row["reason"], row["quantity"], row["amount"], row["amount_currency"]) for row in rows] == [
        ("arrived late", "4.2", "0.42", "USD"),
    ]
    assert [(row["reason"], row["quantity"], row["amount"]) for row in changes.to_dict()["rows"]] == [
        ("arrived late", "4.2", "0.42")
    ]
    insert([event(DAY, metric_key="free", customer_id=CUSTOMERS[2], ingested_at=store.now())])
    more = store.changes_since(signed, prices=prices)
    assert more.unpriced_events == more.to_dict()["unpriced_events"] == 1
    assert more.sentence.endswith("expected amounts +0.42 USD; +1 event without a price, with an unknown amount")
    other = store.rate(SEPTEMBER.replace(as_of="2026-09-30T00:00:00Z"), prices=prices)
    with pytest.raises(QueryError, match="rating: is of another period or as_of"):
        store.sign_off(validation, by="ana", rating=other)


@IN_ONE_PLACE
def test_amounts_of_prices_that_came_after_the_sign_off_are_said(store: Store) -> None:
    free = [{"metric_key": "free", "unit_amount": 1, "currency": "USD"}]
    prices = [{"metric_key": "tokens", "unit_amount": "0.10", "currency": "USD"}, *free]
    validation = full(store)
    nothing_priced = store.sign_off(validation, by="ana", rating=store.rate(validation.period, prices=free))
    rating = store.rate(validation.period, prices=prices)
    assert not nothing_priced.amounts
    assert not store.changes_since(nothing_priced).amounts_note, "there is no price book"
    assert not store.changes_since(nothing_priced, prices=free)
    changes = store.changes_since(nothing_priced, prices=prices)
    assert changes.money("expected amount") == dict(rating.totals)
    expected = rounded_sums(rating.totals.items())[0]
    assert changes.sentence.startswith(f"expected amounts +{expected}; ")
    assert {line.correction for line in changes.lines} == {"supplement"}
    unrated = store.sign_off(validation, by="ben")
    changes = store.changes_since(unrated, prices=prices)
    assert (bool(changes), changes.amounts_note) == (False, f"none were signed, {expected} would be expected now")
    rated = store.sign_off(validation, by="carl", rating=rating)
    note = store.changes_since(unrated, until=rated).amounts_note
    assert note == f"only the later sign-off has expected amounts, {expected}"


@IN_ONE_PLACE
def test_late_usage_within_an_included_quantity_has_an_amount_of_zero(store: Store, insert: Insert) -> None:
    prices = [{"metric_key": "tokens", "unit_amount": 1, "included_quantity": 10**15, "currency": "USD"}]
    validation = full(store)
    signed = store.sign_off(validation, by="ana", rating=store.rate(validation.period, prices=prices))
    late = {"customer_id": CUSTOMERS[0], "quantity": Decimal(2), "ingested_at": store.now()}
    insert([event(DAY, **late), event(DAY, metric_key="free", **late)])
    second = full(store, as_of=store.now())
    again = store.sign_off(second, by="ben", rating=store.rate(second.period, prices=prices))
    changes = store.changes_since(signed, prices=prices)
    assert changes.sentence == "+2 events, arrived late; +1 event without a price, with an unknown amount"
    amounts = {line.metric_key: (line.amount, line.amount_currency) for line in changes.lines}
    assert amounts == {"tokens": (Decimal(0), "USD"), "free": (None, None)}
    assert store.signoffs() == [again, signed]
    until = store.changes_since(signed, until=again)
    assert {line.metric_key: (line.amount, line.amount_currency) for line in until.lines} == amounts
    assert again.basis is not None
    older = replace(
        again, basis=replace(again.basis, unpriced=None)
    )  # of a version that did not keep which have no price
    assert {line.amount for line in changes_until(signed, older).lines} == {None}


TWO_CURRENCIES = [
    {"metric_key": "tokens", "unit_amount": amount, "currency": currency}
    for amount, currency in ((1, "USD"), (3, "EUR"))
]


@IN_ONE_PLACE
def test_amounts_are_compared_by_the_preferred_currencies_that_were_signed(store: Store) -> None:
    wallets = {str(CUSTOMERS[0]): "EUR", "default": "USD"}
    validation = full(store)
    rating = store.rate(validation.period, prices=TWO_CURRENCIES, wallets=wallets)
    assert set(rating.totals) == {"EUR", "USD"}
    signed = store.sign_off(validation, by="ana", rating=rating)
    (read,) = store.signoffs()
    assert read == signed
    assert read.basis is not None
    assert read.basis.wallets == {CUSTOMERS[0]: "EUR", None: "USD"}
    assert store.changes_since(read, prices=TWO_CURRENCIES).sentence == "nothing changed since"
    others = store.changes_since(read, prices=TWO_CURRENCIES, wallets={"default": "USD"})
    assert set(others.money("expected amount")) == {"EUR", "USD"}


@IN_ONE_PLACE
def test_a_later_sign_off_says_what_it_includes_of_the_one_before(store: Store, insert: Insert) -> None:
    wallets = {str(CUSTOMERS[0]): "EUR", "default": "USD"}

    def signed(by: str, **more: object) -> SignOff:
        validation = full(store, as_of=store.now())
        rating = store.rate(validation.period, prices=TWO_CURRENCIES, **more)
        return store.sign_off(validation, by=by, rating=rating)

    first = signed("ana", wallets=wallets)
    late = {"customer_id": CUSTOMERS[0], "quantity": Decimal("4.2")}
    insert([event(DAY, **late, ingested_at=store.now())])
    second = signed("ben", wallets=wallets)
    insert([event(DAY, **late, ingested_at=store.now())])
    third = signed("eva", wallets={"default": "USD"})
    changes = store.changes_since(first, until=second)
    assert changes.sentence == "+1 event, included when it was signed again; expected amounts +12.60 EUR"
    (line,) = changes.corrections
    assert (line.correction, line.quantity, line.amount) == ("supplement", Decimal("4.2"), Decimal("12.6"))
    assert store.changes_since(second).sentence.startswith("+1 event, arrived late"), "until now, as before"
    for prices, note, amount in (
        ("public.usage_prices", "", Decimal("12.6")),
        ("prices.csv", "the two sign-offs may have other prices", None),
    ):
        one, other = (
            replace(signoff, basis=replace(signoff.basis, prices=prices, prices_hash=str(signoff.id)))
            for signoff in (first, second)
            if signoff.basis
        )
        until = changes_until(one, other)
        assert (until.amounts_note, until.corrections[0].amount) == (note, amount)
    others = store.changes_since(second, until=third)
    assert others.sentence == "+1 event, included when it was signed again"
    assert others.amounts_note == "the two sign-offs have other preferred currencies"
    assert lost_inputs(second, store.rate(full(store).period, prices=TWO_CURRENCIES, wallets=wallets)) == ""
    words = lost_inputs(second, store.rate(full(store).period, prices=TWO_CURRENCIES))
    assert "with preferred currencies of 1 customer and the organization, which are missing now" in words
    assert lost_inputs(second, None).endswith("by a price book, which is missing now: nothing would be expected")
    assert lost_inputs(None, None) == ""
    other = {"metric_key": "other", "unit_amount": 1, "currency": "USD"}
    words = lost_inputs(second, store.rate(full(store).period, prices=[other], wallets=wallets))
    assert "with prices of 1 metric, which are missing now: nothing would be expected" in words
    for faulty in (first, second):
        with pytest.raises(QueryError, match="until: is no later sign-off of the same period"):
            store.changes_since(second, until=faulty)


@IN_ONE_PLACE
def test_other_preferences_and_prices_are_named_before_a_period_is_signed_again(store: Store) -> None:
    validation = full(store)

    def rated(*amounts: object, **wallets: str) -> Rating:
        prices = [{**price, "unit_amount": amount} for price, amount in zip(TWO_CURRENCIES, amounts, strict=True)]
        return store.rate(validation.period, prices=prices, wallets={str(CUSTOMERS[0]): "EUR", **wallets})

    first = store.sign_off(validation, by="ana", rating=rated(1, 3, default="USD"))
    assert other_inputs(first, rated(1, 3, default="USD")) == ""
    assert other_inputs(None, rated(1, 3, default="USD")) == ""
    assert "and prices are others now: " in other_inputs(first, rated(1, 4, default="USD"))
    moved = rated(1, 3, default="EUR")
    assert "and preferred currencies of the organization are others now: " in other_inputs(first, moved)
    assert "EUR would be expected" in other_inputs(first, moved)
    assert lost_inputs(first, moved) == ""


@IN_ONE_PLACE
def test_what_retention_removed_before_signing_again_is_no_credit(
    store: Store, events_connection: ddl.Connection
) -> None:
    """Of a version that kept no numbers by time; tests of the extract have sign-offs with these."""
    first = store.sign_off(full(store), by="ana")
    second = replace(first, signed_at=first.signed_at + timedelta(days=1), usage=first.usage[:1], days=(), slots=())
    assert changes_until(first, second).corrections
    boundary = first.since + timedelta(days=3)
    for policy, reason in ((boundary, "removed by retention"), (None, "removed by retention or deleted")):
        removed = changes_until(first, second, boundary, policy)
        assert not removed.corrections
        assert {row.reason for row in removed.rows} == {reason}


@IN_ONE_PLACE
def test_amounts_of_a_price_book_are_not_compared_with_another_stored_one(
    store: Store, events_connection: ddl.Connection
) -> None:
    (given, _), stored = TWO_CURRENCIES, [{"metric_key": "tokens", "unit_amount": 2, "currency": "USD"}]
    validation = full(store)
    signed = store.sign_off(validation, by="ana", rating=store.rate(validation.period, prices=[given]))

    def load(prices: list[dict[str, object]]) -> None:
        replace_prices(events_connection, store.table, ORGANIZATION, read_prices(prices))
        events_connection.execute("GRANT SELECT ON usage_prices TO public")
        events_connection.commit()

    load(stored)
    changes = store.changes_since(signed)
    assert not changes
    assert "signed by the price book prices, and public.usage_prices has other prices" in changes.amounts_note
    load([{**given, "name": "the same"}])
    assert (store.changes_since(signed).amounts_note, bool(store.changes_since(signed))) == ("", False)
    by_table = store.sign_off(validation, by="ana", rating=store.rate(validation.period))
    load(stored)
    changes = store.changes_since(by_table)
    assert (changes.amounts_note, list(changes.money("expected amount"))) == ("", ["USD"])


@IN_ONE_PLACE
def test_a_late_event_of_overlapping_periods_is_counted_once(store: Store, insert: Insert) -> None:
    """A month in UTC, then of one customer, then in another time zone: the last sign-off counts, others say so."""
    prices = [{"metric_key": "tokens", "unit_amount": 1, "currency": "USD"}]
    insert([event(DAY, quantity=Decimal(100), customer_id=CUSTOMERS[2])])
    berlin = {"since": "2026-08-31T22:00:00Z", "until": "2026-09-30T22:00:00Z", "timezone": "Europe/Berlin"}
    signed = []
    for filters in ({}, {"customer_id": CUSTOMERS[2]}, berlin):
        validation = full(store, **filters)
        rating = store.rate(validation.period, prices=prices)
        signed.append(store.sign_off(validation, by="ana", rating=rating))
    utc, of_customer, of_berlin = signed

    def late(timestamp: datetime, customer: int) -> Row:
        return event(timestamp, quantity=Decimal(1), customer_id=CUSTOMERS[customer], ingested_at=store.now())

    insert([late(DAY, 2), late(datetime(2026, 9, 30, 23, tzinfo=UTC), 1)])
    one, two, three = (store.changes_since(item, prices=prices) for item in (utc, of_customer, of_berlin))
    assert three.sentence == "+1 event, arrived late; expected amounts +1.00 USD"
    assert three.overlap_note == ""
    taken = (
        f"1 correction (+1.00 USD) is in sign-off {str(of_berlin.id)[:8]} ({period_words(of_berlin)}, signed by ana)"
    )
    assert one.sentence == f"{three.sentence}; {taken}"
    assert two.sentence == f"nothing to bill here; {taken}"
    assert [(line.customer_id, line.reason, line.amount) for line in one.lines] == [
        (str(CUSTOMERS[1]), "arrived late", Decimal(1))
    ]
    assert two.rows == ()
    for changes in (one, two):
        assert f"{str(of_berlin.id)[:8]} (" in changes.overlap_note
        assert changes.to_dict()["overlap"] == changes.overlap_note
        assert changes.uncompared == 0


@IN_ONE_PLACE
@pytest.mark.parametrize("included", [0, 5])
def test_late_events_in_both_parts_of_an_overlap_are_billed_once_with_their_amount(
    store: Store, insert: Insert, included: int
) -> None:
    """A month in UTC, then in Berlin's time; a row whose amount depends on the events of both says so."""
    prices = [{"metric_key": "tokens", "unit_amount": "0.5", "included_quantity": included, "currency": "USD"}]
    berlin = {"since": "2026-08-31T22:00:00Z", "until": "2026-09-30T22:00:00Z", "timezone": "Europe/Berlin"}
    signed = []
    insert([event(DAY, quantity=Decimal(100), customer_id=CUSTOMERS[2])])
    for filters in ({}, berlin):
        validation = full(store, **filters)
        signed.append(store.sign_off(validation, by="ana", rating=store.rate(validation.period, prices=prices)))
    times = (datetime(2026, 9, 30, 23, tzinfo=UTC), DAY, datetime(2026, 8, 31, 23, tzinfo=UTC))
    late = zip(times, (2, 4, 8), strict=True)
    insert(
        [event(at, quantity=Decimal(units), customer_id=CUSTOMERS[2], ingested_at=store.now()) for at, units in late]
    )
    own, later = (store.changes_since(item, prices=prices) for item in signed)
    assert [(line.events, line.quantity, line.amount) for line in later.corrections] == [(2, Decimal(12), Decimal(6))]
    (line,) = own.corrections
    if included:
        assert (line.events, line.quantity, line.amount, own.uncompared) == (1, Decimal(2), None, 1)
        assert line.reason == (
            f"arrived late; its amount cannot be separated from that in {str(signed[1].id)[:8]}: sign this period again"
        )
    else:
        assert (line.events, line.quantity, line.amount, own.uncompared) == (1, Decimal(2), Decimal(1), 0)
        assert [part.amounts() for part in own.taken_over] == [[("USD", Decimal(2))]]


@IN_ONE_PLACE
def test_an_edit_is_counted_once_in_the_last_sign_off_that_covers_it_whatever_the_zone(
    store: Store, insert: Insert, events_connection: ddl.Connection
) -> None:
    """A month in UTC, then in Berlin's time: the last two hours are in the first one alone."""
    prices = [{"metric_key": "tokens", "unit_amount": 1, "currency": "USD"}]
    rows = {
        name: event(timestamp, quantity=Decimal(10), customer_id=CUSTOMERS[customer])
        for name, timestamp, customer in (
            ("own", datetime(2026, 9, 30, 23, tzinfo=UTC), 1),
            ("shared", DAY, 2),
            ("later", datetime(2026, 8, 31, 23, tzinfo=UTC), 0),
        )
    }
    insert(rows.values())
    signed = []
    for filters in (
        {},
        {"since": "2026-08-31T22:00:00Z", "until": "2026-09-30T22:00:00Z", "timezone": "Europe/Berlin"},
    ):
        validation = full(store, **filters)
        signed.append(store.sign_off(validation, by="ana", rating=store.rate(validation.period, prices=prices)))
    assert store.signoffs()[::-1] == signed

    def counted() -> list[list[tuple[str, Decimal | None, Decimal | None]]]:
        changes = [store.changes_since(item, prices=prices) for item in signed]
        assert [item.uncompared for item in changes] == [0, 0]
        return [[(line.customer_id, line.quantity, line.amount) for line in item.lines] for item in changes]

    expected: list[list[tuple[str, Decimal | None, Decimal | None]]] = [[], []]
    for number, name in enumerate(("own", "shared", "later"), 1):
        events_connection.execute(
            "UPDATE usage_events SET quantity = quantity + %s WHERE id = %s", [number, rows[name].id]
        )
        events_connection.commit()
        expected[name != "own"].append((str(rows[name].customer_id), Decimal(number), Decimal(number)))
        assert counted() == [sorted(lines) for lines in expected], name
    days = [store.changes_since(item, prices=prices).days for item in signed]
    assert days == [(date(2026, 9, 30),), (date(2026, 9, 1), DAY.date())], "each names those that it counts"


@IN_ONE_PLACE
def test_an_older_state_is_not_signed_over_a_newer_one_nor_the_same_one_twice(store: Store, insert: Insert) -> None:
    """A page that was open for an hour signed over another user's: what that one had signed was to be billed again."""
    prices = [{"metric_key": "tokens", "unit_amount": 1, "currency": "USD"}]
    stale = full(store)
    insert([event(DAY, quantity=Decimal(1), customer_id=CUSTOMERS[2], ingested_at=store.now())])
    newer = full(store)
    rating = store.rate(newer.period, prices=prices)
    signed = store.sign_off(newer, by="ana")
    with pytest.raises(
        QueryError, match=r"is older than the last sign-off: ana signed this period on .* run the checks"
    ):
        store.sign_off(stale, by="bo")
    with pytest.raises(QueryError, match=r"is signed already: ana signed this period on .* with the same result"):
        store.sign_off(newer, by="ana")
    others = [
        store.sign_off(newer, by="bo"),
        store.sign_off(newer, by="bo", note="Seen."),
        store.sign_off(newer, by="bo", note="Seen.", rating=rating),
    ]
    with pytest.raises(QueryError, match="bo signed"):
        store.sign_off(newer, by="bo", note=" Seen.", rating=rating)
    assert store.signoffs() == [*others[::-1], signed]


@IN_ONE_PLACE
def test_a_customer_s_later_sign_off_takes_only_its_rows(store: Store, insert: Insert) -> None:
    prices = [{"metric_key": "tokens", "unit_amount": 1, "currency": "USD"}]
    whole = full(store)
    signed = store.sign_off(whole, by="ana", rating=store.rate(whole.period, prices=prices))
    narrow = full(store, customer_id=CUSTOMERS[0])
    mine = store.sign_off(narrow, by="ana", rating=store.rate(narrow.period, prices=prices))
    insert([event(DAY, quantity=Decimal(1), customer_id=CUSTOMERS[who], ingested_at=store.now()) for who in (0, 1)])
    changes = store.changes_since(signed, prices=prices)
    own, _, taken = changes.sentence.rpartition("; ")
    assert own == "+1 event, arrived late; expected amounts +1.00 USD"
    assert taken.startswith(f"1 correction (+1.00 USD) is in sign-off {str(mine.id)[:8]} (")
    assert {row.key[0] for row in changes.rows} == {str(CUSTOMERS[1])}
    assert changes.uncompared == 0
    assert str(mine.id)[:8] in changes.overlap_note
    assert store.changes_since(mine, prices=prices).sentence == own
    assert f"({period_words(mine)}, signed by ana)" in overlap_warning(whole.period, store.signoffs()), "whole"


@IN_ONE_PLACE
def test_a_month_says_which_later_sign_off_has_its_corrections_and_what_is_added_and_taken_off(
    store: Store, insert: Insert, events_connection: ddl.Connection
) -> None:
    """A month, then the weeks from its middle on: late events, edits and removals there are billed once, and said."""
    prices = [{"metric_key": metric, "unit_amount": 1, "currency": "USD"} for metric in ("tokens", "calls")]
    middle = datetime(2026, 9, 20, 12, tzinfo=UTC)
    calls = event(middle, metric_key="calls", quantity=Decimal(3), customer_id=CUSTOMERS[2])
    insert([calls])
    month = full(store)
    standing = store.sign_off(month, by="ana", rating=store.rate(month.period, prices=prices))
    weeks = full(store, since="2026-09-15T00:00:00Z", until="2026-10-15T00:00:00Z")
    assert overlap_warning(month.period, store.signoffs()) == ""
    assert f"sign-off {str(standing.id)[:8]} ({period_words(standing)}, signed by ana)" in overlap_warning(
        weeks.period, store.signoffs()
    )
    later = store.sign_off(weeks, by="bo", rating=store.rate(weeks.period, prices=prices))
    assert str(later.id)[:8] in overlap_warning(month.period, store.signoffs())
    late = {"quantity": Decimal(5), "ingested_at": store.now()}
    insert([event(middle, customer_id=CUSTOMERS[1], **late), event(DAY, customer_id=CUSTOMERS[0], **late)])
    events_connection.execute("DELETE FROM usage_events WHERE id = %s", [calls.id])
    events_connection.commit()
    changes, theirs = (store.changes_since(item, prices=prices) for item in (standing, later))
    assert [(line.customer_id, line.amount) for line in changes.lines] == [(str(CUSTOMERS[0]), Decimal(5))]
    (taken,) = changes.taken_over
    assert taken.signoffs == (later,)
    assert taken.corrections == theirs.corrections, "each is billed once, with the later sign-off"
    words = f"in sign-off {str(later.id)[:8]} ({period_words(later)}, signed by bo)"
    assert changes.sentence.endswith(f"; 2 corrections (+5.00 and -3.00 USD) are {words}")
    assert [row["amount"] for row in changes.to_dict()["in_later_sign_offs"][0]["rows"]] == ["5", "-3"]


@IN_ONE_PLACE
def test_a_table_that_may_not_be_read_is_named_with_its_grant_not_taken_for_absent(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    """An administrator loaded prices and made the tables of records; the role has SELECT on the events alone."""
    stored = [{"metric_key": "tokens", "unit_amount": 2, "currency": "USD"}]
    with ddl.connect(events_database_url) as connection:
        create_tables(connection, store.table)
        replace_prices(connection, store.table, ORGANIZATION, read_prices(stored))
        connection.commit()
    prices = r"may not read the table public\.usage_prices; its owner can run GRANT SELECT ON public\.usage_prices"
    for act in (store.prices, lambda: store.rate(SEPTEMBER)):
        with pytest.raises(TableMismatch, match=prices):
            act()
    invoices = pd.DataFrame({"customer_id": [str(CUSTOMERS[0])], "metric_key": ["tokens"], "quantity": ["80"]})
    validation = store.validate(SEPTEMBER, checks=["reconciliation", "unpriced"], invoices=invoices)
    assert re.search(prices, validation.unchecked[0])
    (skipped,) = (result.skipped for result in validation.results if result.check.name == "unpriced")
    assert re.search(prices, skipped or "")
    for name, act in (
        ("usage_validation_runs", lambda: store.review(validation)),
        ("usage_decisions", store.decisions),
        ("usage_signoffs", store.signoffs),
    ):
        with pytest.raises(RecordError, match=rf"GRANT SELECT, INSERT ON public\.{name} TO the role"):
            act()


@IN_ONE_PLACE
@pytest.mark.parametrize(
    ("by", "message"), [("", "by: is blank"), ("a\0b", "by: has a line break, a control"), ("\n", "is bl")]
)
def test_who_decides_is_named_in_plain_text(store: Store, by: str, message: str) -> None:
    validation = checked(store)
    for act in (
        lambda: store.decide(copies(validation)[0], "acknowledge", by=by),
        lambda: store.keep_run(validation, by=by),
        lambda: store.sign_off(validation, by=by),
    ):
        with pytest.raises(QueryError, match=message):
            act()
    assert store.decisions() == []
    assert store.runs() == []
