"""Laws of `demo.append` on a real database, at a small scale."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Table

from usage_explore import demo
from usage_explore.db import ddl
from usage_explore.db.schema import DEFAULT_TABLE, events_table
from usage_explore.demo import loading
from usage_explore.demo.business import TENANTS
from usage_explore.demo.planted_incidents import KINDS
from usage_explore.errors import ConfigurationError, DatabaseUnavailable, TableMismatch

UNTIL = datetime(2026, 11, 20, 14, 35, 12, 345678, tzinfo=UTC)
TABLE = events_table()


def append(
    connection: ddl.Connection, until: datetime = UNTIL, *, table: Table = TABLE, days: int = 8, **options: Any
) -> demo.DemoReport:
    return demo.append(connection, table, until=until, days=days, per_day=options.pop("per_day", 300), **options)


def column(connection: ddl.Connection, query: str, *arguments: object) -> list[Any]:
    return [row[0] for row in connection.execute(query, arguments)]


def count(connection: ddl.Connection, where: str = "true", *arguments: object, table: str = DEFAULT_TABLE) -> int:
    return int(column(connection, f"SELECT count(*) FROM {table} WHERE {where}", *arguments)[0])


def second_table(connection: ddl.Connection) -> Table:
    ddl.ensure_schema(connection, "other_events")
    return events_table("other_events")


def assert_same_demo(connection: ddl.Connection) -> None:
    """`usage_events` and `other_events` hold the same rows and tell of the same incidents."""
    both = "SELECT count(*) FROM (SELECT * FROM usage_events EXCEPT ALL SELECT * FROM other_events) AS difference"
    assert column(connection, both) == [0]
    assert count(connection) == count(connection, table="other_events") > 0
    told = {
        name: column(
            connection,
            "SELECT (kind, day, organization_id, customer_id, metric_key, starts, ends, events, sentence)::text"
            " FROM usage_explore_demo_incidents WHERE events_table = %s ORDER BY kind, day",
            f"public.{name}",
        )
        for name in ("usage_events", "other_events")
    }
    assert told["usage_events"] == told["other_events"]


def test_a_second_append_adds_nothing(events_connection: ddl.Connection) -> None:
    first = append(events_connection)
    assert first.events == count(events_connection) > 2000
    assert first.first_day == date(2026, 11, 12)
    assert "Appended" in str(first)
    again = append(events_connection)
    assert (again.events, again.days, again.until) == (0, 0, UNTIL)
    assert str(again) == "Nothing to append: the demo is loaded from 2026-11-12 to 2026-11-20 14:35 UTC."
    assert count(events_connection) == first.events


def test_an_earlier_until_adds_nothing(events_connection: ddl.Connection) -> None:
    append(events_connection)
    for earlier in (timedelta(seconds=1), timedelta(days=3), timedelta(days=300)):
        report = append(events_connection, UNTIL - earlier)
        assert (report.events, report.until) == (0, UNTIL)


def test_everything_has_arrived_by_until_and_nothing_that_had_is_missing(
    events_connection: ddl.Connection,
) -> None:
    append(events_connection)
    assert count(events_connection, "ingested_at > %s", UNTIL) == 0
    last = column(events_connection, "SELECT max(ingested_at) FROM usage_events")[0]
    assert UNTIL - last < timedelta(hours=1)
    assert set(column(events_connection, "SELECT organization_id FROM usage_events")) == set(demo.ORGANIZATIONS)


@pytest.mark.parametrize(
    "steps",
    [
        [timedelta(microseconds=1)],
        [timedelta(days=7, hours=3)],
        [timedelta(days=6, hours=14, minutes=35), timedelta(days=2), timedelta(days=2), timedelta(hours=14)],
    ],
)
def test_appending_in_steps_is_appending_at_once(events_connection: ddl.Connection, steps: list[timedelta]) -> None:
    other = second_table(events_connection)
    for before in steps:
        until = UNTIL - before
        append(events_connection, until, days=40 - (UNTIL.date() - until.date()).days)
    append(events_connection)
    append(events_connection, table=other, days=40)
    assert_same_demo(events_connection)


def test_until_now_is_the_database_clock(events_connection: ddl.Connection) -> None:
    report = demo.append(events_connection, TABLE, days=1, per_day=300)
    now = column(events_connection, "SELECT now()")[0]
    assert timedelta(0) <= now - report.until < timedelta(minutes=5)
    assert count(events_connection, "ingested_at > now()") == 0


def test_a_process_killed_halfway_leaves_whole_days_and_can_go_on(
    events_connection: ddl.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_day = loading.record_day

    def killed(connection: ddl.Connection, table: str, day: date, **values: Any) -> None:
        if day == date(2026, 11, 16):
            raise KeyboardInterrupt
        record_day(connection, table, day, **values)

    with monkeypatch.context() as patch:
        patch.setattr(loading, "record_day", killed)
        with pytest.raises(KeyboardInterrupt):
            append(events_connection)
    days = column(events_connection, "SELECT day FROM usage_explore_demo ORDER BY day")
    assert days == [date(2026, 11, 12) + timedelta(days=number) for number in range(4)]
    assert column(events_connection, "SELECT sum(events) FROM usage_explore_demo") == [count(events_connection)]

    append(events_connection)
    append(events_connection, table=second_table(events_connection))
    assert_same_demo(events_connection)


def test_a_connection_lost_halfway_loses_only_the_day_in_hand(
    events_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends the session in the middle of a day, as it does when the client is killed."""
    copy_lines = loading.copy_lines
    calls = 0

    with ddl.connect(events_database_url) as connection, ddl.connect(events_database_url) as witness:

        def cut(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 8:
                witness.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            return copy_lines(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(loading, "copy_lines", cut)
            with pytest.raises(DatabaseUnavailable):
                append(connection)
        assert column(witness, "SELECT sum(events) FROM usage_explore_demo") == [count(witness)]
        assert len(column(witness, "SELECT day FROM usage_explore_demo")) == 2


def test_every_planted_incident_is_really_in_the_rows(events_connection: ddl.Connection) -> None:
    append(events_connection, days=49, per_day=900)
    found = demo.incidents(events_connection)
    assert {incident.kind for incident in found} == set(EVIDENCE) == {kind.name for kind in KINDS}
    for incident in found:
        assert incident.organization_id == TENANTS[0].id
        assert str(incident.customer_id or incident.metric_key) in incident.sentence
        assert (incident.events > 0) == (incident.kind != "silent_customer")
        EVIDENCE[incident.kind](events_connection, incident)


SPAN = "timestamp >= %s AND timestamp < %s"
MINE = f"customer_id = %s AND {SPAN}"


def mine(incident: demo.Incident, back: timedelta = timedelta()) -> tuple[UUID | None, datetime, datetime]:
    return incident.customer_id, incident.starts - back, incident.ends - back


def runaway(connection: ddl.Connection, incident: demo.Incident) -> None:
    sent = count(connection, MINE, *mine(incident))
    usual = count(connection, MINE, *mine(incident, timedelta(days=7)))
    assert sent >= incident.events > 20 * max(usual, 1)
    keys = column(connection, f"SELECT dimensions->>'api_key' FROM usage_events WHERE {MINE}", *mine(incident))
    assert max(map(keys.count, set(keys))) >= incident.events


def silent(connection: ddl.Connection, incident: demo.Incident) -> None:
    assert count(connection, MINE, *mine(incident)) == 0
    for back in (-timedelta(days=4), timedelta(days=4)):
        assert count(connection, MINE, *mine(incident, back)) > 20


def duplicated(connection: ddl.Connection, incident: demo.Incident) -> None:
    copied = (
        "EXISTS (SELECT FROM usage_events AS first WHERE first.idempotency_key = usage_events.idempotency_key"
        " AND first.timestamp = usage_events.timestamp AND first.quantity = usage_events.quantity"
        " AND first.id <> usage_events.id AND first.dimensions = usage_events.dimensions"
        " AND usage_events.ingested_at - first.ingested_at BETWEEN interval '90 s' AND interval '2 min')"
    )
    assert count(connection, f"{MINE} AND {copied}", *mine(incident)) == incident.events
    assert 2 * incident.events == count(connection, MINE, *mine(incident))


def backfilled(connection: ddl.Connection, incident: demo.Incident) -> None:
    late = "ingested_at - timestamp > interval '3 days'"
    assert count(connection, f"{MINE} AND {late}", *mine(incident)) == incident.events
    assert count(connection, MINE, *mine(incident)) == incident.events


def mispriced(connection: ddl.Connection, incident: demo.Incident) -> None:
    where = "metric_key = %s AND organization_id = %s AND external_cost_amount IS NOT NULL AND"
    arguments = (incident.metric_key, incident.organization_id, incident.starts, incident.ends)
    assert count(connection, f"{where} {SPAN}", *arguments) == incident.events
    unit_cost = f"SELECT sum(external_cost_amount) / sum(quantity) FROM usage_events WHERE {where}"
    (wrong,) = column(connection, f"{unit_cost} {SPAN}", *arguments)
    (right,) = column(connection, f"{unit_cost} NOT ({SPAN})", *arguments)
    assert wrong > 20 * right


def future(connection: ddl.Connection, incident: demo.Incident) -> None:
    ahead = "timestamp > ingested_at + interval '2 days'"
    assert count(connection, f"{MINE} AND {ahead}", *mine(incident)) == incident.events
    assert count(connection, f"{ahead} AND {SPAN}", incident.starts, incident.ends) == incident.events


EVIDENCE: dict[str, Callable[[ddl.Connection, demo.Incident], None]] = {
    "runaway_customer": runaway,
    "silent_customer": silent,
    "duplicated_batch": duplicated,
    "late_backfill": backfilled,
    "mispriced_cost": mispriced,
    "future_batch": future,
}


def test_without_a_demo_there_are_no_incidents(connection: ddl.Connection) -> None:
    assert demo.incidents(connection) == []


def foreign_event(connection: ddl.Connection) -> None:
    connection.execute(
        "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)"
        " VALUES (%s, %s, %s, 'requests', 1, now(), 'x')",
        [uuid4(), uuid4(), uuid4()],
    )
    connection.commit()


def test_the_demo_does_not_mix_with_events_that_were_there_first(events_connection: ddl.Connection) -> None:
    for _ in range(8):
        foreign_event(events_connection)
        with pytest.raises(ConfigurationError, match="organizations that are not the demo's"):
            append(events_connection)
    assert count(events_connection) == 8
    assert append(events_connection, force=True).events == count(events_connection) - 8


def test_the_demo_goes_on_beside_events_loaded_after_it(events_connection: ddl.Connection) -> None:
    append(events_connection, UNTIL - timedelta(days=1))
    foreign_event(events_connection)
    assert append(events_connection).events > 0


@pytest.mark.parametrize("other", [{"seed": 2}, {"per_day": 301}])
def test_two_demos_do_not_mix(events_connection: ddl.Connection, other: dict[str, int]) -> None:
    append(events_connection)
    with pytest.raises(ConfigurationError, match="the demo in this table was made with"):
        append(events_connection, **other)


def test_a_demo_goes_on_with_the_seed_and_size_it_has(events_connection: ddl.Connection) -> None:
    other = second_table(events_connection)
    append(events_connection, UNTIL - timedelta(days=3), days=5, seed=5)
    demo.append(events_connection, TABLE, until=UNTIL)
    append(events_connection, table=other, seed=5)
    assert_same_demo(events_connection)


def test_whether_a_demo_was_started(events_connection: ddl.Connection) -> None:
    assert not demo.started(events_connection, TABLE)
    append(events_connection, table=second_table(events_connection))
    assert not demo.started(events_connection, TABLE)
    append(events_connection)
    assert demo.started(events_connection, TABLE)


def test_a_table_emptied_since_is_filled_anew(events_connection: ddl.Connection) -> None:
    events = append(events_connection).events
    events_connection.execute("TRUNCATE usage_events")
    assert append(events_connection).events == count(events_connection) == events


def test_demo_events_without_their_ledger_are_refused(events_connection: ddl.Connection) -> None:
    append(events_connection)
    events_connection.execute("DROP TABLE usage_explore_demo")
    with pytest.raises(ConfigurationError, match="usage_explore_demo does not record"):
        append(events_connection)


def test_a_table_is_the_same_however_it_is_written(events_connection: ddl.Connection) -> None:
    append(events_connection)
    assert append(events_connection, table=events_table("public.usage_events")).events == 0


def test_a_missing_table_is_named_with_its_cure(connection: ddl.Connection) -> None:
    with pytest.raises(TableMismatch, match="usage_events does not exist; run `usage-explore init`"):
        append(connection)


def test_a_role_that_may_not_write_is_told_so(events_connection: ddl.Connection) -> None:
    role = f"reader_{uuid4().hex[:8]}"
    events_connection.execute(f"CREATE ROLE {role}")
    events_connection.execute(f"GRANT SELECT ON usage_events TO {role}")
    events_connection.execute(f"SET ROLE {role}")
    try:
        with pytest.raises(TableMismatch, match="may not write here"):
            append(events_connection)
    finally:
        events_connection.execute("RESET ROLE")
        events_connection.execute(f"DROP OWNED BY {role}")
        events_connection.execute(f"DROP ROLE {role}")
        events_connection.commit()


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("seed", -1),
        ("seed", 2**63),
        ("days", 0),
        ("per_day", 0),
        ("until", datetime(2026, 1, 1)),  # noqa: DTZ001 - the fault
        ("until", datetime(2300, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_wrong_parameter_is_named(events_connection: ddl.Connection, parameter: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{parameter}: "):
        demo.append(events_connection, TABLE, **{parameter: value})
