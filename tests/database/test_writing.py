"""The events table is made once, whole, and never over somebody else's."""

from __future__ import annotations

from usage_explore import writing


def test_table_is_created_once(connection: writing.Connection) -> None:
    assert writing.ensure_schema(connection, "usage_events") is True
    assert writing.ensure_schema(connection, "usage_events") is False


def test_template_has_the_table(events_connection: writing.Connection) -> None:
    assert writing.ensure_schema(events_connection, "usage_events") is False
