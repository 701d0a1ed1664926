"""A finding handed over from the Validate page: the text for a ticket with its link, and duplicates in pairs."""

from __future__ import annotations

from codecs import BOM_UTF8

import streamlit as st

from usage_explore.app import cache, navigation
from usage_explore.app.cache import Source
from usage_explore.app.page_state import ValidateView
from usage_explore.formatting import counted
from usage_explore.validation import Validation, handover
from usage_explore.validation.review import Reviewed


def ticket_text(view: ValidateView, source: Source, validation: Validation, item: Reviewed) -> None:
    """Draw the text for a ticket, which ends with the pinned link to the finding."""
    own = {"severities": (), "checks": (), "customers": (), "metrics": (), "states": (), "finding": item.id}
    pinned = view.replace(query=validation.period, **own)
    link = navigation.page_url("validate", pinned.to_params(), source.store.app_url)
    st.code(handover.ticket(validation, item.finding, link), language=None, wrap_lines=True)
    st.caption(
        "The button in the corner copies the text. Its link is pinned: the same period with the events that were known "
        "when the checks ran, opened at this finding."
    )


def pairs_download(source: Source, validation: Validation, item: Reviewed) -> None:
    """Draw the button for the finding's duplicates as CSV, which is made at the click."""

    def content() -> bytes:
        with cache.logged_work("export", source.store.organization_id, validation.period):
            pairs = source.store.duplicate_pairs(validation, item.finding)
        return BOM_UTF8 + handover.pairs_csv(pairs, escape_formulas=True)

    st.download_button(
        "Copies as CSV, in pairs",
        content,
        f"duplicates-{item.id}.csv",
        "text/csv",
        key="finding_pairs",
        on_click="ignore",
        icon=":material/download:",
        help="Each copy beside the event of its key that counts: ids, times, quantity and cost, exact. "
        f"At most {counted(handover.MAX_PAIRS, 'pair')}.",
    )
