"""A statement over the events table, run by DuckDB over an extract and the events that it does not have yet.

It is the same `Select` that PostgreSQL would run, with the same rows as its result: decimals and counts are exact in
both. Times and intervals are whole microseconds in DuckDB. What has no counterpart of the same meaning, such as a
dimension, a logarithm or an unknown function, raises `ExtractUnusable`, and the events are read instead.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
from sqlalchemy import (
    ARRAY,
    BindParameter,
    Cast,
    Column,
    DateTime,
    Double,
    Integer,
    Interval,
    Numeric,
    Select,
    Table,
    select,
)
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, Extract, WithinGroup
from sqlalchemy.sql.visitors import iterate

from usage_explore.extract.connection import quoted
from usage_explore.extract.engine import ExtractUnusable
from usage_explore.extract.manifest import IDS, TEXTS, Segment, instant, micros
from usage_explore.extract.routing import Held, Paths, scale_of
from usage_explore.extract.statement import bucket
from usage_explore.query.queries import EventQuery
from usage_explore.sql.filters import conditions

MAX_TAIL_EVENTS = 200_000
"""Events that the extract does not have yet, which are copied to DuckDB; with more, the events are read instead."""

_INSTANTS = {"timestamp": "ts", "ingested_at": "ing"}
_DECIMALS = ("quantity", "external_cost_amount")
_COLUMNS = ("id", "customer_id", "product_id", "subscription_id", *TEXTS, *_INSTANTS, *_DECIMALS)
_VIEW = "usage_events"
_FUNCTIONS = frozenset(
    {"coalesce", "count", "date_bin", "hashtextextended", "ln", "max", "min", "percentile_disc", "sum", "upper"}
    | {"greatest", "lag", "lead", "least", "nullif", "sqrt", "width_bucket"}
)
_MIN_BIGINT = 10_000
"""Whole numbers from which they are no INTEGER, so that a product with another one does not overflow."""

_SMALLEST = Decimal("1E-100")
"""Below every positive number of an extract, which has at most 38 digits."""

_LOWER, _UPPER = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Compiler(PGCompiler):
    """The text of a statement for DuckDB. Raises `ExtractUnusable` for what may mean something else there."""

    dialect: _Dialect

    def visit_table(self, table: Any, *args: Any, **kwargs: Any) -> str:
        return _VIEW if table is self.dialect.events else str(super().visit_table(table, *args, **kwargs))  # type: ignore[no-untyped-call]

    def visit_column(self, column: Any, *args: Any, **kwargs: Any) -> str:
        if column.table is self.dialect.events:
            if column.name not in _COLUMNS:
                raise ExtractUnusable(f"a check reads {column.name}")
            return f"{_VIEW}.{_INSTANTS.get(column.name, column.name)}"
        return str(super().visit_column(column, *args, **kwargs))

    def visit_binary(self, binary: Any, *args: Any, **kwargs: Any) -> str:
        left, right, operator = binary.left, binary.right, binary.operator
        if operator is operators.collate:
            return str(self.process(left, **kwargs))
        if _is_column(left, self.dialect.events, "organization_id"):
            if operator is operators.eq and getattr(right, "value", None) == self.dialect.organization_id:
                return "true"
            raise ExtractUnusable("a check reads another organization")
        if (known := _without_infinity(operator, right)) is not None:
            return known
        if operator is operators.truediv and (isinstance(left.type, Double) or isinstance(left, Extract)):
            return f"({self.process(left, **kwargs)} / CAST({self.process(right, **kwargs)} AS DOUBLE))"
        if operator in (operators.truediv, operators.floordiv, operators.mod, operators.custom_op):
            raise ExtractUnusable("a check divides")
        return str(super().visit_binary(binary, *args, **kwargs))  # type: ignore[no-untyped-call]

    def visit_bindparam(self, bindparam: Any, *args: Any, **kwargs: Any) -> str:
        value = bindparam.value
        if isinstance(value, datetime):
            return str(micros(value))
        if isinstance(value, timedelta):
            return str(value // timedelta(microseconds=1))
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{value}::BIGINT" if abs(value) >= _MIN_BIGINT else str(value)
        return str(super().visit_bindparam(bindparam, *args, **kwargs))  # type: ignore[no-untyped-call]

    def visit_cast(self, cast: Any, **kwargs: Any) -> str:
        if isinstance(cast.type, ARRAY) and isinstance(cast.clause, WithinGroup):
            return str(self.process(cast.clause, **kwargs))
        if isinstance(cast.type, Double):
            return f"CAST({self.process(cast.clause, **kwargs)} AS DOUBLE)"
        if isinstance(cast.type, Numeric) and isinstance(cast.clause.type, Integer):
            return f"CAST({self.process(cast.clause, **kwargs)} AS HUGEINT)"
        if isinstance(cast.type, Integer) and any(isinstance(part, Extract) for part in iterate(cast.clause)):
            return f"CAST(round({self.process(cast.clause, **kwargs)}) AS INTEGER)"
        if isinstance(cast.type, Numeric):
            raise ExtractUnusable("a check computes with other numbers than decimals")
        return str(super().visit_cast(cast, **kwargs))  # type: ignore[no-untyped-call]

    def visit_function(self, func: Any, *args: Any, **kwargs: Any) -> str:
        if func.name not in _FUNCTIONS:
            raise ExtractUnusable(f"a check uses the function {func.name}")
        return str(super().visit_function(func, *args, **kwargs))

    def visit_extract(self, extract: Any, **kwargs: Any) -> str:
        if extract.field != "epoch" or getattr(extract.expr, "operator", None) is not operators.sub:
            raise ExtractUnusable(f"a check extracts {extract.field} of a time")
        return f"(({self.process(extract.expr, **kwargs)}) / 1000000)"

    def visit_hashtextextended_func(self, func: Any, **kwargs: Any) -> str:
        """Another hash: statements only compare them."""
        return f"hash({self.process(next(iter(func.clauses)), **kwargs)})"

    def visit_between_op_binary(self, binary: Any, operator: Any, **kwargs: Any) -> str:
        """Between bounds that no number of an extract is near to: whether it is positive."""
        low, high = (_value(bound) for bound in binary.right.clauses)
        if low > _SMALLEST or high < 1 / _SMALLEST:
            raise ExtractUnusable("a check compares with a range")
        return f"({self.process(binary.left, **kwargs)} > 0)"

    def visit_width_bucket_func(self, func: Any, **kwargs: Any) -> str:
        value, edges = func.clauses
        return bucket(str(self.process(value, **kwargs)), [micros(edge) for edge in _value(edges)])

    def visit_date_bin_func(self, func: Any, **kwargs: Any) -> str:
        stride, value, origin = func.clauses
        step, start = _value(stride) // timedelta(microseconds=1), micros(_value(origin))
        since = f"({self.process(value, **kwargs)} - {start})"
        return f"({since} - ({since} % {step} + {step}) % {step} + {start})"

    def visit_upper_func(self, func: Any, **kwargs: Any) -> str:
        (text,) = func.clauses
        if not (isinstance(text, BinaryExpression) and text.operator is operators.collate):
            raise ExtractUnusable("a check changes letters by another collation than C")
        return f"translate({self.process(text.left, **kwargs)}, {quoted(_LOWER)}, {quoted(_UPPER)})"

    def visit_withingroup(self, withingroup: Any, **kwargs: Any) -> str:
        if withingroup.element.name != "percentile_disc":
            raise ExtractUnusable(f"a check uses the function {withingroup.element.name}")
        (fractions,), (value,) = withingroup.element.clauses, withingroup.order_by
        return f"quantile_disc({self.process(value, **kwargs)}, {list(_value(fractions))})"


class _Dialect(PGDialect):
    """PostgreSQL's, for the text that DuckDB reads; it never connects."""

    statement_compiler = _Compiler
    supports_statement_cache = False

    def __init__(self, events: Table, organization_id: UUID) -> None:
        super().__init__(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
        self.events = events
        self.organization_id = organization_id


def _is_column(element: Any, table: Table, name: str) -> bool:
    return isinstance(element, Column) and element.table is table and element.name == name


def _value(element: Any) -> Any:
    """The value of a bound parameter, which may be cast."""
    while isinstance(element, Cast):
        element = element.clause
    if isinstance(element, BindParameter):
        return element.value
    raise ExtractUnusable("a check computes the bounds of its buckets")


def _without_infinity(operator: Any, right: Any) -> str | None:
    """A comparison with numbers that no event of an extract has: NaN, Infinity, -Infinity; None for another one."""
    values = getattr(getattr(right, "element", right), "value", None)
    if isinstance(values, Decimal) and not values.is_finite():
        if values.is_nan() or operator not in (operators.gt, operators.lt):
            raise ExtractUnusable("a check compares with NaN")
        return str((values < 0) == (operator is operators.gt)).lower()
    if isinstance(values, list | tuple) and values and all(_is_not_finite(value) for value in values):
        if operator is operators.in_op:
            return "false"
        if operator is operators.not_in_op:
            return "true"
    return None


def _is_not_finite(value: object) -> bool:
    return isinstance(value, Decimal) and not value.is_finite()


@dataclass(frozen=True)
class Translated:
    """The extract of an organization's events as known at `as_of`, with the newest events, for many statements.

    All methods raise `ExtractUnusable`.
    """

    paths: Paths
    organization_id: UUID
    as_of: datetime | None

    def rows(self, statement: Select[Any]) -> list[Any]:
        """The rows of a statement over the events table, as of `as_of` or earlier; see `Connection.execute`."""
        held = self._held
        dialect = _Dialect(self.paths.table, self.organization_id)
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        values = compiled.params
        parameters = [values[name] for name in compiled.positiontup or ()]
        columns = [(column.name, _reader(column.type)) for column in statement.selected_columns]
        row_type = namedtuple("Row", [name for name, _ in columns], rename=True)  # type: ignore[misc]
        assert self.paths.extracts is not None  # noqa: S101 - `held` raises without
        with self.paths.extracts.cursor(held.timeout) as cursor:
            if self._tail is not None:
                cursor.connection.register("tail", self._tail)
            cursor.run(f"CREATE TEMP VIEW {_VIEW} AS {self._view}", [])
            try:
                found = cursor.run(str(compiled), parameters)
            except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
                raise ExtractUnusable("a check's statement has no counterpart in DuckDB") from error
        readers = [reader for _, reader in columns]
        return [row_type(*(read(value) for read, value in zip(readers, row, strict=True))) for row in found]

    @cached_property
    def _held(self) -> Held:
        query = EventQuery(organization_id=self.organization_id)
        held = self.paths.held(query)
        if not held.manifest.segments:
            raise ExtractUnusable("the extract of these events is empty")
        self.paths.check(held, query)
        return held

    @cached_property
    def _tail(self) -> pa.Table | None:
        """The events that were ingested at the watermark or later; None without any."""
        watermark = instant(self._held.watermark)
        if self.as_of is not None and self.as_of < watermark:
            return None
        c = self.paths.table.c
        query = EventQuery(organization_id=self.organization_id, as_of=self.as_of)
        newest = (
            select(*(c[name] for name in _COLUMNS))
            .where(*conditions(self.paths.table, query), c.ingested_at >= watermark)
            .limit(MAX_TAIL_EVENTS + 1)
        )
        rows = self.paths.connection.execute(newest).all()
        if len(rows) > MAX_TAIL_EVENTS:
            raise ExtractUnusable(f"more than {MAX_TAIL_EVENTS:,} events arrived since")
        columns: dict[str, pa.Array[Any]] = {}
        for index, name in enumerate(_COLUMNS):
            values = [row[index] for row in rows]
            if name in _INSTANTS:
                columns[_INSTANTS[name]] = pa.array([micros(value) for value in values], pa.int64())
            elif name in _DECIMALS:
                scale_of(value for value in values if value is not None)  # raises for NaN
                texts = [None if value is None else format(value, "f") for value in values]
                columns[name] = pa.array(texts, pa.string())
            else:
                columns[name] = pa.array([None if value is None else str(value) for value in values], pa.string())
        return pa.table(columns) if rows else None

    @cached_property
    def _view(self) -> str:
        """The statement of all events: of the segments by layout, from the table's first event on, and of the tail.

        A number has one type in all parts, with the widest of their scales, so that none is rounded.
        """
        held, tail = self._held, self._tail
        layouts: dict[Any, list[Segment]] = {}
        for segment in held.manifest.segments:
            layouts.setdefault((segment.layout.quantity, segment.layout.cost), []).append(segment)
        types = {}
        for position, name in enumerate(_DECIMALS):
            sizes = [layout[position] for layout in layouts]
            if tail is not None:
                sizes.append(_size(tail[name].to_pylist()))
            scale = max(scale for _, scale in sizes)
            whole = max(precision - scale for precision, scale in sizes)
            if whole + scale > 38:
                raise ExtractUnusable("some decimals have more than 38 digits")
            types[name] = f"DECIMAL({max(whole + scale, 1)}, {scale})"
        decimals = [f"{name}::{types[name]} AS {name}" for name in _DECIMALS]
        shared = ", ".join((*IDS, *TEXTS, *_INSTANTS.values(), *decimals))
        where = "" if held.first is None else f" WHERE ts >= {held.first}"
        parts = []
        for segments in layouts.values():
            names = ", ".join(quoted(str(held.folder / segment.rows.name)) for segment in segments)
            parts.append(f"SELECT {shared} FROM read_parquet([{names}]){where}")
        if tail is not None:
            ids = ", ".join(f"{name}::UUID AS {name}" for name in IDS)
            rest = ", ".join((*TEXTS, *_INSTANTS.values(), *decimals))
            parts.append(f"SELECT {ids}, {rest} FROM tail")
        return " UNION ALL ".join(parts)


def _size(texts: Sequence[str | None]) -> tuple[int, int]:
    """The precision and the scale that these decimals need."""
    whole = scale = 0
    for text in texts:
        if text is not None:
            before, _, after = text.lstrip("-").partition(".")
            whole, scale = max(whole, len(before)), max(scale, len(after))
    return whole + scale, scale


def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of DuckDB that of PostgreSQL, by the column's type."""
    if isinstance(kind, ARRAY):
        of_item = _reader(kind.item_type)
        return lambda value: None if value is None else [of_item(item) for item in value]
    if isinstance(kind, DateTime):
        return lambda value: None if value is None else instant(value)
    if isinstance(kind, Interval):
        return lambda value: None if value is None else timedelta(microseconds=value)
    if type(kind).__name__ == "NullType":
        raise ExtractUnusable("a check has a column of an unknown type")
    return lambda value: value
