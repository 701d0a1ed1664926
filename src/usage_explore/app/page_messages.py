"""Which messages of a page's WebSocket take their turn, and which come from a page that was left already."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamlit.proto.ClientState_pb2 import ClientState


class MessageRate:
    """A bound of messages: `burst` of them at once, then `per_second`; others wait, and their senders with them."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval, self._burst = 1 / per_second, burst
        self._due = 0.0

    async def turn(self) -> None:
        """Wait for the turn of one message."""
        now = time.monotonic()
        self._due = max(self._due, now - self._burst * self._interval) + self._interval
        if self._due > now:
            await asyncio.sleep(self._due - now)


class PageOfTab:
    """The page that a browser tab has gone to by its runs.

    The browser sends the run of a link's page first, with that page's parameters and without widgets. Until that page
    arrives, what a widget of the old page sends, such as a menu that the click closed, has the old page and the new
    parameters: run, it would show the old page with the parameters of another one.
    """

    def __init__(self) -> None:
        self._page = self._query = ""
        self._left: str | None = None
        """The page that a link has left, "" if unknown; None where no link was followed last."""

    def has_left(self, run: ClientState) -> bool:
        """Whether a run is of a widget on the page that was left."""
        page, has_widgets = run.page_script_hash, bool(run.widget_states.widgets)
        if page == self._page:
            return False
        if has_widgets and self._left in ("", page) and run.query_string == self._query:
            return True
        self._left = None if has_widgets else self._page
        self._page, self._query = page, run.query_string
        return False
