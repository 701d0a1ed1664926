"""The directory: names of organizations, customers, products and subscriptions, units of metrics, in a table or view.

Every statement is about one organization, except that `of_organizations` reads the own names of several. The directory
is optional: without the table, without SELECT on it, or with other columns there are no names. Reading runs on the
transaction of the answer, one bounded statement for each; writing on a read-write connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.db import owners
from usage_explore.db.catalog import Relation
from usage_explore.errors import Fault, QueryError, ScopeError, TableMismatch
from usage_explore.formatting import listed
from usage_explore.names import KINDS, METRIC, NO_NAMES, Key, Names, kind_of
from usage_explore.query import validators
from usage_explore.query.base import Query
from usage_explore.results.named import filtered_ids
from usage_explore.sql.identifiers import identifier, quoted

_COLUMNS = (*KINDS, *(f"{kind}_id" for kind in KINDS))
"""A kind, or the column of its ids."""

MAX_NAMED_IDS = 100_000
"""Ids whose names one answer reads; further ones are shown as ids."""

_BLANKS = " \t\r\n"
"""Characters that are cut from both ends of a unit."""

_BATCH_ROWS = 10_000
"""Rows that one statement writes."""

_FITS = f"""
SELECT count(*) FILTER (WHERE a.attname <> 'unit') = 6 AND bool_and(has_table_privilege(a.attrelid, 'SELECT')),
    coalesce(bool_or(a.attname = 'unit'), false),
    (SELECT {owners.IS_OF_ANOTHER} FROM pg_class v LEFT JOIN pg_class e ON e.oid = to_regclass(%(events)s::text)::oid
     WHERE v.oid = max(a.attrelid))
FROM pg_attribute a
WHERE a.attrelid = (
    SELECT v.oid FROM pg_class v LEFT JOIN pg_class e ON e.oid = to_regclass(%(events)s::text)::oid
    WHERE v.relname = %(table)s AND v.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND has_schema_privilege(v.relnamespace, 'USAGE')
      AND CASE WHEN %(schema)s::text IS NULL THEN pg_table_is_visible(v.oid)
          ELSE v.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = %(schema)s) END
      AND CASE WHEN {owners.RUNS_CODE_TO_READ} THEN {owners.UNTRUSTED} IS NULL ELSE true END
) AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.attname IN ('organization_id', 'id') AND a.atttypid = 'pg_catalog.uuid'::regtype::oid
       OR a.atttypid IN ('pg_catalog.text'::regtype::oid, 'pg_catalog.varchar'::regtype::oid)
       AND a.attname IN ('kind', 'external_id', 'name', 'preferred_currency', 'unit'))
"""  # noqa: S608 - of constants

_OWN_NAMES = """
SELECT id, coalesce(name, external_id) FROM {}
WHERE kind = 'organization' AND id = organization_id AND id = ANY(%s) AND coalesce(name, external_id) IS NOT NULL
ORDER BY 2 DESC
"""

_UPSERT = """
INSERT INTO {table} AS stored (organization_id, kind, id, {columns})
SELECT %s, new.* FROM unnest(%s::text[], %s::uuid[], {arrays}) AS new
ON CONFLICT (organization_id, kind, id) DO UPDATE SET {assignments} WHERE ({stored}) IS DISTINCT FROM ({merged})
"""


_T = TypeVar("_T")


class Entry(NamedTuple):
    """One row of the directory, without its organization. `external_id` is the text of an id that is no UUID.

    Of kind metric it is the metric key, whatever its form, and `unit` that of the metric's quantities.
    """

    kind: str
    id: UUID
    external_id: str | None = None
    name: str | None = None
    preferred_currency: str | None = None
    unit: str | None = None


def is_readable(connection: psycopg.Connection[Any], table: Table) -> bool:
    """Whether the directory exists, may be read and has its columns, except perhaps that of units."""
    return _fits(connection, table)[0]


def lacks_units(connection: psycopg.Connection[Any], table: Table, existing: Relation) -> bool:
    """Whether the directory is a table without the column of units. A view may do without."""
    is_table = existing.kind in ("table", "partitioned table")
    return is_table and "unit" not in existing.columns and is_readable(connection, table)


def add_units(table: Table) -> sql.Composed:
    """The statement that adds the column of units to the directory."""
    return sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS unit text").format(identifier(table))


def of_organizations(connection: Connection, table: Table, organization_ids: Sequence[UUID]) -> Names:
    """The own names of these organizations, which the caller may see."""
    if not organization_ids or not _directory_fits(connection, table)[0]:
        return NO_NAMES
    own = and_(table.c.kind == "organization", table.c.id == table.c.organization_id)
    ids = literal(list(organization_ids), ARRAY(Uuid))
    statement = select(table.c.id, _shown(table)).where(own, table.c.organization_id == any_(ids))
    rows = connection.execute(statement.order_by(_shown(table))).all()
    return Names({("organization", str(id_)): name for id_, name in reversed(rows) if name})


@dataclass(frozen=True)
class Directory:
    """The directory as a query of one organization reads it, in the query's transaction; `given` are further names."""

    connection: Connection
    table: Table
    query: Query
    given: Names = NO_NAMES

    def prepare(self, *, units: bool) -> None:
        """Read what does not depend on the events: the names in the query's filters, and whether there are `units`."""
        if filtered_ids(self.query):
            _ = self._filtered
        elif units:
            _ = self._fits

    def names(self, ids: Iterable[tuple[str, UUID | str]]) -> Names:
        """The names of the ids in the query's filters, and of these (column, id); those that are given, too."""
        if "_filtered" in vars(self):
            return self._filtered | self._read(_checked(ids)) | self.given
        return self._read([*filtered_ids(self.query), *_checked(ids)]) | self.given

    def ids_of(self, keys: Iterable[Key]) -> dict[Key, UUID]:
        """The id of each (kind, external id) that the directory has."""
        driver = self._readable_driver
        return {} if driver is None else ids_by_external_id(driver, self.table, self._organization, keys)

    def unknown_texts(self, made: Mapping[Key, UUID], found: Mapping[Key, UUID]) -> str:
        """A warning of texts in a file that stand for no id of the directory; "" without any, and where it is not to
        be read.
        """
        driver = self._readable_driver
        return "" if driver is None else unknown_texts(driver, self.table, self._organization, made, found)

    def reader(self) -> Callable[[Iterable[tuple[str, str]]], Names] | None:
        """The function with which an export reads the names of a page's ids; None if the organization has no names."""
        if not self._is_readable:
            return None
        any_row = select(
            exists().where(self.table.c.organization_id == self._organization, self.table.c.kind != METRIC)
        )
        return self._read if self.connection.execute(any_row).scalar_one() else None

    def search(self, text: str, kind: str | None = None, most: int = 50) -> list[Entry]:
        """At most `most` rows whose name, external id or id contains the text, in any case; all for an empty text.

        Of a kind, by default all that have names: those of metrics are found with the kind "metric" alone.

        Names that begin with the text come first, then other names, then ids; each by name. Raises `QueryError`.
        """
        parameter = "text"
        try:
            validators.text(text, blank=True)
            parameter = "column"
            kind = None if kind is None else validators.choice(kind, (*_COLUMNS, METRIC))
            parameter = "most"
            most = validators.integer(most, 1, MAX_NAMED_IDS)
        except ValueError as error:
            raise QueryError([Fault(parameter, str(error))]) from None
        is_readable, has_units = self._fits
        if not is_readable:
            return []
        c, part = self.table.c, text.lower()
        name = func.lower(_shown(self.table))
        hits = or_(
            name.contains(part, autoescape=True),
            func.lower(c.external_id).contains(part, autoescape=True),
            c.id.cast(Text).contains(part, autoescape=True),
        )
        starts, contains = name.startswith(part, autoescape=True), name.contains(part, autoescape=True)
        unit = c.unit if has_units else null()
        statement = select(c.kind, c.id, c.external_id, c.name, c.preferred_currency, unit).where(
            c.organization_id == self._organization, c.kind.in_([kind_of(kind)] if kind else KINDS), hits
        )
        rank = case((starts, 0), (contains, 1), else_=2)
        rows = self.connection.execute(statement.order_by(rank, name, c.kind, c.id).limit(most))
        return [Entry(*row) for row in rows]

    def preferred_currencies(self) -> dict[UUID | None, str]:
        """The preferred currency of each customer that has one, and under None that of the organization."""
        if not self._is_readable:
            return {}
        c = self.table.c
        own = and_(c.kind == "organization", c.id == c.organization_id)
        statement = select(c.kind, c.id, func.min(c.preferred_currency)).where(
            c.organization_id == self._organization,
            or_(c.kind == "customer", own),
            func.btrim(c.preferred_currency) != "",
        )
        rows = self.connection.execute(statement.group_by(c.kind, c.id)).all()
        return {None if kind == "organization" else id_: currency for kind, id_, currency in rows}

    def units(self, metric_keys: Sequence[str]) -> dict[str, str]:
        """The unit of each of these metrics that has exactly one: a view may have several rows of a metric."""
        if not metric_keys or self._fits != (True, True):
            return {}
        c = self.table.c
        unit = func.btrim(c.unit, _BLANKS)
        statement = (
            select(c.external_id, func.min(unit).label("unit"))
            .where(c.organization_id == self._organization, c.kind == METRIC, unit != "")
            .where(c.external_id == any_(literal(list(metric_keys), ARRAY(Text))))
            .group_by(c.external_id)
            .having(func.count(unit.distinct()) == 1)
        )
        return {row.external_id: row.unit for row in self.connection.execute(statement)}

    @property
    def _organization(self) -> UUID:
        if self.query.organization_id is None:
            raise ScopeError("organization_id: is missing")
        return self.query.organization_id

    @property
    def _is_readable(self) -> bool:
        return self._fits[0]

    @property
    def _readable_driver(self) -> psycopg.Connection[Any] | None:
        """The driver's connection, if the directory may be read."""
        driver = self.connection.connection.driver_connection
        return driver if self._is_readable and isinstance(driver, psycopg.Connection) else None

    @cached_property
    def _filtered(self) -> Names:
        return self._read(filtered_ids(self.query))

    @cached_property
    def _fits(self) -> tuple[bool, bool]:
        return _directory_fits(self.connection, self.table)

    def _read(self, ids: Iterable[tuple[str, UUID | str]]) -> Names:
        """The names of at most `MAX_NAMED_IDS` of these (column, id)."""
        by_kind: dict[str, set[UUID]] = {}
        for kind, id_ in islice(dict.fromkeys(ids), MAX_NAMED_IDS):
            with suppress(ValueError):  # a check's table may have any text in a column of ids
                by_kind.setdefault(kind_of(kind), set()).add(id_ if isinstance(id_, UUID) else UUID(id_))
        if not by_kind or not self._is_readable:
            return NO_NAMES
        wanted = [and_(self.table.c.kind == kind, _is_one_of(self.table, ids)) for kind, ids in by_kind.items()]
        own = self.table.c.organization_id == self._organization
        return _names(self.connection, self.table, own, or_(*wanted))


def ids_by_external_id(
    connection: psycopg.Connection[Any], table: Table, organization_id: UUID, keys: Iterable[Key]
) -> dict[Key, UUID]:
    """The id of each (kind, external id) that the directory has. Raises `TableMismatch` for a view with code of a role
    that is not to get this one's rights.
    """
    if why := owners.refusal(connection, table.info["events"], table, reading=True):
        raise TableMismatch(f"names_table: {why}")
    statement = sql.SQL(
        "SELECT kind, external_id, min(id::text)::uuid FROM {} JOIN unnest(%s::text[], %s::text[]) AS wanted (kind,"
        " external_id) USING (kind, external_id) WHERE organization_id = %s GROUP BY kind, external_id"
    ).format(identifier(table))
    result: dict[Key, UUID] = {}
    for batch in _batches(list(dict.fromkeys(keys))):
        kinds, texts = [key[0] for key in batch], [key[1] for key in batch]
        for kind, text, id_ in connection.execute(statement, [kinds, texts, organization_id]):
            result[kind, text] = id_
    return result


def unknown_texts(
    connection: psycopg.Connection[Any],
    table: Table,
    organization_id: UUID,
    made: Mapping[Key, UUID],
    found: Mapping[Key, UUID],
) -> str:
    """A warning of texts in a file that stand for no id of the directory, which may be read; "" without any.

    `made` has the id that `load` makes of each (kind, text), `found` those that have the text as their external id.
    An id keeps its text when the directory gives it another external id.
    """
    unknown = [key for key in made if key not in found]
    statement = sql.SQL(
        "SELECT kind, id FROM {} JOIN unnest(%s::text[], %s::uuid[]) AS wanted (kind, id) USING (kind, id)"
        " WHERE organization_id = %s"
    ).format(identifier(table))
    stored: set[tuple[str, UUID]] = set()
    for batch in _batches(unknown):
        kinds, ids = [kind for kind, _ in batch], [UUID(int=made[key].int) for key in batch]
        stored |= set(connection.execute(statement, [kinds, ids, organization_id]).fetchall())
    texts = listed(f"{kind} {text}" for kind, text in unknown if (kind, UUID(int=made[kind, text].int)) not in stored)
    return (
        f"{texts}: not in the directory of names; correct a typing error, else it applies to no usage" if texts else ""
    )


def upsert(
    connection: psycopg.Connection[Any], table: Table, organization_id: UUID, entries: Iterable[Entry]
) -> tuple[int, int]:
    """Write rows of one organization, in the connection's transaction: how many there are, and how many changed.

    What a row gives replaces what is stored; what it leaves out stays. Of several rows of one id the last value of a
    column counts. Raises `TableMismatch` if the directory is missing, does not fit, may not be written, or has code of
    a role that is not to get this one's rights, and for a unit if it has no column of units.
    """
    if why := owners.refusal(connection, table.info["events"], table):
        raise TableMismatch(f"names_table: {why}")
    readable, has_units = _fits(connection, table)
    if not readable:
        raise TableMismatch(
            f"names_table: {table.fullname} does not exist, may not be read or has other columns; `usage-explore init`"
            " creates it"
        )
    merged: dict[tuple[str, UUID], Entry] = {}
    for entry in entries:
        before = merged.get((entry.kind, entry.id), entry)
        merged[entry.kind, entry.id] = Entry(
            *entry[:2],
            *((new if new and new.strip() else old) or None for new, old in zip(entry[2:], before[2:], strict=True)),
        )
    if not has_units and any(entry.unit for entry in merged.values()):
        raise TableMismatch(
            f"names_table: {table.fullname} has no column unit (text); `usage-explore init` with the role that owns the"
            " table adds it"
        )
    columns = Entry._fields[2:] if has_units else Entry._fields[2:-1]
    merge = "coalesce(excluded.{0}, stored.{0})"
    forms = {"columns": "{0}", "arrays": "%s::text[]", "stored": "stored.{0}", "merged": merge}
    forms["assignments"] = f"{{0}} = {merge}"
    parts = {name: sql.SQL(", ".join(form.format(column) for column in columns)) for name, form in forms.items()}
    statement = sql.SQL(_UPSERT).format(table=identifier(table), **parts)
    changed = 0
    try:
        with connection.transaction():  # a refused statement leaves the caller's transaction usable
            # in order, so that two writers wait for each other instead of deadlocking
            for batch in _batches(sorted(merged.values(), key=lambda entry: entry[:2])):
                values = (list(column) for column in zip(*batch, strict=True))
                changed += connection.execute(statement, [organization_id, *islice(values, 2 + len(columns))]).rowcount
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.InvalidColumnReference,
        psycopg.errors.WrongObjectType,
        psycopg.errors.ObjectNotInPrerequisiteState,
        psycopg.errors.FeatureNotSupported,
    ) as error:
        raise TableMismatch(
            f"names_table: {table.fullname} cannot be written here ({error.diag.message_primary}); it needs INSERT and"
            " UPDATE, and a primary key (organization_id, kind, id)"
        ) from error
    return len(merged), changed


def remember(
    connection: psycopg.Connection[Any],
    table: Table,
    organization_id: UUID,
    entries: Iterable[Entry | tuple[str, UUID | str, str | None, str | None]],
) -> int | None:
    """Keep the (kind, id, external id, name) of a load, or entries: the number of ids; None if it cannot.

    A name renews the stored one; without a name the stored one stays. A directory that is missing, or may not be
    written, is no reason to refuse a load.
    """
    rows = (
        Entry(kind_of(kind), id_ if isinstance(id_, UUID) else UUID(id_), external_id, name, *more)
        for kind, id_, external_id, name, *more in entries
    )
    try:
        return upsert(connection, table, organization_id, rows)[0]
    except TableMismatch:
        return None


def own_names(connection: psycopg.Connection[Any], table: Table, organization_ids: Sequence[UUID]) -> Names:
    """The own names of these organizations, on a connection that writes; none where the directory cannot be read."""
    with suppress(psycopg.Error), connection.transaction():  # a refused statement leaves the transaction usable
        if is_readable(connection, table):
            rows = connection.execute(
                sql.SQL(_OWN_NAMES).format(identifier(table)), [list(organization_ids)]
            ).fetchall()
            return Names({("organization", str(id_)): name for id_, name in rows if name.strip()})
    return NO_NAMES


def _checked(ids: Iterable[tuple[str, UUID | str]]) -> list[tuple[str, UUID | str]]:
    """The (column, id) given by a caller. Raises `QueryError`; a text that is no UUID has no name."""
    try:
        return [
            (validators.choice(column, _COLUMNS), id_ if isinstance(id_, UUID | str) else validators.text(id_))
            for column, id_ in ids
        ]
    except (TypeError, ValueError) as error:
        fault = f'{error}; give pairs such as ("customer_id", event.customer_id)'
        raise QueryError([Fault("ids", fault)]) from None


def _batches(rows: list[_T]) -> Iterator[list[_T]]:
    return (rows[start : start + _BATCH_ROWS] for start in range(0, len(rows), _BATCH_ROWS))


def _fits(connection: psycopg.Connection[Any], table: Table) -> tuple[bool, bool]:
    """Whether the directory can be read, and whether it has units; one of another role is locked."""
    return _judged(connection, table, connection.execute(_FITS.encode(), _parameters(table)).fetchone())


def _judged(connection: psycopg.Connection[Any], table: Table, row: Sequence[Any] | None) -> tuple[bool, bool]:
    if row is None or (row[2] and owners.refusal(connection, table.info["events"], table, reading=True)):
        return False, False
    return bool(row[0]), bool(row[1])


def _parameters(table: Table) -> dict[str, str | None]:
    events = table.info["events"]
    return {"table": table.name, "schema": table.schema, "events": quoted(events.name, events.schema)}


def _directory_fits(connection: Connection, table: Table) -> tuple[bool, bool]:
    driver: Any = connection.connection.driver_connection
    return _judged(driver, table, connection.exec_driver_sql(_FITS, _parameters(table)).one())


def _names(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> Names:
    other = table.alias()
    shared = exists().where(
        other.c.organization_id == table.c.organization_id,
        other.c.kind == table.c.kind,
        func.md5(_shown(other)) == func.md5(_shown(table)),
        other.c.id != table.c.id,
    )
    rows = connection.execute(select(table.c.kind, table.c.id, _shown(table), shared).where(*conditions)).all()
    by_id: dict[Key, str] = {}
    for kind, id_, name, _ in sorted(rows, key=lambda row: row[2] or ""):  # a view may have two rows of an id
        if name and name.strip():
            by_id.setdefault((kind, str(id_)), name)
    return Names(by_id, frozenset((kind, str(id_)) for kind, id_, _, is_shared in rows if is_shared))


def _shown(table: Any) -> ColumnElement[str]:
    shown: ColumnElement[str] = func.coalesce(table.c.name, table.c.external_id)
    return shown


def _is_one_of(table: Table, ids: Iterable[UUID]) -> ColumnElement[bool]:
    return table.c.id == any_(literal(sorted(ids), ARRAY(Uuid)))
