"""Rows whose times lie outside 1970 to 2200 spoil no answer, and are named where somebody can correct them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql

from support import extracts, generated_events
from support.api_server import asking
from support.interface_answers import WHOLE, doors, over_http
from usage_explore import AggregateQuery, EventQuery, Period, Store, connect
from usage_explore.db import DEFAULT_STORAGE, catalog, ddl, timescale
from usage_explore.db.catalog import relation
from usage_explore.db.ddl import migrate_table
from usage_explore.doctor import examine
from usage_explore.sql.hints import HintWarning
from usage_explore.validation.checks import impossible_times

OUTSIDE = (
    "57837-06-04 04:26:40Z",  # to_timestamp() of milliseconds
    "infinity",
    "-infinity",
    "0044-03-15 BC",
    "0001-01-01Z",
    "1969-12-31 23:59:59.999999Z",
    "2200-01-01Z",
    "294276-12-31Z",
)
"""Times as PostgreSQL writes them, that no question reaches."""

DAY = timedelta(days=1)

INSERT = """
INSERT INTO usage_events
    (id, organization_id, customer_id, metric_key, quantity, timestamp, ingested_at, idempotency_key)
VALUES (%s, %s, %s, 'tokens_in', 7, %s, %s, 'odd')
"""


def occurring(connection: ddl.Connection) -> tuple[str, ...]:
    """The odd times at which an event can be said to occur: no chunk of a hypertable holds the extreme ones."""
    hypertable = ddl.is_hypertable(connection, "usage_events")
    connection.commit()
    return tuple(time for time in OUTSIDE if not hypertable or time not in ("-infinity", "294276-12-31Z"))


def add_outside(connection: ddl.Connection) -> list[UUID]:
    """A row for each odd time of occurrence, and of ingestion; their ids."""
    odd = [(time, "2026-06-01Z") for time in occurring(connection)] + [("2026-06-01Z", time) for time in OUTSIDE]
    ids = [UUID(int=number) for number, _ in enumerate(odd, 1)]
    for id_, times in zip(ids, odd, strict=True):
        connection.execute(INSERT, [id_, generated_events.ORGANIZATION, generated_events.CUSTOMERS[0], *times])
    connection.commit()
    return ids


@pytest.fixture
def store(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Store]:
    rows = generated_events.generate(per_scene=30)
    fitting = [row for row in rows if row.quantity < 10**20]  # what 38 digits can hold beside 15 decimal places
    generated_events.insert(events_connection, fitting)
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened:
        yield opened


@pytest.mark.parametrize("extracted", [False, True], ids=["events", "extract"])
def test_no_answer_changes_for_rows_that_no_question_reaches(
    events_connection: ddl.Connection, events_database_url: str, store: Store, tmp_path: Path, extracted: bool
) -> None:
    with (
        connect(events_database_url, organization_id=generated_events.ORGANIZATION, home=tmp_path) as own,
        asking(own) as client,
    ):
        expected = doors(own, tmp_path), over_http(client)
        add_outside(events_connection)
        if extracted:
            first = extracts.build(events_database_url, tmp_path)
            again = extracts.build(events_database_url, tmp_path)
            assert [report.corrected for report in again.values()] == [0] * len(first)
            answer = own.aggregate(AggregateQuery(**WHOLE))
            assert answer.served.path == "extract", answer.served.because
        assert (doors(own, tmp_path), over_http(client)) == expected


@pytest.mark.each_value
@pytest.mark.parametrize("name", ["timestamp", "ingested_at"])
@pytest.mark.parametrize("time", OUTSIDE)
def test_the_doctor_counts_and_names_them(
    store: Store, events_connection: ddl.Connection, events_database_url: str, name: str, time: str
) -> None:
    if name == "timestamp" and time not in occurring(events_connection):
        pytest.skip("a hypertable cannot hold it")
    times = {"timestamp": "2026-06-01Z", "ingested_at": "2026-06-01Z", name: time}
    id_ = UUID(int=1)
    events_connection.execute(
        INSERT, [id_, generated_events.ORGANIZATION, generated_events.CUSTOMERS[0], *times.values()]
    )
    events_connection.commit()
    found = examine(events_database_url, "usage_events", timedelta(seconds=30))
    (finding,) = [finding for finding in found if finding.state == "fault"]
    assert finding.name == f"contents: {name} out of bounds"
    assert finding.message.startswith("1 rows")
    assert str(id_) in finding.message
    condition = finding.fix.partition(" where ")[2].removesuffix(".")
    listed = events_connection.execute(sql.SQL("SELECT id FROM usage_events WHERE {}").format(sql.SQL(condition)))  # type: ignore[arg-type]
    assert listed.fetchall() == [(id_,)]


def test_validation_names_those_that_concern_the_period(store: Store, events_connection: ddl.Connection) -> None:
    june = {"since": datetime(2026, 6, 1, tzinfo=UTC), "until": datetime(2026, 7, 1, tzinfo=UTC)}
    assert [found for found in named(store, Period(**june)) if "outside 1970 to 2200" in found] == []
    ids = add_outside(events_connection)

    def concerned(**parameters: Any) -> int:
        period = Period(**{**june, **parameters})
        (finding, *_) = store.validate(period, checks=["impossible_times"]).findings
        assert (finding.severity, finding.check) == ("high", "impossible_times")
        assert str(min(ids)) in finding.sentence
        return finding.events

    assert concerned() == len(ids)
    assert concerned(since=june["until"], until=june["until"] + DAY) == len(ids) - len(OUTSIDE)  # at any time
    assert concerned(customer_id=generated_events.CUSTOMERS[0]) == len(ids)
    # what arrived in June was not known in May; what arrived at an impossible time may have been
    assert len(ids_of(store, Period(**june, as_of=june["since"] - DAY))) == impossible_times._MAX_SHOWN_EVENTS
    assert named(store, Period(**june, customer_id=generated_events.CUSTOMERS[1])) == []


def named(store: Store, period: Period) -> list[str]:
    """The sentences about events out of bounds."""
    found = store.validate(period, checks=["impossible_times"]).findings
    return [finding.sentence for finding in found if "outside 1970 to 2200" in finding.sentence]


def ids_of(store: Store, period: Period) -> list[str]:
    """The events that are named."""
    (finding, *_) = store.validate(period, checks=["impossible_times"]).findings
    return [name for name, _ in finding.facts]


def test_the_index_for_aggregates_holds_the_times_that_are_bounded(
    store: Store, events_connection: ddl.Connection
) -> None:
    if timescale.available(events_connection):
        pytest.skip("a chunk's plan")
    events_connection.commit()
    events_connection.autocommit = True
    events_connection.execute("VACUUM (ANALYZE) usage_events")
    for as_of in (None, datetime(2026, 7, 1, tzinfo=UTC)):
        query = AggregateQuery(**WHOLE, group_by="metric_key", metric="sum_quantity", as_of=as_of)
        events_connection.execute("SET enable_seqscan = off")
        events_connection.execute("SET enable_bitmapscan = off")
        plan = events_connection.execute(f"EXPLAIN {store.sql(query)}".encode()).fetchall()
        assert any("Index Only Scan using usage_events_cover" in line for (line,) in plan), plan


def test_init_replaces_the_index_that_an_older_version_made(
    store: Store, events_connection: ddl.Connection, events_database_url: str
) -> None:
    events_connection.execute("DROP INDEX usage_events_cover")
    events_connection.execute(
        "CREATE INDEX usage_events_cover ON usage_events (organization_id, timestamp)"
        " INCLUDE (metric_key, quantity, customer_id)"
    )
    events_connection.commit()
    (finding,) = [
        finding
        for finding in examine(events_database_url, "usage_events", timedelta(seconds=30))
        if finding.name == "index" and finding.state != "ok"
    ]
    assert finding.fix.startswith("usage-explore init")
    for said in (2, 0):
        words: list[str] = []
        migrate_table(events_connection, "usage_events", DEFAULT_STORAGE, words.append)
        assert len(words) == said, words
    found = relation(events_connection, "usage_events")
    assert found is not None
    there = catalog.existing_indexes(events_connection, found)
    assert {index.name for index in there if index.name.startswith("usage_events_cover")} == {"usage_events_cover"}
    (cover,) = [wanted for wanted in catalog.wanted_indexes(found) if catalog.index_purpose(wanted) == "cover"]
    assert any(index.serves(cover) for index in there)


def test_a_quantity_of_theirs_is_in_no_sum(store: Store, events_connection: ddl.Connection) -> None:
    before = store.aggregate(AggregateQuery(**WHOLE, metric="sum_quantity")).total
    add_outside(events_connection)
    events_connection.execute("UPDATE usage_events SET quantity = 'NaN' WHERE idempotency_key = 'odd'")
    events_connection.commit()
    assert store.aggregate(AggregateQuery(**WHOLE, metric="sum_quantity")).total == before != Decimal(0)


def test_an_organization_of_impossible_times_alone_is_named(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    add_outside(events_connection)
    words = "All rows of this organization have times outside 1970 to 2200"
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as store:
        with pytest.warns(HintWarning, match=words):
            assert store.export(EventQuery(), tmp_path / "events.csv", progress=False).events == 0
        with pytest.warns(HintWarning, match=words):
            assert (
                store.aggregate(AggregateQuery(since="2026-06-01T00:00:00Z", until="2026-06-02T00:00:00Z")).total == 0
            )
