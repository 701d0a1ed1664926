"""What another time zone did to the window of a page, in one sentence.

A window that the clock defines, such as `this_month` or `-29d/d`, follows the clock of the new zone: it keeps its days
and moves to other instants. A window between two instants stays, and its days are cut.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
from usage_explore.app.navigation import View, go
from usage_explore.app.page_state import Pairs
from usage_explore.query.base import Windowed
from usage_explore.query.queries import EventQuery

_CHANGE = "zone_change"


def change_zone(view: View, timezone: str, now: datetime) -> None:
    """Show the view in another time zone, and remember what that does to its window."""
    changed = view.in_timezone(timezone)
    st.session_state[_CHANGE] = _window(changed), sentence(view, changed, now)
    go(view, lambda: changed)


def draw(view: View) -> None:
    """Draw the sentence, as long as the page has the time zone and the window that the change made."""
    window, text = st.session_state.get(_CHANGE, (None, ""))
    if text and window == _window(view):
        st.caption(markdown.plain(text))


def sentence(before: View, after: View, now: datetime) -> str:
    """What happened to the window; blank if the page has none, or the zones' clocks agree at its ends."""
    zone = ZoneInfo(after.timezone)
    old, new = _span(before, now), _span(after, now)
    if old is None or new is None:
        return ""
    if old == new:
        since, until = new
        if all(_offset(edge, before.timezone) == _offset(edge, after.timezone) for edge in new):
            return ""
        times = formatting.span(since.astimezone(zone), until.astimezone(zone))
        return f"The window is the same time as before, on the clock of {after.timezone}: {times}."
    moves = [(name, end - start) for name, start, end in zip(("begins", "ends"), old, new, strict=True) if start != end]
    if len({move for _, move in moves}) == 1:
        names = " and ".join(name for name, _ in moves)
        words = f"{names} {_moved(moves[0][1])}"
    else:
        words = " and ".join(f"{name} {_moved(move)}" for name, move in moves)
    days = formatting.span(*(edge.astimezone(zone) for edge in new))
    return f"The window follows the clock of {after.timezone}, {days}: it {words} than in {before.timezone}."


def _moved(by: timedelta) -> str:
    return f"{formatting.duration(abs(by))} {'later' if by > timedelta(0) else 'earlier'}"


def _offset(moment: datetime, timezone: str) -> timedelta | None:
    return moment.astimezone(ZoneInfo(timezone)).utcoffset()


def _span(view: View, now: datetime) -> tuple[datetime, datetime] | None:
    query = view.query
    if isinstance(query, Windowed):
        return query.resolve(now).span
    if isinstance(query, EventQuery) and query.occurred_after and query.occurred_before:
        return query.occurred_after, query.occurred_before
    return None


def _window(view: View) -> tuple[str, Pairs]:
    """The page, time zone and window of a view, as in its link."""
    names = {"window", "since", "until", "occurred_after", "occurred_before", "organization_id"}
    return f"{view.path} {view.timezone}", tuple(pair for pair in view.to_params() if pair[0] in names)
