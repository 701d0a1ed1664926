"""The examination to take away: as code that makes it again, and as files."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable

import streamlit as st

from usage_explore import decimals, formatting
from usage_explore.app import cache, sign_in
from usage_explore.app.cache import Source
from usage_explore.app.code import written
from usage_explore.app.events.export import escaping
from usage_explore.app.problems import shown
from usage_explore.app.validate.run import Note, watched
from usage_explore.app.validate.view import ValidateView
from usage_explore.query.describe import file_dates
from usage_explore.results import frames
from usage_explore.validation import Validation, report


def code(view: ValidateView, validation: Validation) -> None:
    """Draw a notebook cell that makes the examination again, live and as it was."""
    for title, period, explained in (
        ("Python", view.query, "As the address bar asks: a relative window moves with the clock."),
        ("Python, pinned", validation.period, "The very numbers on this page, whenever it is run."),
    ):
        st.markdown(f"**{title}**")
        st.caption(explained)
        st.code(
            "from usage_explore import Period, connect\n\nstore = connect()\n"
            f"period = {written(period)}\nvalidation = store.validate(period)\nvalidation.frame",
            language="python",
        )


def download(source: Source, validation: Validation) -> None:
    """Draw a button for each kind of file; it is made when it is asked for."""
    name = f"validation-{file_dates(validation.period)}"
    files: tuple[tuple[str, str, str, Callable[[], bytes]], ...] = (
        ("Findings, CSV", "csv", "text/csv", lambda: BOM_UTF8 + to_csv(validation, escape_formulas=escape)),
        ("Everything, JSON", "json", "application/json", lambda: to_json(validation)),
    )
    st.caption(
        "The findings with every number exact, each with its link; the JSON also has the totals and what was clean. "
        "The report is a page that needs no network: findings with their charts, what was clean, totals that reconcile."
    )
    escape = escaping("validation escape_formulas")
    with st.container(horizontal=True, gap="small"):
        for label, suffix, kind, content in files:
            st.download_button(
                label,
                content,
                f"{name}.{suffix}",
                kind,
                key=f"validation {suffix}",
                on_click="ignore",
                icon=":material/download:",
            )
        wanted = st.button("Prepare report, HTML", key="prepare report", icon=":material/file_save:")
    if wanted:
        with shown():
            _report(source, validation, f"{name}.html")


def _report(source: Source, validation: Validation, name: str) -> None:
    """Make the report, with progress, and offer it."""
    bar = st.progress(0.0, "Counting again what the totals are")

    def show(progress: dict[str, float], seconds: float) -> None:
        doing = "Drawing the charts" if progress else "Counting again what the totals are"
        bar.progress(min(progress.get("charts", 0.0), 1.0), f"{doing} · {seconds:.0f} s")

    def make(note: Note) -> str:
        reconciled = report.statements(source.store, validation)
        return report.html(source.store, validation, reconciled, by=by, progress=lambda done: note("charts", done))

    by = sign_in.known()
    with cache.asking("report", source.store.organization_id, validation.period):
        content = watched(make, show).encode()
    bar.empty()
    st.download_button(
        f"Download report, HTML: {formatting.size(len(content))}",
        content,
        name,
        "text/html",
        key="report",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
    )


def to_csv(validation: Validation, *, escape_formulas: bool = False) -> bytes:
    """One row per finding: times ISO 8601 with the zone's offset, numbers plain and exact, no text unquoted."""
    frame = validation.frame
    texts = {
        "since": [moment.isoformat() for moment in frame["since"]],
        "until": [moment.isoformat() for moment in frame["until"]],
        "quantity": [None if each is None else decimals.plain(each) for each in frame["quantity"]],
        "amounts": [
            json.dumps({currency: decimals.plain(amount) for currency, amount in each.items()})
            for each in frame["amounts"]
        ],
        "share": [decimals.plain(each) for each in frame["share"]],
    }
    return frames.csv_bytes({name: texts.get(name, frame[name]) for name in frame.columns}, escape_formulas)


def to_json(validation: Validation) -> bytes:
    """The examination as JSON: what was looked at, what was clean, the totals and every finding."""
    return json.dumps(validation.to_dict(), ensure_ascii=False, indent=2).encode()
