"""The bytes of a file without the gzip or ZIP container around them, and decoders: streamed in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from usage_explore.errors import LoadError
from usage_explore.files.values import quoted
from usage_explore.formatting import path_text

MAX_EXPANSION, MAX_BYTES_OF_SMALL_FILES = 1_000, 256 * 1024 * 1024
"""Decompressed or decoded bytes of a file: at most 1,000 times its size, and 256 MiB for small ones."""

MAX_ZIP_DIRECTORY_BYTES = 1024 * 1024
"""Bytes of the directory of a ZIP file, which is held in memory: about 10,000 members."""

MAX_CONTAINERS = 2
"""Containers around the data: gzip inside ZIP, as usage.csv.gz in usage.zip."""

MIN_FREE_BYTES = 256 * 1024 * 1024
"""Bytes of the disk that temporary files leave free."""

START_BYTES = 256 * 1024
"""Bytes at the start of the data from which format, encoding and delimiter are detected."""

READ_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeError)
"""What reading a damaged container, or text in another encoding, raises."""

_COPIED_BYTES = 1024 * 1024
_LISTED_MEMBERS = 10
_LINES = (".jsonl", ".ndjson")
"""Ends of the names of files that may have no byte: no line is no record."""

_GZIP, _ZIP, _EMPTY_ZIP = b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06"


def max_decoded_bytes(file_bytes: int) -> int:
    """Bytes that a file of this size may have once decompressed or decoded."""
    return max(MAX_BYTES_OF_SMALL_FILES, MAX_EXPANSION * file_bytes)


def start_decoder(script: str, request: Mapping[str, object]) -> Any:
    """Start one of our decoders in our own Python, in a process that loads nothing else of the package.

    Returns the `Popen` with pipes for output and errors, after the request was written.
    """
    process: Any = subprocess.Popen(  # noqa: S603 - our own script in our own Python
        [sys.executable, "-I", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
    except BaseException:
        with process:  # closes its pipes and waits for it
            process.kill()
        raise
    return process


class Content:
    """The data in a file, which can be read from its start several times.

    `path` is the file's name in messages, `containers` what is around the data ("gzip", "ZIP"), from the outside, and
    `max_bytes` the most that it may have once decompressed.
    Raises `LoadError` for a ZIP file without exactly one member.
    """

    def __init__(self, path: Path, *, file: Path | None = None, max_bytes: int | None = None) -> None:
        self.path = path
        self._file = file or path
        self.length = self._file.stat().st_size
        self._max_bytes = max_bytes or max_decoded_bytes(self.length)
        self.containers: tuple[str, ...] = ()
        self._member: zipfile.ZipInfo | None = None
        if not self.length and not path.name.lower().endswith(_LINES):
            raise LoadError(f"{path_text(path)}: is empty")
        if self.start.startswith((_ZIP, _EMPTY_ZIP)) and not self._is_spreadsheet():
            self._member = self._only_member()
            self._inside("ZIP")
        while self.start.startswith(_GZIP):
            if len(self.containers) == MAX_CONTAINERS:
                raise LoadError(f"{path_text(path)}: is compressed more than twice; decompress it")
            self._inside("gzip")

    def _inside(self, container: str) -> None:
        self.containers += (container,)
        del self.start

    @cached_property
    def start(self) -> bytes:
        """The first bytes of the data; fewer where a damaged container ends before."""
        read = bytearray()
        with self.opened() as (_, stream):
            try:
                while len(read) < START_BYTES and (part := stream.read(min(8_192, START_BYTES - len(read)))):
                    read += part
            except READ_ERRORS:
                pass  # the reader of the rows says after which line
        return bytes(read)

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """See `open`; both are closed at the end."""
        with ExitStack() as stack:
            yield self.open(stack)

    def open(self, stack: ExitStack) -> tuple[BinaryIO, BinaryIO]:
        """The file on disk, whose position says how much has been read, and the data. Closed with `stack`."""
        raw = stack.enter_context(self._file.open("rb"))
        stream: BinaryIO = raw
        for container in self.containers:
            if container == "ZIP":
                stream = stack.enter_context(self._open_member(stack, raw))
            else:
                stream = cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=stream, mode="rb")))
        if self.containers:
            bounded = _Bounded(stream, self._max_bytes, self.path)
            stream = stack.enter_context(io.BufferedReader(bounded, 1 << 16))
        return raw, stream

    def on_disk(self, stack: ExitStack) -> Path:
        """A file with the data, for readers that need one: a temporary file, deleted with `stack`, of data in a
        container.
        """
        if not self.containers:
            return self._file
        with self.opened() as (_, stream):
            try:
                return spooled(stream, stack, self.path)
            except READ_ERRORS as error:
                raise LoadError(f"{path_text(self.path)}: cannot be decompressed: {error}") from error

    def _is_spreadsheet(self) -> bool:
        """Whether this is an Excel workbook. Raises `LoadError` for spreadsheets in other formats."""
        return is_workbook(self._directory(), self.path)

    def _directory(self) -> list[zipfile.ZipInfo]:
        with self._file.open("rb") as raw:
            return directory(raw, self.path)

    def _only_member(self) -> zipfile.ZipInfo:
        members = [member for member in self._directory() if _is_data(member)]
        if len(members) != 1:
            names = ", ".join(quoted(member.filename) for member in members[:_LISTED_MEMBERS])
            more = f" and {len(members) - _LISTED_MEMBERS:,} more" if len(members) > _LISTED_MEMBERS else ""
            raise LoadError(
                f"{path_text(self.path)}: has {len(members):,} files in it ({names}{more}); unpack it, and name"
                " them one by one"
                if members
                else f"{path_text(self.path)}: is a ZIP file without a file in it"
            )
        (member,) = members
        if member.flag_bits & 1:
            raise LoadError(f"{path_text(self.path)}: is protected with a password; unpack it first")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise LoadError(
                f"{path_text(self.path)}: {quoted(member.filename)} is compressed by method"
                f" {member.compress_type}, which cannot"
                " be read; unpack it first"
            )
        return member

    def _open_member(self, stack: ExitStack, raw: BinaryIO) -> Any:
        try:
            archive = stack.enter_context(zipfile.ZipFile(raw))
            return archive.open(cast("zipfile.ZipInfo", self._member))
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise LoadError(f"{path_text(self.path)}: is a damaged ZIP file: {error}") from error


class _Bounded(io.RawIOBase):
    """A stream that raises `LoadError` after `max_bytes`."""

    def __init__(self, stream: BinaryIO, max_bytes: int, path: Path) -> None:
        self._stream, self._max_bytes, self._path = stream, max_bytes, path
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        part = self._stream.read(len(target))
        self._read += len(part)
        if self._read > self._max_bytes:
            raise LoadError(
                f"{path_text(self._path)}: has more than {self._max_bytes:,} bytes once decompressed, too many"
                " for the size of"
                " the file; is this an export? Decompress it first"
            )
        target[: len(part)] = part
        return len(part)


def directory(raw: IO[bytes], path: Path) -> list[zipfile.ZipInfo]:
    """The members of a ZIP file. Raises `LoadError` for a damaged one, or one whose directory is too large."""
    try:
        end = zipfile._EndRecData(raw)  # type: ignore[attr-defined]  # before the whole directory is read
        if end and end[5] > MAX_ZIP_DIRECTORY_BYTES:
            raise LoadError(f"{path_text(path)}: has too many files in it; unpack it, and name them one by one")
        with zipfile.ZipFile(raw) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise LoadError(f"{path_text(path)}: is a damaged ZIP file: {error}; was it copied completely?") from error


def is_workbook(members: list[zipfile.ZipInfo], path: Path) -> bool:
    """Whether a ZIP file is an Excel workbook. Raises `LoadError` for spreadsheets in other formats."""
    names = {member.filename for member in members}
    if "xl/workbook.bin" in names:
        raise LoadError(f"{path_text(path)}: is a binary Excel workbook (.xlsb); save it as .xlsx or CSV")
    if "content.xml" in names and "mimetype" in names:
        raise LoadError(f"{path_text(path)}: is an OpenDocument file; save it as .xlsx or CSV")
    return "[Content_Types].xml" in names and any(name.startswith("xl/") for name in names)


def _is_data(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a file, and none that macOS adds."""
    name = member.filename.rpartition("/")[2]
    return not (
        member.is_dir() or member.filename.startswith("__MACOSX/") or name.startswith("._") or name == ".DS_Store"
    )


def spooled(stream: IO[bytes], stack: ExitStack, path: Path) -> Path:
    """A private temporary file with the stream's bytes, deleted with `stack`. Raises `LoadError` on a full disk."""
    file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="usage-explore-"))  # noqa: SIM115 - mode 0600
    name = Path(file.name)
    while part := stream.read(_COPIED_BYTES):
        free = shutil.disk_usage(name.parent).free
        if free < MIN_FREE_BYTES + len(part):
            raise LoadError(
                f"{path_text(path)}: there is too little space for a temporary copy in {path_text(name.parent)}"
                f" ({free:,} bytes free); make room there, or set TMPDIR to another directory"
            )
        file.write(part)
    file.flush()
    return name
