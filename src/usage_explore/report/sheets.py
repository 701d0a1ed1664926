"""The tables that checks make, for those who sign off: shortened in a page, whole in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from usage_explore.numbers import plain, rfc3339
from usage_explore.report import words

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.checks import Result, Validation

ROWS = 50
"""How many rows of a sheet a page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's heading, and whether it holds numbers, which stand at the right."""

    heading: str
    numeric: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table in words: at most `ROWS` of its `rows`, and how many more there are."""

    check: str
    title: str
    columns: tuple[Column, ...]
    cells: tuple[tuple[str, ...], ...]
    more: int


def sheets(validation: Validation) -> Iterator[Sheet]:
    """Every table that a check of the validation made, in the checks' order; empty ones too."""
    for result, frame in _made(validation):
        yield _sheet(result, frame, validation.period.zone)


def to_dict(validation: Validation) -> dict[str, list[dict[str, Any]]]:
    """Every table whole, by check, as JSON carries it: a list of rows, decimals, times and ids as text."""
    return {
        result.check.name: [
            {name: _json(value) for name, value in zip(frame.columns.astype(str), row, strict=True)}
            for row in frame.itertuples(index=False, name=None)
        ]
        for result, frame in _made(validation)
    }


def _made(validation: Validation) -> Iterator[tuple[Result, pd.DataFrame]]:
    for result in validation.results:
        if (frame := validation.sheet(result.check.name)) is not None:
            yield result, frame


def _sheet(result: Result, frame: pd.DataFrame, zone: ZoneInfo) -> Sheet:
    shown = list(frame.head(ROWS).itertuples(index=False, name=None))
    columns = tuple(
        Column(
            heading=words.text(str(name).replace("_", " ")),
            numeric=all(words.is_missing(row[place]) or _is_number(row[place]) for row in shown),
        )
        for place, name in enumerate(frame.columns)
    )
    return Sheet(
        check=result.check.name,
        title=result.check.title,
        columns=columns,
        cells=tuple(tuple(words.cell(value, zone) for value in row) for row in shown),
        more=len(frame) - len(shown),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _json(value: Any) -> Any:
    if words.is_missing(value):
        return None
    match value:
        case bool() | int() | str():
            return value
        case Decimal():
            return plain(value) if value.is_finite() else str(value)
        case datetime():
            return rfc3339(value)
        case dict():
            return {str(key): _json(each) for key, each in value.items()}
        case list() | tuple():
            return [_json(each) for each in value]
        case _:
            return str(value)
