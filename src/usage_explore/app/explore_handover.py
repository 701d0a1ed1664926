"""An aggregate handed over from the Explore page: files to download, and a text for a ticket."""

from __future__ import annotations

from codecs import BOM_UTF8
from typing import Literal

import streamlit as st

from usage_explore import charts, formatting, ticket
from usage_explore.answers import Aggregate
from usage_explore.app import markdown
from usage_explore.app.cache import Source
from usage_explore.app.exports import Download, download_buttons, escape_checkbox
from usage_explore.app.navigation import page_url
from usage_explore.app.page_state import ExploreView
from usage_explore.app.selected import unit_words
from usage_explore.errors import QueryError
from usage_explore.query.describe import file_dates
from usage_explore.results import frames
from usage_explore.selection import selected, windows

_COPY_HINT = "The copy button in its corner copies the text."


def download(view: ExploreView, source: Source, answer: Aggregate) -> None:
    """Draw a button per file, which is made at the click."""

    def picture(suffix: Literal["png", "svg"]) -> bytes:
        caption = charts.caption(answer, organization())
        drawn = charts.chart(
            answer,
            kind=view.chart,
            width=1000,
            height=420,
            interactive=False,
            frequent=frequent,
            caption=caption,
        )
        return charts.image(drawn, suffix)

    def workbook() -> bytes:
        return answer.xlsx(organization(), live, pinned)

    def organization() -> str:
        return source.store.organization_name(answer.query)

    frequent = source.frequent(answer.query.group_by)
    # made here: a callback has no address bar
    live = _url(view.replace(query=answer.query), source)
    pinned = _url(view.replace(query=source.pinned(answer.query)), source)
    tables: list[Download] = [
        ("Workbook, Excel", "xlsx", workbook),
        ("Wide table, CSV", "wide.csv", lambda: BOM_UTF8 + frames.to_csv(answer, wide=True, escape_formulas=escape)),
        ("Data, CSV", "csv", lambda: BOM_UTF8 + frames.to_csv(answer, escape_formulas=escape)),
        ("Data, Parquet", "parquet", lambda: frames.to_parquet(answer)),
    ]
    pictures: list[Download] = []
    if not charts.undrawable(answer):
        pictures = [("Chart, PNG", "png", lambda: picture("png")), ("Chart, SVG", "svg", lambda: picture("svg"))]
    st.caption(
        "The whole window, whatever is selected: every series and bucket, exact. The workbook has the long and the "
        "wide table, a row per bucket and a column per series, and a sheet on the query. The pictures name "
        "organization, filters and as-of."
    )
    name = f"usage-{file_dates(answer.query)}"
    for files in (tables, pictures):
        with st.container(horizontal=True, gap="small"):
            download_buttons(files, name, "download", source)
    escape = escape_checkbox("download escape_formulas")


def ticket_text(view: ExploreView, source: Source) -> None:
    """Draw the text for a ticket, whose numbers are those of the pinned link."""
    pinned = view.replace(query=source.pinned(view.query))
    answer = source.aggregate(pinned.query)
    organization = source.store.organization_name(answer.query)
    link = _url(pinned, source)
    known = formatting.zoned(answer.query.as_of or answer.now, answer.query.zone)
    st.caption(markdown.plain(f"{_pinned_words(answer, source.aggregate(view.query), known)} {_COPY_HINT}"))
    written = ticket.text(answer, source.comparison(answer), organization, link, _selection(view, answer, source))
    st.code(written, language=None, wrap_lines=True)


def _pinned_words(pinned: Aggregate, page: Aggregate, known: str) -> str:
    """What the ticket counts, and the page's total where it is another one."""
    words = f"Numbers and link are as of {known}."
    if page.total == pinned.total:
        return words
    unit = unit_words(page)
    return (
        f"{words} Events that arrived since are counted on the page, {formatting.exact(page.total)} {unit}, not here."
    )


def _selection(view: ExploreView, answer: Aggregate, source: Source) -> ticket.Selection | None:
    """The selected bar, span or series in words, with the numbers of its own series."""
    selection = selected(answer, view.series, view.span, source.names_of)
    if not selection:
        return None
    compared = windows(selection, source.comparison(answer), answer, source.first_event(answer.query.as_of))
    part = source.aggregate(selection.query.replace(compare=None, cumulative=None))
    if isinstance(compared, str):
        return ticket.Selection(selection.words(answer), part, compared)
    both = part.query.replace(compare=(compared.before.since, compared.before.until))
    try:
        comparison = source.comparison(source.aggregate(both))
    except QueryError as error:  # such as costs in other currencies
        comparison = f"not compared, {error}"
    return ticket.Selection(selection.words(answer), part, comparison)


def _url(view: ExploreView, source: Source) -> str:
    return page_url(view.path, view.to_params(), source.store.app_url)
