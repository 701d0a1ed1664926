"""Segments as files: written, merged, filtered and counted by a DuckDB of the writer's own, in bounded memory.

Rows come from a relation with the columns of a segment but `slot`; decimals and ids may be texts. Nothing is rounded: a
decimal column is as wide as its values need, and what no width holds raises `Unfit`.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path

import duckdb

from usage_explore.extract.connection import ExtractError, Resources, Unfit, connect, fetched, parquet, quoted
from usage_explore.extract.folder import described, errors, not_written, temporary
from usage_explore.extract.key_columns import chosen_columns, keys_of, with_columns
from usage_explore.extract.manifest import DAY, HOUR, IDS, SLOT, TEXTS, Layout, Segment, Summary
from usage_explore.formatting import path_text

MAX_SEGMENT_ROWS = 1_000_000
"""Rows that segments may have after they are merged."""

MIN_SUMMARY_ROWS = 20_000
"""Rows of a segment from which it chooses summaries; a summary of as many rows at most is kept."""

MIN_KNOWN_ROWS = 1_000
"""Rows of a segment from which it has the summaries of another one, so that queries need no scan for its rows."""

MAX_SUMMARY_SHARE = 0.25
"""Rows of a summary of many columns per row of its segment, at most."""

MAX_HOURS_SHARE = 0.1
"""The same of a summary by the hour: zones and buckets that need hours are served by few rows."""

MAX_DIMENSIONS_SHARE = 0.25
"""Rows of a summary of dimensions alone per row of the one by the day that has further columns, at most."""

MAX_COLUMN_SHARE = 0.15
"""The same of a summary of one column of many values."""

MAX_CUSTOMERS_SHARE = 0.35
"""The same of the summary by customer, of which a query about one customer reads a small part."""

MAX_KEPT_SHARE = 0.5
"""The same of a summary whose columns another segment chose."""

SUMMARY_ROW_GROUP = 10_240
"""Rows of a summary that are read or skipped together."""


MAX_MEMORY = 400_000_000
"""Bytes of memory that a writer takes, however much it may: sorting a segment needs no more, or spills."""

CODEC = "lz4_raw"
"""Compression. For generated events zstd takes 45 bytes in place of 54, and its scans 1.4 times the time."""

SUMMARY_CODEC = "zstd"
"""Compression of summaries, which have few rows: three quarters of the bytes. Level 9: 4 % less, for 29 % more CPU."""

_SCALES = (0, 2, 4, 6, 9, 12, 18, 24, 30)
"""Decimal places of columns, so that few layouts arise."""

_MAX_DIGITS, _NARROW_DIGITS = 38, 18

_SUMMARIZED = (
    *("customer_id", "product_id", "subscription_id"),
    *("price_key", "external_cost_currency", "wallet_currency"),
)
"""Columns that a summary may have beside `metric_key` and the dimensions."""

_Shape = tuple[int, tuple[str, ...]]
"""The unit and the columns of a summary, in the order of its rows."""


_SIGNS_OF_A_FULL_DISK = ("No space left on device", "Disk quota exceeded", "'max_temp_directory_size' setting")
"""In errors of DuckDB; the last is of spilling, for which DuckDB takes the free space of the disk."""

_NESTED_MESSAGE = re.compile(r'"exception_message":"((?:[^"\\]|\\.)*)"')
"""The message in the JSON that DuckDB's errors of writing in the background hold."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts and exact sums of some events; a sum is None without values."""

    events: int
    quantity: Decimal | None
    costed: int
    cost: Decimal | None


@contextmanager
def engine(folder: Path, resources: Resources) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that sees this folder only; what does not fit into its memory is in `folder.temporary`.

    Raises `ExtractError` when the disk is full or the memory too small.
    """
    limited = Resources(memory=min(resources.memory, MAX_MEMORY), threads=resources.threads)
    connection = connect(folder, limited, temporary(folder))
    try:
        with errors(folder):
            yield connection
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        text = " ".join(str(error).split())
        if any(sign in text for sign in _SIGNS_OF_A_FULL_DISK):
            raise not_written(folder, "the disk is full") from error
        if isinstance(error, duckdb.OutOfMemoryException):
            fix = "let it have more memory (USAGE_EXPLORE_EXTRACT_MEMORY)"
            raise not_written(folder, "the memory is too small", fix=fix) from error
        nested = _NESTED_MESSAGE.search(text)
        raise not_written(folder, nested[1].replace('\\"', '"') if nested else text) from error
    finally:
        connection.close()


def write(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    relation: str,
    keys: Sequence[str],
    known: Sequence[Segment],
    wanted: Sequence[str] = (),
) -> Segment | None:
    """Write the rows of a relation as a segment with its summaries; None if there are none.

    `keys` are the dimensions with a column in the relation, with which `wanted`, those of the segment, begins. Further
    keys that are frequent in these rows get a column, too. `known` are other segments, newest first: their layouts and
    summaries are used where they fit. Raises `Unfit`.
    """
    rows, first, last, first_ingested, last_ingested = fetched(
        connection, f"SELECT count(*), min(ts), max(ts), min(ing), max(ing) FROM {relation}"
    )
    if not rows:
        return None
    columns = chosen_columns(connection, relation, [*keys, *wanted[len(keys) :]], rows)
    relation, keys = with_columns(relation, keys, columns), columns
    quantity = _widths(connection, relation, "quantity", [other.layout.quantity for other in known])
    cost = _widths(connection, relation, "external_cost_amount", [other.layout.cost for other in known])
    ids = ", ".join(f"{name}::UUID AS {name}" for name in IDS)
    dimensions = "".join(f"d{number}, " for number in range(len(keys)))
    name = secrets.token_hex(8)
    path = folder / f"{name}.parquet"
    try:
        _copy(
            connection,
            f"SELECT {ids}, {', '.join(TEXTS)}, quantity::DECIMAL{quantity} AS quantity,"
            f" external_cost_amount::DECIMAL{cost} AS external_cost_amount, ts, ing,"
            f" (ts // {SLOT})::INTEGER AS slot, {dimensions}rare, dimensions FROM {relation} ORDER BY ts",
            path,
            rows,
        )
        return Segment(
            rows=described(path, rows),
            summaries=tuple(
                _write_summaries(
                    connection,
                    folder,
                    name,
                    len(keys),
                    rows,
                    [other for other in known if other.layout.dimensions == tuple(keys)],
                )
            ),
            layout=Layout(dimensions=tuple(keys), quantity=quantity, cost=cost),
            first=first,
            last=last,
            first_ingested=first_ingested,
            last_ingested=last_ingested,
            keys=keys_of(connection, parquet(folder, [path.name]), keys),
        )
    except BaseException:
        for written in folder.glob(f"{name}*.parquet"):
            written.unlink(missing_ok=True)
        raise


def _write_summaries(
    connection: duckdb.DuckDBPyConnection, folder: Path, name: str, dimensions: int, rows: int, known: Sequence[Segment]
) -> Iterator[Summary]:
    """Write the summaries of the segment `name`, none for a small one.

    Their columns are those of the nearest known segment of at least half as many rows, so that few refreshes choose.
    """
    relation = parquet(folder, [f"{name}.parquet"])
    before = next((other.summaries for other in known if other.summaries and other.rows.rows >= rows // 2), ())
    if rows < (MIN_KNOWN_ROWS if before else MIN_SUMMARY_ROWS):
        return
    shapes = [(summary.unit, summary.columns) for summary in before] or _choose(connection, relation, dimensions, rows)
    for number, (unit, columns) in enumerate(shapes):
        path = folder / f"{name}-{number}.parquet"
        listed = ", ".join(columns)
        ordered = f"time, {listed}" if columns[0] == "metric_key" else f"{columns[0]}, time"
        with suppress(duckdb.OutOfRangeException):  # a sum of more than 38 digits
            lines = _copy(
                connection,
                f"SELECT (slot // {unit // SLOT})::INTEGER AS time, {listed}, count(*) AS events,"
                " sum(quantity) AS quantity, count(external_cost_amount) AS costed,"
                " sum(quantity) FILTER (external_cost_amount IS NOT NULL) AS costed_quantity,"
                f" sum(external_cost_amount) AS external_cost_amount FROM {relation} GROUP BY ALL ORDER BY {ordered}",
                path,
                row_group=SUMMARY_ROW_GROUP,
                codec=SUMMARY_CODEC,
            )
            if lines <= max(rows * MAX_KEPT_SHARE, MIN_SUMMARY_ROWS):
                yield Summary(file=described(path, lines), unit=unit, columns=columns)
                continue
        path.unlink(missing_ok=True)


def merged(
    connection: duckdb.DuckDBPyConnection, folder: Path, chosen: Sequence[Segment], known: Sequence[Segment]
) -> Segment | None:
    """One segment with the rows of several, whose columns of dimensions are the first ones of the longest's.

    Raises `Unfit`, `ExtractError`.
    """
    dimensions = max((segment.layout.dimensions for segment in chosen), key=len)
    relations = [
        with_columns(files, layout.dimensions, dimensions) for layout, files in _by_layout(folder, chosen).items()
    ]
    exact = ", ".join(f"{decimal_text(name)} AS {name}" for name in ("quantity", "external_cost_amount"))
    parts = " UNION ALL BY NAME ".join(f"SELECT * REPLACE ({exact}) FROM {relation}" for relation in relations)
    relation = relations[0] if len(relations) == 1 else f"({parts})"
    one = write(connection, folder, relation, dimensions, [*chosen, *known])
    after = totals(connection, folder, [one] if one else [], "0")
    if after != totals(connection, folder, chosen, "0"):
        raise ExtractError(
            f"{path_text(folder)}: merging changed the sums of {len(chosen)} segments; they stay as they are"
        )
    return one


def without(
    connection: duckdb.DuckDBPyConnection, folder: Path, segment: Segment, condition: str, known: Sequence[Segment]
) -> Segment | None:
    """The segment without the rows that pass an SQL condition: the same one if there are none, None if none is left."""
    relation = parquet(folder, [segment.rows.name])
    (removed,) = fetched(connection, f"SELECT count(*) FROM {relation} WHERE {condition}")
    if not removed:
        return segment
    rest = f"(SELECT * FROM {relation} WHERE NOT ({condition}))"
    return write(connection, folder, rest, segment.layout.dimensions, known)


def totals(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    segments: Sequence[Segment],
    key: str,
    condition: str = "true",
) -> dict[int, Totals]:
    """The totals of the rows that pass a condition by an integer expression of `ts` and `ing`."""
    found: dict[int, Totals] = {}
    for relation in _by_layout(folder, segments).values():
        for number, events, quantity, costed, cost in _totals(connection, relation, key, condition):
            before = found.get(number)
            if before is not None:
                events, costed = events + before.events, costed + before.costed
                quantity, cost = _add(quantity, before.quantity), _add(cost, before.cost)
            found[number] = Totals(events=events, quantity=quantity, costed=costed, cost=cost)
    return found


def contents(
    connection: duckdb.DuckDBPyConnection, folder: Path, segments: Sequence[Segment], key: str
) -> dict[int, int]:
    """Checksums as of `build.Events.contents`, by an integer expression of `ts` and `ing`."""
    texts = [f"coalesce({name}::VARCHAR, chr(1))" for name in (*IDS, *TEXTS, "ts", "ing", "dimensions")]
    found: Counter[int] = Counter()
    for relation in _by_layout(folder, segments).values():
        for number, content in connection.execute(
            f"SELECT {key}, sum(('0x' || left(md5(concat_ws(chr(2), {', '.join(texts)})), 8))::UINTEGER)"
            f" FROM {relation} GROUP BY 1"
        ).fetchall():
            found[number] += int(content)
    return dict(found)


def first_of(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    segments: Sequence[Segment],
    events: Iterable[Mapping[str, int]],
) -> int | None:
    """The time of the first of the events that segments have, else None; `events` are times by id, in their order."""
    for times in events:
        since, until = min(times.values()), max(times.values())
        chosen = [segment for segment in segments if segment.first <= until and since <= segment.last]
        found: list[int] = []
        for relation in _by_layout(folder, chosen).values():
            rows = connection.execute(
                f"SELECT id::VARCHAR, ts FROM {relation} WHERE ts BETWEEN ? AND ?"
                " AND id::VARCHAR IN (SELECT unnest(?))",
                [since, until, list(times)],
            ).fetchall()
            found += [time for name, time in rows if times[name] == time]
        if found:
            return min(found)
    return None


def _by_layout(folder: Path, segments: Sequence[Segment]) -> dict[Layout, str]:
    """The SQL of reading segments, for each layout.

    DuckDB rounds silently to the width of the first file, and in a UNION to a scale that leaves room for 38 digits.
    """
    names: dict[Layout, list[str]] = {}
    for segment in segments:
        names.setdefault(segment.layout, []).append(segment.rows.name)
    return {layout: parquet(folder, group) for layout, group in names.items()}


def _totals(
    connection: duckdb.DuckDBPyConnection, relation: str, key: str, condition: str
) -> list[tuple[int, int, Decimal | None, int, Decimal | None]]:
    rows = f"FROM {relation} WHERE {condition}"
    try:
        return connection.execute(
            f"SELECT {key}, count(*), sum(quantity), count(external_cost_amount), sum(external_cost_amount) {rows}"
            " GROUP BY 1"
        ).fetchall()
    except duckdb.OutOfRangeException:  # a sum of more than 38 digits
        lines = connection.execute(
            f"SELECT {key}, count(*), quantity, count(external_cost_amount), external_cost_amount {rows}"
            " GROUP BY 1, 3, 5"
        ).fetchall()
    found: dict[int, tuple[int, Decimal | None, int, Decimal | None]] = {}
    for number, events, quantity, costed, cost in lines:
        sums = found.get(number, (0, None, 0, None))
        found[number] = (
            sums[0] + events,
            _add(sums[1], _times(quantity, events)),
            sums[2] + costed,
            _add(sums[3], _times(cost, costed)),
        )
    return [(number, *sums) for number, sums in found.items()]


def _times(value: Decimal | None, number: int) -> Decimal | None:
    with localcontext(prec=100):
        return None if value is None else value * number


def _add(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    with localcontext(prec=100):
        return other if one is None else one if other is None else one + other


def _copy(
    connection: duckdb.DuckDBPyConnection,
    select: str,
    path: Path,
    rows: int | None = None,
    *,
    row_group: int = 122_880,
    codec: str = CODEC,
) -> int:
    """Write the rows of a statement to a file, and count them there. Raises `ExtractError` if some are missing."""
    try:
        connection.execute(
            f"COPY ({select}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION {codec}, PARQUET_VERSION v2,"
            f" ROW_GROUP_SIZE {row_group}, USE_TMP_FILE false)"
        )
    except duckdb.ConversionException as error:
        raise Unfit(f"a value does not fit: {' '.join(str(error).split())}; correct it in the events") from None
    if os.name == "posix":
        path.chmod(0o600)
    (written,) = fetched(connection, f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({quoted(str(path))})")
    if rows is not None and written != rows:
        raise ExtractError(f"{path_text(path)}: {written:,} rows were written in place of {rows:,}; run it again")
    return int(written)


def _widths(
    connection: duckdb.DuckDBPyConnection, relation: str, column: str, known: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """The precision and scale of a decimal column, that of another segment where it fits. Raises `Unfit`."""
    kind = fetched(connection, f"SELECT any_value(typeof({column})) FROM {relation}")[0] or "VARCHAR"
    if kind.startswith("DECIMAL"):
        scale = int(kind.removeprefix("DECIMAL(").rstrip(")").split(",")[1])
        (whole,) = fetched(
            connection,
            f"SELECT coalesce(length(ltrim(split_part(max(abs({column}))::VARCHAR, '.', 1), '0')), 0) FROM {relation}",
        )
    else:
        plain, whole, scale = fetched(
            connection,
            f"SELECT coalesce(bool_and(regexp_full_match({column}, '-?[0-9]+([.][0-9]+)?')), true),"
            f" coalesce(max(length(ltrim(split_part(ltrim({column}, '-'), '.', 1), '0'))), 0),"
            f" coalesce(max(length(rtrim(split_part({column}, '.', 2), '0'))), 0) FROM {relation}",
        )
        if not plain:
            raise Unfit(
                f"{column} is NaN, infinite or no decimal number in some events; correct them"
                " (`usage-explore doctor` counts them)"
            )
    if whole + scale > _MAX_DIGITS:
        raise Unfit(
            f"{column} needs {whole} digits before and {scale} after the decimal point, more than {_MAX_DIGITS} in all;"
            " round or correct the values that are that long"
        )
    for precision, places in sorted(set(known)):
        if places >= scale and precision - places >= max(whole, int(places < _MAX_DIGITS)):
            return precision, places
    places = next((places for places in _SCALES if scale <= places <= _MAX_DIGITS - whole), scale)
    return (_NARROW_DIGITS if max(whole, 1) + places <= _NARROW_DIGITS else _MAX_DIGITS), places


def decimal_text(column: str) -> str:
    """The text of a decimal column, with the zero before the point that DuckDB leaves out of a DECIMAL(18, 18)."""
    return f"regexp_replace({column}::VARCHAR, '^(-?)[.]', '\\10.')"


def _share(connection: duckdb.DuckDBPyConnection, relation: str, unit: int, columns: Sequence[str], rows: int) -> float:
    """The combinations of times and columns per row."""
    listed = ", ".join(columns)
    (lines,) = fetched(
        connection, f"SELECT count(*) FROM (SELECT DISTINCT slot // {unit // SLOT}, {listed} FROM {relation})"
    )
    return float(lines / rows)


def _choose(connection: duckdb.DuckDBPyConnection, relation: str, dimensions: int, rows: int) -> list[_Shape]:
    """The summaries of a segment, each as small as its limit.

    By 15 minutes the metric alone; by the day as many columns as fit, and dimensions alone where those are far fewer
    rows; by the hour as many as fit, repeatedly, those dimensions first that did not fit before; and by the day each
    column that did not fit, a customer with the dimensions of most values that fit. Columns come in the order of their
    number of values, dimensions first.
    """
    candidates = [*_SUMMARIZED, *(f"d{number}" for number in range(dimensions))]
    found = fetched(
        connection, f"SELECT {', '.join(f'approx_count_distinct({name})' for name in candidates)} FROM {relation}"
    )
    values = dict(zip(candidates, found, strict=True))
    in_order = sorted(candidates, key=lambda name: (name in _SUMMARIZED, values[name], name))
    split = in_order[:dimensions]

    def grown(unit: int, first: tuple[str, ...], names: Sequence[str], limit: float) -> tuple[str, ...]:
        if _share(connection, relation, unit, first, rows) > limit:
            return ()
        for name in names:
            if values[name] <= limit * rows and _share(connection, relation, unit, (*first, name), rows) <= limit:
                first = (*first, name)
        return first

    days = grown(DAY, ("metric_key",), in_order, MAX_SUMMARY_SHARE)
    shapes = [(SLOT, grown(SLOT, ("metric_key",), (), MAX_SUMMARY_SHARE)), (DAY, days)]
    if days:
        few = grown(DAY, ("metric_key",), split, _share(connection, relation, DAY, days, rows) * MAX_DIMENSIONS_SHARE)
        shapes += [(DAY, few)] if len(few) > 1 else []
    left, others = split, in_order[dimensions:]
    while hours := grown(
        HOUR, ("metric_key",), [*left, *(name for name in split if name not in left), *others], MAX_HOURS_SHARE
    ):
        if left == split or not {*left}.isdisjoint(hours):
            shapes.append((HOUR, hours))
        if {*left}.isdisjoint(hours):
            break
        left = [name for name in left if name not in hours]
    for name in (name for name in in_order if name not in days):
        names, limit = (split[::-1], MAX_CUSTOMERS_SHARE) if name == "customer_id" else ([], MAX_COLUMN_SHARE)
        shapes.append((DAY, grown(DAY, (name, "metric_key"), [other for other in names if other != name], limit)))
    return [(unit, columns) for unit, columns in shapes if columns]
