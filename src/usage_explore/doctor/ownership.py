"""Tables of ours with code of a role that is neither a superuser nor the owner of the events, and rules in them."""

from __future__ import annotations

from sqlalchemy import Table

from usage_explore.db import owners
from usage_explore.db.catalog import Relation, relation
from usage_explore.db.ddl import Connection
from usage_explore.doctor.finding import Finding
from usage_explore.formatting import listed
from usage_explore.pricing.table import PRICES_TABLE
from usage_explore.records.tables import LINKS_TABLE, RECORD_TABLES
from usage_explore.sql.identifiers import quoted

_FOREIGN = f"""
SELECT given.name, found.kind, found.name, {owners.RUNS_CODE_TO_READ}, pg_get_userbyid(e.relowner), {owners.IS_POWERFUL}
FROM unnest(%(tables)s::text[]) WITH ORDINALITY AS given (name, number)
JOIN pg_class AS v ON v.oid = to_regclass(given.name)::oid
JOIN pg_class AS e ON e.oid = %(events)s::oid
CROSS JOIN LATERAL ({owners.CODE_OF_OTHERS}) AS found (kind, name)
ORDER BY given.number, found.kind DESC, found.name
"""  # noqa: S608 - of constants

_RESTRICTED = f"""
SELECT given.name, min(r.rolname::text), count(*) - 1
FROM unnest(%(records)s::text[]) WITH ORDINALITY AS given (name, number)
JOIN pg_class AS v ON v.oid = to_regclass(given.name)::oid AND NOT v.relrowsecurity
JOIN pg_class AS e ON e.oid = %(events)s::oid
JOIN pg_roles AS r ON r.oid <> v.relowner AND {owners.IS_RESTRICTED}
  AND CASE WHEN e.relrowsecurity THEN has_any_column_privilege(r.oid, v.oid, 'SELECT, INSERT, UPDATE'::text)
      ELSE v.relname = '{LINKS_TABLE}'::name AND has_any_column_privilege(r.oid, v.oid, 'INSERT, UPDATE'::text) END
GROUP BY given.name, given.number ORDER BY given.number
"""  # noqa: S608 - of constants

_CREATORS = f"""
SELECT n.nspname::text, r.rolname::text, pg_has_role(r.oid, n.nspowner, 'USAGE'::text), pg_get_userbyid(e.relowner)
FROM pg_class AS e CROSS JOIN pg_namespace AS n JOIN pg_roles AS r ON NOT r.rolsuper AND r.oid >= 16384::oid
WHERE e.oid = %(events)s::oid AND {owners.IS_POWERFUL} AND n.nspname = ANY (current_schemas(false))
  AND r.rolname <> session_user AND NOT pg_has_role(r.oid, e.relowner, 'USAGE'::text)
  AND (has_schema_privilege(r.oid, n.oid, 'CREATE'::text) OR pg_has_role(r.oid, n.nspowner, 'USAGE'::text))
UNION ALL
SELECT session_user::text, r.rolname::text, NULL, pg_get_userbyid(e.relowner)
FROM pg_class AS e CROSS JOIN pg_roles AS r
WHERE e.oid = %(events)s::oid AND {owners.IS_POWERFUL} AND NOT r.rolsuper AND r.oid >= 16384::oid
  AND r.rolname <> session_user AND NOT pg_has_role(r.oid, e.relowner, 'USAGE'::text)
  AND strpos(current_setting('search_path'::text), '$user'::text) > 0
  AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = session_user)
  AND has_database_privilege(r.oid, current_database()::text, 'CREATE'::text)
ORDER BY 1, 2
"""  # noqa: S608 - of constants
"""Roles that may create functions and operators where unqualified names are looked up.

Of each: the schema, the role, whether it has the rights of the schema's owner, NULL where it may create the schema, and
the owner of the events.
"""


def ownership(connection: Connection, events: Relation, names: Table) -> list[Finding]:
    """A finding for each role with code in a table beside the events, or in them: a warning if it keeps this role from
    writing there. One for each rule, too, and for records of organizations whose events a role does not see.
    """
    tables = [quoted(name, events.schema) for name in (*(kind.name for kind in RECORD_TABLES), PRICES_TABLE)]
    directory = relation(connection, names.fullname)
    tables += [existing.sql_name for existing in (directory, events) if existing is not None]
    values = {"events": events.oid, "tables": tables, "records": tables[: len(RECORD_TABLES)]}
    findings = []
    for name, kind, what, runs_code, owner, concerns in connection.execute(_FOREIGN.encode(), values).fetchall():
        look = f"Look at its triggers, rules, defaults, constraints and types (psql: \\d+ {name})"
        fix = {
            "table": f"{look}, then: ALTER TABLE {name} OWNER TO {quoted(owner)};",
            "reference": f"ALTER TABLE … DROP CONSTRAINT …; REVOKE REFERENCES ON {name} FROM {quoted(what)};",
            "code": f"{look} and drop what is not needed, else: ALTER FUNCTION … OWNER TO {quoted(owner)};",
            "trigger": f"DROP TRIGGER {quoted(what)} ON {name};",
            "rule": f"DROP RULE {quoted(what)} ON {name};",
        }[kind]
        reads = kind in ("table", "code") and runs_code
        keeps = f"; superusers and the owner of the events {'do not read it' if reads else 'write nothing there'}"
        message = f"{name} {owners.PHRASES[kind].format(quoted(what))}{keeps}"
        if concerns or kind == "rule":
            findings.append(Finding("owners", "warning", message, fix))
        else:
            findings.append(Finding("owners", "ok", message))
    for name, role, others in connection.execute(_RESTRICTED.encode(), values).fetchall():
        roles = f"the role {quoted(role)}{f' and {others:,} more' if others else ''}"
        message = f"{name} has no row-level security: {roles} may read or write all organizations there, of which"
        message += " the events are hidden" + (", so its links need a sign-in" if name.endswith(LINKS_TABLE) else "")
        policy = f"CREATE POLICY {quoted(role)} ON {name} TO {quoted(role)} USING (organization_id = '…');"
        fix = f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY; {policy} The same for every other role that uses it."
        findings.append(Finding("owners", "warning", message, fix))
    creators: dict[str, list[tuple[str, bool | None, str]]] = {}
    for schema, role, is_owner, owner in connection.execute(_CREATORS.encode(), values).fetchall():
        creators.setdefault(quoted(schema), []).append((quoted(role), is_owner, quoted(owner)))
    for schema, found in creators.items():
        made_by = [role for role, *_ in found]
        message = f"{listed(made_by)} may create functions and operators in {schema}, which statements of this role run"
        message += " where they fit better than PostgreSQL's own"
        fix = f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {', '.join(made_by)};"
        _, is_owner, owner = max(found, key=lambda each: bool(each[1]))
        if is_owner:
            message += ", and may drop what is there as its owner"
            fix = f"ALTER SCHEMA {schema} OWNER TO {owner}; {fix}"
        elif is_owner is None:
            message += (
                f": {schema} does not exist, and the role that creates it owns the first schema of the search path"
            )
            fix = f"CREATE SCHEMA {schema};"
        findings.append(Finding("search path", "warning", message, fix))
    return findings
