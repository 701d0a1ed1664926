"""A table that a check made, to look at: every digit of every number, times on the period's clock."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from usage_explore import formatting
from usage_explore.app import grid
from usage_explore.decimals import plain
from usage_explore.query.describe import group_name
from usage_explore.query.filters import GROUPS, ID_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_ROWS = 20_000
_FEW = 15


def sheet_table(frame: pd.DataFrame, zone: ZoneInfo, title: str) -> None:
    """Draw it; beyond 20,000 rows its beginning, and how many there are."""
    shown = frame.head(_MOST_ROWS)
    if len(shown) < len(frame):
        st.caption(f"The first {_MOST_ROWS:,} of {len(frame):,} rows; the download holds all of them.")
    columns = {}
    for name in map(str, frame.columns):
        values = [None if _is_null(value) or (value == "" and name not in GROUPS) else value for value in shown[name]]
        heading = _heading(name)
        if _is_numeric(values):
            columns[name] = grid.numbers(heading, values)
        else:
            cells = [None if value is None else _cell(value, zone) for value in values]
            columns[name] = grid.texts(heading, cells, formatting.short_ids if name in ID_COLUMNS else None)
    grid.draw(columns, height="content" if len(shown) <= _FEW else 560, alt=title)


def _heading(name: str) -> str:
    """A column as people say it; a currency in it keeps its letters."""
    said = group_name(name)
    return said[:1].upper() + said[1:]


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and value != value)


def _cell(value: Any, zone: ZoneInfo) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return formatting.timestamp(value, zone)
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | Decimal) and not isinstance(value, bool)) for value in values)
