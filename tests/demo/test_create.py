"""A demo made together with its table: in one transaction, with visible progress, the same as one that is appended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from demo.test_append import TABLE, UNTIL, append, assert_same_demo, column, count, second_table
from usage_explore import demo
from usage_explore.cli.main import main
from usage_explore.db import catalog, ddl
from usage_explore.db import demo_fill as fill
from usage_explore.db.demo_fill import FillProgress
from usage_explore.demo import loading
from usage_explore.errors import ConfigurationError


def create(connection: ddl.Connection, **options: Any) -> demo.DemoReport | None:
    return demo.create(connection, TABLE, until=UNTIL, days=8, per_day=300, **options)


def exists(url: str, name: str) -> bool:
    with ddl.connect(url) as connection:
        return bool(column(connection, "SELECT to_regclass(%s) IS NOT NULL", name)[0])


def on_day(monkeypatch: pytest.MonkeyPatch, day: date, action: Callable[[], object]) -> None:
    """Let `action` run when the day's events have been copied."""
    record_day = loading.record_day

    def patched(connection: ddl.Connection, table: str, at: date, **values: Any) -> None:
        if at == day:
            action()
        record_day(connection, table, at, **values)

    monkeypatch.setattr(loading, "record_day", patched)


def test_a_created_demo_is_the_appended_one(connection: ddl.Connection) -> None:
    report = create(connection)
    assert report is not None
    appended = append(connection, table=second_table(connection))
    assert report == appended
    assert_same_demo(connection)
    assert append(connection).events == 0


def test_a_created_table_has_the_indexes_and_statistics_of_another(connection: ddl.Connection) -> None:
    create(connection)
    current = catalog.relation(connection, "usage_events")
    assert current is not None
    existing = catalog.existing_indexes(connection, current)
    assert all(any(other.serves(index) for other in existing) for index in catalog.wanted_indexes(current))
    assert not catalog.missing_statistics(connection, current)
    assert column(connection, "SELECT reltuples FROM pg_class WHERE oid = 'usage_events'::regclass")[0] == count(
        connection
    )


def test_a_table_that_is_there_is_left_to_append(events_connection: ddl.Connection) -> None:
    assert create(events_connection) is None
    assert count(events_connection) == 0


def test_a_later_run_continues_a_created_demo(connection: ddl.Connection) -> None:
    demo.create(connection, TABLE, until=UNTIL - timedelta(days=2), days=6, per_day=300)
    append(connection)
    append(connection, table=second_table(connection))
    assert_same_demo(connection)


def test_others_see_the_progress_but_no_row_until_all_are_there(
    connection: ddl.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[FillProgress | None, bool]] = []

    def look() -> None:
        with ddl.connect(database_url) as witness:
            names = column(witness, fill.SESSIONS)
        seen.append((fill.progress(names), exists(database_url, "usage_events")))

    on_day(monkeypatch, date(2026, 11, 16), look)
    create(connection)
    assert seen == [(FillProgress(done=4, total=9, first=True), False)]
    assert exists(database_url, "usage_events")


def test_an_interrupted_run_leaves_nothing_and_the_next_makes_everything(
    connection: ddl.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        on_day(patch, date(2026, 11, 18), interrupt)
        with pytest.raises(KeyboardInterrupt):
            create(connection)
    assert not any(exists(database_url, name) for name in ("usage_events", "usage_explore_demo"))
    report = create(connection)
    assert report is not None
    assert count(connection) == report.events > 2000


def test_a_wrong_parameter_is_named_before_anything_is_created(connection: ddl.Connection, database_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^days: 0 is not between"):
        demo.create(connection, TABLE, days=0)
    assert not exists(database_url, "usage_events")


def test_the_default_holds_last_month_with_30_days_before_it_on_every_day_of_the_year() -> None:
    for number in range(366):
        today = date(2028, 1, 1) + timedelta(days=number)
        last_month = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
        assert today - timedelta(days=demo.DEFAULT_DAYS) <= last_month - timedelta(days=30)


def test_the_command_makes_as_many_days() -> None:
    (days,) = [parameter for parameter in main.commands["demo"].params if parameter.name == "days"]
    assert days.default == demo.DEFAULT_DAYS


def test_two_runs_take_turns(connection: ddl.Connection, database_url: str) -> None:
    waits: list[str] = []
    with ddl.connect(database_url) as second:
        with fill.alone(connection, lambda: waits.append("first")):
            with psycopg.connect(database_url, autocommit=True) as witness:
                names = [row[0] for row in witness.execute(fill.SESSIONS)]
            assert fill.progress(names) == FillProgress(done=0, total=0, first=False)
            second.execute("SET lock_timeout = '100ms'")
            second.commit()
            with pytest.raises(psycopg.errors.LockNotAvailable), fill.alone(second, lambda: waits.append("second")):
                pytest.fail("both run at once")
        assert waits == ["second"]
        with fill.alone(second, lambda: waits.append("second again")):
            pass
        assert waits == ["second"]
        assert column(connection, fill.SESSIONS) == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], None),
        (["usage-explore demo extract"], None),
        (["usage-explore demo waiting"], FillProgress(done=0, total=0, first=False)),
        (
            ["usage-explore demo waiting", "usage-explore demo first 12/93"],
            FillProgress(done=12, total=93, first=True),
        ),
        (["usage-explore demo later 1/2"], FillProgress(done=1, total=2, first=False)),
    ],
)
def test_progress_is_read_from_the_names_of_sessions(names: list[str], expected: FillProgress | None) -> None:
    assert fill.progress(names) == expected
