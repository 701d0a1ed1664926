"""A finding handed over from the Validate page: the text for a ticket with its link, and duplicates in pairs."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import streamlit as st

from usage_explore.app import cache, navigation
from usage_explore.app.cache import Source
from usage_explore.app.exports import made_at_click
from usage_explore.app.page_state import ValidateView
from usage_explore.formatting import counted
from usage_explore.query.queries import Period
from usage_explore.results.types import Event
from usage_explore.store import Store
from usage_explore.validation import Validation, handover
from usage_explore.validation.review import Reviewed


def ticket_text(view: ValidateView, source: Source, validation: Validation, item: Reviewed) -> None:
    """Draw the text for a ticket, which ends with the pinned link to the finding."""
    own = {"severities": (), "checks": (), "customers": (), "metrics": (), "states": (), "finding": item.id}
    pinned = view.replace(query=validation.period, **own)
    link = navigation.page_url("validate", pinned.to_params(), source.store.app_url)
    st.code(handover.ticket(validation, item.finding, link), language=None, wrap_lines=True)
    st.caption(
        "The copy button in its corner copies the text. Its link is pinned: the same period with the events that were "
        "known when the checks ran, opened at this finding."
    )


def sent_marks(source: Source, validation: Validation, item: Reviewed, events: Sequence[Event]) -> list[str | None]:
    """Of each event whether it is one that counts, "first", or a copy of one, "again"; None of others.

    Raises `DatabaseError`.
    """
    key = source.store.organization_id, validation.period, validation.now, item.id
    kept, copies = _pairs(source.store, *key, validation, item)
    return ["again" if event.id in copies else "first" if event.id in kept else None for event in events]


@st.cache_resource(ttl=3_600, max_entries=20, show_spinner=False, hash_funcs={Period: repr})
def _pairs(
    _store: Store,
    organization_id: UUID | None,
    period: Period,
    run_at: datetime,
    finding_id: str,
    _validation: Validation,
    _item: Reviewed,
) -> tuple[frozenset[UUID], frozenset[UUID]]:
    """The ids of the events that count and those of their copies."""
    with cache.logged_work("pairs", organization_id, period):
        pairs = _store.duplicate_pairs(_validation, _item.finding)
    kept, copies = (frozenset(UUID(str(id_)) for id_ in pairs[name]) for name in ("kept_id", "copy_id"))
    return kept, copies


def pairs_download(source: Source, validation: Validation, item: Reviewed) -> None:
    """Draw the button for the finding's duplicates as CSV, which is made at the click."""

    def content() -> bytes:
        with cache.logged_work("export", source.store.organization_id, validation.period):
            pairs = source.store.duplicate_pairs(validation, item.finding)
        return BOM_UTF8 + handover.pairs_csv(pairs)

    st.download_button(
        "Copies as CSV, in pairs",
        made_at_click(content, source),
        f"duplicates-{item.id}.csv",
        "text/csv",
        key="finding_pairs",
        on_click="ignore",
        icon=":material/download:",
        help="Each copy beside the event of its key that counts: ids, times, quantity and cost, exact. "
        f"At most {counted(handover.MAX_PAIRS, 'pair')}.",
    )
