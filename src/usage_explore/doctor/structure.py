"""Checks of the table: is it there, may it be read, do its columns fit."""

from __future__ import annotations

from usage_explore.db.catalog import FITTING, Relation, documented, misfits
from usage_explore.db.schema import COLUMNS
from usage_explore.doctor.finding import Connection, Finding
from usage_explore.doctor.view import instants, suggestion
from usage_explore.sql.identifiers import quoted

_CANDIDATES = """
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname !~ '^(pg_|_timescaledb|timescaledb_|information_schema$)'
  AND c.relname ~* '(usage|event|meter|consumption|billing)' AND c.relname !~ '^usage_explore_'
ORDER BY c.reltuples DESC, 1, 2
LIMIT 5
"""

_WHY = {
    "float4": "floats lose digits, so sums are not exact",
    "float8": "floats lose digits, so sums are not exact",
    "timestamp": "a time without a zone does not say which instant it is",
    "bpchar": "char(n) pads with blanks",
}


def missing(connection: Connection, table_name: str) -> Finding:
    """The finding for a table that is not there, with tables that might be meant."""
    candidates = [quoted(name, schema) for schema, name in connection.execute(_CANDIDATES).fetchall()]
    cure = "Make it with `usage-explore init`, or name yours with --table schema.name."
    if candidates:
        cure += f"\nPerhaps one of these: {', '.join(candidates)}"
    return Finding("table", "fault", f"{table_name} does not exist, or not where this role looks", cure)


def present(found: Relation) -> Finding:
    """The finding for a table that is there."""
    size = f", about {found.rows:,} rows" if found.rows > 0 else ""
    return Finding("table", "ok", f"{quoted(found.name, found.schema)} is a {found.kind}{size}")


def permission(connection: Connection, found: Relation) -> list[Finding]:
    """SELECT is needed, and nothing more."""
    row = connection.execute(
        "SELECT current_user,"
        " has_table_privilege(%(oid)s::oid, 'INSERT') OR has_table_privilege(%(oid)s::oid, 'UPDATE')"
        " OR has_table_privilege(%(oid)s::oid, 'DELETE'), row_security_active(%(oid)s::oid),"
        " has_schema_privilege(%(schema)s, 'USAGE')",
        {"oid": found.oid, "schema": found.schema},
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    role, writes, filtered, usage = row
    if not (found.readable and usage):
        return [
            Finding(
                "permission",
                "fault",
                f"{role} may not read it",
                f"GRANT USAGE ON SCHEMA {quoted(found.schema)} TO {quoted(role)};\n"
                f"GRANT SELECT ON {quoted(found.name, found.schema)} TO {quoted(role)};",
            )
        ]
    more = "; it may write too, which reading never needs" if writes else ""
    findings = [Finding("permission", "ok", f"{role} may SELECT{more}")]
    if filtered:
        findings.append(
            Finding(
                "permission",
                "warning",
                f"row level security decides which rows {role} sees; totals are of those rows only",
                f"To see every row: ALTER ROLE {quoted(role)} BYPASSRLS;",
            )
        )
    return findings


def columns(connection: Connection, found: Relation) -> list[Finding]:
    """Every documented column with a fitting type, and those that must be filled guaranteed to be."""
    if found.aggregated:
        return [
            Finding(
                "columns",
                "fault",
                f"it is a continuous aggregate of {found.aggregated}: each of its rows adds up many events, so no"
                " question about events can be answered from it, and no view can make events of it",
                f"Name the hypertable behind it: --table {found.aggregated}",
            )
        ]
    findings = []
    for name, (type_, _) in documented().items():
        column = found.columns.get(name)
        if column is None:
            findings.append(Finding(f"column {name}", "fault", "is missing", f"It should be {type_}."))
        elif column.type not in FITTING[type_]:
            why = f": {_WHY[column.type]}" if column.type in _WHY else ""
            cure = f"It should be {type_}."
            if column.type == "timestamp" and found.kind in ("table", "partitioned table"):
                cure += f" {instants(found, [name])}"
            findings.append(Finding(f"column {name}", "fault", f"is {column.type}{why}", cure))
    if misfits(found):
        return [*findings, suggestion(connection, found)]
    findings.append(Finding("columns", "ok", f"all {len(COLUMNS)} are there, with fitting types"))
    loose = [
        name
        for name, (_, nullable) in documented().items()
        if not nullable and found.columns[name].nullable and found.kind in ("table", "partitioned table")
    ]
    if loose:
        findings.append(
            Finding(
                "columns",
                "warning",
                f"{', '.join(loose)} could be NULL, which these columns never are",
                "\n".join(
                    f"ALTER TABLE {quoted(found.name, found.schema)} ALTER COLUMN {quoted(name)} SET NOT NULL;"
                    for name in loose
                ),
            )
        )
    return findings
