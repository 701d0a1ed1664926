"""The controls of the Validate page: which period, and when its invoice was finalized."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

import streamlit as st

from usage_explore.app.cache import Source
from usage_explore.app.navigation import changed, follow
from usage_explore.app.validate.view import ValidateView
from usage_explore.query.queries import Period

_PRESETS = {"this_month": "This month", "last_month": "Last month", "30d": "30 d", "custom": "Custom"}
_THIRTY_DAYS = "-30d/d"


def controls(view: ValidateView, source: Source) -> None:
    """Draw them; each change is a new view in the address bar."""
    query = view.query
    with st.container(horizontal=True, vertical_alignment="top", gap="medium", key="period"):
        key = follow("period_preset", _preset(query))
        st.segmented_control(
            "Validate",
            tuple(_PRESETS),
            key=key,
            format_func=_PRESETS.__getitem__,
            wrap=True,
            on_change=changed(
                key, lambda picked: view.asking(_with_preset(query, picked, source.now)) if picked else view
            ),
        )
        if _preset(query) == "custom":
            since, until = query.resolve(source.now).span
            _moment("since", "from", since, view, partial(_moved, view, source, "since"))
            _moment("until", "up to, not included", until, view, partial(_moved, view, source, "until"))
        _moment(
            "finalized_at",
            "Invoice finalized at",
            query.finalized_at,
            view,
            partial(_finalized, view),
            help="What was ingested later is not on the invoice. Leave it empty while the invoice is still open.",
        )


def _moment(
    name: str,
    label: str,
    moment: datetime | None,
    view: ValidateView,
    moved: Callable[[datetime | None], ValidateView],
    help: str | None = None,
) -> None:
    """A time on the zone's clock, to the minute."""
    there = moment.astimezone(view.query.zone).replace(tzinfo=None, second=0, microsecond=0) if moment else None
    key = follow(f"period_{name}", there)
    st.datetime_input(
        label, value=None, key=key, format="YYYY-MM-DD", on_change=changed(key, moved), width=200, help=help
    )


def _preset(query: Period) -> str | None:
    """Which preset the window is; None for a relative window that is not on offer."""
    if query.window:
        return query.window
    if isinstance(query.since, datetime) or isinstance(query.until, datetime):
        return "custom"
    return "30d" if (query.since, query.until) in ((_THIRTY_DAYS, "now"), ("-30d", "now")) else None


def over(query: Period, now: datetime, **window: object) -> Period:
    """The period over another window; a finalization before that begins was another period's."""
    found = query.replace(finalized_at=None, **window)
    finalized = query.finalized_at
    if finalized is None or finalized <= found.resolve(now).span[0]:
        return found
    return found.replace(finalized_at=finalized)


def _with_preset(query: Period, name: str, now: datetime) -> Period:
    """The period over a preset's window; custom starts from what is shown."""
    if name == "custom":
        since, until = query.resolve(now).span
        return query.replace(window=None, since=since, until=until)
    if name == "30d":
        return over(query, now, window=None, since=_THIRTY_DAYS, until=None)
    return over(query, now, window=name)


def _moved(view: ValidateView, source: Source, name: str, picked: datetime | None) -> ValidateView:
    if picked is None:
        return view
    resolved = view.query.resolve(source.now)
    changes = {"since": resolved.since, "until": resolved.until, name: picked.replace(tzinfo=resolved.zone)}
    return view.asking(over(view.query, source.now, window=None, **changes))


def _finalized(view: ValidateView, picked: datetime | None) -> ValidateView:
    moment = picked.replace(tzinfo=view.query.zone) if picked else None
    return view.asking(view.query.replace(finalized_at=moment))
