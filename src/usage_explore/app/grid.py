r"""Tables. A cell holds its value, which is copied, downloaded and sorted by; formats only change its display.

Numbers that a double holds exactly are numeric cells, shown with thousands separators. A column with any other number,
or with more than 5,000 rows, holds text with every digit, which Streamlit sorts alphabetically: its tooltip says so.
NULL is an empty cell, shown as –. A column's id is its heading in the CSV, its label the heading on screen.

Streamlit's own CSV neither escapes formulas nor quotes a lone carriage return, and writes the empty text as it writes
NULL: values are escaped here, not on screen. A carriage return is written \r, the empty text as one apostrophe, which
is also what removing one leading apostrophe reads back; NULL is nothing.

`events_table` is the table of usage events that every page draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, inf
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from usage_explore import formatting
from usage_explore.app.cache import Source
from usage_explore.app.components import component
from usage_explore.decimals import MAX_SAFE_INTEGER, Number, dimension_text, json_text, plain
from usage_explore.errors import StatementTimeout
from usage_explore.names import Names
from usage_explore.query.filters import DIMENSION, GROUPS, ID_COLUMNS
from usage_explore.query.queries import EventQuery
from usage_explore.results import formulas
from usage_explore.results.types import Event

_MAX_STYLED = 5_000
"""Rows up to which cells have display formats: pandas takes 0.2 ms per row."""

_MIN_PLAIN_NUMBER = 1e-6
"""The smallest number that a browser writes without an exponent."""

_LETTER_PIXELS, _PADDING_PIXELS, _MAX_WIDTH_PIXELS = 6.6, 18, 420
"""Widths of a letter or digit, of a cell's padding, and of the widest column of numbers."""

BUTTON_PIXELS = 44
"""Width of a column of buttons."""

BORDER_PIXELS = 2
"""Width of a table's border."""

SELECTED_CELL = "background-color: rgba(128, 128, 128, 0.22)"
"""Style of the cells of the selected row, readable on light and dark."""

PAGE = "customer page"
"""Column of the table of events, and key, of the buttons that open a customer's page."""

_NO_LIST = "\u200b"
"""After a text on a button: a character without width, which a copied cell loses."""

RANK = "#"
"""Heading of a list's first column: the row's number, and the cell in which the keyboard enters the list."""

_HEADINGS = {
    "metric_key": "Metric",
    "quantity": "Quantity",
    "external_cost_amount": "Cost",
    "external_cost_currency": "Cost currency",
    "customer_id": "Customer",
    "dimensions": "Dimensions",
    "price_key": "Price",
    "product_id": "Product",
    "subscription_id": "Subscription",
    "wallet_currency": "Wallet",
    "ingested_at": "Ingested",
    "idempotency_key": "Idempotency key",
    "id": "Id",
}
"""The columns of the table of events beside its time."""

MAX_DIMENSION_COLUMNS = 12
"""Dimension keys of a page of events with columns of their own."""

_NUMBERS = ("quantity", "external_cost_amount")
_MEASURED = ("metric_key", "price_key")
"""Columns as wide as their longest value, as are names: Streamlit measures the first rows only and cuts longer ones."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's values, Streamlit's configuration of it, and the display format of a value that is not NULL.

    `width` is in pixels, 0 if Streamlit measures the column.
    """

    values: pd.Series[Any]
    config: Any
    shown: Callable[[Any], str] | None = None
    width: int = 0


def numbers(
    label: str, values: Sequence[Number | None], shown: Callable[[Number], str] = formatting.exact, **options: Any
) -> Column:
    """Exact numbers, as wide as the longest, at most 420 pixels; then the last digits are cut, not the first."""
    texts = [None if value is None else plain(value) for value in values]
    if len(values) > _MAX_STYLED:
        return _digits(label, texts, **options)
    if all(text is None or _is_double(text) for text in texts):
        # the shortest decimal of this double is the exact number
        doubles = [None if text is None else float(text) for text in texts]
        return ratios(label, doubles, lambda value: formatting.typographic(shown(Decimal(repr(value)))), **options)
    return _digits(label, texts, lambda text: formatting.typographic(shown(Decimal(text))), **options)


def money(label: str, amounts: Sequence[Decimal | None]) -> Column:
    """Amounts of one currency, shown to the cent; a copy has every digit."""
    return numbers(
        label, amounts, lambda amount: formatting.cents(Decimal(amount)), help="To the cent; a copy has every digit."
    )


def percents(label: str, shares: Sequence[Decimal | None]) -> Column:
    """Shares shown in per cent, `88.7 %`; a copy has the exact share, 0.8868…."""
    return numbers(label, shares, formatting.percent, help="In per cent; a copy has the share with every digit.")


def ratios(label: str, values: Sequence[float | None], shown: Callable[[float], str], **options: Any) -> Column:
    """Numbers rounded to doubles; text if one is beyond `MAX_SAFE_INTEGER`, which Streamlit draws unformatted."""
    if len(values) > _MAX_STYLED or any(MAX_SAFE_INTEGER < abs(value or 0) < inf for value in values):
        digits = [None if value is None else plain(Decimal(repr(value))) for value in values]
        return _digits(label, digits, None if len(values) > _MAX_STYLED else lambda text: shown(float(text)), **options)
    pixels = width(label, [None if value is None else shown(value) for value in values])
    config = st.column_config.NumberColumn(label, width=pixels, **options)
    return Column(pd.Series(values, dtype="float64"), config, shown, pixels)


def _digits(
    label: str, texts: Sequence[str | None], shown: Callable[[str], str] | None = None, **options: Any
) -> Column:
    """Numbers as text, because Streamlit's own format "plain" writes 108.99999999999999 for 109."""
    options.setdefault("help", "Every digit, held as text: sorting by this column is alphabetical, not by size.")
    pixels = width(label, [text if text is None or shown is None else shown(text) for text in texts])
    alignment: Literal["left", "right"] = "right" if pixels < _MAX_WIDTH_PIXELS else "left"
    config = st.column_config.TextColumn(label, alignment=alignment, width=pixels, **options)
    return Column(pd.Series(texts, dtype="object"), config, shown, pixels)


def texts(
    label: str, values: Sequence[str | None], shown: Callable[[str], str] | None = None, **options: Any
) -> Column:
    """Text, escaped for spreadsheets. `shown` is the display format, by default the value or (empty)."""
    lines = [value and value.replace("\r", "\\r") for value in values]
    safe = ["'" if text == "" else text for text in formulas.column(lines)]
    eye = shown
    if safe != lines:

        def eye(text: str) -> str:
            value = formulas.original(text)
            return shown(value) if shown else value or "(empty)"

    return Column(pd.Series(safe, dtype="object"), st.column_config.TextColumn(label, **options), eye)


def on_button(text: str) -> str:
    """A text for a column of buttons, where Streamlit takes one in brackets for a list, with a button for each item."""
    shown = text.strip()
    return f"{text}{_NO_LIST}" if shown.startswith("[") and shown.endswith("]") else text


def ranks(rows: int) -> Column:
    """The column `RANK`: 1 for the first row."""
    return numbers(RANK, range(1, rows + 1))


def draw(
    columns: Mapping[str, Column],
    inks: Mapping[str, Sequence[str]] | None = None,
    marked: Sequence[str] = (),
    **options: Any,
) -> Any:
    """Draw the columns by their ids; `options` go to `st.dataframe`.

    `inks` are colours of a column's cells, `marked` is the CSS of each row's cells, blank for most.
    """
    frame = pd.DataFrame({name: column.values for name, column in columns.items()})
    data: Any = frame
    if len(frame) <= _MAX_STYLED and (inks or any(column.shown for column in columns.values())):
        # without a text of its own a missing cell would be copied as None
        data = frame.style.format({name: column.shown for name, column in columns.items()}, na_rep="")
        for name, ink in (inks or {}).items():
            data = data.apply(lambda _, ink=ink: [f"color: {color}" for color in ink], subset=[name])
        if marked:
            data = data.apply(lambda _: marked)
    # Streamlit gives a table that selects nothing no class of its own, by which the style keeps room for its toolbar
    is_plain = "key" in options and "on_select" not in options
    with st.container(key=f"plain-{options['key']}") if is_plain else nullcontext():
        return st.dataframe(
            data,
            hide_index=True,
            column_config={name: column.config for name, column in columns.items()},
            placeholder="–",
            **options,
        )


def copy_values() -> None:
    """Let copied and cut cells of the page's tables be their values, not what they show."""
    with st.container(key="copied"):  # takes no room
        component("copy")(key="copied values")


def clicked(selected: Any, opened: Sequence[int], *, boxes: bool = True) -> int | None:
    """The row selected by a click in it or in its box; None if the box of the `opened` row was cleared.

    Cells of the first column select nothing: there the keyboard's focus enters the list and moves along it.
    """
    selection = selected["selection"]
    if not boxes and {column for _, column in selection["cells"]} == {RANK}:
        return next(iter(opened), None)
    # the box of the opened row stays selected beside another row's cell, and a cell beside another row's box
    clicked = [*selection["rows"], *(row for row, column in selection["cells"] if column != RANK)]
    return next((row for row in clicked if row not in opened), next(iter(selection["rows"]), None))


def _is_double(text: str) -> bool:
    """Whether a double equals the number exactly, and a browser writes it without an exponent."""
    value = float(text)
    return (
        abs(value) <= MAX_SAFE_INTEGER
        and (not value or abs(value) >= _MIN_PLAIN_NUMBER)
        and Decimal(repr(value)) == Decimal(text)
    )


def width(label: str, texts: Sequence[str | None]) -> int:
    """The width in pixels of a column of these texts, at most 420."""
    return min(
        _MAX_WIDTH_PIXELS,
        _PADDING_PIXELS + ceil(_LETTER_PIXELS * max(len(text) for text in (label, *texts) if text is not None)),
    )


def characters(pixels: int) -> int:
    """How many letters a column of this `width` shows."""
    return int((pixels - _PADDING_PIXELS) / _LETTER_PIXELS)


def events_table(
    events: Sequence[Event],
    timezone: str,
    names: Names,
    ranked: bool = False,
    visit: Callable[[Event], None] | None = None,
    before: Mapping[str, Column] | None = None,
    **options: Any,
) -> Any:
    """Draw one row per event, in the given order; `ranked` adds `RANK`, `before` are further columns before its time.

    `options` go to `st.dataframe`.

    With `visit` each event has a button beside its customer, for which it is called.

    A column of ids with names has the names, and the ids follow in a column of their own: Customer, Customer id. The
    `MAX_DIMENSION_COLUMNS` most frequent dimension keys have a column each, `dim:model` in the CSV; others share one.
    """
    rows = [cells(event, timezone) for event in events]
    time = f"Time ({timezone})"
    columns = {**({RANK: ranks(len(rows))} if ranked else {}), **(before or {})}
    ids: dict[str, Column] = {}
    columns[time] = texts(time, [row["timestamp"] for row in rows])
    for name, heading in _HEADINGS.items():
        if name == "dimensions":
            columns |= _dimension_columns(events)
        elif name in _NUMBERS:
            columns[heading] = numbers(heading, [getattr(event, name) for event in events])
        else:
            values = [row[name] for row in rows]
            shown = formatting.short_ids if name in (*ID_COLUMNS, "id") else None
            labels = [value and (names.known(name, value) or value) for value in values]
            if name in ID_COLUMNS and labels != values:
                ids[f"{heading} id"], values = texts(f"{heading} id", values, shown), labels
            is_measured = name in _MEASURED or f"{heading} id" in ids
            pixels = width(heading, values) if is_measured else None
            columns[heading] = texts(heading, values, shown, width=pixels)
            if name == "customer_id" and visit is not None:
                columns[PAGE] = _visits(events, visit)
    return draw({**columns, **ids}, alt="Usage events, newest first", **options)


def _visits(events: Sequence[Event], visit: Callable[[Event], None]) -> Column:
    """The buttons that open the page of an event's customer."""

    def clicked() -> None:
        click = st.session_state[PAGE]
        if click is not None and click["row"] < len(events):
            visit(events[click["row"]])

    button: Any = st.column_config.ButtonColumn(
        "Page",
        key=PAGE,
        on_click=clicked,
        type="tertiary",
        alignment="left",
        width=BUTTON_PIXELS,
        help="Open the customer's page",
    )
    return Column(pd.Series(["↗"] * len(events), dtype="object"), button)


def _dimension_columns(events: Sequence[Event]) -> dict[str, Column]:
    by_key = [dimensions(event) for event in events]
    frequent = Counter(key for values in by_key for key in values)
    keys = [key for key, _ in frequent.most_common(MAX_DIMENSION_COLUMNS)]
    columns = {
        f"{DIMENSION}{key}": texts(formatting.data_value(key), [dimension_text(values.get(key)) for values in by_key])
        for key in keys
    }
    others: list[Any] = [
        {key: value for key, value in values.items() if key not in keys} if values else event.dimensions
        for values, event in zip(by_key, events, strict=True)
    ]
    if any(others):
        heading = "Other dimensions"
        columns[heading] = texts(heading, [dimension_text(rest) if rest else None for rest in others], width="large")
    return columns


def dimensions(event: Event) -> Mapping[str, Any]:
    """The event's values by key; none where its document is no object, or nested too deep to be read."""
    document: Any = event.dimensions
    return document if isinstance(document, dict) else {}


def group_of_column(column: str) -> str | None:
    """The group that a column of the table of events shows; `dim:` for all dimensions, None for other columns."""
    if column.startswith(DIMENSION):
        return column
    if column.endswith(_HEADINGS["dimensions"].lower()) or column == _HEADINGS["dimensions"]:
        return DIMENSION
    heading = column.removesuffix(" id")
    return next((name for name, label in _HEADINGS.items() if label == heading and name in GROUPS), None)


def counted(query: EventQuery, source: Source) -> str:
    """The number of events of a query with its noun, also if counting exceeds the statement timeout."""
    try:
        return formatting.counted(source.count(query), "event")
    except StatementTimeout:
        return "More events than could be counted in time"


def cells(event: Event, timezone: str) -> dict[str, str | None]:
    """Every column of an event by its name, as text that parses to the same value; NULL is None."""
    zone = ZoneInfo(timezone)
    row: dict[str, str | None] = {"timestamp": formatting.timestamp(event.timestamp, zone)}
    for name in _HEADINGS:
        value = getattr(event, name)
        if value is None:
            row[name] = None
        elif name == "ingested_at":
            row[name] = formatting.timestamp(value, zone)
        elif name in _NUMBERS:
            row[name] = plain(value)
        elif name == "dimensions":
            row[name] = json_text(value)
        else:
            row[name] = str(value)
    return row
