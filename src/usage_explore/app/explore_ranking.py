"""The ranking beside the chart on the Explore page: a row per series with its total, share, change and shape.

A click on its name filters to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from decimal import Decimal
from math import ceil, inf, isfinite
from typing import Any, get_args

import pandas as pd
import streamlit as st

from usage_explore import charts, formatting
from usage_explore.answers import Aggregate
from usage_explore.app import components, grid
from usage_explore.app.cache import Key, Source, Totals
from usage_explore.app.leaders import OTHER, Row, moved, ranked
from usage_explore.app.navigation import changed, follow, go, leave_for
from usage_explore.app.page_state import CustomerView, ExploreView
from usage_explore.app.query_edits import Action
from usage_explore.charts.labels import names
from usage_explore.decimals import Number, exact_sum
from usage_explore.formatting import signed
from usage_explore.names import NO_NAMES
from usage_explore.query.describe import group_name
from usage_explore.query.filters import DIMENSION, ID_COLUMNS
from usage_explore.query.queries import RATIOS
from usage_explore.results import frames
from usage_explore.results.types import Change, Point, Series
from usage_explore.results.units import unit_text
from usage_explore.selection import Selection, Windows
from usage_explore.store.display import Order

_MAX_EXACT_DIGITS = 13  # longer totals are rounded
_MAX_UNIT_CHARACTERS = 12  # of a unit in a heading
_MAX_SHAPE_POINTS = 200  # the newest buckets
_SQUARE_PIXELS, _MIN_NAME_PIXELS, _MAX_NAME_PIXELS, _MIN_SHAPE_PIXELS, _MAX_SHAPE_PIXELS = 22, 80, 154, 72, 120
"""Column widths."""

_PHONE_TABLE_PIXELS = 360
"""Width of a table on a screen of 390 pixels."""

MAX_MOVERS = 5
"""Largest changes, of which those in Other have rows of their own."""

_ORDERS: dict[Order, str] = {
    "total": "by total",
    "change": "by change",
    "relative": "by relative change",
}

_BAR_PIXELS, _PADDING_PIXELS, _SLACK_PIXELS = 3.5, 15, 4
"""Width of a bar with its gap, of a cell's padding, and of a table's spare room."""

_SIDE_BY_SIDE = """<style>
.st-key-answer [data-testid="stColumn"] {{ flex: 1000 1 380px; min-width: 0 }}
.st-key-answer [data-testid="stColumn"]:last-child {{ flex: 1 1 {width}px }}
@media (max-width: 1100px) {{ .st-key-answer [data-testid="stColumn"] {{ flex-basis: 100% !important }} }}
@media (max-width: 1100px) {{ .st-key-answer [data-testid="stColumn"]:last-child {{ margin-top: 0.75rem }} }}
</style>"""
"""The ranking has the width of its columns, the chart the rest; without room for both, the chart is above, and its
controls are clear of the table's toolbar.
"""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The ranking of `basis`, the answer over the selected time: its rows, and which of them Other contains, too.

    `folds_negative` says that Other has the most negative totals, as far as totals are known.
    """

    basis: Aggregate
    rows: tuple[Row, ...]
    names: dict[Key, str]
    movers: frozenset[Key]
    folds_negative: bool


def ranked_series(
    source: Source, answer: Aggregate, selection: Selection, compared: Windows | str, order: Order
) -> Ranked:
    """The series of the selected time and, of those in Other, the ones among the `MAX_MOVERS` largest changes."""
    basis = answer
    if selection.span is not None:
        since, until = selection.query.span
        basis = source.aggregate(answer.query.replace(since=since, until=until, compare=None, cumulative=None))
        basis = _of_the_chart(source, answer, basis)
    shown = {(series.kind, series.key): series for series in basis.series}
    kept = shown.keys() - {OTHER}
    zero = _zero(basis)
    now = before = None
    if isinstance(compared, Windows):
        now, before = (
            source.totals(basis.query.replace(since=span.since, until=span.until))
            for span in (compared.now, compared.before)
        )
    changes: dict[Key, Change] = {}
    if now is not None and before is not None:
        changes = {
            key: Change(now.by_key.get(key, zero), before.by_key.get(key, zero))
            for key in {**now.by_key, **before.by_key, **dict.fromkeys(kept)}
        }
    movers: list[Key] = []
    if basis.adds_up and now is not None and before is not None:
        largest = ranked((Row(key, zero, change) for key, change in changes.items()), "change")[:MAX_MOVERS]
        movers = [row.key for row in largest if row.key not in shown and moved(row.change)]
        changes[OTHER] = Change(_outside(now, kept, zero), _outside(before, kept, zero))
    totals = source.totals(basis.query) if movers else None
    directory = before.names | now.names if now and before else NO_NAMES
    beside = tuple(Series(kind, key, 0, 1, ()) for kind, key in movers)
    # named with the others, so that a value "Other" is not named like Other; first, so that the others keep their names
    together = replace(basis, series=(*beside, *basis.series), names=directory | basis.names)
    names_of = dict(zip((*movers, *shown), names(together), strict=True))
    rows = [
        *(
            Row(key, series.total, changes.get(key), series.members, with_missing=series.with_missing)
            for key, series in shown.items()
        ),
        *(Row(key, totals.by_key.get(key, zero) if totals else zero, changes[key]) for key in movers),
    ]
    known = [series.total for series in answer.series]
    if basis is answer and OTHER in shown and answer.query.metric != "count":
        of_window = now or source.totals(basis.query)
        known += [total for key, total in of_window.by_key.items() if key not in kept] if of_window else []
    folds_negative = answer.adds_up and OTHER in shown and any((total or 0) < 0 for total in known)
    return Ranked(basis, tuple(ranked(rows, order)), names_of, frozenset(movers), folds_negative)


def _of_the_chart(source: Source, answer: Aggregate, basis: Aggregate) -> Aggregate:
    """The answer over the selected time with the chart's series, which may be others than the largest of that time.

    Unit costs, whose Other cannot be made from their totals, keep their own.
    """
    kept = [(series.kind, series.key) for series in answer.series if series.kind != "other"]
    if {*kept} == {(series.kind, series.key) for series in basis.series} - {OTHER} or not basis.adds_up:
        return basis
    totals = source.totals(basis.query)
    if totals is None:
        return basis
    zero = _zero(basis)
    names = {(series.kind, series.key): series.name for series in answer.series}
    series = [Series(kind, key, totals.by_key.get((kind, key), zero), 1, (), names[kind, key]) for kind, key in kept]
    folded = [key for key in totals.by_key if key not in kept]
    if folded:
        rest, values = _outside(totals, {*kept}, zero), sum(kind == "value" for kind, _ in folded)
        series.append(Series(*OTHER, rest, values, (), with_missing=("missing", None) in folded))
    return replace(basis, series=tuple(series), names=answer.names)


def _zero(answer: Aggregate) -> Number | None:
    """The total of a series without events; None of a unit cost."""
    if answer.query.metric in RATIOS:
        return None
    return 0 if answer.query.metric == "count" else Decimal(0)


def _outside(totals: Totals, kept: Set[Key], zero: Number | None) -> Number:
    """The sum of all totals but those of the kept series."""
    others = (total for key, total in totals.by_key.items() if key not in kept and total is not None)
    return exact_sum(others, zero or 0)


def ranking(
    view: ExploreView,
    source: Source,
    answer: Aggregate,
    selection: Selection,
    compared: Windows | str,
    dark: bool,
    act: Callable[[Aggregate, Key, Action], None],
) -> None:
    """Draw the ranking; `act` is called with its basis and the series whose name, or whose "not", was clicked.

    A narrow screen has no columns of shapes, shares and "not", as far as they have no room there.
    A click in the column "Pick" selects the series, or clears the selected one.
    """
    result = ranked_series(source, answer, selection, compared, view.order)
    rows = result.rows
    drawn = {(series.kind, series.key): index for index, series in enumerate(answer.series)}
    selected_key = (selection.series.kind, selection.series.key) if selection.series else None
    colours = charts.colors(answer, dark, frequent=source.frequent(answer.query.group_by))
    muted = charts.theme(dark).other
    total = result.basis.total if result.basis.adds_up else None
    totals = [row.total for row in rows]
    total_heading = "Unit cost" if answer.query.metric in RATIOS else "Total"
    fits = all(len(formatting.exact(series_total)) <= _MAX_EXACT_DIGITS for series_total in totals)
    name = group_name(answer.query.group_by)
    if not answer.query.group_by.startswith(DIMENSION):  # a key from the data keeps its case
        name = name.capitalize()
    lines = {} if charts.undrawable(answer) else _lines(source, answer, result)
    points = [_begun(answer, lines[row.key]) if row.key in lines else [] for row in rows]
    shapes = [[] if charts.undrawable(answer) else _shape(line) for line in points]

    def clicked(key: str, then: Callable[[Key], None]) -> Callable[[], None]:
        def callback() -> None:
            click = st.session_state[key]
            if click is not None and click["row"] < len(rows):
                then(rows[click["row"]].key)

        return callback

    def pick(key: Key) -> None:
        go(view, lambda: view.replace(series=None if key == selected_key else key))

    def visit(key: Key) -> None:
        if key[1]:
            leave_for(CustomerView.of(view.query, key[1]))

    # bars show a spike as it is, where there is room for them; lines smooth it
    bars = ceil(_BAR_PIXELS * len(max(shapes, key=len))) + _PADDING_PIXELS
    shape = st.column_config.BarChartColumn if bars <= _MAX_SHAPE_PIXELS else st.column_config.LineChartColumn
    heading = "Shape to date" if any(line and line[-1].end > answer.closed_until for line in points) else "Shape"
    shape_width = min(max(bars, _MIN_SHAPE_PIXELS, grid.width(heading, [])), _MAX_SHAPE_PIXELS)
    drawing = shape(
        heading,
        help="The buckets of the window up to now, from zero, relative to the largest of the series and copied so. "
        "A first bucket that is cut and a newest one that is not finished are lower for that.",
        color="gray",
        # one zero line for all rows: Streamlit draws a row without a positive value from its own largest one
        y_min=min([0.0, *(value for values in shapes for value in values)]),
        y_max=1.0,
        width=shape_width,
    )
    ratios = {
        "share": grid.ratios(
            "Share",
            [
                float(Decimal(row.total) / Decimal(total))
                if row.total is not None and total and total > 0 and row.key not in result.movers
                else None
                for row in rows
            ],
            lambda ratio: formatting.typographic(formatting.percent(Decimal(repr(ratio)), 1)),
            help="Copied as a ratio",
        ),
        "change": _change_column(rows, compared, "total" if answer.comparison else view.order),
    }
    labels = [_label(result, row) for row in rows]
    difference = {}
    if answer.comparison and not isinstance(compared, str):
        changes = [moved(row.change) for row in rows]
        difference = {"difference": grid.numbers("Difference", changes, _signed_short)}
    others = (
        _SQUARE_PIXELS
        + sum(column.width for column in difference.values())
        + sum(column.width for column in ratios.values())
        + grid.BORDER_PIXELS
    )
    whole_name = min(grid.width(name, labels), _MAX_NAME_PIXELS)
    if answer.query.metric not in RATIOS and 0 < len(unit_text(answer.unit)) <= _MAX_UNIT_CHARACTERS:
        with_unit = f"{total_heading} {unit_text(answer.unit)}"
        left = _PHONE_TABLE_PIXELS - others - whole_name
        least, wider = (grid.numbers(text, totals, formatting.short).width for text in (total_heading, with_unit))
        if not least <= left < wider:  # the unit alone would push columns off a phone's screen
            total_heading = with_unit
    total_column = grid.numbers(total_heading, totals, formatting.exact if fits else formatting.short)
    if fits and others + total_column.width + whole_name > _PHONE_TABLE_PIXELS:  # a cut name may be another's
        fits, total_column = False, grid.numbers(total_heading, totals, formatting.short)
    if not fits and total_column.shown:  # without it the digits themselves are on screen
        total_column.config["help"] = "Long totals are rounded here; a copy has every digit"
    if answer.query.metric in RATIOS:
        total_column.config["help"] = "Cost divided by quantity, of the whole window; the rows are ranked by cost"
    others += total_column.width
    name_width = max(_MIN_NAME_PIXELS, whole_name)
    cut = formatting.cut_apart(labels, grid.characters(name_width))  # the column cuts the others at its edge

    def button(
        name: str, heading: str, then: Callable[[Key], None], tooltip: str, pixels: int = grid.BUTTON_PIXELS
    ) -> Any:
        key = f"ranking_{name}"
        return st.column_config.ButtonColumn(
            heading,
            key=key,
            on_click=clicked(key, then),
            type="tertiary",
            alignment="left",
            width=pixels,
            help=tooltip,
        )

    tooltip = "Click a name for only it. □ marks a series that is a part of Other in the chart"
    spellings = _spellings(result)
    parts_of_other = {text for text, row in zip(spellings, rows, strict=True) if row.key not in drawn}

    def square(text: str) -> str:
        return "□" if text in parts_of_other else "■"

    columns = {
        # Streamlit's CSV leaves buttons out: the series as a download has it is the value behind the square
        # a heading without a text fails WCAG
        "series": grid.texts("■", spellings, square, width=_SQUARE_PIXELS),
        "name": grid.Column(
            pd.Series(list(map(grid.on_button, cut)), dtype="object"),
            button("only", name, lambda key: act(result.basis, key, "only"), tooltip, name_width),
        ),
        "total": total_column,
        "share": ratios["share"],
        **difference,
        "change": ratios["change"],
        "shape": grid.Column(pd.Series(shapes, dtype="object"), drawing),
        "pick": grid.Column(
            pd.Series([_pick_text(result, answer, row.key, selected_key) for row in rows], dtype="object"),
            button("pick", "Pick", pick, "Select the series, ◉ the selected one: numbers follow"),
        ),
        "not": grid.Column(
            pd.Series([None if row.key == OTHER else "≠" for row in rows], dtype="object"),
            button("not", "Not", lambda key: act(result.basis, key, "not"), "Exclude the series"),
        ),
    }
    if answer.query.group_by == "customer_id":
        columns["page"] = grid.Column(
            pd.Series(["↗" if row.key[1] else None for row in rows], dtype="object"),
            button("page", "Page", visit, "Open the customer's page"),
        )
    buttons = (len(columns) - list(columns).index("pick")) * grid.BUTTON_PIXELS
    width = others + name_width + shape_width + buttons
    left_out = {"shape": shape_width, "share": ratios["share"].width, "not": grid.BUTTON_PIXELS}
    for column, its_width in left_out.items():
        if width > (components.room_pixels() or width):
            del columns[column]
            width -= its_width
    st.html(_SIDE_BY_SIDE.format(width=width + _SLACK_PIXELS))
    grid.draw(
        columns,
        inks={"series": [colours[drawn[row.key]] if row.key in drawn else muted for row in rows]},
        marked=[grid.SELECTED_CELL if row.key == selected_key else "" for row in rows] if selected_key else (),
        height="auto" if len(rows) <= 14 else 520,
        alt=f"{name} ranked {_ORDERS[view.order]}",
    )
    if parts_of_other:
        st.caption(
            f"□ {'is' if len(parts_of_other) == 1 else 'are'} in Other, too, which counts "
            f"{'it' if len(parts_of_other) == 1 else 'them'}: shown because of the change."
        )
    if result.folds_negative:
        st.caption("Series are chosen by signed total: the most negative ones, such as large credits, are in Other.")
    order_input(view, "order")


def order_input(view: ExploreView, key: str) -> None:
    """Draw the order of the rows, which is that of the ranking and of all leaderboards."""
    follow(key, view.order)
    st.segmented_control(
        "Ranked by",
        get_args(Order),
        key=key,
        format_func=_ORDERS.__getitem__,
        required=True,
        label_visibility="collapsed",
        on_change=changed(key, view, lambda picked: view.replace(order=picked)),
    )


def _lines(source: Source, answer: Aggregate, result: Ranked) -> dict[Key, Series]:
    """The series of the ranking's rows in the answer's window: those of the chart, and looked-up ones beside them."""
    lines = {(series.kind, series.key): series for series in answer.series}
    others = [row.key for row in result.rows if row.key not in lines and row.key != OTHER]
    return lines | source.lines(answer.query, others)


def _pick_text(result: Ranked, answer: Aggregate, key: Key, selected_key: Key | None) -> str | None:
    """The button that selects a series; none for an Other of the selected time that holds others than the chart's."""
    if key == selected_key:
        return "◉"
    if key == OTHER and {item.key for item in result.basis.series} != {item.key for item in answer.series}:
        return None
    return "○"


def _label(result: Ranked, row: Row) -> str:
    """The legend's name of the row; ids without a name by their first eight digits, Other with its number."""
    kind, key = row.key
    name, group = result.names[row.key], result.basis.query.group_by
    if kind == "other":
        return f"{name} ({formatting.values_and_missing(row.members, row.with_missing)})" if row.members else name
    if group in ID_COLUMNS and key and name == key:
        name = formatting.short_ids(key)
    return name


def _spellings(result: Ranked) -> list[str]:
    """The series as a download has them."""
    shown = [(series.kind, series.key) for series in result.basis.series]
    spelled = dict(zip(shown, frames.spellings(result.basis), strict=True))
    return [spelled[row.key] if row.key in spelled else f"{result.names[row.key]} (in Other)" for row in result.rows]


def _change_column(rows: Sequence[Row], compared: Windows | str, order: Order) -> grid.Column:
    """The change of each row: absolute in the order by change, else relative."""
    label = compared if isinstance(compared, str) else compared.label
    if order == "change":
        differences = [moved(row.change) for row in rows]
        rounded = [None if step is None else float(step) for step in differences]
        if any(step is not None and len(signed(step)) > _MAX_EXACT_DIGITS for step in differences):
            return grid.ratios("Change", rounded, lambda value: _signed_short(Decimal(repr(value))), help=label)
        return grid.numbers("Change", differences, lambda value: formatting.typographic(signed(value)), help=label)
    return grid.ratios(
        "Change",
        [_ratio(row.change) for row in rows],
        lambda ratio: formatting.typographic(formatting.change(Decimal(repr(ratio)) if isfinite(ratio) else None)),
        help=label if isinstance(compared, str) else f"{label}; copied as a ratio, new as Infinity",
    )


def _signed_short(value: Number) -> str:
    return formatting.typographic(formatting.signed_short(value))


def _ratio(change: Change | None) -> float | None:
    """The relative change: infinite from zero, None without a comparison or events."""
    if change is None or change.now is None or not (change.before or change.now):
        return None
    return inf if change.ratio is None else float(change.ratio)


def _begun(answer: Aggregate, series: Series) -> Sequence[Point]:
    """The buckets that started before now."""
    return [point for point in series.points if point.start < answer.closed_until] or series.points


def _shape(points: Sequence[Point]) -> list[float]:
    """The newest values relative to their largest absolute value, without gaps."""
    values = [float(point.value) for point in points[-_MAX_SHAPE_POINTS:] if point.value is not None]
    largest = max(map(abs, values), default=0.0) or 1.0
    return [value / largest for value in values]
