"""Results as pandas frames, CSV, Arrow and Parquet. Decimals stay `Decimal`; only `plot` converts them to float64.

As Arrow columns decimals are exact: decimal128(38, s), s the largest scale, else text with a note in the metadata.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv, parquet

from usage_explore.decimals import Number, plain
from usage_explore.names import NAME_COLUMNS, Names
from usage_explore.results import formulas

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.results.leaders import Leader, Leaderboard
    from usage_explore.results.types import AggregateData, Event, Series

_TIMES = ("timestamp", "ingested_at")

MAX_DECIMAL128_DIGITS = 38


def events(rows: Sequence[Event]) -> pd.DataFrame:
    """One row per event, with the table's columns: ids as str, decimals as `Decimal`, times as datetime64[us, UTC].

    If an id has a name, the columns of `NAME_COLUMNS` (str) follow.
    """
    import pandas as pd

    from usage_explore.results.types import Event

    columns: dict[str, Any] = {}
    has_names = any(getattr(row, name) is not None for row in rows for name in NAME_COLUMNS)
    for field in fields(Event):
        if field.name in NAME_COLUMNS and not has_names:
            continue
        values = [getattr(row, field.name) for row in rows]
        if field.name in _TIMES:
            columns[field.name] = pd.Series(values, dtype="datetime64[us, UTC]")
        elif field.name == "id" or field.name.endswith("_id"):
            columns[field.name] = pd.Series([value and str(value) for value in values], dtype="str")
        elif field.name in ("quantity", "external_cost_amount", "dimensions"):
            columns[field.name] = pd.Series(values, dtype="object")
        else:
            columns[field.name] = pd.Series(values, dtype="str")
    return pd.DataFrame(columns)


def with_names(frame: pd.DataFrame, names: Names) -> pd.DataFrame:
    """The frame with a column of names (str) after each column of ids of which one has a name."""
    if not names:
        return frame
    import pandas as pd

    columns: dict[str, Any] = {}
    headings = {column: heading for heading, column in NAME_COLUMNS.items()}
    for column in frame.columns:
        columns[column] = frame[column]
        if column in headings and headings[column] not in frame.columns:
            known = [None if pd.isna(id_) else names.name(column, id_) for id_ in frame[column]]
            if any(known):
                columns[headings[column]] = pd.Series(known, dtype="str", index=frame.index)
    return pd.DataFrame(columns)


_SUFFIXES = {"other": " (folded)", "missing": " (absent)", "all": " (series)", "value": " (value)"}
"""What a label that is taken gets, by the kind of its series."""


def labels(answer: AggregateData, reserved: Collection[str] = ()) -> list[str]:
    """A distinct label for each series, none of them `reserved`: an id's name if known, else the value's spelling.

    Beside a value spelled "Other", the series of the folded keys is "Other (folded)".
    """
    return _distinct(answer.series, answer.query.group_by, answer.names, reserved)


def _distinct(
    rows: Sequence[Series | Leader], group: str | None, names: Names, reserved: Collection[str] = ()
) -> list[str]:
    """A distinct label for each series or row of a leaderboard of a group."""
    taken = {*reserved, *(row.key for row in rows if row.key)}
    result = []
    for row in rows:
        known = names.known(group, row.key) if group and row.key else None
        label = known or row.label
        if known or not row.key or label in reserved:
            while label in taken:
                label += " (no text)" if row.key == "" else _SUFFIXES[row.kind]
            taken.add(label)
        result.append(label)
    return result


def spellings(answer: AggregateData) -> list[str]:
    """The series in a table that says their kinds, or names them beside: values as they are, else the label.

    An id with a name is "Acme (1a2b3c4d-…)", with the whole id.
    """
    pairs = zip(labels(answer), answer.series, strict=True)
    group = answer.query.group_by
    return [label if series.key is None else answer.names.full(group, series.key) for label, series in pairs]


def pivot(answer: AggregateData) -> pd.DataFrame:
    """One row per bucket and one column per series; see `Aggregate.pivot`."""
    import pandas as pd

    starts = _times(answer.edges[:-1], answer)
    return pd.DataFrame(_columns(answer, labels(answer)), index=pd.Index(starts, name="start")).rename_axis(
        columns=answer.query.group_by
    )


def wide_frame(answer: AggregateData) -> pd.DataFrame:
    """One row per bucket, with its edges as columns; see `Aggregate.wide`."""
    import pandas as pd

    edges = {
        "start": _times(answer.edges[:-1], answer),
        "end": _times(answer.edges[1:], answer),
        "complete": answer.complete,
    }
    return pd.DataFrame({**edges, **_columns(answer, labels(answer, edges))})


def plot(answer: AggregateData) -> pd.DataFrame:
    """The answer's frame for plotting libraries; see `Aggregate.plot_frame`."""
    import pandas as pd

    answer = answer.with_other()
    frame = aggregate(answer)
    for name in ("start", "end", "earlier_start"):
        if name in frame:
            frame[name] = frame[name].dt.tz_localize(None)
    frame["label"] = pd.Categorical(frame["label"], categories=labels(answer), ordered=True)
    for name in _numbers(frame):
        frame[name] = frame[name].astype("float64")
    return frame


def _times(instants: Sequence[Any], answer: AggregateData) -> pd.Series[Any]:
    import pandas as pd

    return pd.Series(instants, dtype="datetime64[us, UTC]").dt.tz_convert(answer.query.zone)


def _columns(answer: AggregateData, series_labels: list[str]) -> dict[str, Any]:
    import pandas as pd

    number = "int64" if answer.query.metric == "count" else "object"
    return {
        label: pd.Series([point.value for point in series.points], dtype=number).to_numpy()
        for label, series in zip(series_labels, answer.series, strict=True)
    }


def aggregate(answer: AggregateData) -> pd.DataFrame:
    """One row per series and bucket; see `Aggregate.frame`."""
    import pandas as pd

    answer = answer.with_other()
    zone = answer.query.zone
    cells = [(series, point) for series in answer.series for point in series.points]
    point_labels = [label for label, series in zip(labels(answer), answer.series, strict=True) for _ in series.points]
    number = "int64" if answer.query.metric == "count" else "object"
    columns: dict[str, Any] = {
        "start": pd.Series([point.start for _, point in cells], dtype="datetime64[us, UTC]").dt.tz_convert(zone),
        "end": pd.Series([point.end for _, point in cells], dtype="datetime64[us, UTC]").dt.tz_convert(zone),
        "complete": pd.Series([point.complete for _, point in cells], dtype="bool"),
        "key": pd.Series([series.key for series, _ in cells], dtype="str"),
        "kind": pd.Series([series.kind for series, _ in cells], dtype="str"),
        "label": pd.Series(point_labels, dtype="str"),
        "value": pd.Series([point.value for _, point in cells], dtype=number),
    }
    if answer.comparison is not None:
        number = "Int64" if answer.query.metric == "count" else "object"
        others = [point for series in answer.comparison.series for point in series.points]
        columns |= {
            "earlier_start": _times([getattr(point, "start", None) for point in others], answer),
            "earlier": pd.Series([getattr(point, "before", None) for point in others], dtype=number),
            "change": pd.Series([getattr(point, "absolute", None) for point in others], dtype=number),
        }
    return pd.DataFrame(columns)


def leaderboards(boards: Sequence[Leaderboard], metric: str, names: Names) -> pd.DataFrame:
    """One row per leaderboard and value; see `Leaderboards.frame`."""
    import pandas as pd

    rows = [(board.group, leader) for board in boards for leader in board.leaders]
    number = "int64" if metric == "count" else "object"
    shown = [label for board in boards for label in _distinct(board.leaders, board.group, names)]
    columns: dict[str, Any] = {
        "group": pd.Series([group for group, _ in rows], dtype="str"),
        "kind": pd.Series([leader.kind for _, leader in rows], dtype="str"),
        "key": pd.Series([leader.key for _, leader in rows], dtype="str"),
        "label": pd.Series(shown, dtype="str"),
        "total": pd.Series([leader.total for _, leader in rows], dtype=number),
        "share": pd.Series([leader.share for _, leader in rows], dtype="object"),
        "members": pd.Series([leader.members for _, leader in rows], dtype="int64"),
    }
    return pd.DataFrame(columns)


def totals(answer: AggregateData) -> pd.DataFrame:
    """One row per series, by rank: its `label` (index), `kind` and `total` (str, written plainly)."""
    import pandas as pd

    index = pd.Index(labels(answer), dtype="str", name=answer.query.group_by)
    kinds = [series.kind for series in answer.series]
    return pd.DataFrame({"kind": kinds, "total": [_plain(series.total) for series in answer.series]}, index=index)


def _known(values: Iterable[Any]) -> list[Any]:
    """The values with None for NA and NaT."""
    import pandas as pd

    return [None if pd.isna(value) else value for value in values]


def _plain(value: Number | None) -> str | None:
    return None if value is None else plain(value)


def to_csv(answer: AggregateData, *, wide: bool = False, escape_formulas: bool = False) -> bytes:
    """The answer's frame as CSV: times ISO 8601 with the zone's offset, values plain and exact, all text quoted.

    A unit cost without a value is empty.
    `wide` writes a row per bucket and a column per series, see `Aggregate.wide`. `escape_formulas` puts an apostrophe
    before text that a spreadsheet would run, headings included; see `formulas`.
    """
    frame = wide_frame(answer) if wide else aggregate(answer)
    numbers = {*frame.columns} - {"start", "end", "complete"} if wide else {*_numbers(frame)}
    columns: dict[str, Any] = {}
    for name in frame.columns:
        heading = formulas.escaped(name) if escape_formulas else name
        if name in numbers:
            columns[heading] = [_plain(value) for value in _known(frame[name])]
        elif name in ("start", "end", "earlier_start"):
            columns[heading] = [edge and edge.isoformat() for edge in _known(frame[name])]
        else:
            columns[heading] = frame[name]
    return csv_bytes(columns, escape_formulas)


def csv_bytes(columns: Mapping[str, Any], escape_formulas: bool) -> bytes:
    """The columns as CSV, with all text quoted, and NULL empty and unquoted."""
    arrays = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    if escape_formulas:
        arrays = {name: pa.array(formulas.column(array.to_pylist()), array.type) for name, array in arrays.items()}
    buffer = BytesIO()
    csv.write_csv(pa.table(arrays), buffer)  # pandas does not quote a lone carriage return
    return buffer.getvalue()


def _numbers(frame: pd.DataFrame) -> list[str]:
    """The columns of counts or sums."""
    return [name for name in ("value", "earlier", "change") if name in frame]


def to_parquet(answer: AggregateData) -> bytes:
    """The answer's frame as Parquet: times timestamp[us, zone], counts int64, else decimal128(38, s), also null."""
    buffer = BytesIO()
    parquet.write_table(aggregate_table(answer), buffer)
    return buffer.getvalue()


def aggregate_table(answer: AggregateData) -> pa.Table:
    """The answer's frame as an Arrow table, with its numbers last: counts int64, else decimals as `arrow_table`."""
    frame = aggregate(answer)
    numbers = _numbers(frame)
    others = [name for name in frame if name not in numbers]
    return arrow_table(frame[[*others, *numbers]], () if answer.query.metric == "count" else numbers)


def arrow_table(frame: pd.DataFrame, decimals: Collection[str]) -> pa.Table:
    """A frame as an Arrow table: `decimals` as decimal128(38, s), s their largest scale, or text with a note."""
    columns: dict[str, pa.Array[Any]] = {}
    fields = []
    for name in map(str, frame):
        values = _known(frame[name])
        if name in decimals:
            columns[name], field = decimal_array(values, name)
        else:
            columns[name] = pa.Array.from_pandas(frame[name])
            field = pa.field(name, columns[name].type)
        fields.append(field)
    return pa.table(columns, schema=pa.schema(fields))


@dataclass(frozen=True, slots=True)
class DecimalSpan:
    """The most fractional digits (`scale`) and the most integer digits of a column of decimals."""

    scale: int
    integers: int
    finite: bool = True

    @property
    def fits(self) -> bool:
        """Whether decimal128 represents every value exactly."""
        return self.finite and self.scale + self.integers <= MAX_DECIMAL128_DIGITS

    @property
    def type(self) -> pa.DataType:
        """The column's type: decimal128, else string."""
        return pa.decimal128(MAX_DECIMAL128_DIGITS, self.scale) if self.fits else pa.string()

    def field(self, name: str) -> pa.Field[pa.DataType]:
        """The column's field; if it is text, its metadata says why."""
        field = pa.field(name, self.type)
        if self.fits:
            return field
        why = "more than 38 digits" if self.finite else "NaN or infinite values"
        return field.with_metadata({"usage-explore": f"decimal kept as text: {why}"})

    def __or__(self, other: DecimalSpan) -> DecimalSpan:
        return DecimalSpan(
            max(self.scale, other.scale), max(self.integers, other.integers), self.finite and other.finite
        )


def integer_digits(value: int | Decimal) -> int:
    """The number of digits before the decimal point; 0 for NaN and infinities."""
    value = Decimal(value)
    return max(value.adjusted() + 1, 0) if value.is_finite() and value else 0


def decimal_array(values: Iterable[Decimal | None], name: str = "value") -> tuple[pa.Array[Any], pa.Field[pa.DataType]]:
    """Decimals and None as an exact column, and its field."""
    values = list(values)
    texts = [_plain(value) for value in values]
    scale = max((len(text.partition(".")[2]) for text in texts if text), default=0)
    digits = (integer_digits(value) for value in values if value is not None)
    finite = all(value.is_finite() for value in values if value is not None)
    field = DecimalSpan(scale, max(digits, default=0), finite).field(name)
    array = pa.array(texts, pa.string())
    return array.cast(field.type), field
