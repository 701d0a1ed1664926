"""The app's thread refreshes an extract that is due, and offers a first build that takes long."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from support import extracts
from support.extracts import ORGANIZATION
from support.query_oracle import utc
from support.waiting import eventually
from usage_explore import AggregateQuery, connect
from usage_explore.config import Settings
from usage_explore.db import ddl
from usage_explore.extract import background, manifest
from usage_explore.extract.background import Background, Offer

WINDOW = AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1))


@pytest.fixture
def settings(events_database_url: str, events_connection: ddl.Connection, tmp_path: Path) -> Settings:
    extracts.add(events_connection, *(utc(2026, 3, day) for day in range(1, 29)))
    return Settings(database_url=events_database_url, home=tmp_path)


def rows(settings: Settings) -> int | None:
    """The events that the extract holds, None without one that is built."""
    places = list(settings.home.glob(f"extract/*/{ORGANIZATION}"))
    held = manifest.read(places[0]) if places else None
    return held.rows if held is not None and held.watermark is not None else None


def refreshed(settings: Settings) -> datetime:
    """When the extract was refreshed."""
    (place,) = settings.home.glob(f"extract/*/{ORGANIZATION}")
    held = manifest.read(place)
    assert held is not None
    return manifest.instant(held.refreshed)


def answered_from(settings: Settings) -> str:
    with connect(settings.database_url, organization_id=ORGANIZATION, home=settings.home) as store:
        answer = store.aggregate(WINDOW)
        assert answer.total == 28
        return answer.served.path


def test_a_small_extract_is_built_and_refreshed_when_many_events_are_missing(
    settings: Settings, events_connection: ddl.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(background, "MAX_TAIL_EVENTS", 5)
    thread = Background(settings)
    assert thread.look(ORGANIZATION) is None
    eventually(lambda: rows(settings) == 28)
    assert answered_from(settings) == "extract"
    now = datetime.now(UTC)
    extracts.add(events_connection, now, number=6)
    thread.look(ORGANIZATION)  # six events are in the tail
    eventually(lambda: refreshed(settings) > now)


def test_a_long_first_build_is_offered_and_started_once_it_is_wanted(
    settings: Settings, events_connection: ddl.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    events_connection.execute("ANALYZE usage_events")
    events_connection.commit()
    monkeypatch.setattr(background, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(background, "MAX_ROWS_BUILT_UNASKED", 10)
    thread = Background(settings)
    eventually(lambda: thread.look(ORGANIZATION) is not None)
    assert thread.look(ORGANIZATION) == Offer(28)
    assert rows(settings) is None
    assert answered_from(settings) == "events"
    thread.start(ORGANIZATION)
    eventually(lambda: rows(settings) == 28)
    eventually(lambda: not thread.is_building(ORGANIZATION))
    eventually(lambda: thread.look(ORGANIZATION) is None)
    assert answered_from(settings) == "extract"
