"""Text files in any encoding, which is detected from their first bytes, and JSON Lines files."""

from __future__ import annotations

import codecs
import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files.containers import READ_ERRORS, Content
from usage_explore.files.exact_json import loads
from usage_explore.files.sources import (
    MAX_ROW_BYTES,
    BlankRows,
    Record,
    Source,
    paths,
    too_many_keys,
)
from usage_explore.files.values import InvalidValue
from usage_explore.formatting import path_text

BLOCK_BYTES = 256 * 1024
"""Bytes of a CSV file that are read at once."""

SAVE_AS_UTF_8 = "; save the file as UTF-8"
NOT_UTF_8 = f"{SAVE_AS_UTF_8}, or name its encoding: --encoding cp1252 (Windows, Western Europe)"
"""What to do about text that is not UTF-8; the former where no encoding can be named."""

_SPACES = b" \t\n\r\v\f"


class TextSource(Source):
    """A file of text. `position` and `length` are bytes of the file on disk.

    `encoding` is one of `encodings.ENCODINGS`; None detects UTF-8 and UTF-16. Raises `ConfigurationError` for another.
    """

    def __init__(self, file: Path | Content, *, encoding: str | None = None) -> None:
        self.content = file if isinstance(file, Content) else Content(file)
        super().__init__(self.content.path)
        self.encoding = detect(self.content.start, encoding)
        self._is_encoding_named = encoding is not None
        self.length = self.content.length
        self.line_number = 0
        self._blank_lines = BlankRows(self.path, "blank lines")
        self._blank = _SPACES
        """The characters of a line without a value."""
        self._lines: deque[bytes] = deque()
        """Lines that were read ahead."""
        with ExitStack() as stack:
            self._raw, stream = self.content.open(stack)
            self._file = as_utf_8(stream, self.encoding)
            self.own(stack)

    @property
    def position(self) -> int:
        """Bytes of the file on disk that have been read."""
        return min(self._raw.tell(), self.length)

    @property
    def description(self) -> str:
        """The format in words."""
        return ", ".join([*self._format(), label(self.encoding or ""), *reversed(self.content.containers)])

    def _format(self) -> list[str]:
        raise NotImplementedError

    def _read_line(self) -> tuple[str, str | None]:
        """The next line with its ending and None, or the reason why it is not text; ("", None) at the end."""
        line = self._lines.popleft() if self._lines else self._read(lambda: self._file.readline(MAX_ROW_BYTES))
        return self._decoded(line) if line else ("", None)

    def _read_block(self) -> bytes:
        """The next lines, `BLOCK_BYTES` and up to the end of the last one; b"" at the end of the file."""
        return self._read(lambda: self._file.read(BLOCK_BYTES) + self._file.readline(MAX_ROW_BYTES))

    def _read(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except READ_ERRORS as error:
            after = f" after line {self.line_number:,}" if self.line_number else ""
            raise LoadError(f"{path_text(self.path)}: cannot be read{after}: {error}") from error

    def _decoded(self, line: bytes) -> tuple[str, str | None]:
        """The text of the next line and None, or the reason why it is not text."""
        self.line_number += 1
        if len(line) >= MAX_ROW_BYTES:
            raise LoadError(
                f"{path_text(self.path)}, line {self.line_number:,}: is longer than 16 MiB; is this a text file?"
            )
        if self.line_number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        self._blank_lines.see(not line.strip(self._blank), "line", self.line_number)
        try:
            return line.decode(), "has a NUL character" if b"\0" in line else None
        except UnicodeDecodeError as error:
            return line.decode(errors="replace"), self._not_text(error)

    def _not_text(self, error: UnicodeError) -> str:
        if self.encoding == "utf-8" and isinstance(error, UnicodeDecodeError):
            where = f": {error.reason} at byte {error.start + 1}"
            return f"is not UTF-8 text{where}{'' if self._is_encoding_named else NOT_UTF_8}"
        return f"is not {label(self.encoding or '')} text"


class JsonLinesSource(TextSource):
    """A JSON Lines file: one JSON object per line, blank lines skipped. Each line has its own columns."""

    kind = "jsonl"

    def __init__(self, file: Path | Content, *, encoding: str | None = None) -> None:
        super().__init__(file, encoding=encoding)
        self._blank += b"{}"

    def _format(self) -> list[str]:
        return ["JSON Lines"]

    def sample_names(self, rows: int = 100) -> tuple[str, ...]:
        """See `Source.sample_names`."""
        with JsonLinesSource(self.content, encoding=self.encoding) as again:
            return paths(record for _, record, _ in islice(again, rows) if record)

    def __iter__(self) -> Iterator[Record]:
        while (read := self._read_line())[0]:
            text, error = read
            if text.isspace():
                continue
            if error:
                yield self.line_number, None, error
                continue
            try:
                value = loads(text)
            except InvalidValue as invalid:
                yield self.line_number, None, str(invalid)
                continue
            if isinstance(value, dict):
                reason = too_many_keys(text, value)
                yield self.line_number, None if reason else value, reason
            else:
                yield self.line_number, None, "is JSON, but not an object; write one object per line"


ENCODINGS = (
    *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
    *(f"cp{number}" for number in (437, 850, 932, 949, 950, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)),
    *(f"iso8859-{number}" for number in (*range(1, 12), *range(13, 17))),
    *("mac-roman", "koi8-r", "koi8-u", "shift_jis", "euc_jp", "euc_kr", "gb18030", "big5"),
)
"""Encodings that can be named; "latin-1" and other aliases that Python knows mean one of these."""

_BYTE_ORDER_MARKS = (
    # first bytes -> encoding; UTF-32 before UTF-16, whose mark it begins with
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)

_BINARY = re.compile("[\0-\x08\x0e-\x19\x1b-\x1f]")
"""Control characters that text does not have; 1A ends files of old systems."""

_UTF_8_CHARACTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")

_READ_BYTES = 64 * 1024


def canonical(name: str) -> str:
    """The encoding's name in `ENCODINGS`. Raises `ConfigurationError` for another one."""
    try:
        known = codecs.lookup(name).name
    except (LookupError, ValueError):
        known = ""
    for encoding in ENCODINGS:
        if known == codecs.lookup(encoding).name:
            return encoding
    if known == "utf-8-sig":
        return "utf-8"
    raise ConfigurationError(
        f"encoding: {name!r} is none that text files have; name one of utf-8, utf-16, cp1252 (Windows, Western"
        " Europe), latin-1, cp1250, cp1251, shift_jis, gb18030, …"
    )


def detect(start: bytes, named: str | None = None) -> str:
    """The encoding of a text file by its first bytes: a byte order mark, or the NULs that UTF-16 has in ASCII text.

    Else it is UTF-8. `named` is the encoding that the user names. Raises `ConfigurationError` where a byte order mark
    says another.
    """
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if start.startswith(mark)), None)
    if named is not None:
        encoding = canonical(named)
        if marked and marked != encoding and not marked.startswith(f"{encoding}-"):
            raise ConfigurationError(
                f"encoding: the file begins with the byte order mark of {marked}, so it is not {encoding}; leave out"
                " --encoding"
            )
        return marked or encoding
    return marked or _utf_16(start) or "utf-8"


def _utf_16(start: bytes) -> str | None:
    """UTF-16 without a mark: more than a quarter of the bytes of one parity are NULs, none of the other."""
    even, odd = start[::2], start[1::2]
    for nulls, others, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if nulls.count(0) * 4 > len(nulls) and not others.count(0):
            return encoding
    return None


def not_utf_8(start: bytes) -> str | None:
    """The likely encoding of text that is not UTF-8, by its first bytes: "cp1252"; None for text that may be UTF-8.

    A damaged UTF-8 file, in which other characters are UTF-8, is none of cp1252.
    """
    is_cp1252 = not (_UTF_8_CHARACTER.search(start) or start.isascii() or detect(start) != "utf-8")
    try:
        return "cp1252" if is_cp1252 and start.decode("cp1252") else None
    except UnicodeDecodeError:
        return None


def label(encoding: str) -> str:
    """The encoding in a description: "UTF-16"."""
    return encoding.upper().removesuffix("-LE").removesuffix("-BE")


def is_binary(text: str) -> bool:
    """Whether decoded text has more control characters than the damaged rows of a text file: 2%, and more than 4."""
    return len(_BINARY.findall(text)) > max(4, len(text) // 50)


def as_utf_8(stream: BinaryIO, encoding: str) -> BinaryIO:
    """The stream in UTF-8. What the encoding does not allow becomes bytes that UTF-8 does not allow, in its line."""
    return stream if encoding == "utf-8" else io.BufferedReader(_Utf8(stream, encoding), _READ_BYTES)


class _Utf8(io.RawIOBase):
    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        errors = "surrogatepass" if encoding.startswith("utf") else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._pending = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._pending and not self._ended:
            part = self._stream.read(_READ_BYTES)
            self._ended = not part
            text = self._decoder.decode(part, self._ended)
            self._pending = memoryview(text.encode("utf-8", "surrogatepass"))
        count = min(len(target), len(self._pending))
        target[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count
