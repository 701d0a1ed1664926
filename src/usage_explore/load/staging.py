"""The statements of a load: COPY into a temporary table, then one INSERT … SELECT, in the caller's transaction.

A row with the organization, time and idempotency key of a row that was in the table before is left out. Other
repetitions are loaded and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql
from sqlalchemy import Select, Table, exists, literal, literal_column, or_, select, union_all
from sqlalchemy.dialects.postgresql import psycopg as psycopg_dialect

from usage_explore.db.catalog import organizations, placed
from usage_explore.db.engine import TypeCompiler
from usage_explore.db.names import remember
from usage_explore.db.schema import COLUMNS, events_table
from usage_explore.errors import DatabaseUnavailable, LoadError, TableMismatch, UsageExploreError
from usage_explore.extract import changes
from usage_explore.formatting import counted, path_text
from usage_explore.load import loaded_again, other_zone
from usage_explore.load.loaded_again import Repeated
from usage_explore.load.moved_loads import MAX_APART
from usage_explore.load.replace import STORED_ID, Superseded, supersede
from usage_explore.load.report import MAX_KEPT_REJECTIONS, future_from
from usage_explore.names import LOCAL_NAME, LOCAL_ORGANIZATION
from usage_explore.sql.identifiers import identifier

Connection = psycopg.Connection[tuple[Any, ...]]

STAGE = sql.Identifier("pg_temp", "usage_explore_load")

_DIALECT = psycopg_dialect.dialect()  # type: ignore[no-untyped-call]
_DIALECT.type_compiler_instance = TypeCompiler(_DIALECT)

_STAGED = datetime(9999, 1, 1, tzinfo=UTC)
"""The arrival of staged rows where they are compared with stored ones: later than all of these."""

_TYPES: dict[str, LiteralString] = {
    "id": "uuid",
    "organization_id": "uuid NOT NULL",
    "customer_id": "uuid",
    "product_id": "uuid",
    "subscription_id": "uuid",
    "quantity": "numeric",
    "timestamp": "timestamptz NOT NULL",
    "ingested_at": "timestamptz",
    "external_cost_amount": "numeric",
    "dimensions": "jsonb",
}

_NUMBER_OCCURRENCES = """
UPDATE {stage} s
SET occurrence = n.occurrence,
    idempotency_key = CASE WHEN keyed THEN idempotency_key ELSE idempotency_key || '#'::text || n.occurrence::text END
FROM (
    SELECT ordinal, row_number() OVER (
        PARTITION BY organization_id, timestamp, idempotency_key COLLATE "C" ORDER BY ordinal) AS occurrence
    FROM {stage}) n
WHERE n.ordinal = s.ordinal AND n.occurrence > 1
"""

_EARLIER_LINES = """
DELETE FROM {stage} s
USING (
    SELECT organization_id, {row_key} AS key, max(line) AS line FROM {stage} s WHERE keyed GROUP BY 1, 2) last
WHERE s.keyed AND s.organization_id = last.organization_id AND {row_key} = last.key AND s.line < last.line
"""

_ROW_KEYS: dict[bool, LiteralString] = {
    False: "s.idempotency_key",
    True: "left(s.idempotency_key, -1 - length(s.metric_key))",
}
"""Whether the events are measures, whose key ends with the metric -> SQL for the key of their row in the file."""

_KNOWN = """
CREATE TEMP TABLE usage_explore_known ON COMMIT DROP AS
SELECT s.ordinal, t.organization_id, t.timestamp, t.id,
       CASE WHEN ({staged}) IS DISTINCT FROM ({stored}) THEN {differing} ELSE ARRAY[]::text[] END AS differing
FROM {stage} s JOIN {table} t
  ON t.organization_id = s.organization_id AND t.timestamp = s.timestamp
 AND {same}
 AND t.timestamp BETWEEN %(first)s AND %(last)s
 AND t.organization_id = ANY (%(organizations)s)
"""

_DIFFERING = """
ARRAY(
    SELECT name FROM (VALUES {columns}) AS of_column (name) WHERE name IS NOT NULL
    UNION ALL
    SELECT coalesce(a.key, b.key)
    FROM jsonb_each(s.dimensions) AS a FULL JOIN jsonb_each(t.dimensions) AS b ON lower(a.key) = lower(b.key)
    WHERE {staged_value} <> {stored_value})
"""
"""The names of columns and dimensions of a row of the file that its stored event has with another value."""

_CHANGED = """
WITH changed AS (
    SELECT ordinal FROM pg_temp.usage_explore_known GROUP BY ordinal HAVING bool_and(cardinality(differing) > 0))
SELECT (SELECT count(*) FROM changed),
       ARRAY(SELECT DISTINCT unnest(differing) FROM pg_temp.usage_explore_known JOIN changed USING (ordinal))
"""

_TAKEN_IDS = """
SELECT s.ordinal, s.line, s.id, bool_or(t.id IS NOT NULL)
FROM (
    SELECT ordinal, line, id, organization_id, timestamp, row_number() OVER (
        PARTITION BY organization_id, timestamp, id ORDER BY ordinal) AS place
    FROM {stage} WHERE id IS NOT NULL) s
LEFT JOIN {table} t
  ON t.organization_id = s.organization_id AND t.timestamp = s.timestamp AND t.id = s.id
 AND t.timestamp BETWEEN %(first)s AND %(last)s
WHERE t.id IS NOT NULL OR s.place > 1
GROUP BY s.ordinal, s.line, s.id
ORDER BY s.ordinal
"""

_COUNTS = """
SELECT count(*) FILTER (WHERE keyed AND occurrence > 1),
       count(*) FILTER (WHERE NOT keyed AND occurrence > 1),
       count(*) FILTER (WHERE ingested_at < clock_timestamp() - %(settle)s),
       count(*) FILTER (WHERE NOT keyed)
FROM {stage}
"""

_OTHER_TIMES = """
SELECT count(*) FROM (
    SELECT FROM {table} t
    JOIN (SELECT DISTINCT organization_id, idempotency_key FROM {stage} WHERE keyed) s
      USING (organization_id, idempotency_key)
    GROUP BY organization_id, idempotency_key
    HAVING min(t.timestamp) < max(t.timestamp)) AS keys
"""

_KEYS_IN_ANOTHER_ZONE = """
SELECT CASE WHEN count(*) <= 2 * count(DISTINCT s.ordinal) THEN count(DISTINCT s.ordinal) ELSE 0 END
FROM {stage} s JOIN {table} t USING (organization_id, idempotency_key, customer_id, metric_key, quantity)
WHERE s.keyed AND t.timestamp BETWEEN s.timestamp - %(apart)s AND s.timestamp + %(apart)s
  AND mod(extract(epoch FROM t.timestamp - s.timestamp), 900::numeric) = 0::numeric
  AND mod(extract(epoch FROM t.timestamp - s.timestamp), 86400::numeric) <> 0::numeric
  AND NOT EXISTS (SELECT FROM {stage} o WHERE o.organization_id = t.organization_id AND o.timestamp = t.timestamp
                    AND o.idempotency_key = t.idempotency_key)
"""
"""Rows whose key, customer, metric and quantity are stored at a time that another time zone gives, not by this file.

0 if they are so at many times, as where each event of a meter has the same key."""

_EXACT_TYPES = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = %s::regclass::oid AND attname = ANY (%s)
  AND format_type(atttypid, atttypmod) NOT IN ('numeric', 'timestamp with time zone')
"""

_GIVEN_TIMES = """
SELECT organization_id, min(ingested_at), max(ingested_at) FROM {stage} WHERE ingested_at IS NOT NULL GROUP BY 1
"""
"""By organization: the first and last `ingested_at` that the file gives, which may be behind a watermark."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the insertion gives a `FileReport`: numbers, and whether a superseded event had settled."""

    loaded: int
    repeats: int
    identical: int
    other_times: int
    backdated: int
    generated_keys: int
    restated: int
    credits: int
    loaded_again: int
    other_zone: int
    cut_times: int
    writing: timedelta
    superseded_settled: bool


class Stage:
    """The temporary table of one file's load. Needs an open transaction, at whose end the table is dropped."""

    def __init__(
        self,
        connection: Connection,
        table: Table,
        *,
        last_line_wins: bool = False,
        measured: bool = False,
        home: Path | None = None,
    ) -> None:
        self._connection, self._home = connection, home
        self.superseded = Superseded(0, {}, "", 0)
        self._changes = changes.Changes()
        self._last_line_wins = last_line_wins
        self._row_key = sql.SQL(_ROW_KEYS[measured])
        self._earlier_lines = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.organizations: tuple[UUID, ...] = ()
        self.metric_key: str | None = None
        self.customers = self.future = self.without_currency = 0
        self._events = placed(connection, table)
        self._table = identifier(table)
        self._name = self._table.as_string(connection)
        self.span: dict[str, Any] = {}  # the parameters of statements that compare the rows with stored events
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(_TYPES.get(column, "text"))) for column in COLUMNS
        )
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute("SET LOCAL work_mem = '64MB'")
        self._run("DROP TABLE IF EXISTS {stage}")
        connection.execute(
            sql.SQL(
                "CREATE TEMP TABLE {} (ordinal bigint NOT NULL, line bigint NOT NULL, keyed boolean NOT NULL, "
                "occurrence bigint NOT NULL DEFAULT 1, {}) ON COMMIT DROP"
            ).format(sql.Identifier("usage_explore_load"), columns)
        )

    def copy_statement(self) -> sql.Composed:
        """COPY of (ordinal, line, keyed, the documented columns in order)."""
        return sql.SQL("COPY {} (ordinal, line, keyed, {}) FROM STDIN (ENCODING 'UTF8')").format(
            STAGE, sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        )

    def settle_repeats(self, replace: Sequence[str], zone: ZoneInfo) -> tuple[int, int, tuple[str, ...]]:
        """Number the repetitions in the file and drop the rows that the table already has.

        Returns the numbers of these, and of those that differ from the stored event, which is of another source where
        the file replaces, and in which columns and dimensions. `replace` are the scope columns of `supersede`, `zone`
        is that of its months. Loads into one table wait for each other from here on.
        """
        if self._last_line_wins:
            statement = sql.SQL(_EARLIER_LINES).format(stage=STAGE, row_key=self._row_key)
            self._earlier_lines = self._connection.execute(statement).rowcount
        self._run("ANALYZE {stage}")
        self._run(_NUMBER_OCCURRENCES)
        self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext('usage-explore load '::text || %s::regclass::oid::text)::bigint)",
            [self._name],
        )
        [(first, last, organizations, *counts)] = self._run(
            "SELECT min(timestamp), max(timestamp), array_agg(DISTINCT organization_id), count(DISTINCT customer_id),"
            " CASE WHEN min(metric_key) = max(metric_key) THEN min(metric_key) END,"
            " count(*) FILTER (WHERE timestamp > %(future_from)s),"
            " count(external_cost_amount) FILTER (WHERE external_cost_currency IS NULL) FROM {stage}",
            future_from=future_from(),
        ).fetchall()
        self.customers, self.metric_key, self.future, self.without_currency = counts
        self.first, self.last, self.organizations = first, last, tuple(organizations or ())
        self.span = {"first": first, "last": last, "organizations": organizations or []}
        if first is None:
            return 0, 0, ()
        self.superseded = supersede(self._connection, self._events, STAGE, replace, self.span, zone)
        self._run("DROP TABLE IF EXISTS pg_temp.usage_explore_known")
        # a file that replaces may repeat a stored key, so only a row with the same id is there already
        same = STORED_ID.format("s") + " = t.id" if replace else "t.idempotency_key = s.idempotency_key"
        # what differs in what is replaced was deleted: a stored event that does is of another source
        own = ("id", "organization_id", "timestamp", "ingested_at")
        compared = [each for each in COLUMNS if each not in own]
        staged, stored = (sql.SQL(", ").join(sql.Identifier(of, each) for each in compared) for of in "st")
        differing = _differing([each for each in compared if replace or each != "dimensions"])
        known = sql.SQL(_KNOWN).format(
            stage=STAGE, table=self._table, same=sql.SQL(same), staged=staged, stored=stored, differing=differing
        )
        self._connection.execute(known, self.span)
        dropped = self._run(
            "DELETE FROM {stage} WHERE ordinal IN (SELECT ordinal FROM pg_temp.usage_explore_known)"
        ).rowcount
        if not dropped:
            return 0, 0, ()
        [(changed, names)] = self._run(_CHANGED).fetchall()
        return dropped, int(changed), tuple(sorted(names))

    def notes(self) -> Iterator[str]:
        """Sentences for the report."""
        if self._earlier_lines:
            yield f"{counted(self._earlier_lines, 'event')} left out, as a later line of the file has the row's key"
        yield from self.superseded.notes(self._connection, self._table, self.span)

    def keep_names(
        self, names: Table, texts: Mapping[tuple[str, str], str], readable: Mapping[tuple[str, str, str], str]
    ) -> None:
        """Keep the texts of ids, by (kind, id), and their names, by (organization, kind, id), in the directory.

        A directory that is missing or may not be written is left alone.
        """
        entries: dict[UUID, list[tuple[str, str, str | None, str | None]]] = {}
        for kind in ("customer", "product", "subscription") if texts or readable else ():
            statement = sql.SQL("SELECT DISTINCT organization_id, {0}::text FROM {1} WHERE {0} IS NOT NULL")
            for organization, id_ in self._connection.execute(
                statement.format(sql.Identifier(f"{kind}_id"), STAGE)
            ).fetchall():
                text, name = texts.get((kind, id_)), readable.get((str(organization), kind, id_))
                if text or name:
                    entries.setdefault(organization, []).append((kind, id_, text, name))
        named = {LOCAL_ORGANIZATION: LOCAL_NAME}
        named |= {UUID(id_): text for (kind, id_), text in texts.items() if kind == "organization"}
        present = sql.SQL(
            "SELECT named.id FROM unnest(%s::uuid[]) AS named (id)"
            " WHERE EXISTS (SELECT FROM {} WHERE organization_id = named.id)"
        ).format(STAGE)
        for (organization,) in self._connection.execute(present, [list(named)]).fetchall():
            # as its external id: a name that `names load` gave stays
            own = ("organization", str(organization), named[organization], None)
            entries.setdefault(organization, []).append(own)
        for organization, own_entries in entries.items():
            remember(self._connection, names, organization, own_entries)

    def taken_ids(self, *, drop: bool) -> tuple[int, list[tuple[int, str]]]:
        """Rows whose id another row has at the same time: their number, and (line, reason) of the first 1,000.

        `drop` deletes them from the stage.
        """
        has_ids = "SELECT EXISTS (SELECT FROM {stage} WHERE id IS NOT NULL)"
        if self.first is None or not self._scalar(has_ids):
            return 0, []
        self._run("CREATE TEMP TABLE usage_explore_taken ON COMMIT DROP AS " + _TAKEN_IDS)
        first = self._run(
            "SELECT line, id, known FROM pg_temp.usage_explore_taken AS taken (ordinal, line, id, known)"
            " ORDER BY ordinal LIMIT %(max_rows)s"
        ).fetchall()
        number = int(self._scalar("SELECT count(*) FROM pg_temp.usage_explore_taken"))
        if drop and number:
            self._run("DELETE FROM {stage} WHERE ordinal IN (SELECT ordinal FROM pg_temp.usage_explore_taken)")
        self._run("DROP TABLE pg_temp.usage_explore_taken")
        in_table = "an event in the table at the same time, with another idempotency key"
        owners = {True: in_table, False: "an earlier row of the file"}
        return number, [(line, f"{id_} is the id of {owners[known]}") for line, id_, known in first]

    def rounded(self) -> tuple[str, str, int] | None:
        """(column, its type, number of rows) for a column of the table that would round values of the file."""
        types = self._connection.execute(
            _EXACT_TYPES, [self._name, ["quantity", "external_cost_amount", "timestamp", "ingested_at"]]
        ).fetchall()
        for column, kind in types:
            name = sql.Identifier(column)
            statement = sql.SQL("SELECT count(*) FROM {} WHERE {}::{} <> {}").format(STAGE, name, sql.SQL(kind), name)
            row = self._connection.execute(statement).fetchone()
            if row and row[0]:
                return column, kind, int(row[0])
        return None

    def write(self, settle: timedelta) -> Written:
        """Insert the staged rows. A missing `ingested_at` is the start of the insertion, the same for all rows.

        Changes behind the watermark of an extract on this machine are announced to it.
        """
        counts = self._run(_COUNTS, settle=settle).fetchone() or (0, 0, 0, 0)
        repeats, identical, backdated, generated = map(int, counts)
        repeated, zone, cut = (Repeated(), 0, 0) if self.first is None else self._loaded_before()
        began: datetime = self._scalar("SELECT clock_timestamp()")
        loaded = self._insert(began)
        self._announce()
        other_times = int(self._scalar(_OTHER_TIMES)) if loaded > generated else 0
        if other_times and not zone:
            moved = int(self._scalar(_KEYS_IN_ANOTHER_ZONE, apart=MAX_APART))
            zone = moved if 2 * moved >= loaded else 0
        ended: datetime = self._scalar("SELECT clock_timestamp()")
        settled = any(first <= ended - settle for first, _ in self.superseded.ingested.values())
        again = repeated.loaded_again(generated or loaded)
        restated = repeated.restated, repeated.credits
        numbers = (loaded, repeats, identical, other_times, backdated, generated, *restated, again, zone, cut)
        return Written(*numbers, ended - began, settled)

    def _announce(self) -> None:
        if self._home is None:
            return
        changed = dict(self.superseded.ingested)
        for organization_id, *times in self._run(_GIVEN_TIMES):
            old = changed.get(organization_id, times)
            changed[organization_id] = min(times[0], old[0]), max(times[1], old[1])
        self._changes = changes.Changes(changed, self.superseded.slots, changes.new_name())
        changes.announce(self._connection, self._events, self._home, *self._changes)

    def announce_committed(self) -> None:
        """Announce the changes again after their commit, to extracts whose first build began meanwhile."""
        if self._home is not None:
            with self._connection.transaction():
                changes.announce(self._connection, self._events, self._home, *self._changes, committed=True)

    def _insert(self, began: datetime) -> int:
        """Missing ids are a hash of (organization, time, key, occurrence), so every load of the file gives the same."""
        values = {"id": STORED_ID.format("s"), "ingested_at": "coalesce(ingested_at, %(began)s)"}
        chosen = sql.SQL(", ").join(
            sql.SQL(values[column]) if column in values else sql.Identifier(column) for column in COLUMNS
        )
        statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} s").format(
            self._table, sql.SQL(", ").join(map(sql.Identifier, COLUMNS)), chosen, STAGE
        )
        return self._connection.execute(statement, {"began": began}).rowcount

    def _run(self, text: LiteralString, **values: Any) -> psycopg.Cursor[tuple[Any, ...]]:
        statement = sql.SQL(text).format(stage=STAGE, table=self._table)
        return self._connection.execute(statement, {"max_rows": MAX_KEPT_REJECTIONS, **self.span, **values})

    def _loaded_before(self) -> tuple[Repeated, int, int]:
        """How many rows are restated or may be of a file loaded before, were so in another zone, or with times cut.

        Those at other times may look restated, too, and are not counted as that.
        """
        statement = loaded_again.statement(STAGE, self._table)
        # of common table expressions few rows are expected: 60,000 would be compared with 60,000 one by one, also by a
        # merge join on organization and metric alone, in the order of their index
        self._run("SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off")
        row = self._connection.execute(statement, {**loaded_again.PATTERNS, **self.span}).fetchone()
        self._run("SET LOCAL enable_mergejoin TO DEFAULT")
        zone, cut = self._at_other_times()
        self._run("SET LOCAL enable_nestloop TO DEFAULT")
        return (Repeated(), zone, cut) if zone or cut or not row else (Repeated(*row), 0, 0)

    def _at_other_times(self) -> tuple[int, int]:
        """How many rows repeat most of an earlier load in another zone, and how many one with times cut."""
        staged, stored = events_table("pg_temp.usage_explore_load").c, self._events.c
        names = [name for name in other_zone.COLUMNS if name != "ingested_at"]
        of_file = select(literal(_STAGED).label("ingested_at"), *(staged[name] for name in names))
        of_table = select(stored.ingested_at, *(stored[name] for name in names)).where(
            or_(stored.idempotency_key.like("row:%"), exists().where(staged.idempotency_key.like("row:%"))),
            stored.organization_id.in_(self.organizations),
            stored.timestamp.between(
                self.span["first"] - other_zone.MAX_DISTANCE, self.span["last"] + other_zone.MAX_DISTANCE
            ),
        )
        rows = union_all(of_file.where(staged.ingested_at.is_(None)), of_table).subquery("rows")
        found = other_zone.copied_loads(rows, self.read, lambda pair: pair[0] == _STAGED)
        zone = max((copy.rows for copy in found.values() if copy.comparison.in_zones), default=0)
        return zone, max((copy.rows for copy in found.values() if not copy.comparison.in_zones), default=0)

    def read(self, statement: Select[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
        """The rows of a statement on the staged rows and the table."""
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        return self._connection.execute(str(compiled).encode(), compiled.params)

    def month_end(self) -> datetime | None:
        """The last time of the month, of UTC, with most of the staged rows; of equals the latest."""
        last: datetime | None = self._scalar(
            "SELECT max(timestamp) FROM {stage} GROUP BY date_trunc('month', timestamp AT TIME ZONE 'UTC')"
            " ORDER BY count(*) DESC, 1 DESC LIMIT 1"
        )
        return last

    def holds_several(self) -> bool:
        """Whether the table and the staged rows have several organizations."""
        return len({*organizations(self._connection, self._events), *self.organizations}) > 1

    def _scalar(self, text: LiteralString, **values: Any) -> Any:
        row = self._run(text, **values).fetchone()
        return row[0] if row else None


def _differing(columns: Sequence[str]) -> sql.Composed:
    """SQL for the names of these columns, and of dimensions however they are written, that differ from the event's."""
    each = sql.SQL("(CASE WHEN {} IS DISTINCT FROM {} THEN {}::text END)")
    named = (each.format(sql.Identifier("s", one), sql.Identifier("t", one), sql.Literal(one)) for one in columns)
    values = (loaded_again.folded(literal_column(f"jsonb_build_object('', {of}.value)")) for of in "ab")
    staged_value, stored_value = (
        sql.SQL(str(value.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))) for value in values
    )
    return sql.SQL(_DIFFERING).format(
        columns=sql.SQL(", ").join(named), staged_value=staged_value, stored_value=stored_value
    )


@contextmanager
def mapped_errors(path: Path, table_name: str) -> Iterator[None]:
    """Raise the database's errors as the project's own, each a sentence that says what happened to the file."""
    try:
        yield
    except UsageExploreError:
        raise
    except psycopg.errors.InsufficientPrivilege as error:
        raise TableMismatch(
            f"{table_name}: this role may not load into it ({error.diag.message_primary}); it needs SELECT and INSERT "
            "on the table (DELETE to --replace) and TEMPORARY on the database"
        ) from error
    except psycopg.errors.DiskFull as error:
        raise LoadError(
            f"{path_text(path)}: the database server's disk is full, so nothing of the file was loaded "
            f"({error.diag.message_primary}); make room there, then load it again"
        ) from error
    except psycopg.Error as error:
        is_of_connection = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        if is_of_connection and (not error.sqlstate or error.sqlstate.startswith(("08", "57P"))):
            raise DatabaseUnavailable(
                f"{path_text(path)}: the connection to the database broke, so nothing of the file was loaded; load it"
                " again"
            ) from error
        message = error.diag.message_primary or str(error)
        where = f" ({error.diag.context.splitlines()[0]})" if error.diag.context else ""
        raise LoadError(
            f"{path_text(path)}: the database refused it, so nothing of the file was loaded: {message}{where}"
        ) from error
