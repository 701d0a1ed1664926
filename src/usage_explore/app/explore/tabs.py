"""What lies under the chart: the events behind it, its data, its code, its files."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Literal

import streamlit as st

from usage_explore import charts, formatting
from usage_explore.answers import Aggregate
from usage_explore.app import grid, markdown
from usage_explore.app.cache import Source
from usage_explore.app.code import snippets
from usage_explore.app.events.export import escaping
from usage_explore.app.events.table import counted, events_table
from usage_explore.app.navigation import fits, go
from usage_explore.app.page_state import EventsView, ExploreView
from usage_explore.app.pages import Pages
from usage_explore.charts.labels import names
from usage_explore.query.describe import file_dates
from usage_explore.query.queries import METRICS
from usage_explore.results import frames
from usage_explore.results.types import Series

_NAMES = ("Events behind this", "Data", "Code", "Download")
_MOST_ROWS = 20_000


def tabs(pages: Pages, view: ExploreView, source: Source, answer: Aggregate) -> None:
    """Draw the tabs; only the open one asks for anything."""
    draw: tuple[Callable[[], None], ...] = (
        lambda: _events(pages, view, source, answer),
        lambda: _data(answer),
        lambda: _code(view, source),
        lambda: _download(view, answer),
    )
    for tab, content in zip(st.tabs(list(_NAMES), key="tab", on_change="rerun"), draw, strict=True):
        if tab.open:
            with tab:
                content()


def picked_series(view: ExploreView, answer: Aggregate) -> Series | None:
    """The picked series in this answer; all series in one when none is picked or the picked one is not there."""
    for series in answer.series:
        if view.series == (series.kind, series.key):
            return series
    return None


def _events(pages: Pages, view: ExploreView, source: Source, answer: Aggregate) -> None:
    series = picked_series(view, answer)
    if view.series and series is None:
        st.info("The picked series is not in this answer any more; these are the events of all series.")
    since, until = answer.query.span
    if view.span and not (view.span[0] < until and since < view.span[1]):
        st.info("The picked time lies outside the window; widen the window or clear the selection.")
        _clear(view)
        return
    everything = Series("all", None, answer.total, 1, ())
    query = answer.events_at(series or everything, *(view.span or ()))
    page = source.page(query)
    target = EventsView(query, answer.query.timezone)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        heading = st.empty()
        if fits(target.to_params()):
            st.page_link(
                pages.events, label="Open in Events", icon=":material/open_in_new:", query_params=target.to_params()
            )
        if view.series or view.span:
            _clear(view)
        else:
            st.caption("Click a bar, or drag over a span, to see its events.", width="content")
    if page.events:
        events_table(page.events, answer.query.timezone, height=380)
    else:
        st.info("No events here.")
    # counting may take longer than the rows: they are there first
    zone = answer.query.zone
    of = f"{names(answer)[answer.series.index(series)]}, " if series and series.kind != "all" else ""
    span = formatting.span(*(edge.astimezone(zone) for edge in view.span or answer.query.span))
    more = f", the newest {len(page.events)} shown" if page.cursor else ""
    sentence = markdown.plain(f"{of}{span}, {answer.query.timezone}{more}")
    heading.markdown(f"**{counted(query, source)}** · {sentence}", width="content")


def _clear(view: ExploreView) -> None:
    st.button(
        "Clear selection",
        type="tertiary",
        icon=":material/close:",
        key="clear_selection",
        on_click=lambda: go(lambda: view.replace(series=None, span=None)),
    )


def _data(answer: Aggregate) -> None:
    zone = answer.query.zone
    called = frames.spellings(answer)
    rows = [
        (name, series, point) for name, series in zip(called, answer.series, strict=True) for point in series.points
    ]
    if len(rows) > _MOST_ROWS:
        st.caption(f"The first {_MOST_ROWS:,} of {len(rows):,} rows; the download holds all of them.")
        rows = rows[:_MOST_ROWS]
    texts: dict[str, list[str | None]] = {
        f"Start ({answer.query.timezone})": [formatting.timestamp(point.start, zone) for _, _, point in rows],
        "End": [formatting.timestamp(point.end, zone) for _, _, point in rows],
        "Series": [name for name, _, _ in rows],
        "Kind": [series.kind for _, series, _ in rows],
    }
    columns = {heading: grid.texts(heading, values) for heading, values in texts.items()}
    value = METRICS[answer.query.metric].capitalize()
    columns[value] = grid.numbers(value, [point.value for _, _, point in rows])
    columns["Complete"] = grid.texts("Complete", ["yes" if point.complete else "no" for _, _, point in rows])
    grid.draw(columns, height=420, alt="The chart's numbers, exact")


def _code(view: ExploreView, source: Source) -> None:
    kind = "" if view.chart == "bars" else f"kind={view.chart!r}"
    snippets(view.query, f"answer = store.aggregate(query)\nanswer.chart({kind})", source)


def _download(view: ExploreView, answer: Aggregate) -> None:
    name = f"usage-{file_dates(answer.query)}"

    def picture(suffix: Literal["png", "svg"]) -> bytes:
        drawn = charts.chart(answer, kind=view.chart, width=1000, height=420, interactive=False)
        return charts.image(drawn, suffix)

    files: list[tuple[str, str, str, Callable[[], bytes]]] = [
        ("Data, CSV", "csv", "text/csv", lambda: BOM_UTF8 + frames.to_csv(answer, escape_formulas=escape)),
        ("Data, Parquet", "parquet", "application/vnd.apache.parquet", lambda: frames.to_parquet(answer)),
    ]
    if not charts.undrawable(answer):
        files += [
            ("Chart, PNG", "png", "image/png", lambda: picture("png")),
            ("Chart, SVG", "svg", "image/svg+xml", lambda: picture("svg")),
        ]
    st.caption("The data as shown, every series and bucket, exact; and the chart as a picture.")
    escape = escaping("download escape_formulas")
    with st.container(horizontal=True, gap="small"):
        for label, suffix, kind, content in files:
            st.download_button(
                label,
                content,
                f"{name}.{suffix}",
                kind,
                key=f"download {suffix}",
                on_click="ignore",
                icon=":material/download:",
            )
