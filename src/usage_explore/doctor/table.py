"""Checks of the table: existence, permission, columns, organizations and values that make results wrong.

For a table with other columns, the `CREATE VIEW` statement that gives it the documented ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from usage_explore.db.catalog import FITTING, Attribute, Relation, documented, misfits
from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS, DEFAULT_TABLE, events_table
from usage_explore.doctor.finding import Finding
from usage_explore.query.filters import TEXT_COLUMNS
from usage_explore.sql import filters
from usage_explore.sql.identifiers import literal, quoted

_CANDIDATES = """
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname !~ '^(pg_|_timescaledb|timescaledb_|information_schema$)'
  AND c.relname ~* '(usage|event|meter|consumption|billing)' AND c.relname !~ '^usage_explore_'
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

_LIKELY_NAMES = {
    "id": "event_id event_uuid usage_event_id uuid guid",
    "organization_id": "org_id organisation_id tenant_id workspace_id account_id company_id organization tenant",
    "customer_id": "customer client_id customer_uuid external_customer_id customer_key user_id subject account_id",
    "product_id": "product product_uuid service_id service product_key",
    "subscription_id": "subscription subscription_uuid contract_id",
    "metric_key": "metric meter event_name meter_key metric_name meter_name meter_id event_type name type",
    "price_key": "price_id price_code rate_key sku_price_id",
    "quantity": "qty value amount units usage usage_quantity consumed_quantity count",
    "timestamp": "occurred_at event_time event_timestamp time ts event_at happened_at usage_time start_time",
    "ingested_at": "created_at inserted_at received_at recorded_at processed_at loaded_at",
    "idempotency_key": "transaction_id dedup_key deduplication_key event_key external_id request_id",
    "external_cost_amount": "cost_amount cost billed_cost external_cost",
    "external_cost_currency": "cost_currency currency currency_code",
    "wallet_currency": "wallet",
    "dimensions": "properties attributes metadata tags labels payload data",
}
"""For each documented column, other common names, likeliest first."""

_NIL = "'00000000-0000-0000-0000-000000000000'::uuid"
_UUID = "^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"
_ABSENT = {
    "organization_id": (_NIL, "no column found: all events in one organization"),
    "customer_id": (_NIL, "no column found: all events of one customer"),
    "metric_key": ("'events'::text", "no column found: one metric"),
    "quantity": ("1::numeric", "no column found: every event counts 1"),
}


def missing(connection: Connection, table_name: str) -> Finding:
    """The finding for a missing table, with tables of similar names."""
    candidates = [quoted(name, schema) for schema, name in connection.execute(_CANDIDATES).fetchall()]
    fix = "Make it with `usage-explore init`, or name yours with --table schema.name."
    if candidates:
        fix += f"\nPerhaps one of these: {', '.join(candidates)}"
    return Finding("table", "fault", f"{table_name} does not exist, or not where this role looks", fix)


def present(relation: Relation) -> Finding:
    """The finding for an existing table: its kind and size."""
    size = f", about {relation.rows:,} rows" if relation.rows > 0 else ""
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
                f"it is a continuous aggregate of {relation.aggregated}: each of its rows adds up many events, so no"
                " question about events can be answered from it, and no view can make events of it",
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
                fix += f" {_to_instants(relation, [name])}"
            findings.append(Finding(f"column {name}", "fault", f"is {column.type}{why}", fix))
    if misfits(relation):
        return [*findings, _view_suggestion(connection, relation)]
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


@dataclass(slots=True)
class _Mapping:
    """The source column of each documented column, and the expressions made of them."""

    relation: Relation
    connection: Connection
    sources: dict[str, Attribute] = field(default_factory=dict)

    def choose(self) -> None:
        free = {name.lower(): column for name, column in self.relation.columns.items()}
        wanted = documented()
        for name in wanted:
            if name in free:
                self.sources[name] = free.pop(name)
        for name in wanted:
            for likely in _LIKELY_NAMES[name].split():
                if name not in self.sources and likely in free:
                    self.sources[name] = free.pop(likely)
        if "timestamp" not in self.sources and "ingested_at" in self.sources:
            self.sources["timestamp"] = self.sources["ingested_at"]

    def left(self) -> list[str]:
        """Columns that are the source of none."""
        used = {column.name for column in self.sources.values()}
        return [name for name in self.relation.columns if name not in used]

    def line(self, name: str, type_: str, nullable: bool) -> tuple[str, str]:
        """The expression for a documented column, and a remark."""
        source = self.sources.get(name)
        if source is None:
            return self.absent(name, type_)
        column = quoted(source.name)
        expression, remark = column, ""
        if source.type not in FITTING[type_]:
            expression, remark = getattr(self, f"as_{type_}")(column, source)
        if name == "dimensions" and source.nullable and not nullable:
            expression = f"coalesce({expression}, '{{}}'::jsonb)"
        return expression, remark

    def absent(self, name: str, type_: str) -> tuple[str, str]:
        if name in _ABSENT:
            return _ABSENT[name]
        if name == "id":
            return f"md5({quoted(self.relation.name)}::text)::uuid", "no column found: made of the whole row"
        if name == "timestamp":
            return "'1970-01-01 00:00:00+00'::timestamptz", "no column found: name the time of the event here"
        if name == "ingested_at":
            return self.line("timestamp", type_, False)[0], "no column found: late events cannot be recognized"
        if name == "idempotency_key":
            return f"({self.line('id', 'uuid', False)[0]})::text", "no column found: the id"
        if name == "dimensions":
            rest = self.left()[:50]
            pairs = ", ".join(f"{literal(column)}, {quoted(column)}" for column in rest)
            if not pairs:
                return "'{}'::jsonb", ""
            return f"jsonb_strip_nulls(jsonb_build_object({pairs}))", "the columns that serve as nothing else"
        return f"NULL::{type_}", ""

    def as_text(self, column: str, source: Attribute) -> tuple[str, str]:
        return f"{column}::text", ""

    def as_numeric(self, column: str, source: Attribute) -> tuple[str, str]:
        remark = "a float has lost digits already; what is left adds up exactly"
        return f"{column}::numeric", remark if source.type.startswith("float") else ""

    def as_jsonb(self, column: str, source: Attribute) -> tuple[str, str]:
        return (f"hstore_to_jsonb({column})" if source.type == "hstore" else f"{column}::jsonb"), ""

    def as_timestamptz(self, column: str, source: Attribute) -> tuple[str, str]:
        if source.type in ("timestamp", "date"):
            cast = "::timestamp" if source.type == "date" else ""
            return f"{column}{cast} AT TIME ZONE 'UTC'", "taken as UTC; write the zone it was recorded in"
        if source.type in ("int4", "int8", "numeric", "float8"):
            unit = "second" if self.holds(f"max({column}) < 100000000000", source) else "millisecond"
            return f"'epoch'::timestamptz + {column} * interval '1 {unit}'", f"taken as {unit}s since 1970"
        return f"{column}::timestamptz", "text without an offset is taken as the session's zone"

    def as_uuid(self, column: str, source: Attribute) -> tuple[str, str]:
        if source.type in ("text", "varchar", "bpchar") and self.holds(f"bool_and({column} ~ '{_UUID}')", source):
            return f"{column}::uuid", ""
        return f"md5({column}::text)::uuid", "not UUIDs: each value gets a stable one"

    def holds(self, condition: str, source: Attribute) -> bool:
        """Whether the first 1,000 rows meet a condition; False if they cannot be read."""
        try:
            row = self.connection.execute(
                sql.SQL("SELECT {} FROM (SELECT {} FROM {} LIMIT 1000) AS first").format(
                    sql.SQL(condition),
                    sql.Identifier(source.name),
                    sql.Identifier(self.relation.schema, self.relation.name),
                )
            ).fetchone()
        except psycopg.Error:
            return False
        return bool(row and row[0] is not False)


def _view_suggestion(connection: Connection, relation: Relation) -> Finding:
    """The finding whose fix is the `CREATE VIEW`, with each documented column from a source of a likely name."""
    mapping = _Mapping(relation, connection)
    mapping.choose()
    if "timestamp" not in mapping.sources:
        return Finding(
            "view",
            "warning",
            "no view is offered: no column holds the time of an event, without which nothing can be asked",
            f"A column that does is found by its name, such as {', '.join(_LIKELY_NAMES['timestamp'].split()[:4])}.",
        )
    name = f"{DEFAULT_TABLE}_view"
    lines = []
    for column, (type_, nullable) in documented().items():
        expression, remark = mapping.line(column, type_, nullable)
        renamed = expression if expression == quoted(column) else f"{expression} AS {quoted(column)}"
        lines.append((renamed, remark))
    body = "\n".join(
        f"    {text}{',' if number < len(lines) else ''}{f'  -- {remark}' if remark else ''}"
        for number, (text, remark) in enumerate(lines, 1)
    )
    schema = quoted(relation.schema)
    source = mapping.sources["timestamp"]
    hidden = source.type in ("timestamp", "date") and relation.kind in ("table", "partitioned table")
    index = f"\n{_index(relation, mapping, dict(documented()))}" if hidden else ""
    left = mapping.left() if "dimensions" in mapping.sources else []
    beside = f"-- left out: {', '.join(map(quoted, left))}\n" if left else ""
    return Finding(
        "view",
        "warning",
        "this view gives it the documented columns; read it through, run it, then use it with"
        f" --table {relation.schema}.{name} (USAGE_EXPLORE_TABLE)",
        f"{beside}CREATE VIEW {schema}.{name} AS\nSELECT\n{body}\nFROM {relation.sql_name};{index}",
    )


def _to_instants(relation: Relation, names: list[str]) -> str:
    """The ALTER TABLE that makes columns timestamptz, for the owner of the table."""
    changes = ", ".join(
        f"ALTER {quoted(name)} TYPE timestamptz USING {quoted(name)} AT TIME ZONE 'UTC'" for name in names
    )
    return f"ALTER TABLE {relation.sql_name} {changes};  -- rewrites it; write the zone it was recorded in"


def _index(relation: Relation, mapping: _Mapping, wanted: dict[str, tuple[str, bool]]) -> str:
    """The index that paging through the view needs: on the expression of the time."""
    keys = []
    for name, direction in (("organization_id", ""), ("timestamp", " DESC"), ("id", " DESC")):
        expression, _ = mapping.line(name, *wanted[name])
        own = mapping.sources.get(name)
        if name == "timestamp" or (own and expression == quoted(own.name)):
            keys.append(f"({expression}){direction}" if name == "timestamp" else f"{expression}{direction}")
    times = [mapping.sources[name] for name in ("timestamp", "ingested_at") if name in mapping.sources]
    naive = list(dict.fromkeys(column.name for column in times if column.type == "timestamp"))
    better = (
        "\n-- Where the table may be rewritten (a hypertable: after its columnstore is given up), better than any view:"
        f"\n-- {_to_instants(relation, naive)}"
    )
    return (
        "-- The view's time is an expression: the planner uses no index of the table on the column behind it and, of a"
        "\n-- hypertable, leaves out no chunk. Without this index every page reads every event."
        f"{better if naive else ''}"
        f"\nCREATE INDEX ON {relation.sql_name} ({', '.join(keys)});  -- writers wait while it is made"
    )
