"""What an extract depends on: the table, the role, and the policies of row-level security that apply to it.

An extract has the rows that its role saw at the last refresh. If the fingerprint differs since, it may have rows that
the role may no longer see, or lack others.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from psycopg import sql
from sqlalchemy import BigInteger, Double, Interval, Select, Table, Text, extract, func, literal_column, select
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import OID

from usage_explore.db.ddl import Connection
from usage_explore.sql.identifiers import literal, quoted

_MAX_TABLES = 100
_RELATION = sql_table("pg_class", sql_column("oid"), sql_column("relkind"))

_POLICIES = """
SELECT coalesce(md5(string_agg(concat_ws(' ', policy.polrelid, policy.polpermissive, policy.polqual), ','
                               ORDER BY policy.oid)), '')
FROM pg_policy AS policy JOIN pg_class AS events ON events.oid = {relation}
WHERE policy.polcmd IN ('r', '*') AND (policy.polrelid = events.oid OR events.relkind = 'v')
  AND row_security_active(policy.polrelid)
  AND EXISTS (SELECT FROM unnest(policy.polroles) AS role
              WHERE CASE role WHEN 0 THEN true ELSE pg_has_role(role, 'USAGE') END)
"""
"""The fingerprint, text, of the table `{relation}`; blank if no policy applies. Of a view, the policies of all tables.

What a policy reads, such as a session setting or another table, is not in it.
"""


def policies(connection: Connection, relation: int) -> str:
    """The fingerprint of the policies that apply to the connection's role in a table, given by its oid."""
    row = connection.execute(sql.SQL(_POLICIES).format(relation=sql.Literal(relation))).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without groups has one row
    return str(row[0])


@lru_cache(maxsize=_MAX_TABLES)
def state(table: Table) -> Select[Any]:
    """The database's clock, the role, the table's oid, kind and policies, and the session's statement timeout."""
    relation = func.to_regclass(quoted(table.name, table.schema))
    is_table = select(_RELATION.c.relkind.in_(("r", "p"))).where(_RELATION.c.oid == relation).scalar_subquery()
    timeout = func.current_setting("statement_timeout").cast(Interval)
    oid = f"to_regclass({literal(quoted(table.name, table.schema))})"
    return select(
        func.transaction_timestamp().label("now"),
        func.current_user().cast(Text).label("role"),
        relation.cast(OID).cast(BigInteger).label("relation"),
        is_table.label("is_table"),
        literal_column(f"({_POLICIES.format(relation=oid)})", Text).label("policies"),
        extract("epoch", timeout).cast(Double).label("timeout_seconds"),
    )
