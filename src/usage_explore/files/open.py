"""Open a CSV, JSON Lines or Parquet file."""

from __future__ import annotations

from pathlib import Path

from usage_explore.errors import LoadError
from usage_explore.files.sources import Source
from usage_explore.files.text_sources import CsvSource, JsonLinesSource

SUFFIXES = {
    # end of a file's name -> its format
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
}


def open_source(path: Path, kind: str | None) -> Source:
    """The file as a stream of records. `kind` is "csv", "jsonl" or "parquet"; None goes by the file's name.

    Raises `LoadError` for a file that does not exist, is empty, cannot be read or has none of these formats.
    """
    try:
        if path.is_dir():
            raise LoadError(f"{path}: is a directory; name the files in it")
        if not path.exists():
            raise LoadError(f"{path}: there is no such file")
        if not path.is_file():
            raise LoadError(f"{path}: is not a file that can be read twice; save it as a file first")
        kind = kind or _kind(path)
        if not path.stat().st_size:
            raise LoadError(f"{path}: is empty")
        return _opened(path, kind)
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror or error}") from error


def _kind(path: Path) -> str:
    name = path.name.lower()
    for suffix, kind in SUFFIXES.items():
        if name.endswith(suffix):
            return kind
    hint = "; a JSON array has to become one object per line" if name.endswith(".json") else ""
    raise LoadError(
        f"{path}: cannot tell what kind of file this is by its name; "
        f"name it {', '.join(SUFFIXES)}, or say --format csv, jsonl or parquet{hint}"
    )


def _opened(path: Path, kind: str) -> Source:
    if kind == "csv":
        return CsvSource(path)
    if kind == "jsonl":
        return JsonLinesSource(path)
    from usage_explore.files.parquet_source import ParquetSource  # pyarrow is slow to import

    return ParquetSource(path)
