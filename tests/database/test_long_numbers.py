"""A filter value that looks like a number, but is longer than any number of the database, is a text like any other."""

from __future__ import annotations

import pytest

from ahead import ORGANIZATION, Ahead
from oracle import utc
from usage_explore import EventQuery, connect, writing


@pytest.mark.parametrize("text", ["0." + "1" * 20_000, "9" * 60_000])
def test_it_is_found_as_text(events_connection: writing.Connection, events_database_url: str, text: str) -> None:
    Ahead(events_database_url, events_connection).add(utc(2026, 3, 1), dimensions={"k": text})
    with connect(events_database_url, organization_id=ORGANIZATION) as store:
        assert store.count(EventQuery(dimensions={"k": text})) == 1
        assert store.count(EventQuery(dimensions={"k": text[:-1]})) == 0
