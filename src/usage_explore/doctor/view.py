"""The `CREATE VIEW` statement that gives a table with other columns the documented ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from usage_explore.db.catalog import FITTING, Attribute, Relation, documented
from usage_explore.db.ddl import Connection
from usage_explore.db.schema import DEFAULT_TABLE
from usage_explore.doctor.finding import Finding
from usage_explore.sql.identifiers import literal, quoted

LIKELY_NAMES = {
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
            for likely in LIKELY_NAMES[name].split():
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
            return self.line("timestamp", type_, False)[0], "no column found: late events cannot be told"
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


def suggestion(connection: Connection, relation: Relation) -> Finding:
    """The finding whose fix is the `CREATE VIEW`, with each documented column from a source of a likely name."""
    mapping = _Mapping(relation, connection)
    mapping.choose()
    if "timestamp" not in mapping.sources:
        return Finding(
            "view",
            "warning",
            "no view is offered: no column holds the time of an event, without which nothing can be asked",
            f"A column that does is found by its name, such as {', '.join(LIKELY_NAMES['timestamp'].split()[:4])}.",
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


def instants(relation: Relation, names: list[str]) -> str:
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
    naive = list(dict.fromkeys(each.name for each in times if each.type == "timestamp"))
    better = (
        "\n-- Where the table may be rewritten (a hypertable: after its columnstore is given up), better than any view:"
        f"\n-- {instants(relation, naive)}"
    )
    return (
        "-- The view's time is an expression: the planner uses no index of the table on the column behind it and, of a"
        "\n-- hypertable, leaves out no chunk. Without this index every page reads every event."
        f"{better if naive else ''}"
        f"\nCREATE INDEX ON {relation.sql_name} ({', '.join(keys)});  -- writers wait while it is made"
    )
