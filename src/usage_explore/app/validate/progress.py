"""How far an examination is: a bar, and every check with its state."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
from usage_explore.validation.check import Check


class Progress:
    """The bar and the checks of one run, drawn where it is made; called with how far each check is."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = checks
        self._bar = st.progress(0.0, "Adding up the period")
        self._states = st.empty()
        self._drawn: dict[str, float] | None = None

    def __call__(self, done: dict[str, float], seconds: float) -> None:
        """Draw the state; `done` holds the checks that began."""
        finished = sum(done.get(check.name, 0.0) >= 1 for check in self._checks)
        running = next((check for check in self._checks if 0 <= done.get(check.name, -1.0) < 1), None)
        doing = "Adding up the period" if running is None else running.title
        self._bar.progress(
            min(sum(done.values()) / max(len(self._checks), 1), 1.0),
            markdown.plain(
                f"{doing} · {finished} of {formatting.counted(len(self._checks), 'check')} done · {seconds:.0f} s"
            ),
        )
        if done != self._drawn:
            self._drawn = done
            with self._states.container(horizontal=True, gap="small"):
                for check in self._checks:
                    _badge(check, done.get(check.name))

    def clear(self) -> None:
        """Take it off the page."""
        self._bar.empty()
        self._states.empty()


def _badge(check: Check, done: float | None) -> None:
    title = markdown.plain(check.title)
    if done is None:
        st.badge(title, color="gray", icon=":material/schedule:")
    elif done < 1:
        st.badge(title + (f" {done:.0%}" if done else ""), color="blue", icon=":material/progress_activity:")
    else:
        st.badge(title, color="green", icon=":material/check:")
