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
    r"""A name as text, quoted only where PostgreSQL needs it: `metering."order"`; a line break in `U&"a\+00000ab"`."""
    return ".".join(
        _PREPARER.quote(part) if part.isprintable() else 'U&"' + _escaped(part, "\\+{:06x}").replace('"', '""') + '"'
        for part in (schema, name)
        if part
    )


def literal(value: str) -> str:
    r"""A text value as SQL text: `'it''s'`; with a line break ` E'a\U0000000ab'`, which ends no comment."""
    if value.isprintable():
        return sql.Literal(value).as_string(None)
    return " E'" + _escaped(value, "\\U{:08x}").replace("'", "''") + "'"


def _escaped(text: str, form: str) -> str:
    """The text with backslashes doubled, and the form of each character that is not printed."""
    return "".join(c if c.isprintable() else form.format(ord(c)) for c in text.replace("\\", "\\\\"))


def identifier(table: Table) -> sql.Identifier:
    """A table's name for psycopg."""
    return sql.Identifier(*filter(None, (table.schema, table.name)))
