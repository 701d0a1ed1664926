"""The page while demo data is being made in the embedded database: progress in place of charts, then the charts."""

from __future__ import annotations

import streamlit as st
from sqlalchemy import text
from streamlit.navigation.page import Page

from usage_explore import config
from usage_explore.app import cache
from usage_explore.app.problems import no_events
from usage_explore.db import demo_fill as fill
from usage_explore.db.demo_fill import FillProgress
from usage_explore.db.engine import transaction
from usage_explore.sql.identifiers import identifier

_POLL_SECONDS = 2.0
"""Time between two looks at the progress."""


def ready(load: Page | None) -> bool:
    """Whether the page's content may be drawn; False after drawing, in its place, how far the demo's first run is.

    Until that has committed, numbers would be missing or partial. A later run adds its events in one transaction, and
    a line above the content says that they are coming. Without a table and a run the page `load` is offered; None is
    for that page itself, which makes the table.
    """
    if config.settings().database_url is not None:
        return True
    run, has_table = _state()
    if has_table and (run is None or not run.first):
        if run is not None and run.total:
            _coming()
        return True
    if run is None:
        if load is None:
            return True
        no_events(load, "There are no events yet.")
        return False
    st.markdown("**usage-explore**")
    with st.container(width=560, gap="small", key="demo_fill"):
        st.subheader("Making demo data", anchor=False)
        _first_run()
        st.markdown(
            "Made-up usage of three organizations, with mistakes planted for the checks to find. Charts appear here by"
            " themselves when every day is there: no number on them is ever partial."
        )
        # not a caption, which would fade the commands below a contrast of 4.5:1
        st.markdown(
            ":small[Events of your own: `usage-explore load FILE`]  \n"
            ":small[An app without demo data: `usage-explore app --no-demo`]"
        )
    return False


def described(run: FillProgress) -> str:
    """The progress of a first run in words: "Demo data: 12 of 93 days"."""
    if not run.total:
        return "Demo data: starting"
    if run.done >= run.total:
        return f"Demo data: all {run.total:,} days, creating indexes"
    return f"Demo data: {run.done:,} of {run.total:,} days"


@st.fragment(run_every=_POLL_SECONDS)
def _first_run() -> None:
    run, has_table = _state()
    if run is None or (has_table and not run.first):
        st.rerun()
    # the indexes take about a quarter of the time
    st.progress(0.75 * run.done / run.total if run.total else 0.0, text=described(run))


@st.fragment(run_every=_POLL_SECONDS)
def _coming() -> None:
    run, _ = _state()
    if run is None or not run.total:
        cache.renew()
        st.rerun()
    st.caption(
        f":material/progress_activity: Demo data is being brought up to now: {run.done:,} of {run.total:,} days."
        " The page shows it when it is complete."
    )


def _state() -> tuple[FillProgress | None, bool]:
    """The run that is making demo data, and whether there is an events table."""
    store = cache.store()
    with transaction(store.engine) as connection:
        statement = text(f"SELECT array({fill.SESSIONS}), to_regclass(:name) IS NOT NULL")
        names, has_table = connection.execute(statement, {"name": identifier(store.table).as_string()}).one()
    return fill.progress(names), bool(has_table)
