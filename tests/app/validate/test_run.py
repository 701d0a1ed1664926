"""An examination ends with its asker, and is remembered for those who may see it."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import text

from support.demo_database import ACME, WINDOW
from usage_explore import Store
from usage_explore.app.validate import run
from usage_explore.app.validate.run import File
from usage_explore.db import timeouts
from usage_explore.db.schema import events_table
from usage_explore.query.queries import Period
from usage_explore.sql import filters
from usage_explore.validation.registry import CHECKS


class Gone(BaseException):
    """As Streamlit stops a script whose visitor left."""


def sleeping(store: Store) -> int:
    with store.engine.connect() as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600%'"
        return int(connection.execute(text(asked)).scalar_one())


def test_who_leaves_ends_what_runs_in_the_database(store: Store) -> None:
    timeouts.watch(store.engine)
    begun = threading.Event()

    def task(note: run.Note) -> None:
        with store.engine.connect() as connection:
            note("slow", 0.0)
            begun.set()
            connection.execute(text("SELECT pg_sleep(600)"))

    def show(progress: dict[str, float], seconds: float) -> None:
        if begun.is_set():
            raise Gone

    with pytest.raises(Gone):
        run.watched(task, show)
    assert sleeping(store) == 0


def test_who_leaves_ends_what_runs_between_two_statements() -> None:
    steps = []

    def task(note: run.Note) -> None:
        for step in range(10_000):
            note("slow", 0.0)
            steps.append(step)
            time.sleep(0.01)

    def show(progress: dict[str, float], seconds: float) -> None:
        raise Gone

    with pytest.raises(Gone):
        run.watched(task, show)
    assert len(steps) < 10_000


def test_what_the_task_makes_comes_back_and_so_does_its_failure() -> None:
    seen: list[dict[str, float]] = []

    def task(note: run.Note) -> str:
        note("one", 1.0)
        time.sleep(0.6)
        return "made"

    assert run.watched(task, lambda progress, seconds: seen.append(progress)) == "made"
    assert seen
    assert all(each == {"one": 1.0} for each in seen)

    def failing(note: run.Note) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run.watched(failing, lambda progress, seconds: None)


@pytest.mark.parametrize("finalized_at", [None, "2026-10-02T00:00:00Z"])
def test_the_statement_of_every_check_can_be_written_whatever_was_given(finalized_at: str | None) -> None:
    period = Period(organization_id=ACME, **WINDOW, as_of="2026-10-05T00:00:00Z", finalized_at=finalized_at)
    for check in CHECKS.values():
        assert "usage_events" in filters.to_sql(check.statement(events_table(), period)), check.name


def test_files_are_told_apart_by_name_and_content() -> None:
    files = [File("a.csv", b"1"), File("a.csv", b"2"), File("b.csv", b"1"), File("a.csv1", b"")]
    assert len({file.digest for file in files}) == 4
    assert File("a.csv", b"1").digest == files[0].digest
