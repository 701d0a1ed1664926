"""A DuckDB in memory that reads and writes below one folder, and nowhere else."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from usage_explore.config import Settings
from usage_explore.errors import UsageExploreError
from usage_explore.formatting import path_text


class ExtractError(UsageExploreError):
    """The extract could not be written, for example because the disk is full; it is as it was before."""


class Unfit(Exception):
    """The events hold something that no column of the extract can: why, and what to do about it."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a DuckDB may use: memory in bytes and threads."""

    memory: int
    threads: int


def resources(settings: Settings) -> Resources:
    """What DuckDB may use under these settings."""
    return Resources(memory=settings.extract_memory, threads=settings.extract_threads)


def connect(folder: Path, resources: Resources, temporary: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB that sees `folder` only, loads no extension, and whose settings cannot be changed.

    What does not fit into its memory is in `temporary`. Raises `ExtractError` for a path that is not UTF-8.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ExtractError(
            f"home: {path_text(folder)} is not UTF-8 text, which DuckDB needs; choose another folder"
            " for extracts (--home, USAGE_EXPLORE_HOME)"
        ) from None
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    for statement in (
        f"SET temp_directory = {quoted(str(temporary))}",
        f"SET memory_limit = '{resources.memory}B'",
        f"SET threads = {resources.threads}",
        f"SET allowed_directories = [{quoted(str(folder))}]",
        "SET TimeZone = 'UTC'",
        "SET parquet_metadata_cache = true",
        "SET enable_progress_bar = false",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ):
        connection.execute(statement)
    return connection


def quoted(value: str) -> str:
    """A text as SQL.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'{}'".format(value.replace("'", "''"))


def parquet(folder: Path, names: Collection[str]) -> str:
    """The SQL of reading files of the folder, of the same layout."""
    paths = ", ".join(quoted(str(folder / name)) for name in names)
    return f"read_parquet([{paths}])"


def fetched(connection: duckdb.DuckDBPyConnection, statement: str) -> tuple[Any, ...]:
    """The one row of a statement."""
    (row,) = connection.execute(statement).fetchall()  # to the end: an open result blocks the connection
    return tuple(row)
