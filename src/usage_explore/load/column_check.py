"""Errors for files whose columns do not fit the mapping."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usage_explore.errors import LoadError
from usage_explore.load.column_names import like, listed_columns, synonym

if TYPE_CHECKING:
    from usage_explore.load.row_mapper import RowMapper


def check_columns(mapper: RowMapper, path: Path) -> None:
    """Raise `LoadError`, with a hint, when a file with these columns cannot be loaded by the mapping."""
    present = dict.fromkeys(mapper.names)
    for column, sources in mapper.mapping.columns.items():
        if column in mapper.mapping.stated and not mapper.is_present(column, sources):
            raise LoadError(
                f"{path}: has no column {sources[0]!r} to map to {column}{like(sources[0], present)}; "
                f"it has {listed_columns(present)}"
            )
    for source in mapper.mapping.measures:
        if source in mapper.mapping.stated and mapper.resolve(source) is None:
            raise LoadError(
                f"{path}: has no column {source!r} to measure{like(source, present)}; it has {listed_columns(present)}"
            )
    if missing := mapper.missing():
        free = [name for name in present if name not in mapper.taken()]
        options = (shlex.quote(f"{column}={synonym(column, free) or 'COLUMN'}") for column in missing)
        raise LoadError(
            f"{path}: the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} missing; where the file has them by other names, load it with "
            f"--map {' --map '.join(options)}; the file has {listed_columns(present)}"
            f"{_misused(mapper, missing)}; --check proposes options"
        )


def _misused(mapper: RowMapper, missing: Sequence[str]) -> str:
    """For a missing column that the file has, but mapped to another: a clause that says to which."""
    return "".join(
        f"; its column {column} is mapped to {other}"
        for column in missing
        for other, sources in mapper.sources.items()
        if column in sources and column in mapper.names
    )
