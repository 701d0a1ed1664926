"""Open a file of records, or standard input: format, encoding and delimiter are detected from the content."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files.containers import Content, directory, is_workbook, spooled
from usage_explore.files.csv_source import CsvSource
from usage_explore.files.exact_json import decode_at
from usage_explore.files.json_source import JsonSource
from usage_explore.files.sources import MAX_ROW_BYTES, Source
from usage_explore.files.text_sources import JsonLinesSource, as_utf_8, detect, is_binary, not_utf_8
from usage_explore.formatting import path_text

KINDS = {
    # format -> its name in messages
    "csv": "a CSV file",
    "jsonl": "a JSON Lines file",
    "json": "a JSON file",
    "parquet": "a Parquet file",
    "xlsx": "an Excel workbook",
}

SUFFIXES = {
    # end of a file's name -> its format, where the content does not say it
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
    ".json": "json",
    ".json.gz": "json",
    ".xlsx": "xlsx",
}

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    # first bytes of a file that cannot be read, what it is, what to do
    (b"ARROW1\0", "an Arrow IPC (Feather) file", "write it as Parquet (pyarrow.parquet.write_table)"),
    (b"\xff\xff\xff\xff", "an Arrow IPC stream", "write it as Parquet (pyarrow.parquet.write_table)"),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Excel workbook (.xls), or one protected with a password",
        "save it as .xlsx without a password, or as CSV",
    ),
    (b"%PDF-", "a PDF document", "export the data as CSV"),
    (b"Obj\x01", "an Avro file", "write it as Parquet"),
    (b"ORC", "an ORC file", "write it as Parquet"),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "decompress it, or compress it with gzip"),
    (b"\xfd7zXZ\0", "compressed with xz", "decompress it, or compress it with gzip"),
    (b"BZh91AY&SY", "compressed with bzip2", "decompress it, or compress it with gzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
)

_TEXT_ONLY_SIGNATURES = (b"ORC",)
"""Signatures with which a text file may begin: only a file with binary data in it is one."""

_WEB_PAGE = re.compile(r"\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_XML = re.compile(r"\s*<\?xml\b")
_JSON = re.compile(r"""\s*(?:\{\s*(?:"|\}|\Z)|\[\s*(?:[{\[\]"]|\Z))""")
_START_OF_LONG_LINE = 1_024
_PARQUET, _ZIP = b"PAR1", b"PK\x03\x04"


def open_source(
    path: Path | str | StandardInput,
    kind: str | None = None,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    sheet: str | int | None = None,
    max_bytes: int | None = None,
) -> Source:
    """The file as a stream of records. "-" is standard input; to read that twice, open a `StandardInput`.

    `kind` is one of `KINDS`; None goes by the content, and by the name where that does not decide. Data inside gzip or
    ZIP is read as if it were alone. `delimiter` is that of a CSV file (a character, or tab, semicolon, …), `encoding`
    that of a text file ("cp1252"), `sheet` the name or number from 1 of a workbook's sheet; None detects them.
    `max_bytes` bounds what is inside gzip or ZIP; None goes by the file's size.

    Raises `LoadError` for a file that does not exist, is empty, cannot be read or has none of these formats, and
    `ConfigurationError` for unknown options and those of another format.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigurationError(f"format: {kind!r} is none of {', '.join(KINDS)}")
    with ExitStack() as stack:
        if isinstance(path, str | Path) and Path(path) == STANDARD_INPUT:
            path = stack.enter_context(StandardInput())
        shown, file = (path.path, path.file) if isinstance(path, StandardInput) else (Path(path), Path(path))
        try:
            if file.is_dir():
                raise LoadError(f"{path_text(shown)}: is a directory; name the files in it")
            if not file.exists():
                raise LoadError(f"{path_text(shown)}: there is no such file")
            if not file.is_file():
                raise LoadError(
                    f"{path_text(shown)}: is not a file that can be read twice; save it as a file first, or pipe it"
                    " into -"
                )
            content = Content(shown, file=file, max_bytes=max_bytes)
            kind = _checked_kind(content, kind, encoding)
            _check_options(shown, kind, delimiter=delimiter, encoding=encoding, sheet=sheet)
            source = _opened(content, kind, stack, delimiter=delimiter, encoding=encoding, sheet=sheet)
        except OSError as error:
            raise LoadError(f"{path_text(shown)}: cannot be read: {error.strerror or error}") from error
        source.own(stack)
        return source


def likely_encoding(file: Path | StandardInput) -> str | None:
    """The likely encoding of a text file that is not UTF-8, "cp1252"; None for others, and for a file without data."""
    shown, path = (file.path, file.file) if isinstance(file, StandardInput) else (file, file)
    try:
        content = Content(shown, file=path)
        is_text = path.is_file() and not _binary_kind(content, None) and not is_binary(_start_text(content, "latin-1"))
        return not_utf_8(content.start) if is_text else None
    except (OSError, LoadError, ConfigurationError):
        return None  # the file is refused in words when it is opened


def _opened(
    content: Content,
    kind: str,
    stack: ExitStack,
    *,
    delimiter: str | None,
    encoding: str | None,
    sheet: str | int | None,
) -> Source:
    match kind:
        case "csv":
            return CsvSource(content, delimiter=delimiter, encoding=encoding)
        case "jsonl":
            return JsonLinesSource(content, encoding=encoding)
        case "json":
            return JsonSource(content, encoding=encoding)
        case "xlsx":
            from usage_explore.files.xlsx_source import XlsxSource

            return XlsxSource(content.path, sheet=sheet, file=content.on_disk(stack))
        case _:
            from usage_explore.files.parquet_source import ParquetSource  # pyarrow is slow to import

            return ParquetSource(content.path, file=content.on_disk(stack))


def _check_options(path: Path, kind: str, **options: str | int | None) -> None:
    """Raise `ConfigurationError` for an option that the format does not have."""
    formats = {"delimiter": ("csv",), "encoding": ("csv", "jsonl", "json"), "sheet": ("xlsx",)}
    for option, value in options.items():
        if value is not None and kind not in formats[option]:
            others = " or ".join(KINDS[format] for format in formats[option])
            raise ConfigurationError(
                f"{option}: {path_text(path)} is {KINDS[kind]}; --{option} is for {others}: leave it out"
            )


def _checked_kind(content: Content, kind: str | None, encoding: str | None) -> str:
    """The format of the content, or `kind` unless the content cannot be that. Raises `LoadError`."""
    binary = _binary_kind(content, kind)
    if kind is None:
        return binary or _text_kind(content, encoding)
    if binary and binary != kind:
        raise LoadError(
            f"{path_text(content.path)}: is {KINDS[binary]}, not {kind}; name it .{binary}, without --format"
        )
    if kind == "xlsx" and not binary:
        raise LoadError(f"{path_text(content.path)}: is not an Excel workbook (.xlsx); leave out --format")
    if kind in ("csv", "jsonl", "json"):
        _check_text(content, _start_text(content, encoding))
    return kind


def _binary_kind(content: Content, kind: str | None) -> str | None:
    """The format of a Parquet file or workbook; None for text. Raises `LoadError` for known formats that are neither.

    A CSV file may begin with a column named PAR1.
    """
    start, path = content.start, content.path
    if start.startswith(_PARQUET) and (kind == "parquet" or _ends_as_parquet(content) or b"\0" in start):
        return "parquet"
    if start.startswith(_ZIP):
        if not content.containers:
            return "xlsx"
        with ExitStack() as stack:
            with content.on_disk(stack).open("rb") as raw:
                members = directory(raw, path)
            if is_workbook(members, path):
                return "xlsx"
        raise LoadError(
            f"{path_text(path)}: has a ZIP file inside {' inside '.join(reversed(content.containers))}; unpack it"
        )
    for signature, name, fix in _SIGNATURES:
        if start.startswith(signature) and (signature not in _TEXT_ONLY_SIGNATURES or b"\0" in start):
            raise LoadError(f"{path_text(path)}: is {name}{f', not {kind}' if kind else ''}; {fix}")
    return None


def _ends_as_parquet(content: Content) -> bool:
    with ExitStack() as stack, content.on_disk(stack).open("rb") as file:
        file.seek(-4, 2)
        return file.read() == _PARQUET


def _start_text(content: Content, encoding: str | None) -> str:
    """The text at the start of the data; what is not text in its encoding becomes U+FFFD."""
    return content.start.decode(detect(content.start, encoding), "replace").removeprefix("\ufeff")


def _check_text(content: Content, text: str) -> None:
    """Raise `LoadError` for binary data and web pages."""
    if is_binary(text):
        raise LoadError(
            f"{path_text(content.path)}: has binary data in it, and is in no format that can be read:"
            f" {', '.join(KINDS)}"
        )
    if _WEB_PAGE.match(text):
        raise LoadError(
            f"{path_text(content.path)}: is a web page (HTML), perhaps the sign-in page of the site it comes"
            " from; download the"
            " file again"
        )
    if _XML.match(text):
        raise LoadError(f"{path_text(content.path)}: is an XML file; export the data as CSV or JSON")


def _text_kind(content: Content, encoding: str | None) -> str:
    text = _start_text(content, encoding)
    _check_text(content, text)
    name = content.path.name.lower()
    by_name = next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), None)
    if _JSON.match(text):
        return _json_kind(content, encoding, is_named_lines=by_name == "jsonl")
    return by_name if by_name in ("jsonl", "json") else "csv"


def _json_kind(content: Content, encoding: str | None, *, is_named_lines: bool) -> str:
    """JSON Lines where the first line is a whole object and more follow; the name decides where it is the only line."""
    with ExitStack() as stack:
        _, stream = content.open(stack)
        lines: Callable[[int], bytes] = as_utf_8(stream, detect(content.start, encoding)).readline
        try:
            first = _next_line(lines)
            opening, is_whole = first[:1], _is_whole(first)
            if opening == "[" and not is_named_lines:
                return "json"
            second = _next_line(lines)
        except (OSError, EOFError, ValueError):  # a damaged container; the reader says after which line
            return "jsonl" if is_named_lines else "json"
    if opening == "[":
        return "jsonl" if is_whole and second else "json"
    if is_whole:
        return "jsonl" if second or is_named_lines else "json"
    return "jsonl" if second.startswith("{") or (is_named_lines and not second) else "json"


def _next_line(read_line: Callable[[int], bytes]) -> str:
    """The next line that is not blank, without the space around it; "" at the end. Of a longer one, its beginning."""
    while line := read_line(MAX_ROW_BYTES):
        if len(line) == MAX_ROW_BYTES:
            line = line[:_START_OF_LONG_LINE]
        if text := line.decode(errors="replace").removeprefix("\ufeff").strip():
            return text
    return ""


def _is_whole(line: str) -> bool:
    try:
        return decode_at(line, 0, lenient=True)[1] == len(line)
    except (json.JSONDecodeError, RecursionError, ValueError):
        return False


STANDARD_INPUT = Path("-")
"""The path that means standard input."""


class StandardInput:
    """A private temporary file (mode 0600) with all of standard input, deleted by `close`.

    `open_source` takes it any number of times. Raises `LoadError` where there is no input, or the disk is nearly full.
    """

    path = Path("<stdin>")
    """Its name in messages."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._resources = ExitStack()
        stream = stream or (sys.stdin.buffer if sys.stdin else None)
        if stream is None or stream.isatty():
            raise LoadError(
                f"{path_text(self.path)}: is a terminal; pipe a file into it, like: cat usage.csv |"
                " usage-explore load -"
            )
        with self._resources:
            try:
                self.file = spooled(stream, self._resources, self.path)
            except OSError as error:
                raise LoadError(f"{path_text(self.path)}: cannot be copied: {error.strerror or error}") from error
            self._resources = self._resources.pop_all()

    def close(self) -> None:
        """Delete the file."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
