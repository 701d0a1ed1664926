"""The table of prices beside the events: `usage_prices`, one row per price, of each organization its own.

It is optional: without the table, or with other columns, there are no prices; a table that the role may not read is an
error. It is read in the query's transaction; writing replaces an organization's whole book in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Column, Connection, Integer, MetaData, Numeric, Table, Text, Uuid, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from usage_explore.db import owners
from usage_explore.errors import TableMismatch
from usage_explore.pricing import fields
from usage_explore.pricing.book import PriceBook
from usage_explore.pricing.read import read_prices
from usage_explore.sql.identifiers import identifier, quoted

PRICES_TABLE = "usage_prices"

_COMMENT = "Prices by which usage is rated, one row per price; made by usage-explore"
_TYPES = {"Uuid": ("uuid",), "Text": ("text", "varchar"), "Numeric": ("numeric",), "Integer": ("int4", "int8", "int2")}

_COLUMNS = """
SELECT attname, typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(%(table)s)::oid AND a.attnum > 0 AND NOT a.attisdropped
  AND t.typnamespace = 'pg_catalog'::regnamespace::oid
  AND has_table_privilege(a.attrelid, 'SELECT')
  AND has_schema_privilege((SELECT relnamespace FROM pg_class WHERE oid = a.attrelid), 'USAGE')
"""

_IS_READABLE = "SELECT has_table_privilege(to_regclass(%(table)s)::oid, 'SELECT')"
"""NULL without a table."""

_SCHEMA = "SELECT n.oid, n.nspname FROM pg_class c JOIN pg_namespace n"
_SCHEMA += " ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%(events)s)::oid"


def prices_table(schema: str | None = None) -> Table:
    """The table: `number` is the price's position in its book; times and tiers are text as in a CSV file."""
    types: dict[str, Any] = {"customer_id": Uuid[UUID](), "product_id": Uuid[UUID](), "scale": Integer()}
    types |= {name: Numeric() for name in fields.NUMBERS}
    return Table(
        PRICES_TABLE,
        MetaData(schema=schema),
        Column("organization_id", Uuid[UUID](), primary_key=True),
        Column("number", Integer, primary_key=True),
        *(Column(name, types.get(name, Text()), nullable=name != "currency") for name in fields.FIELDS),
    )


def stored_prices(connection: Connection, events: Table, organization_id: UUID) -> PriceBook | None:
    """The organization's price book in the table beside the events; None without one.

    Raises `QueryError` on `prices` for rows that make no valid book, each named by its number, `TableMismatch` for a
    table that the role may not read, or a view with code of a role that is not to get this one's rights.
    """
    table = prices_table(_schema_of(connection, events))
    if connection.exec_driver_sql(_IS_READABLE, {"table": quoted(table.name, table.schema)}).scalar() is False:
        raise TableMismatch.unreadable(quoted(table.name, table.schema), ("SELECT",))
    driver: Any = connection.connection.driver_connection
    if why := owners.refusal(driver, events, table, reading=True):
        raise TableMismatch(why)
    found = connection.exec_driver_sql(_COLUMNS, {"table": quoted(table.name, table.schema)}).all()
    if not _fits(table, ((name, type_) for name, type_ in found)):
        return None
    statement = select(*(table.c[name] for name in fields.FIELDS))
    own = statement.where(table.c.organization_id == organization_id).order_by(table.c.number)
    rows = [dict(row._mapping) for row in connection.execute(own)]
    if not rows:
        return None
    book = read_prices(rows)
    return PriceBook(prices=book.prices, source=table.fullname)


def replace_prices(connection: psycopg.Connection[Any], events: Table, organization_id: UUID, book: PriceBook) -> int:
    """Replace the organization's prices by the book, in the connection's transaction: the number of former prices.

    Creates the table if there is none. Raises `TableMismatch` if it does not fit, may not be written, or has code of a
    role that is not to get this one's rights.
    """
    table = _beside(connection, events)
    try:
        with connection.transaction():
            # one writer at a time
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('usage-explore prices')::bigint)")
            create_prices_table(connection, table)
            if why := owners.refusal(connection, events, table):
                raise TableMismatch(why)
            found = connection.execute(_COLUMNS.encode(), {"table": quoted(table.name, table.schema)}).fetchall()
            if not _fits(table, ((name, type_) for name, type_ in found)):
                raise TableMismatch(f"{table.fullname}: has other columns, or may not be read; rename it")
            own = sql.SQL("DELETE FROM {} WHERE organization_id = %s").format(identifier(table))
            former = connection.execute(own, [organization_id]).rowcount
            columns = ("organization_id", "number", *fields.FIELDS)
            copy = sql.SQL("COPY {} ({}) FROM STDIN").format(
                identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
            )
            with connection.cursor() as cursor, cursor.copy(copy) as rows:
                for number, price in enumerate(book.prices, 1):
                    values = fields.row(price)
                    rows.write_row((organization_id, number, *(values[name] for name in fields.FIELDS)))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType) as error:
        raise TableMismatch(
            f"{table.fullname} cannot be written here ({error.diag.message_primary}); it needs SELECT, INSERT and"
            " DELETE, and CREATE on the schema if it does not exist"
        ) from error
    return former


def create_table(connection: psycopg.Connection[Any], events: Table) -> tuple[str, ...]:
    """Create the table of prices beside the events: its name, nothing if a relation of that name exists.

    Raises `TableMismatch` if the events are gone, psycopg's `InsufficientPrivilege` if the role may not create it.
    """
    table = _beside(connection, events)
    return (table.name,) if create_prices_table(connection, table) else ()


def create_prices_table(connection: psycopg.Connection[Any], table: Table) -> bool:
    """Create the table of prices; False if a relation of that name exists."""
    name = quoted(table.name, table.schema)
    row = connection.execute("SELECT to_regclass(%s) IS NULL", [name]).fetchone()
    if not (row and row[0]):
        return False
    connection.execute(str(CreateTable(table).compile(dialect=postgresql.dialect())).encode())  # type: ignore[no-untyped-call]
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(identifier(table), sql.Literal(_COMMENT)))
    return True


def _beside(connection: psycopg.Connection[Any], events: Table) -> Table:
    """The table of prices in the schema of the events. Raises `TableMismatch` if they are gone."""
    row = connection.execute(_SCHEMA.encode(), {"events": quoted(events.name, events.schema)}).fetchone()
    if row is None:
        raise TableMismatch(f"{events.fullname}: there is no such table; `usage-explore init` creates it")
    return prices_table(row[1])


def _schema_of(connection: Connection, events: Table) -> str | None:
    row = connection.exec_driver_sql(_SCHEMA, {"events": quoted(events.name, events.schema)}).first()
    return None if row is None else str(row[1])


def _fits(table: Table, found: Iterable[tuple[str, str]]) -> bool:
    types = dict(found)
    return all(types.get(column.name) in _TYPES[type(column.type).__name__] for column in table.columns)
