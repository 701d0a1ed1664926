"""The tables that checks make, for those who sign off: shortened in a page, whole in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from usage_explore.decimals import plain, rfc3339, total
from usage_explore.validation.report import words

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.validation import Result, Validation

ROWS = 50
"""How many rows of a sheet a page shows."""

UNKNOWN, ALL = "(unknown wallet)", "all wallets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's heading, and whether it holds numbers, which stand at the right."""

    heading: str
    numeric: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table in words: at most `ROWS` of its `rows`, and how many more there are."""

    anchor: str
    check: str
    title: str
    columns: tuple[Column, ...]
    cells: tuple[tuple[str, ...], ...]
    more: int


def sheets(validation: Validation) -> Iterator[Sheet]:
    """Every table that a check of the validation made, in the checks' order; empty ones too.

    Before the wallets' own comes one that draws it together: each metric's quantity by wallet.
    """
    zone = validation.period.zone
    for result, frame in _made(validation):
        name, title = result.check.name, result.check.title
        if {"wallet", "metric_key", "quantity"} <= set(frame.columns):
            yield _sheet(f"together-{name}", name, f"{title}: quantity by metric", by_wallet(frame), zone)
        yield _sheet(f"sheet-{name}", name, title, frame, zone)


def by_wallet(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each `metric_key`, its quantity in each wallet and in `ALL` of them, exact; None where it has none.

    A wallet that is called as these are is quoted.
    """
    import pandas as pd

    sums: dict[tuple[str, tuple[int, str]], Decimal] = {}
    for metric, wallet, quantity in zip(frame["metric_key"], frame["wallet"], frame["quantity"], strict=True):
        for column in ((1, UNKNOWN) if words.is_missing(wallet) else (0, str(wallet)), (2, ALL)):
            sums[metric, column] = total((sums.get((metric, column), Decimal(0)), quantity))
    metrics = sorted({metric for metric, _ in sums})
    columns = sorted({column for _, column in sums})
    found = pd.DataFrame(
        {column: pd.Series([sums.get((metric, column)) for metric in metrics], dtype="object") for column in columns}
    )
    found.columns = pd.Index([f'"{name}"' if not kind and name in (UNKNOWN, ALL) else name for kind, name in columns])
    found.insert(0, "metric_key", pd.Series(metrics, dtype="str"), allow_duplicates=True)
    return found


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


def _sheet(anchor: str, check: str, title: str, frame: pd.DataFrame, zone: ZoneInfo) -> Sheet:
    shown = list(frame.head(ROWS).itertuples(index=False, name=None))
    columns = tuple(
        Column(
            heading=words.text(str(name).replace("_", " ")),
            numeric=all(words.is_missing(row[place]) or _is_number(row[place]) for row in shown),
        )
        for place, name in enumerate(frame.columns)
    )
    return Sheet(
        anchor=anchor,
        check=check,
        title=title,
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
