"""Recognizes the columns of a table of one's own: which hold the time, customer, quantities and so on of an event.

By type, by name (`customerId` and `customer_id` are the same) and by content. A table of at most `MAX_CHECKED_ROWS`
rows is read whole, of a larger one a sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from psycopg import sql

from usage_explore.db.catalog import Relation, documented, existing_indexes
from usage_explore.db.ddl import Connection
from usage_explore.doctor.names import (
    BY_LAST_WORDS,
    LATER_TIMES,
    LENGTHS_OF_TIME,
    LIKELY_NAMES,
    NO_MEASURES,
    QUANTITIES,
    TIME_WORDS,
    is_measure,
    words_of,
)
from usage_explore.sql.identifiers import literal, quoted

MAX_CHECKED_ROWS = 100_000
"""Rows up to which all values are checked."""

SAMPLED_ROWS = 10_000
"""Rows that are checked of a larger table, about."""

_COLUMNS_PER_QUERY = 50

_DAY = (
    r"(?:(?!0000)\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    r"|02-(?:0[1-9]|1\d|2[0-8]))|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][48]|[13579][26]|[2468]0)00)-02-29)"
)
_CLOCK = r"[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?"
_ZONE = r" ?(?:Z|z|UTC|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)"
TIME = rf"^\s*{_DAY}(?:{_CLOCK}(?:{_ZONE})?)?\s*$"
ZONED = r"\d[T ].*(Z|z|UTC|[+-]\d\d(:?\d\d)?)\s*$"
ZONED_TIME = rf"^\s*{_DAY}{_CLOCK}{_ZONE}\s*$"
NUMBER = r"^\s*[+-]?(\d{1,255}\.?\d{0,255}|\.\d{1,255})([eE][+-]?\d{1,3})?\s*$"
UUID = r"^\s*[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\s*$"
"""Regular expressions of text that PostgreSQL casts without an error, in every version; `ZONED` is a time with an
offset."""

_NO_JSONB = r"\\u(?:0000|[dD][89abcdefABCDEF])|[eE][+-]?\d{4,}"
"""In JSON, what jsonb cannot hold or might not."""

BLANKS = r"E' \t\n\r\f\v'"
EPOCH_UNITS = {1: "seconds", 1_000: "milliseconds", 1_000_000: "microseconds"}
_EPOCHS = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
_CLASSES = {
    **dict.fromkeys(("int2", "int4", "int8", "numeric", "float4", "float8"), "number"),
    **dict.fromkeys(("timestamp", "timestamptz", "date"), "time"),
    **dict.fromkeys(("json", "jsonb", "hstore"), "json"),
    "uuid": "uuid",
}
_CATEGORIES = """
SELECT a.attname, t.typcategory::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """Numbers of checked rows: with a value that is not blank; of text: blank, padded with blanks, a UUID and so on.

    `castable` are rows whose JSON jsonb can hold, `objects` those with an object; `low` and `high` are those of a
    number column.
    """

    filled: int
    empty: int
    padded: int
    uuids: int
    numbers: int
    times: int
    zoned: int
    castable: int
    objects: int
    low: Decimal | None
    high: Decimal | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table; `type` is the catalog's name, `kind` number, text, time, json, uuid or other."""

    name: str
    type: str
    kind: str
    nullable: bool
    words: tuple[str, ...]
    contents: Contents

    @property
    def sql(self) -> str:
        """The name in SQL, quoted where needed."""
        return quoted(self.name)

    @property
    def snake(self) -> str:
        """The name in snake_case: `start_time` of `startTime`."""
        return "_".join(self.words)

    @property
    def json_text(self) -> bool:
        """Whether a text column holds JSON objects."""
        return self.kind == "text" and 0 < self.contents.filled == self.contents.objects

    def epoch(self) -> int | None:
        """Units per second of a number column that holds times since 1970; None if it does not."""
        low, high = self.contents.low, self.contents.high
        if self.kind != "number" or low is None or high is None or not low.is_finite() or not high.is_finite():
            return None
        return next((unit for unit in EPOCH_UNITS if _EPOCHS[0] * unit <= low <= high < _EPOCHS[1] * unit), None)


@dataclass(slots=True)
class Table:
    """The columns of a table by what they hold, with what could not be decided.

    `sources` maps a documented column to its columns, of which the first with a value counts; `measures` are the
    quantities of a row; `totals` columns that are sums of measures, with the reason; `times` other times of an event;
    `rest` the columns that are the source of none. `rows` is the number of checked rows, all of them if `complete`.
    """

    connection: Connection
    relation: Relation
    rows: int
    complete: bool
    checked: str
    columns: list[Column]
    sources: dict[str, list[Column]] = field(default_factory=dict)
    measures: list[Column] = field(default_factory=list)
    totals: dict[str, str] = field(default_factory=dict)
    times: list[Column] = field(default_factory=list)
    unique: tuple[Column, ...] = ()

    def first(self, name: str) -> Column | None:
        """The first column that is the source of a documented one."""
        return next(iter(self.sources.get(name, ())), None)

    @property
    def rest(self) -> list[Column]:
        """The columns that are the source of none."""
        used = {column.name for columns in self.sources.values() for column in columns}
        used |= {column.name for column in self.measures}
        return [column for column in self.columns if column.name not in used]

    def blank(self, column: Column) -> bool:
        """Whether a row may be without a value: a checked one is, or a view's or sample's column is nullable."""
        return column.contents.filled < self.rows or (column.nullable and not self.complete)

    def select(self, expressions: str, condition: str = "true") -> tuple[Any, ...]:
        """The row of aggregates over the checked rows."""
        return _one_row(self.connection, expressions, f"{self.checked} WHERE {condition}")

    def odd(self, column: Column, pattern: str) -> str | None:
        """Up to 40 characters of a text that does not match, None if all do."""
        text = f"{column.sql}::text"
        (value,) = self.select(f"min(left({text}, 40))", f"{text} ~ '\\S' AND {text} !~ {literal(pattern)}")
        return None if value is None else str(value)


def _one_row(connection: Connection, expressions: str, source: str) -> tuple[Any, ...]:
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(expressions), sql.SQL(source))
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    return row


def recognize(connection: Connection, relation: Relation) -> Table:
    """The table with its columns recognized. Reads up to `MAX_CHECKED_ROWS` rows."""
    table = _read(connection, relation)
    _by_name(table)
    _times(table)
    _customers(table)
    _quantities(table)
    _unique(table)
    return table


def _read(connection: Connection, relation: Relation) -> Table:
    name = relation.sql_name
    (rows,) = _one_row(connection, "count(*)", f"(SELECT FROM {name} LIMIT {MAX_CHECKED_ROWS + 1}) AS rows")
    checked, complete = name, rows <= MAX_CHECKED_ROWS
    if not complete:
        sample = ""
        if relation.kind == "table" and not relation.hypertable and not relation.distributed:
            share = min(100.0, 200 * SAMPLED_ROWS / max(relation.rows, rows))
            sample = f" TABLESAMPLE SYSTEM ({share}) REPEATABLE (0)"
        checked = f"(TABLE {name} LIMIT {SAMPLED_ROWS}) AS checked"
        if sample:
            checked = f"(SELECT * FROM {name}{sample} LIMIT {SAMPLED_ROWS}) AS checked"  # noqa: S608 - a quoted name
        (rows,) = _one_row(connection, "count(*)", checked)
    categories: dict[str, str] = dict(connection.execute(_CATEGORIES, [relation.oid]).fetchall())
    kinds = {
        column.name: _CLASSES.get(column.type, "text" if categories[column.name] in "SE" else "other")
        for column in relation.columns.values()
    }
    validates = connection.info.server_version >= 160_000
    contents: list[Contents] = []
    names = list(relation.columns)
    for start in range(0, len(names), _COLUMNS_PER_QUERY):
        part = names[start : start + _COLUMNS_PER_QUERY]
        counts = ", ".join(
            _counts(quoted(name), kinds[name], relation.columns[name].type == "json", validates) for name in part
        )
        row = _one_row(connection, counts, checked)
        size = len(Contents.__slots__)
        contents += [Contents(*row[index : index + size]) for index in range(0, len(row), size)]
    columns = [
        Column(column.name, column.type, kinds[column.name], column.nullable, words_of(column.name), one)
        for column, one in zip(relation.columns.values(), contents, strict=True)
    ]
    return Table(connection, relation, rows, complete, checked, columns)


def _counts(column: str, kind: str, is_json: bool, validates: bool) -> str:
    """The aggregates of a column, in the order of `Contents`."""

    def rows(condition: str) -> str:
        return f"count(*) FILTER (WHERE {condition})"

    def valid(type_: str) -> str:
        return f" AND pg_input_is_valid({column}::text, '{type_}')" if validates else ""

    none, text = "0", f"{column}::text"
    if kind == "text":
        json = f"CASE WHEN {text} ~ '^\\s*\\{{'{valid('jsonb')} THEN jsonb_typeof({text}::jsonb) = 'object' END"
        number = f"{text} ~ {literal(NUMBER)}"
        counts = [
            rows(f"{text} ~ '\\S'"),
            rows(f"{text} !~ '\\S'"),
            rows(f"{text} <> btrim({text}, {BLANKS})"),
            rows(f"{text} ~ {literal(UUID)}"),
            rows(f"{number}{valid('numeric')}"),
            rows(f"{text} ~ {literal(TIME)}{valid('timestamptz')}"),
            rows(f"{text} ~ {literal(ZONED_TIME)}{valid('timestamptz')}"),
            none,
            rows(json) if validates else none,
            "NULL::numeric",
            "NULL::numeric",
        ]
        return ", ".join(counts)
    filled = f"count({column})"
    castable, objects, low, high = filled, none, "NULL::numeric", "NULL::numeric"
    if kind == "json":
        as_jsonb = f"to_jsonb({column})"
        fits = f"({text} !~ {literal(_NO_JSONB)}{valid('jsonb')})" if is_json else "true"
        castable = rows(f"{column} IS NOT NULL AND {fits}")
        objects = rows(f"CASE WHEN {fits} THEN jsonb_typeof({as_jsonb}) = 'object' END")
    if kind == "number":
        low, high = f"min({column})::text::numeric", f"max({column})::text::numeric"
    return ", ".join([filled, *[none] * 6, castable, objects, low, high])


def _fits(table: Table, name: str, column: Column) -> bool:
    """Whether a column of that type and content can be the source of a documented one."""
    type_ = documented()[name][0]
    contents = column.contents
    if name in ("id", "idempotency_key"):
        return column.kind in ("uuid", "text") or column.type in ("int2", "int4", "int8", "numeric")
    if type_ == "uuid":
        return column.kind in ("uuid", "text") or column.type in ("int2", "int4", "int8", "numeric")
    if type_ == "text":
        return column.kind == "text" or column.name == name
    if type_ == "numeric":
        return column.kind == "number" or (
            column.kind == "text" and (column.name == name or contents.numbers == contents.filled > 0)
        )
    if type_ == "jsonb":
        return column.kind == "json" or column.json_text
    return is_time(table, column)


def is_time(table: Table, column: Column) -> bool:
    """Whether all values of a column are times: by type, as ISO text, or as seconds or less since 1970."""
    if column.kind == "text":
        empty = table.rows == 0 and bool(TIME_WORDS & set(column.words))
        return empty or 0 < column.contents.filled == column.contents.times
    return column.kind == "time" or (bool(TIME_WORDS & set(column.words)) and column.epoch() is not None)


def _by_name(table: Table) -> None:
    """The sources by their names: the documented name, then the likely ones."""
    free = list(table.columns)
    for name in documented():
        for column in [column for column in free if column.name == name and _fits(table, name, column)]:
            if column.contents.filled or not table.rows:
                table.sources[name] = [column]
                free.remove(column)
    for name, likely in LIKELY_NAMES.items():
        if name in ("timestamp", "ingested_at") and name in table.sources:
            continue
        matching = _matching(free, name, likely.split())
        if found := [column for column in matching if _fits(table, name, column)]:
            if name == "customer_id":  # further ones serve where the first is empty; see _customers
                table.sources[name] = [*table.sources.get(name, ()), *found]
            elif name not in table.sources:
                filled = [column for column in found if column.contents.filled]
                table.sources[name] = [(filled or found)[0]]
            free = [column for column in free if column not in table.sources.get(name, ())]
    taken = {column.name for columns in table.sources.values() for column in columns}
    if "dimensions" not in table.sources:
        objects = [column for column in table.columns if column.name not in taken and column.contents.objects]
        table.sources |= {"dimensions": objects[:1]} if objects else {}


def _matching(free: Iterable[Column], name: str, likely: list[str]) -> list[Column]:
    """The columns of likely names, likeliest first; then those that end with a likely name of several words."""
    free = list(free)
    ordered = [column for wanted in (name, *likely) for column in free if column.snake == wanted]
    if name in BY_LAST_WORDS:
        ordered += [
            column
            for wanted in (name, *likely)
            for column in free
            if "_" in wanted
            and column.snake.endswith(f"_{wanted}")
            and column not in ordered
            and not LATER_TIMES & set(column.words)
        ]
    return list(dict.fromkeys(ordered))


def _times(table: Table) -> None:
    """The time of the event where no column has a name for it, and the other times that it could be."""
    used = {column.name for columns in table.sources.values() for column in columns}
    others = [
        column
        for column in table.columns
        if column.name not in used and is_time(table, column) and not LATER_TIMES & set(column.words)
    ]
    if "timestamp" not in table.sources and others:
        required = [column for column in others if not table.blank(column)]
        table.sources["timestamp"] = [(required or others)[0]]
    if "timestamp" not in table.sources and "ingested_at" in table.sources:
        table.sources["timestamp"] = table.sources["ingested_at"]
    if "timestamp" not in table.sources:
        ended = [column for column in table.columns if column.name not in used and is_time(table, column)]
        table.sources |= {"timestamp": ended[:1]} if ended else {}
        others = ended
    chosen = table.first("timestamp")
    created = LIKELY_NAMES["ingested_at"].split()
    table.times = [column for column in others if column is not chosen and column.snake not in created]


def _customers(table: Table) -> None:
    """Keep the first customer columns up to one that every row has; an organization needs one that is left."""
    found = table.sources.pop("customer_id", [])
    found = [column for column in found if column.contents.filled] or found[:1]
    for index, column in enumerate(found):
        table.sources.setdefault("customer_id", []).append(column)
        if not table.blank(column):
            found = found[index + 1 :]
            break
    else:
        found = []
    wanted = LIKELY_NAMES["organization_id"].split()
    if "organization_id" not in table.sources:
        spare = [column for column in found if column.snake in wanted]
        if spare:
            table.sources["organization_id"] = spare[:1]


def _quantities(table: Table) -> None:
    """The quantities of a row, without sums of the others."""
    if "quantity" in table.sources:
        table.measures = table.sources.pop("quantity")
        return
    free = [column for column in table.rest if _fits(table, "quantity", column) and column.contents.filled]
    free = free if table.rows else [column for column in table.rest if column.kind == "number"]
    free = [column for column in free if not NO_MEASURES & set(column.words) and column.epoch() is None]
    if "external_cost_currency" in table.sources and "external_cost_amount" not in table.sources:
        money = [column for column in free if column.snake == "amount"]  # of that currency
        table.sources |= {"external_cost_amount": money} if money else {}
        free = [column for column in free if column not in money]
    for name in QUANTITIES.split():
        if exact := [column for column in free if column.snake == name]:
            table.measures = exact[:1]
            return
    keys = _keys(table)
    measured = [column for column in free if is_measure(column.words) and (column.name,) not in keys]
    amounts = [column for column in measured if not LENGTHS_OF_TIME & set(column.words)]
    table.measures = amounts or measured
    for column in list(table.measures):
        others = [
            other
            for other in table.measures
            if other is not column and other.words[-1:] == column.words[-1:] and other.name not in table.totals
        ]
        if len(others) < 2:
            continue
        names = " + ".join(other.sql for other in others)
        total = " + ".join(f"coalesce({other.sql}, 0)" for other in others if other.kind == "number")
        numeric = all(other.kind == "number" for other in (column, *others))
        if numeric and table.rows and table.select(f"bool_and(coalesce({column.sql}, 0) = {total})")[0]:
            table.totals[column.name] = f"{column.sql} is {names}"
        elif "total" in column.words:
            table.totals[column.name] = f"{column.sql} is a total by its name, though not always {names}"
    table.measures = [column for column in table.measures if column.name not in table.totals]
    if len(table.measures) > 1:
        table.sources.pop("metric_key", None)


def could_be_quantity(column: Column) -> bool:
    """Whether a column is named like a quantity, and is of numbers or text."""
    named = is_measure(column.words) and not NO_MEASURES & set(column.words)
    return named and column.kind in ("number", "text") and column.epoch() is None


def _keys(table: Table) -> set[tuple[str, ...]]:
    """The columns of the unique indexes."""
    return {index.keys for index in existing_indexes(table.connection, table.relation) if index.unique}


def _unique(table: Table) -> None:
    """The columns with unique values: the id, a key, those of a unique index; else none."""
    keys = _keys(table)
    named, key = table.sources.pop("id", []), table.sources.get("idempotency_key", [])
    indexed = [column for column in table.columns if (column.name,) in keys and _fits(table, "id", column)]
    for column in (*named, *key, *indexed):
        known = (column.name,) in keys or not table.rows
        if not (column.nullable and column.contents.filled < table.rows) and (known or _distinct(table, column)):
            table.unique = (column,)
            break
    else:
        by_name = {column.name: column for column in table.columns}
        several = [key for key in sorted(keys) if all(key) and not any(by_name[name].nullable for name in key)]
        table.unique = tuple(by_name[name] for name in several[0]) if several else ()
    if len(table.unique) == 1 and table.unique != tuple(key):
        table.sources["id"] = list(table.unique)


def _distinct(table: Table, column: Column) -> bool:
    return bool(table.select(f"count(*) = count(DISTINCT {column.sql})")[0])
