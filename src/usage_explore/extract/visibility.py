"""What an extract depends on: the database, the table or view, the role, privileges, and row-level security.

An extract has the rows and columns that its role saw at the last refresh. If the fingerprint differs since, it may have
some that the role may no longer see, or lack others.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from psycopg import sql
from sqlalchemy import BigInteger, Double, Interval, Select, Table, Text, case, extract, func, literal_column, select
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import OID

from usage_explore.db.catalog import READ_BY_VIEW
from usage_explore.db.ddl import Connection
from usage_explore.sql.identifiers import literal, quoted

_MAX_TABLES = 100
_RELATION = sql_table("pg_class", sql_column("oid"), sql_column("relkind"))

_COLUMNS = """(SELECT oid FROM pg_database WHERE datname = current_database()),
  (SELECT 'columns ' || string_agg(attnum::text, ',' ORDER BY attnum) FROM pg_attribute
   WHERE attrelid = {relation} AND attnum > 0 AND NOT attisdropped
     AND NOT has_column_privilege(attrelid, attnum, 'SELECT'))"""
"""The database, and the columns of `{relation}` that the role may not read."""

_APPLIES = """row_security_active(policy.polrelid)
     AND EXISTS (SELECT FROM unnest(policy.polroles) AS role
                 WHERE CASE role WHEN 0 THEN true ELSE pg_has_role(role, 'USAGE') END)"""
"""Whether a policy applies to the role."""

_OF_TABLE = f"""
SELECT md5(concat_ws(' ',
  {_COLUMNS},
  (SELECT string_agg(concat_ws(' ', policy.polrelid, policy.polpermissive, policy.polqual), ',' ORDER BY policy.oid)
   FROM pg_policy AS policy
   WHERE policy.polrelid = {{relation}} AND policy.polcmd IN ('r', '*') AND {_APPLIES})))
"""
"""What `_FINGERPRINT` is of a relation that is no view; planning it takes 0.2 ms, `_FINGERPRINT` 1 ms."""

_FINGERPRINT = f"""
WITH RECURSIVE read AS (
  SELECT oid, relkind, relowner, reloptions::text, relrowsecurity, relforcerowsecurity
  FROM pg_class WHERE oid = {{relation}}
  UNION
  SELECT used.oid, used.relkind, used.relowner, used.reloptions::text, used.relrowsecurity, used.relforcerowsecurity
  FROM read JOIN {READ_BY_VIEW}
  JOIN pg_class AS used ON used.oid = need.refobjid
  WHERE read.relkind = 'v'
), reader AS (
  SELECT role.oid, role.rolsuper, role.rolbypassrls FROM pg_roles AS role
  WHERE EXISTS (SELECT FROM read WHERE read.relkind = 'v' AND read.relowner = role.oid OR role.rolname = current_user)
    AND EXISTS (SELECT FROM read WHERE read.relkind = 'v')
)
SELECT md5(concat_ws(' ',
  (SELECT string_agg(concat_ws(' ', oid, rolsuper, rolbypassrls), ',' ORDER BY oid) FROM reader),
  {_COLUMNS},
  (SELECT 'owners ' || string_agg(concat_ws(' ', reader.oid, attrelid, attnum), ','
                                  ORDER BY reader.oid, attrelid, attnum)
   FROM reader, read JOIN pg_attribute ON attrelid = read.oid AND attnum > 0 AND NOT attisdropped
   WHERE read.oid <> {{relation}} AND NOT has_column_privilege(reader.oid, attrelid, attnum, 'SELECT')),
  (SELECT string_agg(concat_ws(' ', read.oid, read.relowner, read.reloptions, read.relrowsecurity,
                               read.relforcerowsecurity, md5(rule.ev_action::text)),
                     ',' ORDER BY read.oid, rule.oid)
   FROM read LEFT JOIN pg_rewrite AS rule ON rule.ev_class = read.oid AND read.relkind = 'v'
   WHERE EXISTS (SELECT FROM read WHERE relkind = 'v')),
  (SELECT string_agg(concat_ws(' ', policy.polrelid, policy.polpermissive, policy.polqual,
                               (SELECT string_agg(concat_ws(' ', reader.oid, role), ',' ORDER BY reader.oid, role)
                                FROM reader, unnest(policy.polroles) AS role
                                WHERE CASE role WHEN 0 THEN true ELSE pg_has_role(reader.oid, role, 'USAGE') END)),
                     ',' ORDER BY policy.oid)
   FROM pg_policy AS policy JOIN read ON read.oid = policy.polrelid
   WHERE policy.polcmd IN ('r', '*')
     AND (read.oid <> {{relation}} OR {_APPLIES}))))
"""
"""The fingerprint, text, of the table or view `{relation}`: database, columns, definition of a view, and policies.

The columns are those that the role may not read; of a view, also the ones of what it reads that its owners may not. Of
a table, the policies that apply to the role; of a view, also the definitions of the views that it reads, their options
and owners, and all policies of tables, with the ones of these owners and of the role that they apply to. What a policy
reads, such as a session setting or another table, is not in it, nor are the functions of a view.
"""


ROLE = "CASE session_user WHEN current_user THEN current_user::text"
ROLE += " ELSE current_user::text || ' of '::text || session_user::text END"
"""The role that reads, and the role that signed in where the two differ: a policy may go by either."""

TRANSACTION = "CASE WHEN NOT pg_is_in_recovery() THEN pg_snapshot_xmax(pg_current_snapshot())::text::bigint END"
"""The id of the next transaction, which falls only where the database is put back; NULL on a replica, which may lag."""


def fingerprint(connection: Connection, relation: int) -> str:
    """What decides which rows the connection's role sees in a table or view, given by its oid, as a hash."""
    row = connection.execute(sql.SQL(_FINGERPRINT).format(relation=sql.SQL(f"{relation:d}::oid"))).fetchone()
    assert row is not None  # noqa: S101 - a select without FROM has one row
    return str(row[0])


@lru_cache(maxsize=_MAX_TABLES)
def state(table: Table) -> Select[Any]:
    """The database's clock and next transaction, the role, the table's oid, kind and fingerprint, and the timeout.

    The fingerprint is NULL of a view, whose own one `fingerprint` reads.
    """
    relation = func.to_regclass(quoted(table.name, table.schema))
    kind = select(_RELATION.c.relkind.cast(Text)).where(_RELATION.c.oid == relation.cast(OID)).scalar_subquery()
    timeout = func.current_setting("statement_timeout").cast(Interval)
    oid = f"to_regclass({literal(quoted(table.name, table.schema))})::oid"
    return select(
        func.transaction_timestamp().label("now"),
        literal_column(f"({TRANSACTION})", BigInteger).label("transaction"),
        literal_column(f"({ROLE})", Text).label("role"),
        relation.cast(OID).cast(BigInteger).label("relation"),
        kind.in_(("r", "p")).label("is_table"),
        case((kind != "v", literal_column(f"({_OF_TABLE.format(relation=oid)})", Text))).label("fingerprint"),
        extract("epoch", timeout).cast(Double).label("timeout_seconds"),
    )
