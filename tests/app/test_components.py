"""The callbacks of the page's own components."""

from __future__ import annotations

import types

import pytest

from usage_explore.app import components


def test_a_second_press_of_a_button_that_writes_a_record_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two Enters signed a period twice, and made two short links."""
    clock = 100.0
    monkeypatch.setattr(components.time, "monotonic", lambda: clock)
    monkeypatch.setattr(components.st, "session_state", {})
    written: list[str] = []

    def write(name: str, is_written: bool = True) -> None:
        components.once(name, lambda: written.append(name) or is_written)  # type: ignore[func-returns-value]

    write("sign")
    write("sign")
    write("mute", False)
    write("mute")
    assert written == ["sign", "mute", "mute"]
    write("mute")
    clock += 6
    write("mute")
    assert written == ["sign", "mute", "mute", "mute"]


def test_an_event_of_a_run_that_was_cut_short_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen that changed its width while a page was first drawn gave an error in place of the page."""
    seen: list[int] = []
    callback = components.clicked("screen", "room", seen.append)
    for state in ({}, {"screen": types.SimpleNamespace(room=None)}, {"screen": types.SimpleNamespace(room=330)}):
        monkeypatch.setattr(components.st, "session_state", state)
        callback()
    assert seen == [330]
