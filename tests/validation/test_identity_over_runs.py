"""The demo validated, a late batch, the demo validated again: which findings are the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, event, store_of
from support.database_servers import fresh_database
from support.demo_database import ACME, UNTIL
from usage_explore import Period, Store, connect, demo
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.records.identities import Identity, matched, nearest
from usage_explore.validation import Finding, Validation
from usage_explore.validation.review import Review, identities, recorded

DAYS, PER_DAY, LATE_EVENTS = 60, 500, 150
PERIOD = Period(since="2026-08-20T00:00:00Z", until="2026-09-20T00:00:00Z")
SECOND_ARRIVAL = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def two_runs(server_url: str, _template: str) -> Iterator[tuple[Store, Validation, Validation]]:
    """A store, and the validations before and after a batch of new events and copies that arrived weeks late."""
    with fresh_database(server_url, template=_template) as url, ddl.connect(url) as connection:
        demo.append(connection, events_table(), until=UNTIL, days=DAYS, per_day=PER_DAY)
        connection.commit()
        with connect(url, organization_id=ACME) as store:
            first = store.validate(PERIOD)
            store.keep_run(first)
            since, until = first.period.span
            connection.execute(
                """
                    INSERT INTO usage_events
                    SELECT (jsonb_populate_record(u, jsonb_build_object(
                        'id', gen_random_uuid(), 'ingested_at', %(arrived)s::timestamptz, 'idempotency_key',
                        CASE WHEN n %% 10 = 0 THEN (u).idempotency_key ELSE 'late ' || n END, 'timestamp',
                        (u).timestamp - CASE WHEN n %% 10 = 0 THEN interval '0' ELSE interval '7 minutes' END))).*
                    FROM (SELECT u, row_number() OVER (ORDER BY md5(id::text)) AS n FROM usage_events AS u
                          WHERE organization_id = %(owner)s AND timestamp < %(until)s
                          AND timestamp >= %(since)s::timestamptz + interval '10 minutes') AS chosen
                    WHERE n <= %(number)s
                    """,
                {"arrived": SECOND_ARRIVAL, "owner": ACME, "since": since, "until": until, "number": LATE_EVENTS},
            )
            connection.commit()
            yield store, first, store.validate(PERIOD)


def test_a_late_batch_makes_no_known_finding_a_new_one(two_runs: tuple[Store, Validation, Validation]) -> None:
    store, first, second = two_runs
    review = store.review(second)
    before = {
        identity.id: finding for identity, finding in zip(identities(first.findings), first.findings, strict=True)
    }
    assert len(before) == len(first.findings) > 20
    assert review.gone == ()
    known = [item for item in review.items if not item.is_new]
    assert {item.id for item in known} == before.keys()
    assert any(item.finding.events > before[item.id].events for item in known), "late events raise counts"
    assert {item.identity.check for item in review.new} == {"duplicates", "impossible_times"}
    arrived = {item.finding.since for item in review.new}
    assert arrived.isdisjoint(finding.since for finding in first.findings)


def test_a_finding_within_the_time_of_another_is_not_taken_for_it() -> None:
    day = timedelta(days=1)
    times = [(SINCE, SINCE + 30 * day), (SINCE + 2 * day, SINCE + 20 * day), (SINCE + 3 * day, SINCE + 5 * day)]
    among = [Identity(check="a", kind="", since=since, until=until) for since, until in times]
    for index, one in enumerate(among):
        moved = replace(one, until=one.until + timedelta(minutes=5))
        assert nearest(moved, among) == index
        assert matched([moved], among[::-1]) == {0: 2 - index}


def test_a_folded_finding_is_known_and_never_gone(events_database_url: str) -> None:
    """Quantities times 1,000 have a wrong unit and are outsized: one finding, in which the other is folded."""
    draw = random.Random(5)
    rows = [
        event(
            customer,
            SINCE + timedelta(days=day, hours=2 * number, minutes=draw.randint(0, 110)),
            quantity=Decimal(draw.randint(80, 120)) * (1_000 if customer == 0 and 10 <= day <= 12 else 1),
        )
        for customer in range(3)
        for day in range(-60, 31)
        for number in range(12)
    ]
    with store_of(events_database_url, rows) as store:
        _folded(store, SEPTEMBER)


def test_a_finding_that_needs_a_file_is_not_gone_without_it(events_database_url: str, tmp_path: Path) -> None:
    """The check runs without the file, too, with a book that is no file, as the stored one."""
    stored = [{"metric_key": metric, "unit_amount": "0.10", "currency": "USD"} for metric in ("calls", "seats")]
    book = tmp_path / "book.csv"
    pd.DataFrame(stored[:1]).to_csv(book, index=False)
    rows = [event(1, SINCE + timedelta(hours=n), metric) for n in range(300) for metric in ("calls", "seats")]
    with store_of(events_database_url, rows) as store:

        def validated(prices: Any) -> Validation:
            return store.validate(SEPTEMBER, checks=["unpriced"], prices=prices)

        first = validated(book)
        store.keep_run(first)
        (found,) = first.findings
        without = validated(stored)
        assert not without.findings
        for _ in range(2):
            review = store.review(without)
            assert review.gone == ()
            assert [item.sentence for _, item in review.unseen] == [found.sentence]
            store.keep_run(without)
        again = store.review(validated(book))
        assert (again.gone, again.unseen, again.new) == ((), (), ())


def test_a_run_with_fewer_files_does_not_hide_what_one_with_more_found(
    events_database_url: str, tmp_path: Path
) -> None:
    """A wrong amount was gone in silence after a run with the invoice alone, which cannot compare amounts."""
    book, invoice = tmp_path / "book.csv", tmp_path / "invoice.csv"
    book.write_text("metric_key,unit_amount,currency\ncalls,0.10,USD\n")
    invoice.write_text(f"customer_id,metric_key,quantity,amount,currency\n{CUSTOMERS[1]},calls,300,99.00,USD\n")
    rows = [event(1, SINCE + timedelta(hours=n)) for n in range(300)]
    with store_of(events_database_url, rows) as store:

        def reviewed(**files: Path) -> Review:
            validation = store.validate(SEPTEMBER, checks=["reconciliation"], **files)
            store.keep_run(validation)
            return store.review(validation)

        both = reviewed(prices=book, invoices=invoice)
        (found,) = both.items
        assert found.finding.severity == "high"
        for _ in range(2):
            for files in ({}, {"invoices": invoice}):
                review = reviewed(**files)
                assert [finding.identity for _, finding in review.unseen] == [found.identity]
        assert "1 high open finding cannot be shown without book.csv: " in review.unseen_sentence(SEPTEMBER.zone)
        assert reviewed(prices=book, invoices=invoice).unseen == ()


def test_only_findings_of_checks_that_were_asked_for_and_lack_a_file_cannot_be_shown(
    events_database_url: str, tmp_path: Path
) -> None:
    """Where another check was asked for, or one that reads no file, the files were said to be what is missing."""
    book, totals = tmp_path / "book.csv", tmp_path / "totals.csv"
    book.write_text("metric_key,unit_amount,currency\ncalls,0.10,USD\n")
    totals.write_text("day,metric_key,quantity\n2026-09-02,calls,5000\n")
    rows = [event(1, SINCE + timedelta(hours=n), metric) for n in range(300) for metric in ("calls", "seats")]
    rows += [replace(row, id=uuid4()) for row in rows[:60]]
    with store_of(events_database_url, rows) as store:
        store.keep_run(store.validate(SEPTEMBER, prices=book, control=totals))
        every = [finding.identity.check for finding in store.runs()[0].findings]
        assert {"duplicates", "unpriced", "control_totals"} <= {*every}
        for checks in (["duplicates"], ["unrated", "wallets"]):
            review = store.review(store.validate(SEPTEMBER, checks=checks))
            assert review.unseen == ()
            assert review.unseen_sentence(SEPTEMBER.zone) == ""
        for check, file in (("unpriced", "book.csv"), ("control_totals", "totals.csv")):
            review = store.review(store.validate(SEPTEMBER, checks=["duplicates", check]))
            assert [finding.identity.check for _, finding in review.unseen] == [check] * every.count(check)
            assert f"cannot be shown without {file}: the run by" in review.unseen_sentence(SEPTEMBER.zone)


def test_findings_of_the_month_by_another_zone_and_of_the_whole_organization_stay_open(
    events_database_url: str, tmp_path: Path
) -> None:
    """The month by the days of UTC, and a customer's alone, had "0 high open" beside the run with the files."""
    book, wrong, right = (tmp_path / f"{name}.csv" for name in ("book", "wrong", "right"))
    book.write_text("metric_key,unit_amount,currency\ncalls,0.10,USD\n")
    for path, amount in ((wrong, "99.00"), (right, "30.00")):
        lines = (f"{CUSTOMERS[1]},calls,300,{amount},USD", f"{CUSTOMERS[2]},calls,300,30.00,USD")
        path.write_text("\n".join(("customer_id,metric_key,quantity,amount,currency", *lines)))
    first = SINCE + timedelta(days=2)
    rows = [event(customer, first + timedelta(hours=n)) for n in range(300) for customer in (1, 2)]
    berlin = Period(since="2026-09-01", until="2026-10-01", timezone="Europe/Berlin")
    with store_of(events_database_url, rows) as store:

        def unseen(period: Period, *, keep: bool = True, **files: Path) -> list[str | None]:
            validation = store.validate(period, checks=["reconciliation"], **files)
            if keep:
                store.keep_run(validation)
            review = store.review(validation)
            assert all(finding.severity == "high" for _, finding in review.unseen)
            words = review.unseen_sentence(period.zone)
            assert ("1–30 Sep 2026, Europe/Berlin, found it." in words) == bool(review.unseen), words
            return [finding.identity.customer_id for _, finding in review.unseen]

        store.keep_run(store.validate(berlin, checks=["reconciliation"], prices=book, invoices=wrong))
        open_ = [str(CUSTOMERS[1])]
        for period in (SEPTEMBER, SEPTEMBER.replace(since=SINCE + timedelta(days=1))):
            assert unseen(period) == unseen(period.replace(customer_id=CUSTOMERS[1])) == open_
            assert unseen(period.replace(customer_id=CUSTOMERS[2])) == []
            assert unseen(period.replace(metric_key=("calls", "seats")), keep=False) == open_
            assert unseen(period.replace(metric_key="seats"), keep=False) == []
        assert unseen(berlin.replace(customer_id=CUSTOMERS[1])) == open_
        assert unseen(SEPTEMBER.replace(until=SINCE + timedelta(days=90)), keep=False) == [], "a third of it"
        assert unseen(SEPTEMBER, prices=book, invoices=wrong) == [], "its own finding"
        narrowed = SEPTEMBER.replace(customer_id=CUSTOMERS[1])
        validation = store.validate(narrowed, checks=["reconciliation"])
        assert len(store.review(validation).unseen) == 1, "of two runs with the same finding"
        assert unseen(SEPTEMBER, prices=book, invoices=right) == [], "examined with the files, and right"
        assert unseen(SEPTEMBER) == []


def _folded(store: Store, period: Period) -> None:
    first = store.validate(period)
    store.keep_run(first)
    folded = [finding for finding in recorded(first.findings) if finding.folded_into]
    assert folded
    for check in {finding.identity.check for finding in folded}:
        alone = store.review(store.validate(period.replace(as_of=first.period.as_of), checks=[check]))
        mine = [item for item in alone.items if item.id in {finding.identity.id for finding in folded}]
        assert mine
        assert not any(item.is_new for item in mine)
        assert not {finding.identity.id for finding in alone.gone} & {item.id for item in mine}
    store.keep_run(store.validate(period, checks=[folded[0].identity.check]))
    again = store.review(store.validate(period))
    assert not again.new
    assert again.gone == (), "what stood alone is folded now"


def test_the_ids_of_one_run_differ(two_runs: tuple[Store, Validation, Validation]) -> None:
    for validation in two_runs[1:]:
        ids = [identity.id for identity in identities(validation.findings)]
        assert len({*ids}) == len(ids)
        twins = identities([*validation.findings, *(moved(finding) for finding in validation.findings)])
        assert len({identity.id for identity in twins}) == 2 * len(ids)
        assert {identity.id for identity in twins} >= {*ids}, "the first of a day keeps its id"


def moved(finding: Finding) -> Finding:
    """A second finding on the same, later on the same day."""
    return replace(finding, since=finding.since + timedelta(microseconds=1))
