"""Roles whose code runs when something is written to a table, or read from a view.

Triggers, rules, defaults, constraints and types run with the rights of the role that writes, the functions of views and
of policies with those of the role that reads. A role that may create tables could make one of ours first, and so act as
the next superuser that uses it. Hence a role that may do more than its own writes to tables, and reads views and tables
with policies, only where all code is that of superusers, the owner of the events and itself.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Table

from usage_explore.sql.identifiers import identifier, quoted

IS_POWERFUL = """
EXISTS (SELECT FROM pg_roles AS me JOIN pg_roles AS power ON pg_has_role(me.oid, power.oid, 'MEMBER'::text)
        WHERE me.rolname = session_user
          AND (power.rolsuper OR power.rolbypassrls OR power.rolcreaterole OR power.oid = e.relowner
               OR power.oid < 16384::oid AND power.rolname <> 'pg_database_owner'::name))
"""
"""Whether the session's role may do more than to use what it was granted; `e` are the events in `pg_class`.

With SET ROLE in a trigger it could become any role that it is a member of, and with RESET ROLE the session's. Roles
with an id below 16384 are PostgreSQL's own, such as `pg_write_server_files`; that of a database's owner is left out.
"""

IS_RESTRICTED = """
(NOT r.rolsuper AND r.oid IS DISTINCT FROM e.relowner AND r.rolname <> session_user AND r.oid >= 16384::oid
 AND (e.relrowsecurity AND NOT r.rolbypassrls OR NOT has_table_privilege(r.oid, e.oid, 'SELECT'::text)))
"""
"""Whether a role `r` of `pg_roles`, not the session's, sees at most a part of the events `e`."""

RESTRICTED_WRITER = f"""
(SELECT r.rolname FROM pg_roles AS r
 WHERE {IS_RESTRICTED} AND (r.oid = v.relowner OR NOT v.relrowsecurity
                             AND has_any_column_privilege(r.oid, v.oid, 'INSERT, UPDATE'::text))
 LIMIT 1)
"""  # noqa: S608 - of constants
"""A role that may write rows into the table `v` for organizations whose events it does not see; NULL without one."""

CODE_OF_OTHERS = """
WITH RECURSIVE used (class, id, is_written) AS (
    SELECT 'pg_class'::regclass::oid, v.oid, true
    UNION
    SELECT next.class, next.id, next.is_written
    FROM used LEFT JOIN pg_class AS c ON used.class = 'pg_class'::regclass::oid AND c.oid = used.id
    CROSS JOIN LATERAL (
        SELECT d.refclassid, d.refobjid, false FROM pg_depend AS d WHERE d.classid = used.class AND d.objid = used.id
        UNION ALL
        SELECT d.classid, d.objid, false FROM pg_depend AS d
        WHERE d.refclassid = used.class AND d.refobjid = used.id AND d.deptype IN ('a'::"char", 'i'::"char")
        UNION ALL
        SELECT used.class, k.conrelid, true FROM pg_depend AS d JOIN pg_constraint AS k ON k.oid = d.objid
        WHERE d.classid = 'pg_constraint'::regclass::oid AND d.refclassid = used.class AND d.refobjid = used.id
          AND k.confrelid = c.oid AND ARRAY[k.confdeltype, k.confupdtype] && '{c,n,d}'::"char"[]
    ) AS next (class, id, is_written)
    WHERE c.oid IS NULL OR used.is_written OR c.relispartition
       OR c.relkind IN ('v'::"char", 'i'::"char", 'I'::"char")
       OR c.relrowsecurity AND next.class = 'pg_policy'::regclass::oid
), made (owner, kind) AS (
    SELECT c.relowner,
           CASE WHEN c.oid = v.oid THEN 'table'::text WHEN is_written THEN 'reference'::text ELSE 'code'::text END
    FROM used JOIN pg_class AS c ON c.oid = used.id
    WHERE used.class = 'pg_class'::regclass::oid AND (is_written OR c.relkind = 'v'::"char" OR c.relrowsecurity)
    UNION SELECT proowner, 'code'::text FROM used JOIN pg_proc ON oid = id WHERE class = 'pg_proc'::regclass::oid
    UNION SELECT oprowner, 'code'::text FROM used JOIN pg_operator ON oid = id
    WHERE class = 'pg_operator'::regclass::oid
    UNION SELECT typowner, 'code'::text FROM used JOIN pg_type ON oid = id
    WHERE class = 'pg_type'::regclass::oid AND typtype NOT IN ('b'::"char", 'e'::"char")
)
SELECT max(made.kind), r.rolname::text
FROM made JOIN pg_roles AS r ON r.oid = made.owner
WHERE NOT r.rolsuper AND r.oid IS DISTINCT FROM e.relowner AND r.rolname <> session_user
GROUP BY r.rolname
UNION ALL
SELECT 'trigger'::text, tgname::text FROM pg_trigger
WHERE tgrelid = v.oid AND NOT tgisinternal AND position('FUNCEXPR'::text IN tgqual::text) > 0
UNION ALL
SELECT 'rule'::text, rulename::text FROM pg_rewrite WHERE ev_class = v.oid AND rulename <> '_RETURN'::name
ORDER BY 1 DESC, 2
"""
"""What is not to be trusted in the relation `v` of `pg_class`: rows of (kind, name).

It goes from the relation to what belongs to it (triggers, rules, defaults, constraints, indexes, policies, partitions),
to what these use, and so on through views and functions. Of a table that a view reads, only the policies run. A table
with a foreign key to the relation is written, too, where rows are deleted: up to PostgreSQL 17 its deferred triggers
run with the rights of the session. A trigger has no owner: every role with TRIGGER on the table can make one, and the
condition of a trigger can call functions of PostgreSQL that run statements. `pg_depend` does not record such calls, so
a condition with a function is not trusted. Enumerations have no code; base types are those of superusers, or arrays.
"""

UNTRUSTED = f"""
(SELECT found.kind || ' '::text || found.name FROM ({CODE_OF_OTHERS}) AS found (kind, name) WHERE {IS_POWERFUL} LIMIT 1)
"""  # noqa: S608 - of constants
"""The kind and name of what the session's role should not run in the table `v`; NULL if there is nothing."""

RUNS_CODE_TO_READ = "(v.relkind = 'v' OR row_security_active(v.oid))"
"""Whether reading the relation `v` runs its functions: those of a view, or of policies that apply to this role."""

_UNTRUSTED = f"""
SELECT {UNTRUSTED} FROM pg_class AS v LEFT JOIN pg_class AS e ON e.oid = to_regclass(%(events)s::text)::oid
WHERE v.oid = to_regclass(%(table)s::text)::oid AND (NOT %(reading)s OR {RUNS_CODE_TO_READ})
"""  # noqa: S608 - of constants

IS_OF_ANOTHER = f"""
(v.relkind IN ('r'::"char", 'p'::"char") AND v.relowner IS DISTINCT FROM e.relowner AND {IS_POWERFUL}
 AND EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = v.relowner AND NOT r.rolsuper AND r.rolname <> session_user))
"""
"""Whether the owner of the table `v` is one whose policies the session's role should not run: it may make one now."""

_LOCKED = f"""
SELECT FROM pg_class AS v LEFT JOIN pg_class AS e ON e.oid = to_regclass(%(events)s::text)::oid
WHERE v.oid = to_regclass(%(table)s::text)::oid
  AND CASE WHEN %(reading)s THEN {IS_OF_ANOTHER} AND has_any_column_privilege(v.oid, 'SELECT'::text)
      ELSE v.relkind IN ('r'::"char", 'p'::"char") AND {IS_POWERFUL} END
"""
"""A row if the table is locked before it is looked at: another session may be about to commit a trigger or a policy."""

PHRASES = {
    "table": "belongs to the role {}, whose code runs with the rights of who uses it",
    "reference": "is referenced by a table of the role {}, whose triggers run with the rights of who deletes rows",
    "code": "uses a function, type or view of the role {}, whose code runs with the rights of who uses it",
    "trigger": "has the trigger {}, whose condition calls functions with the rights of who writes there",
    "rule": "has the rule {}, which changes what is written there",
}
"""What is said of each kind in `CODE_OF_OTHERS`."""


def of_another_role(connection: psycopg.Connection[Any], oid: int) -> str | None:
    """The owner of a relation; None if it is the session's role."""
    owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = %s::oid"
    owner += " AND pg_get_userbyid(relowner) <> session_user"
    row = connection.execute(owner, [oid]).fetchone()
    return None if row is None else row[0]


def refusal(connection: psycopg.Connection[Any], events: Table, table: Table, *, reading: bool = False) -> str:
    """Why the session's role should write nothing to a table, without a full stop; "" if it may, or there is none.

    The table is locked until the transaction ends, so that nothing is added after it was looked at. With `reading`, why
    it should not read a view, or a table with policies for it.
    """
    name = quoted(table.name, table.schema)
    values = {"events": quoted(events.name, events.schema), "table": name, "reading": reading}
    if connection.execute(_LOCKED.encode(), values).fetchone() is not None:
        mode = sql.SQL("ACCESS SHARE" if reading else "ROW EXCLUSIVE")
        connection.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(identifier(table), mode))
    row = connection.execute(_UNTRUSTED.encode(), values).fetchone()
    if row is None or row[0] is None:
        return ""
    kind, _, found = row[0].partition(" ")
    return f"{name} {PHRASES[kind].format(quoted(found))}; `usage-explore doctor` says how to change that"
