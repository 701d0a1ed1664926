"""Writes the `CREATE VIEW` that gives a table of one's own the documented columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from usage_explore.db.catalog import Relation, documented, existing_indexes
from usage_explore.db.ddl import Connection
from usage_explore.doctor.expressions import CONSTANTS, UUID_TEXT, Expressions
from usage_explore.doctor.finding import Finding
from usage_explore.doctor.names import LIKELY_NAMES
from usage_explore.doctor.recognition import (
    EPOCH_UNITS,
    NUMBER,
    TIME,
    Column,
    Table,
    could_be_quantity,
    is_time,
    recognize,
)
from usage_explore.formatting import counted
from usage_explore.names import kind_of
from usage_explore.sql.identifiers import literal, quoted

_ID_COLUMNS = ("organization_id", "customer_id", "product_id", "subscription_id")
_PARTS = {"cents": "0.01", "micros": "0.000001"}
"""Last word of a cost column: the factor to whole units of its currency."""

_CURRENCIES = {"usd": "USD", "eur": "EUR", "gbp": "GBP"}
_CURRENCY_OF_TABLE = {"litellm_spendlogs": "USD"}
"""Tables of products whose costs are in one currency: https://docs.litellm.ai/docs/proxy/cost_tracking"""

_PAIRS_PER_OBJECT = 50
"""PostgreSQL's functions have at most 100 arguments."""

_MAX_CHOICES = 5
"""Columns offered instead of a constant customer."""

_MAX_NAME_BYTES = 63
_TAKEN = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s"
_JSON_NUMBERS = """
SELECT key, count(*) FROM (SELECT {0} AS object FROM {1}) AS objects,
LATERAL jsonb_each_text(CASE WHEN jsonb_typeof(object) = 'object' THEN object END) AS members (key, value)
GROUP BY key HAVING bool_and(value ~ {2}) ORDER BY 2 DESC, 1 LIMIT 5
"""
_JSON_KEYS = """
SELECT DISTINCT key FROM (SELECT {0} AS object FROM {1}) AS objects,
LATERAL jsonb_object_keys(CASE WHEN jsonb_typeof(object) = 'object' THEN object END) AS keys (key)
"""


@dataclass(frozen=True, slots=True)
class _Line:
    """A column of the view: its expression, a remark, and expressions to choose instead, with the reason."""

    expression: str
    remark: str = ""
    choices: tuple[tuple[str, str], ...] = ()


def suggestion(connection: Connection, relation: Relation) -> Finding:
    """The finding whose fix is the `CREATE VIEW`, with an index where the view's time is an expression."""
    table = recognize(connection, relation)
    if "timestamp" not in table.sources:
        return Finding(
            "view",
            "warning",
            "no view is offered: no column holds the time of an event, without which no query selects it",
            "A column of type timestamptz, timestamp or date does, or text such as 2026-01-31T08:00:00Z, or seconds or"
            f" milliseconds since 1970 in a column named like {', '.join(LIKELY_NAMES['timestamp'].split()[:4])}."
            f" {_unreadable(table)}".rstrip(),
        )
    writer = _Writer(table)
    name = _free_name(connection, relation)
    statement = f"CREATE VIEW {quoted(name, relation.schema)} AS\n{writer.query()};"
    notes = "".join(f"-- {_comment(note)}\n" for note in writer.notes())
    index = writer.index()
    return Finding(
        "view",
        "warning",
        f"this view gives it the documented columns{writer.assumed()}; read it through, run it, then use it with"
        f" --table {relation.schema}.{name} (USAGE_EXPLORE_TABLE)",
        f"{notes}{statement}{index and chr(10)}{index}",
    )


def _unreadable(table: Table) -> str:
    """A sentence on text columns that are named like times and hold other values, such as 'yesterday'."""
    names = ("timestamp", *LIKELY_NAMES["timestamp"].split())
    wrong = [column for column in table.columns if column.snake in names and column.kind == "text"]
    odd = {column.sql: table.odd(column, TIME) for column in wrong if not is_time(table, column)}
    samples = [f"{name} holds {value!r}" for name, value in odd.items() if value]
    return f"{', '.join(samples)}: not read as a time." if samples else ""


def _free_name(connection: Connection, relation: Relation) -> str:
    """`<table>_usage`, with a number if that name is taken."""
    taken = {row[0] for row in connection.execute(_TAKEN, [relation.schema]).fetchall()}
    for suffix in ("_usage", *(f"_usage_{number}" for number in range(2, 1_000))):
        stem = relation.name.encode()[: _MAX_NAME_BYTES - len(suffix)].decode(errors="ignore")
        if f"{stem}{suffix}" not in taken:
            break
    return f"{stem}{suffix}"


class _Writer:
    """The parts of the statement."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.sql = Expressions(table)
        self.row = "event_row"
        while self.row in table.relation.columns:
            self.row += "_"

    def query(self) -> str:
        """The SELECT of the view.

        The branches of several measures have no WHERE: with one, PostgreSQL would read and sort all rows of a branch
        for each page.
        """
        if len(self.table.measures) < 2:
            return self.branch(0)
        branches = "\nUNION ALL\n".join(self.branch(number) for number in range(len(self.table.measures)))
        first = literal(self.table.measures[0].name).strip()
        columns = ", ".join(quoted(name) for name in documented())
        kept = f"WHERE quantity <> 0 OR metric_key = {first}"
        return f"SELECT {columns} FROM (\n{branches}\n) AS events\n{kept}"  # noqa: S608 - quoted names

    def branch(self, number: int) -> str:
        """The SELECT of one measure; remarks and choices are in the first."""
        table = self.table
        measure = table.measures[number] if table.measures else None
        several = len(table.measures) > 1
        lines = []
        wanted = documented()
        for position, name in enumerate(wanted, 1):
            line = self.line(name, measure if several else None)
            if number and name == "external_cost_amount":
                line = _Line("NULL::numeric")
            comma = "," if position < len(wanted) else ""
            remark = f"  -- {_comment(line.remark)}" if line.remark and not number else ""
            alias = "" if line.expression == quoted(name) else f" AS {quoted(name)}"
            lines.append(f"    {line.expression}{alias}{comma}{remark}")
            if not number:
                lines += [
                    f"    -- {expression} AS {quoted(name)}{comma}  -- instead of the line above{_comment(reason)}"
                    for expression, reason in line.choices
                    if _comment(expression) == expression
                ]
        alias = f" AS {self.row}" if not table.unique else ""
        return "SELECT\n" + "\n".join(lines) + f"\nFROM {table.relation.sql_name}{alias}"

    def line(self, name: str, measure: Column | None) -> _Line:
        """The line of a documented column; `measure` is that of the branch, None if the view has one branch."""
        table, source = self.table, self.table.first(name)
        if name == "id":
            return self.id(measure)
        if name in _ID_COLUMNS:
            return self.entity(name)
        if name in ("timestamp", "ingested_at"):
            return self.time(name)
        if name == "quantity":
            return self.quantity(measure or next(iter(table.measures), None))
        if name == "metric_key":
            return self.metric(measure)
        if name == "idempotency_key":
            return self.key(measure)
        if name == "dimensions":
            return self.dimensions()
        if name == "external_cost_amount":
            return self.cost(source)
        if source is None and name == "external_cost_currency":
            return self.currency()
        return self.text(source) if source else _Line("NULL::text")

    # ids

    def id(self, measure: Column | None) -> _Line:
        unique = self.table.unique
        suffix = f" || {literal(f':{measure.name}')}" if measure else ""
        if not unique:
            remark = "no column tells a row from all others: made of the whole row, so equal rows have one id"
            return _Line(f"md5({self.row}::text{suffix})::uuid", remark)
        if len(unique) > 1:
            parts = ", ".join(self.sql.stable(column) for column in unique)
            return _Line(f"md5(concat_ws('/', {parts}){suffix})::uuid", "made of the columns of a unique index")
        column = unique[0]
        if column.kind == "uuid" and not suffix:
            return _Line(column.sql)
        made = f"md5({self.sql.stable(column)}{suffix})::uuid"
        if column.kind == "text" and column.contents.uuids and not suffix:
            return _Line(f"CASE WHEN {column.sql} ~ '{UUID_TEXT}' THEN {column.sql}::uuid ELSE {made} END")
        return _Line(made)

    def entity(self, name: str) -> _Line:
        """The UUID of an organization, customer, product or subscription."""
        columns, required = self.table.sources.get(name, []), name in CONSTANTS
        constant = f"'{CONSTANTS[name]}'::uuid" if required else "NULL::uuid"
        kind = kind_of(name)
        if not columns:
            if not required:
                return _Line(constant)
            choices = () if name == "organization_id" else tuple(self.could_be_customers())
            return _Line(
                constant, f"no column is recognized as the {kind}: all events of one, as `load` has it", choices
            )
        blank = required and self.table.blank(columns[-1])
        remark = f"the first of {', '.join(column.sql for column in columns)} with a value" if columns[1:] else ""
        if blank:
            remark += f"{'; ' if remark else ''}rows without: the {kind} that `load` gives them"
        return _Line(self.sql.entity_id(name, columns), remark)

    def could_be_customers(self) -> Iterator[tuple[str, str]]:
        """The expressions of up to `_MAX_CHOICES` columns of text or UUIDs that might name a customer."""
        names = (
            column
            for column in self.table.rest
            if column.kind in ("uuid", "text") and not column.json_text and column.contents.filled
        )
        for column in islice((column for column in names if column not in self.table.unique), _MAX_CHOICES):
            yield self.sql.entity_id("customer_id", [column]), f" if {column.sql} is the customer"

    # times

    def time(self, name: str) -> _Line:
        table, source = self.table, self.table.first(name)
        if source is None:
            assert name == "ingested_at"  # noqa: S101 - without a time there is no view
            expression = self.sql.instant(table.sources["timestamp"][0])
            return _Line(expression, "no column found: late events cannot be recognized")
        remarks = [self.time_remark(source)]
        choices: list[tuple[str, str]] = []
        if missing := table.rows - source.contents.filled:
            rows = counted(missing, "checked row")
            remarks.append(f"{rows} without: in no result")
            other = table.first("ingested_at" if name == "timestamp" else "timestamp")
            if other and other is not source:
                choices.append(
                    (
                        f"coalesce({self.sql.instant(source)}, {self.sql.instant(other)})",
                        " to date these rows by the other time",
                    )
                )
        if name == "timestamp":
            if source is table.first("ingested_at"):
                remarks.append("the only time: when the event was recorded")
            choices += [
                (self.sql.instant(other), f" if {other.sql} is when an event occurred") for other in table.times
            ]
        return _Line(self.sql.instant(source), "; ".join(filter(None, remarks)), tuple(choices))

    def time_remark(self, column: Column) -> str:
        if column.type in ("timestamp", "date"):
            return "taken as UTC; write the zone it was recorded in"
        if column.kind == "number":
            return f"taken as {EPOCH_UNITS[column.epoch() or 1]} since 1970"
        if column.kind == "text" and column.contents.zoned < column.contents.filled:
            return f"times without an offset are taken as UTC{self.sampled()}"
        return f"text as a time{self.sampled()}" if column.kind == "text" else ""

    def sampled(self) -> str:
        if self.table.complete:
            return ""
        return f"; {self.table.rows:,} rows were checked, and a value that cannot be read makes a query fail"

    # numbers

    def number_remark(self, column: Column, instead: str) -> str:
        odd = column.contents.filled - column.contents.numbers
        if column.kind == "text" and odd:
            return (
                f"{counted(odd, 'checked value')} {'is' if odd == 1 else 'are'} no number, such as"
                f" {self.table.odd(column, NUMBER)!r}: {instead}"
            )
        if column.kind == "text":
            return f"text as a number{self.sampled()}"
        return "a float, through its shortest text" if column.type.startswith("float") else ""

    def quantity(self, measure: Column | None) -> _Line:
        if measure is None:
            amount = self.table.first("external_cost_amount")
            money = [amount] if amount and amount.snake == "amount" else []
            choices = (
                *((self.sql.number(column), f" if {column.sql} is no money") for column in money),
                *self.numbers_in_json(),
            )
            said = "no quantity is recognized: every event counts 1"
            return _Line("1::numeric", said, choices)
        remarks = [self.number_remark(measure, "0")]
        expression = self.sql.number(measure)
        if self.sql.lacks(measure) or (measure.kind == "text" and measure.contents.numbers < self.table.rows):
            expression = f"coalesce({expression}, 0)"
            if missing := self.table.rows - measure.contents.filled:
                remarks.append(f"{counted(missing, 'checked row')} without: 0")
        return _Line(expression, "; ".join(filter(None, remarks)))

    def numbers_in_json(self) -> Iterator[tuple[str, str]]:
        """Expressions for members of the JSON column that are numbers wherever they are."""
        column = self.table.first("dimensions")
        if column is None or not column.contents.objects:
            return
        query = _JSON_NUMBERS.format(self.sql.object(column, "NULL"), self.table.checked, literal(NUMBER))
        for key, rows in self.table.connection.execute(query.encode()).fetchall():
            value = f"(({self.sql.object(column, 'NULL')}) ->> {literal(key).strip()})::numeric"
            yield (
                f"coalesce({value}, 0)",
                f" if {key!r} of {column.sql} is the quantity ({counted(rows, 'row')})",
            )

    def cost(self, source: Column | None) -> _Line:
        if source is None:
            return _Line("NULL::numeric")
        factor = _PARTS.get(source.words[-1])
        expression = self.sql.number(source)
        return _Line(f"{expression} * {factor}" if factor else expression, self.number_remark(source, "no cost"))

    def currency(self) -> _Line:
        cost = self.table.first("external_cost_amount")
        if cost is None:
            return _Line("NULL::text")
        known = [_CURRENCIES[word] for word in cost.words if word in _CURRENCIES]
        known += [_CURRENCY_OF_TABLE[name] for name in [self.table.relation.name.lower()] if name in _CURRENCY_OF_TABLE]
        if known:
            return _Line(f"{literal(known[0])}::text")
        return _Line("NULL::text", "no column found", (("'USD'::text", " if the costs are in dollars"),))

    # texts

    def text(self, column: Column) -> _Line:
        text = self.sql.text(column)
        return _Line(f"nullif({text}, '')" if column.contents.empty else text)

    def metric(self, measure: Column | None) -> _Line:
        source = self.table.first("metric_key")
        if measure or source is None:
            named = measure or next(iter(self.table.measures), None)
            remark = "" if measure else "no column found: the name of the quantity's" if named else "no column found"
            return _Line(f"{literal(named.name if named else 'events')}::text", remark)
        line = self.text(source)
        if not self.table.blank(source):
            return line
        return _Line(f"coalesce({line.expression}, 'unknown')", "rows without: unknown")

    def key(self, measure: Column | None) -> _Line:
        source, suffix = self.table.first("idempotency_key"), f" || {literal(f':{measure.name}')}" if measure else ""
        if source is None:
            unique = self.table.unique
            if len(unique) == 1:
                return _Line(f"{self.sql.stable(unique[0])}{suffix}", "no column found: the id")
            return _Line(f"({self.id(measure).expression})::text", "no column found: the id")
        text = self.sql.value(source)
        if not self.table.blank(source):
            return _Line(f"{self.sql.plain(source)}{suffix}")
        return _Line(f"coalesce({text}{suffix}, ({self.id(measure).expression})::text)", "rows without: the id")

    # dimensions

    def dimensions(self) -> _Line:
        table, source = self.table, self.table.first("dimensions")
        ids = [column for name in _ID_COLUMNS for column in table.sources.get(name, ()) if column.kind != "uuid"]
        rest = [*ids, *table.rest]
        known: set[str] = set()
        if source:
            query = _JSON_KEYS.format(self.sql.object(source, "NULL"), table.checked)
            known = {row[0] for row in table.connection.execute(query.encode()).fetchall()}
        pairs = []
        for column in sorted(rest, key=table.columns.index):
            key = f"column_{column.name}" if column.name in known else column.name
            pairs.append(f"{literal(key).strip()}, {self.sql.member(column)}")
        objects = [
            f"jsonb_strip_nulls(jsonb_build_object({', '.join(pairs[start : start + _PAIRS_PER_OBJECT])}))"
            for start in range(0, len(pairs), _PAIRS_PER_OBJECT)
        ]
        if source:
            objects.append(self.sql.object(source, "'{}'::jsonb"))
        remark = "the columns that serve as nothing else, and the text of ids" if pairs else ""
        return _Line(" || ".join(objects) or "'{}'::jsonb", remark)

    # around the statement

    def notes(self) -> list[str]:
        """Comments before the statement."""
        table = self.table
        rows = "of all rows" if table.complete else f"of {table.rows:,} rows of a larger table"
        notes = [f"Made from the names and types of the columns and the values {rows}."]
        if table.measures[1:]:
            first, *others = (column.sql for column in table.measures)
            cost = " and carries its cost" if table.first("external_cost_amount") else ""
            notes.append(
                f"Each row becomes {len(table.measures)} events or fewer: {first} has one for every row{cost};"
                f" {', '.join(others)} where it is not 0."
            )
        notes += [unreadable] if (unreadable := _unreadable(table)) else []
        notes += [f"{reason}: not counted again, a dimension." for reason in table.totals.values()]
        unused = [column for column in table.rest if could_be_quantity(column) and column.name not in table.totals]
        odd = {column.sql: table.odd(column, NUMBER) for column in unused if column.kind == "text"}
        notes += [f"{name} holds {value!r}: not read as a number." for name, value in odd.items() if value]
        if names := [column.sql for column in unused if column.sql not in odd and column.contents.filled]:
            notes.append(f"Dimensions here, though they could be quantities: {', '.join(names)}.")
        for column in table.rest:
            if {"deleted", "voided"} & set(column.words) and column.contents.filled and column.kind == "time":
                marked = counted(column.contents.filled, "checked row")
                notes.append(f"{marked} with {column.sql} count too; WHERE {column.sql} IS NULL would leave them out.")
        if self.hashes() and not self.sql.schemas:
            notes += [
                "Ids that are text become UUIDs by MD5, because PostgreSQL has no SHA-1 of its own: not the UUIDs that"
                " `load` makes of the same texts.",
                'For those: CREATE EXTENSION "uuid-ossp"; or pgcrypto, then run `doctor` again.',
            ]
        return notes

    def hashes(self) -> bool:
        """Whether an id is made of text."""
        columns = (column for name in _ID_COLUMNS for column in self.table.sources.get(name, ()))
        return any(column.kind != "uuid" for column in columns)

    def assumed(self) -> str:
        """What the finding says of columns that the table does not have."""
        ones = {"organization_id": "in one organization", "customer_id": "of one customer"}
        missing = [words for name, words in ones.items() if name not in self.table.sources]
        return f", with all events {' and '.join(missing)}" if missing else ""

    def index(self) -> str:
        """The index that paging through the view needs, where the table has none: on the time, or its expression."""
        relation, source = self.table.relation, self.table.sources["timestamp"][0]
        if relation.kind not in ("table", "partitioned table"):
            return ""
        if source.type == "timestamptz":
            there = existing_indexes(self.table.connection, relation)
            if any(source.name in index.keys[:2] for index in there):
                return ""
            said = f"-- The table has no index on {source.sql}."
        else:
            said = (
                "-- The view's time is an expression: the planner uses no index of the table on the column behind it\n"
                "-- and, of a hypertable, leaves out no chunk."
            )
        if source.kind == "text":
            return f"{said} No index can help, because the value of a text depends on the session."
        keys = []
        for name, direction in (("organization_id", ""), ("timestamp", " DESC"), ("id", " DESC")):
            expression = self.line(name, None).expression
            if name == "timestamp":
                keys.append(f"{expression if expression == source.sql else f'({expression})'}{direction}")
            elif expression == (self.table.first(name) or source).sql and len(self.table.measures) < 2:
                keys.append(f"{expression}{direction}")
        times = [self.table.first(name) for name in ("timestamp", "ingested_at")]
        naive = list(dict.fromkeys(column.name for column in times if column and column.type == "timestamp"))
        better = (
            "\n-- Where the table may be rewritten (a hypertable: after its columnstore is given up), better than any"
            f" view:\n-- {to_instants(relation, naive)}"
        )
        return (
            f"{said} Without this index every page reads every event.{better if naive else ''}"
            f"\nCREATE INDEX ON {relation.sql_name} ({', '.join(keys)});  -- writers wait while it is made"
        )


def to_instants(relation: Relation, names: list[str]) -> str:
    """The ALTER TABLE that makes columns timestamptz, for the owner of the table."""
    changes = ", ".join(
        f"ALTER {quoted(name)} TYPE timestamptz USING {quoted(name)} AT TIME ZONE 'UTC'" for name in names
    )
    return f"ALTER TABLE {relation.sql_name} {changes};  -- rewrites it; write the zone it was recorded in"


def _comment(text: str) -> str:
    """The text on one line, since a line break would end the comment."""
    return re.sub(r"[\r\n]", " ", text)
