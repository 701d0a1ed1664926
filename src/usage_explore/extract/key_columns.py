"""The dimension keys that have a column of their own in a segment, and those that share the JSON of rare ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb

from usage_explore.extract.connection import Unfit, fetched, parquet, quoted
from usage_explore.extract.manifest import Segment, json_pointer

MAX_COLUMNS_OF_KEYS = 32
"""Dimension keys that have a column of their own, at most."""


MIN_KEY_SHARE = 0.01
"""Share of a segment's rows that have a key, from which it has a column of its own."""


MIN_KEY_ROWS = 100
"""Rows that have it as well, at least: a few odd events among few do not make a column that all later segments have."""


MAX_KEYS = 10_000
"""Dimension keys that an extract may have."""


def most_frequent_keys(connection: duckdb.DuckDBPyConnection, folder: Path, segment: Segment) -> list[str]:
    """The keys of a segment that shall have a column: those that have one, unless there are too many frequent ones."""
    relation, columns = parquet(folder, [segment.rows.name]), list(segment.layout.dimensions)
    rare = _frequent_keys(connection, relation, segment.rows.rows)
    if len(columns) + len(rare) <= MAX_COLUMNS_OF_KEYS:
        return columns
    counts = fetched(
        connection, f"SELECT {', '.join(f'count(d{number})' for number in range(len(columns)))} FROM {relation}"
    )
    events = dict(zip(columns, counts, strict=True)) | rare
    return sorted(events, key=lambda key: (-events[key], key))[:MAX_COLUMNS_OF_KEYS]


def chosen_columns(connection: duckdb.DuckDBPyConnection, relation: str, keys: list[str], rows: int) -> list[str]:
    """The keys, and those without a column that are frequent in the rows, as many as may have one."""
    rare = _frequent_keys(connection, relation, rows)
    return [*keys, *(key for key in rare if key not in keys)][: max(MAX_COLUMNS_OF_KEYS, len(keys))]


def _frequent_keys(connection: duckdb.DuckDBPyConnection, relation: str, rows: int) -> dict[str, int]:
    """The keys without a column that are frequent in the rows, with the number of those, the most frequent first."""
    least = max(MIN_KEY_ROWS, MIN_KEY_SHARE * rows)
    found = connection.execute(
        f"SELECT key, count(*) FROM (SELECT unnest(json_keys(rare)) AS key FROM {relation} WHERE rare IS NOT NULL)"
        f" WHERE key <> '' GROUP BY key HAVING count(*) >= {least} ORDER BY 2 DESC, 1 LIMIT {MAX_COLUMNS_OF_KEYS}"
    )
    return dict(found.fetchall())


def with_columns(relation: str, keys: Sequence[str], columns: Sequence[str]) -> str:
    """The relation, which has the first columns of keys, with all of them: texts leave the JSON of rare ones."""
    added = columns[len(keys) :]
    if not added:
        return relation
    texts = "".join(
        f", rare ->> {quoted(json_pointer(key))} AS d{number}" for number, key in enumerate(added, len(keys))
    )
    nothing = quoted(json.dumps(dict.fromkeys(added), ensure_ascii=False))
    rest = f"nullif(json_merge_patch(rare, {nothing})::VARCHAR, '{{}}')"  # a null of the patch removes a key
    return f"(SELECT * REPLACE (CASE WHEN rare IS NOT NULL THEN {rest} END AS rare){texts} FROM {relation})"


def keys_of(connection: duckdb.DuckDBPyConnection, relation: str, keys: Sequence[str]) -> tuple[str, ...]:
    """All dimension keys that the rows have, also with null alone. Raises `Unfit` for too many."""
    found = {
        key
        for (key,) in connection.execute(
            f"SELECT DISTINCT unnest(json_keys(rare)) FROM {relation} WHERE rare IS NOT NULL LIMIT {MAX_KEYS + 1}"
        ).fetchall()
    }
    if len(found) > MAX_KEYS:
        raise Unfit(
            f"dimensions have more than {MAX_KEYS:,} different keys; put what varies from event to event into a value"
        )
    there = fetched(
        connection,
        f"SELECT {', '.join(['count(*)', *(f'count(d{number})' for number in range(len(keys)))])} FROM {relation}",
    )[1:]
    for key, number in zip(keys, there, strict=True):
        if number or _has_null(connection, relation, key):
            found.add(key)
    return tuple(sorted(found))


def _has_null(connection: duckdb.DuckDBPyConnection, relation: str, key: str) -> bool:
    """Whether a row has the key, whose value is null in all of them."""
    name = json.dumps(key, ensure_ascii=False)
    texts = connection.execute(
        f"SELECT DISTINCT dimensions FROM {relation} WHERE contains(dimensions, ?) LIMIT 10000", [name]
    ).fetchall()
    documents = (json.loads(text) for (text,) in texts)
    return any(isinstance(document, dict) and key in document for document in documents)
