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

_SIGNATURES = {
    # first bytes of a file -> what it is; a CSV file may begin with a column named PAR1 or ARROW1
    b"ARROW1\0": "an Arrow IPC (Feather) file",
    b"\xff\xff\xff\xff": "an Arrow IPC stream",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed with gzip",
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
        _check_signature(path, kind or _kind_by_name(path))
        kind = kind or _kind(path)
        if not path.stat().st_size:
            raise LoadError(f"{path}: is empty")
        return _opened(path, kind)
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror or error}") from error


def _kind_by_name(path: Path) -> str | None:
    name = path.name.lower()
    return next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), None)


def _check_signature(path: Path, kind: str | None) -> None:
    """Raise `LoadError` for a file whose first bytes are those of another format than its name or `--format` says."""
    with path.open("rb") as file:
        start = file.read(max(map(len, _SIGNATURES)))
        file.seek(max(0, path.stat().st_size - 4))
        end = file.read()
    content = next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), None)
    match content:
        case None:
            return
        case "a Parquet file":
            if kind == "parquet" or end != b"PAR1":
                return
            fix = "say --format parquet" if _kind_by_name(path) == "parquet" else "name it .parquet"
        case "compressed with gzip":
            if path.name.lower().endswith(".gz") and kind != "parquet":
                return
            fix = f"name it .{kind}.gz" if kind in ("csv", "jsonl") else "decompress it"
        case "a ZIP archive or a spreadsheet":
            fix = "save its contents as CSV"
        case _:
            fix = "write it as Parquet (pyarrow.parquet.write_table)"
    raise LoadError(f"{path}: is {content}{f', not {kind}' if kind else ''}; {fix}")


def _kind(path: Path) -> str:
    if kind := _kind_by_name(path):
        return kind
    hint = "; a JSON array has to become one object per line" if path.name.lower().endswith(".json") else ""
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
