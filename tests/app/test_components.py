"""The callbacks of the page's own components."""

from __future__ import annotations

import types

import pytest

from usage_explore.app import components


def test_an_event_of_a_run_that_was_cut_short_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen that changed its width while a page was first drawn gave an error in place of the page."""
    seen: list[int] = []
    callback = components.clicked("screen", "room", seen.append)
    for state in ({}, {"screen": types.SimpleNamespace(room=None)}, {"screen": types.SimpleNamespace(room=330)}):
        monkeypatch.setattr(components.st, "session_state", state)
        callback()
    assert seen == [330]
