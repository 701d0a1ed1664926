"""The columns of a file against the mapping, and their names in messages and in other systems."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usage_explore.errors import LoadError
from usage_explore.files.sources import Record, Source
from usage_explore.formatting import path_text
from usage_explore.load.fields import KINDS
from usage_explore.query import validators

if TYPE_CHECKING:
    from usage_explore.load.row_mapper import RowMapper


def check_columns(mapper: RowMapper, path: Path, of_encoding: str = "") -> None:
    """Raise `LoadError`, with a hint, when a file with these columns cannot be loaded by the mapping.

    `of_encoding` is a clause on text that is not UTF-8, for the error on missing columns.
    """
    present = dict.fromkeys(mapper.names)
    for column, sources in mapper.mapping.columns.items():
        if column in mapper.mapping.stated and not mapper.is_present(column, mapper.sources.get(column, ())):
            parts = [part.strip() for part in sources[0].split("+")] if KINDS[column] == "time" else []
            absent = next((part for part in parts if len(parts) > 1 and mapper.resolve(part) not in present), "")
            raise LoadError(
                f"{path_text(path)}: has no column"
                f" {(absent or sources[0])!r}{f' of {sources[0]!r}' if absent else ''} to map to"
                f" {column}{like(absent or sources[0], present)}; it has {listed_columns(present)}"
            )
    for source in mapper.mapping.measures:
        if source in mapper.mapping.stated and mapper.resolve(source) is None:
            raise LoadError(
                f"{path_text(path)}: has no column {source!r} to measure{like(source, present)}; it has"
                f" {listed_columns(present)}"
            )
    if missing := mapper.missing():
        free = [name for name in present if name not in mapper.taken()]
        options = (shlex.quote(f"{column}={synonym(column, free) or 'COLUMN'}") for column in missing)
        raise LoadError(
            f"{path_text(path)}: the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} missing; where the file has them by other names, load it with "
            f"--map {' --map '.join(options)}; the file has {listed_columns(present)}"
            f"{_misused(mapper, missing)}{of_encoding}; --check proposes options"
        )


def check_readable(records: Iterable[Record], source: Source) -> None:
    """Raise `LoadError` where none of a file's first records can be read."""
    first = list(records)
    if first and all(reason for _, _, reason in first):
        line, _, reason = first[0]
        which = "it is the only record" if len(first) == 1 else f"no record of the first {len(first):,} can be read"
        raise LoadError(f"{path_text(source.path)}, {source.unit} {line:,}: {reason}; {which}")


def dimension_columns(mapper: RowMapper) -> tuple[str, ...]:
    """The columns, or paths in JSON, that are dimensions and no other column of the events."""
    mapping = mapper.mapping
    if not mapping.dimensions:
        return ()
    if keep := mapping.keep:
        return tuple(name for name in mapper.resolved(keep) if name in mapper.names)
    left_out = mapper.resolved((*mapping.ignore, *mapping.tags))
    tops = {name.rpartition(".")[0] for name in mapper.names} if mapper.sampled else set()
    return tuple(
        name
        for name in mapper.names
        if name not in {*mapper.taken(), *mapper.own_names.values()}
        and name not in tops
        and not mapper.measures_member(name)
        and not any(name == source or name.startswith(f"{source}.") for source in left_out)
    )


def _misused(mapper: RowMapper, missing: Sequence[str]) -> str:
    """For a missing column that the file has, but mapped to another: a clause that says to which."""
    return "".join(
        f"; its column {column} is mapped to {other}"
        for column in missing
        for other, sources in mapper.sources.items()
        if column in sources and column in mapper.names
    )


MAX_LISTED_COLUMNS = 20
"""Columns of a file that an error names."""

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "customer_id": ("customer", "customeruuid", "customername", "account", "accountid", "client", "tenant", "user"),
    "metric_key": ("metric", "metrik", "metricname", "meter", "metername", "sku", "eventname", "product", "service"),
    "quantity": ("qty", "usage", "usagequantity", "usageamount", "amount", "value", "count", "units"),
    "timestamp": ("time", "datetime", "eventtime", "occurredat", "date", "when", "createdat", "startdate", "starttime"),
}
"""Required column -> names in other systems that mean the same, in lower case without spaces and punctuation."""


def synonym(column: str, names: Iterable[str]) -> str | None:
    """The first of the names that means the column, by `SYNONYMS`; a similar spelling does not count."""
    meanings = {column.replace("_", ""), *SYNONYMS.get(column, ())}
    return next((name for name in names if re.sub(r"[\W_]", "", name).lower() in meanings), None)


def like(name: str, choices: Iterable[str]) -> str:
    """` (did you mean x?)` for the most similar choice, blank if none is."""
    near = validators.nearest(name, choices)
    return f" (did you mean {near}?)" if near is not None else ""


def listed_columns(names: Iterable[str]) -> str:
    """The first `MAX_LISTED_COLUMNS` names, in quotes where they are not plain words; "no columns" for none."""
    quoted = [name if name.isidentifier() else repr(name) for name in names]
    more = len(quoted) - MAX_LISTED_COLUMNS
    return (", ".join(quoted[:MAX_LISTED_COLUMNS]) or "no columns") + (f" and {more} more" if more > 0 else "")
