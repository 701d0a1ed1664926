"""Checks of the table: existence, permission, columns, organizations and values that make results wrong.

For a table with other columns, the `CREATE VIEW` statement that gives it the documented ones.
"""

from __future__ import annotations

from psycopg import sql

from usage_explore.db.catalog import FITTING, Relation, documented, misfits
from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS, events_table
from usage_explore.doctor import view
from usage_explore.doctor.finding import Finding
from usage_explore.query.filters import TEXT_COLUMNS
from usage_explore.sql import filters
from usage_explore.sql.identifiers import quoted

_CANDIDATES = """
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname !~ '^(pg_|_timescaledb|timescaledb_|information_schema$)'
  AND c.relname ~* '(usage|event|meter|consumption|billing|spend)' AND c.relname !~ '^usage_explore_'
ORDER BY c.reltuples DESC, 1, 2
LIMIT 5
"""

_TYPE_REASONS = {
    "float4": "floats lose digits, so sums are not exact",
    "float8": "floats lose digits, so sums are not exact",
    "timestamp": "a time without a zone does not say which instant it is",
    "bpchar": "char(n) pads with blanks",
}

_NOT_FINITE = "IN ('NaN', 'Infinity', '-Infinity')"
_OUTSIDE = "{0} < '1970-01-01Z' OR {0} >= '2200-01-01Z'"


def missing(connection: Connection, table_name: str) -> Finding:
    """The finding for a missing table, with tables of similar names."""
    candidates = [f"{schema}.{name}" for schema, name in connection.execute(_CANDIDATES).fetchall()]
    fix = "Make it with `usage-explore init`, or name yours with --table schema.name."
    if candidates:
        fix += f"\nPerhaps one of these: {', '.join(candidates)}"
    return Finding("table", "fault", f"{table_name} does not exist, or not where this role looks", fix)


def present(relation: Relation) -> Finding:
    """The finding for an existing table: its kind and size."""
    size = f", about {relation.rows:,} rows" if relation.rows > 0 else ""
    if relation.hypertable and relation.rows < 0:
        size = ", whose number of rows is not known before ANALYZE"
    return Finding("table", "ok", f"{relation.sql_name} is a {relation.kind}{size}")


def permission(connection: Connection, relation: Relation) -> list[Finding]:
    """Whether the role may SELECT; nothing more is needed."""
    row = connection.execute(
        "SELECT current_user,"
        " has_table_privilege(%(oid)s::oid, 'INSERT') OR has_table_privilege(%(oid)s::oid, 'UPDATE')"
        " OR has_table_privilege(%(oid)s::oid, 'DELETE'), row_security_active(%(oid)s::oid),"
        " has_schema_privilege(%(schema)s, 'USAGE')",
        {"oid": relation.oid, "schema": relation.schema},
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    role, writes, filtered, usage = row
    if not (relation.readable and usage):
        return [
            Finding(
                "permission",
                "fault",
                f"{role} may not read it",
                f"GRANT USAGE ON SCHEMA {quoted(relation.schema)} TO {quoted(role)};\n"
                f"GRANT SELECT ON {relation.sql_name} TO {quoted(role)};",
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


def columns(connection: Connection, relation: Relation) -> list[Finding]:
    """Whether every documented column exists with a fitting type, and required columns are NOT NULL."""
    if relation.aggregated:
        return [
            Finding(
                "columns",
                "fault",
                relation.why_aggregated,
                f"Name the hypertable behind it: --table {relation.aggregated}",
            )
        ]
    findings = []
    for name, (type_, _) in documented().items():
        column = relation.columns.get(name)
        if column is None:
            findings.append(Finding(f"column {name}", "fault", "is missing", f"It should be {type_}."))
        elif column.type not in FITTING[type_]:
            why = f": {_TYPE_REASONS[column.type]}" if column.type in _TYPE_REASONS else ""
            fix = f"It should be {type_}."
            if column.type == "timestamp" and relation.kind in ("table", "partitioned table"):
                fix += f" {view.to_instants(relation, [name])}"
            findings.append(Finding(f"column {name}", "fault", f"is {column.type}{why}", fix))
    if misfits(relation):
        return [*findings, view.suggestion(connection, relation)]
    findings.append(Finding("columns", "ok", f"all {len(COLUMNS)} are there, with fitting types"))
    loose = [
        name
        for name, (_, nullable) in documented().items()
        if not nullable and relation.columns[name].nullable and relation.kind in ("table", "partitioned table")
    ]
    if loose:
        findings.append(
            Finding(
                "columns",
                "warning",
                f"{', '.join(loose)} could be NULL, which these columns never are",
                "\n".join(
                    f"ALTER TABLE {relation.sql_name} ALTER COLUMN {quoted(name)} SET NOT NULL;" for name in loose
                ),
            )
        )
    return findings


def organizations(connection: Connection, relation: Relation) -> list[Finding]:
    """The number of organizations; every query is about one."""
    table = events_table()
    table.name, table.schema = relation.name, relation.schema
    listing = filters.organizations(table, distributed=relation.distributed is not None)
    ids = [str(row[0]) for row in connection.execute(filters.to_sql(listing).encode()).fetchall()]
    hides = "SELECT row_security_active(%s::oid)"
    if not ids and connection.execute(hides, [relation.oid]).fetchone() == (True,):
        said = "this role sees no events: the table is empty, or row-level security hides all of them"
        return [Finding("organizations", "warning", said, "Give the role a policy, see SECURITY.md, or load events.")]
    if not ids:
        return [
            Finding(
                "organizations",
                "warning",
                "the table is empty",
                "Load events with `usage-explore load FILE`, or try `usage-explore demo`.",
            )
        ]
    if len(ids) == 1:
        return [Finding("organizations", "ok", f"one, {ids[0]}, chosen without asking")]
    return [
        Finding(
            "organizations",
            "ok",
            f"{len(ids):,}; choose one with --organization-id or USAGE_EXPLORE_ORGANIZATION_ID, or in the app",
        )
    ]


def quality(connection: Connection, relation: Relation) -> list[Finding]:
    """One pass over the rows for values that make results wrong: NaN, NULL, non-objects, times in the future."""
    required = [
        name for name, (_, nullable) in documented().items() if not nullable and relation.columns[name].nullable
    ]
    looks = {
        "quantity": (
            f"quantity {_NOT_FINITE}",
            "quantities are NaN or infinite",
            "fault",
            "They cannot be summed; correct them.",
        ),
        "external_cost_amount": (
            f"external_cost_amount {_NOT_FINITE}",
            "costs are NaN or infinite",
            "fault",
            "They cannot be summed; correct them.",
        ),
        "dimensions": (
            "jsonb_typeof(dimensions) <> 'object'",
            "rows have dimensions that are no JSON object, so they have none",
            "warning",
            "Write {} where there are none.",
        ),
        "ingested_at": (
            "ingested_at > clock_timestamp() + interval '1 minute' AND ingested_at < '2200-01-01Z'",
            "rows say they were ingested in the future, so pinned links gain them later",
            "warning",
            "Set ingested_at to the database's clock when a row is inserted.",
        ),
        **{
            f"{name} out of bounds": (
                _OUTSIDE.format(name),
                f"rows have times outside 1970 to 2200 in {name}, so no question finds them",
                "fault",
                f"Correct or delete the rows of {relation.sql_name} where {_OUTSIDE.format(name)}.",
            )
            for name in ("timestamp", "ingested_at")
        },
        **{
            f"blank {name}": (
                f"{name} = ''",
                f"rows have an empty {name}, which is another value than none",
                "warning",
                f"Fill {name}{'' if name == 'metric_key' else ', or set it to NULL'}.",
            )
            for name in TEXT_COLUMNS
        },
        **{
            f"NULL {name}": (
                f"{name} IS NULL",
                f"rows have no {name}{', so no question finds them' if name in ('timestamp', 'ingested_at') else ''}",
                "fault",
                f"Fill {name}, then SET NOT NULL.",
            )
            for name in required
        },
    }
    columns = [
        f"count(*) FILTER (WHERE {condition}), min(id::text) FILTER (WHERE {condition})"
        for condition, *_ in looks.values()
    ]
    row = connection.execute(
        sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ".join(columns)),
            sql.Identifier(relation.schema, relation.name),
        )
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    findings = []
    for (name, (_, words, state, fix)), number, example in zip(looks.items(), row[::2], row[1::2], strict=True):
        if number:
            sample = f", such as id {example}" if example else ""
            findings.append(
                Finding(
                    f"contents: {name}", "fault" if state == "fault" else "warning", f"{number:,} {words}{sample}", fix
                )
            )
    return findings or [Finding("contents", "ok", "every quantity and cost is a number, nothing required is NULL")]
