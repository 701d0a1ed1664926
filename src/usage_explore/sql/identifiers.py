"""Names and text values in SQL: of tables, columns and roles, quoted by SQLAlchemy and psycopg."""

from __future__ import annotations

from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

_PREPARER = postgresql.dialect(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call]
_PREPARER.reserved_words = _PREPARER.reserved_words | {
    "collation",
    "concurrently",
    "lateral",
    "system_user",
    "tablesample",
}  # those of PostgreSQL 18 that SQLAlchemy 2.1 lacks


def quoted(name: str, schema: str | None = None) -> str:
    """A name as text, quoted only where PostgreSQL needs it: `metering."order"`."""
    return ".".join(_PREPARER.quote(part) for part in (schema, name) if part)


def literal(value: str) -> str:
    """A text value as SQL text: `'it''s'`."""
    return sql.Literal(value).as_string(None)


def identifier(table: Table) -> sql.Identifier:
    """A table's name for psycopg."""
    return sql.Identifier(*filter(None, (table.schema, table.name)))
