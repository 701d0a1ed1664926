"""The manifest of an extract: which immutable Parquet files hold which rows, and how they are laid out.

A folder holds one organization's events of one table as one database role sees them. `manifest.json` is replaced as a
whole by a rename; the files that it names are complete before, and never change. A reader keeps the manifest that it
has read: files that a newer one no longer names are removed only after `GRACE`. What the manifest says of removed
events no later one could find out: if it says something, `removed.json` is a manifest of that alone, for when the first
is lost.

A segment is one file of rows sorted by `ts`, with these columns (times are microseconds since 1970, UTC):

    id, customer_id, product_id, subscription_id   UUID
    metric_key, price_key, idempotency_key, external_cost_currency, wallet_currency   VARCHAR
    quantity, external_cost_amount                 DECIMAL, see `Layout`
    ts, ing                                        BIGINT: `timestamp` and `ingested_at`
    slot                                           INTEGER: 15-minute slots since 1970 of `timestamp`
    d0, d1, …                                      VARCHAR: the dimension of `Layout.dimensions` at that position, as
                                                   PostgreSQL's `->>` gives it
    rare                                           VARCHAR: JSON object of the texts of all other dimension keys, NULL
                                                   without any
    dimensions                                     VARCHAR: the whole document, as PostgreSQL's jsonb prints it

A segment's summaries are further files: a row per unit of time (15 minutes, an hour or a day, UTC) and combination of
values of some columns, with `time` INTEGER (units since 1970), these columns, `events` BIGINT, `quantity`
DECIMAL(38, s) (their exact sum), `costed` BIGINT (events that have a cost), `costed_quantity` and
`external_cost_amount` DECIMAL(38, s) (their sums).
"""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

VERSION = 2
NAME, REMOVED = "manifest.json", "removed.json"

_MAX_BYTES = 256_000_000
"""Bytes of a manifest up to which it is read, many times what a large extract has; a larger one is damaged."""

_YEARS = range(1970, 2201)
"""Years that events may be of, and so the boundary of those removed."""

GRACE = timedelta(minutes=15)
"""Time that a file stays after the manifest no longer names it, for readers of the manifest before."""

SLOT, HOUR, DAY = 900_000_000, 3_600_000_000, 86_400_000_000
"""Microseconds of the 15-minute slots of a segment, and of the hours and days of summaries."""

IDS = ("id", "customer_id", "product_id", "subscription_id")
TEXTS = ("metric_key", "price_key", "idempotency_key", "external_cost_currency", "wallet_currency")
"""Columns of a segment that are UUID, and those that are VARCHAR beside the dimensions."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of a segment that the data decide. Segments of the same layout are read by one scan.

    `dimensions` are the keys with a column of their own; `quantity` and `cost` the (precision, scale) of the decimals.
    """

    dimensions: tuple[str, ...]
    quantity: tuple[int, int]
    cost: tuple[int, int]

    def column(self, group: str) -> str | None:
        """The column of a group such as `customer_id` or `dim:model`; None for a key that has none of its own.

        >>> Layout(dimensions=("model",), quantity=(18, 2), cost=(18, 4)).column("dim:model")
        'd0'
        """
        if not group.startswith("dim:"):
            return group
        key = group.removeprefix("dim:")
        return f"d{self.dimensions.index(key)}" if key in self.dimensions else None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of the folder: its name, size in bytes, and the CRC-32 of its content."""

    name: str
    bytes: int
    crc: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Sums of a segment's rows by time, in units of `unit` microseconds, and the values of `columns`."""

    file: File
    unit: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Rows in one file. Times are inclusive bounds in microseconds; `keys` are all dimension keys of its rows."""

    rows: File
    summaries: tuple[Summary, ...]
    layout: Layout
    first: int
    last: int
    first_ingested: int
    last_ingested: int
    keys: tuple[str, ...]

    @property
    def files(self) -> tuple[File, ...]:
        """The file of its rows and those of its summaries."""
        return (self.rows, *(summary.file for summary in self.summaries))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the extract holds: every event ingested before `watermark`, in any order of segments.

    `relation` is the table's oid, so that a table made anew is noticed. `unfit` says why the organization is answered
    from the events, blank if it is not. `refreshed` is the database's clock at the last refresh; `removed_before` the
    start of the events that the table still has, where a refresh found `removed_rows` older ones removed: the end of
    the last one's UTC day, or the first event that was left. `removed_rows` is 0 where both files that knew it were
    damaged: all events before the first one are then taken for removed. `fingerprint` is that of what decided which
    rows were read, see `visibility`, and `transaction` the database's next one then (0 on a replica), of which an
    earlier database has not seen all.
    """

    organization_id: UUID
    table: str
    relation: int
    watermark: int | None
    refreshed: int
    segments: tuple[Segment, ...] = ()
    removed_before: int | None = None
    removed_rows: int = 0
    unfit: str = ""
    fingerprint: str = ""
    transaction: int = 0

    @property
    def rows(self) -> int:
        """The number of events."""
        return sum(segment.rows.rows for segment in self.segments)

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for segment in self.segments for file in segment.files)

    @property
    def removed_words(self) -> str:
        """Which events were removed, and whether that is certain; "" if none are known to be."""
        if self.removed_before is None:
            return ""
        since = f"{instant(self.removed_before):%Y-%m-%d %H:%M} UTC"
        if self.removed_rows:
            return f"events before {since} are no longer in the table"
        return f"events before {since} are taken for removed, perhaps also later ones were: {REMOVED} was damaged"


def json_pointer(key: str) -> str:
    """The place of a key in the JSON of rare dimensions, as RFC 6901 writes it.

    >>> json_pointer("a/b")
    '/a~1b'
    """
    return "/" + key.replace("~", "~0").replace("/", "~1")


def micros(instant: datetime) -> int:
    """Microseconds since 1970.

    >>> micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds  # faster than a division


def instant(microseconds: int) -> datetime:
    """The time of microseconds since 1970, in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def with_checksum(document: dict[str, Any]) -> bytes:
    """A document as JSON with the checksum of the rest, so that no changed digit of it is believed."""
    return json.dumps({**document, "checksum": _checksum(document)}).encode("ascii")


def checked(text: bytes, *, required: bool = False) -> Any:
    """What `with_checksum` made, or an older document without a checksum, which may be `required`.

    Raises `ValueError` if it is damaged, `TypeError` if it is no JSON object.
    """
    try:
        document = _mapping(json.loads(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if (required or "checksum" in document) and document.pop("checksum", None) != _checksum(document):
        raise ValueError("the checksum differs")
    return document


def _checksum(document: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(document).encode("ascii"))


def read(folder: Path, name: str = NAME) -> Manifest | None:
    """The manifest of the folder; None if there is none, it is damaged, of another version or of another folder."""
    try:
        file = folder / name
        if not file.is_file() or file.stat().st_size > _MAX_BYTES:  # reading a pipe would wait for its writer
            return None
        document = checked(file.read_bytes(), required=name == REMOVED)
        if document.pop("version") != VERSION or document["organization_id"] != folder.name:
            return None
        if document.pop("source", folder.parent.name) != folder.parent.name:
            return None
        segments = tuple(_segment(entry) for entry in document.pop("segments"))
        held = Manifest(organization_id=UUID(document.pop("organization_id")), segments=segments, **document)
        return held if held.removed_before is None or instant(held.removed_before).year in _YEARS else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def is_unreadable(folder: Path, name: str = NAME) -> bool:
    """Whether there is a manifest that `read` cannot give: damaged, of another version, folder or user."""
    try:
        os.lstat(folder / name)
        return read(folder, name) is None
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return name == NAME  # of a folder of another user nothing is known, nor that events were removed


def unreadable(folder: Path) -> list[str]:
    """Which files `read` cannot give, and the effect: `damaged, or of another folder, version or user: manifest.json`.

    A damaged `removed.json` beside a manifest is written anew by the next refresh.
    """
    said = []
    if is_unreadable(folder):
        said.append(f"damaged, or of another folder, version or user: {NAME}")
    if is_unreadable(folder, REMOVED):
        effect = "" if read(folder) else ", so all events before the first one are taken for removed"
        said.append(f"damaged{effect}: {REMOVED}")
    return said


def removal(folder: Path, relation: int) -> Manifest | None:
    """A manifest, perhaps without segments, that says what is known of events removed from a table; None if nothing is.

    If the file of that is damaged too, all events before the table's first one are taken for removed: there was a time.
    """
    held = read(folder) or read(folder, REMOVED)
    if held is None and is_unreadable(folder, REMOVED):
        organization_id = UUID(folder.name)
        held = Manifest(
            organization_id=organization_id, table="", relation=relation, watermark=None, refreshed=0, removed_before=0
        )
    return held if held is not None and held.relation == relation else None


def write(folder: Path, manifest: Manifest) -> None:
    """Replace the folder's manifest, and before it that of what was removed."""
    keep_removal(folder, manifest)
    replace(folder / NAME, _document(folder, manifest))


def keep_removal(folder: Path, manifest: Manifest) -> None:
    """Write what the manifest says of removed events to their file, if that is not there; remove it without any."""
    known = read(folder, REMOVED)
    if manifest.removed_before is None:
        (folder / REMOVED).unlink(missing_ok=True)
    elif known is None or _removal_of(known) != _removal_of(manifest):
        alone = dataclasses.replace(manifest, segments=(), watermark=None, unfit="")
        replace(folder / REMOVED, _document(folder, alone))


def _removal_of(manifest: Manifest) -> tuple[object, ...]:
    return manifest.relation, manifest.removed_before, manifest.removed_rows


def _document(folder: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "version": VERSION,
        "source": folder.parent.name,
        **dataclasses.asdict(manifest),
        "organization_id": str(manifest.organization_id),
    }


def replace(path: Path, document: dict[str, Any]) -> None:
    """Write a document with its checksum by a rename, so that no half of it is ever read; on disk when this returns."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(with_checksum(document))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make a rename in the folder durable."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _segment(entry: dict[str, object]) -> Segment:
    layout = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in _mapping(entry.pop("layout")).items()
    }
    summaries = []
    for given in entry.pop("summaries"):  # type: ignore[attr-defined]
        summary = _mapping(given)
        file, columns = File(**_mapping(summary.pop("file"))), tuple(summary.pop("columns"))
        summaries.append(Summary(file=file, columns=columns, **summary))
    return Segment(
        rows=File(**_mapping(entry.pop("rows"))),
        summaries=tuple(summaries),
        layout=Layout(**layout),
        keys=tuple(entry.pop("keys")),  # type: ignore[arg-type]
        **entry,  # type: ignore[arg-type]
    )


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value
