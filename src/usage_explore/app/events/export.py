"""All events of a question as a file, however many: written on the server with progress, then downloaded."""

from __future__ import annotations

import tempfile
from codecs import BOM_UTF8
from pathlib import Path

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
from usage_explore.app.cache import Source
from usage_explore.app.problems import shown
from usage_explore.query.queries import EventQuery
from usage_explore.results import formulas

_KINDS = {"csv": ("CSV", "text/csv"), "parquet": ("Parquet", "application/vnd.apache.parquet")}


def escaping(key: str) -> bool:
    """Draw whether CSV files are escaped for spreadsheets: they are unless exact ones are wanted."""
    return st.checkbox("Escape formulas in CSV", True, key=key, help=markdown.plain(formulas.MEANING), width="content")


def export(query: EventQuery, number: str, source: Source) -> None:
    """Draw a button for each kind of file; pressed, the file is made and offered. `number` says how many events."""
    whole = query.replace(cursor=None, limit=None)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="export"):
        st.caption(f"Export all ({number}):", width="content")
        wanted = [
            suffix
            for suffix, (label, _) in _KINDS.items()
            if st.button(f"Prepare {label}", key=f"export {suffix}", icon=":material/file_save:")
        ]
        escape = escaping("export escape_formulas")
    for suffix in wanted:
        with shown():
            _make(whole, suffix, source, escape and suffix == "csv")


def _make(query: EventQuery, suffix: str, source: Source, escape_formulas: bool) -> None:
    label, kind = _KINDS[suffix]
    bar = st.progress(0.0, f"Writing {label}")

    def progress(written: int, total: int) -> None:
        share = written / total if total else 1.0
        bar.progress(min(share, 1.0), f"Writing {label}: {written:,} of {formatting.counted(total, 'event')}")

    with tempfile.TemporaryDirectory(prefix="usage-explore-") as folder:
        path = Path(folder) / f"usage-events.{suffix}"
        report = source.export(query, path, progress, escape_formulas)
        content = (BOM_UTF8 if suffix == "csv" else b"") + path.read_bytes()
    bar.empty()
    st.download_button(
        f"Download {label}: {formatting.counted(report.events, 'event')}, {formatting.size(len(content))}",
        content,
        path.name,
        kind,
        key=f"exported {suffix}",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
    )
