"""The view that the doctor prints for a table of one's own runs, and loses and doubles nothing."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import pytest
from psycopg.rows import dict_row

from usage_explore import AggregateQuery, EventQuery, connect
from usage_explore.db import ddl
from usage_explore.doctor import Finding, examine, recognition
from usage_explore.event_pages import EventPage
from usage_explore.load.identifiers import Identifiers
from usage_explore.names import LOCAL_ORGANIZATION
from usage_explore.results.types import Event

TIMEOUT = timedelta(seconds=30)
NAMESPACE = UUID("8b1f4f0e-2f5b-5d6c-9d0a-5f6f1c0f0c05")
LOCAL = str(uuid5(NAMESPACE, "organization"))
LOCAL_CUSTOMER = str(uuid5(NAMESPACE, "customer=local"))
EVENING = datetime(2026, 9, 1, 18, 30, tzinfo=UTC)
Row = Mapping[str, Any]


def one(row: Row, metric: str, quantity: object, cost: object = None) -> list[tuple[str, Decimal, Decimal | None]]:
    return [(metric, number(quantity), None if cost is None else number(cost))]


def number(value: object) -> Decimal:
    """The number as it is written, a float by its shortest text."""
    return Decimal(repr(value) if isinstance(value, float) else str(value))


def tokens(row: Row) -> list[tuple[str, Decimal, Decimal | None]]:
    """The first measure for every row, with its cost; the second where it is not zero."""
    events: list[tuple[str, Decimal, Decimal | None]] = [
        ("prompt_tokens", Decimal(row["prompt_tokens"]), number(row["spend"]))
    ]
    if row["completion_tokens"]:
        events.append(("completion_tokens", Decimal(row["completion_tokens"]), None))
    return events


@dataclass(frozen=True)
class Shape:
    """A table, its rows, and the independent account of its events: metric, quantity and cost of each row."""

    create: str
    insert: str
    events: Callable[[Row], list[tuple[str, Decimal, Decimal | None]]]
    time: Callable[[Row], datetime]
    dimensions: frozenset[str] = frozenset()
    contains: tuple[str, ...] = ()
    table: str = "other"
    metrics: Mapping[str, str] = field(default_factory=dict)


def utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


SHAPES = {
    "date timestamptz and payload_value": Shape(
        'CREATE TABLE other (key bigserial PRIMARY KEY, date timestamptz NOT NULL, "customerId" text NOT NULL,'
        " payload_value bigint NOT NULL, region text)",
        "INSERT INTO other (date, \"customerId\", payload_value, region) SELECT {start} + n * interval '7 hours',"
        " 'cus_' || n % 3, n * 1000000000000, 'eu' FROM generate_series(1, 40) AS n",
        lambda row: one(row, "payload_value", row["payload_value"]),
        lambda row: row["date"],
        frozenset({"customerId", "region"}),
        ("    date AS timestamp,", "all events in one organization"),
    ),
    "camelCase with an offset in text": Shape(
        'CREATE TABLE other ("eventId" uuid PRIMARY KEY, "orgId" uuid NOT NULL, "userId" varchar(40),'
        ' "eventName" varchar NOT NULL, "usageQuantity" text, "occurredAt" text NOT NULL, "createdAt" timestamptz,'
        ' "requestId" text, tags json, extra jsonb)',
        "INSERT INTO other SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000007',"
        " CASE WHEN n % 4 > 0 THEN 'u' || n % 3 END, 'call', (n * 0.1)::text,"
        " to_char({start} + n * interval '1 hour', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS') || '+02:00', {start}, 'r' || n,"
        ' \'{"model": "m"}\', \'{"a": 1}\' FROM generate_series(1, 40) AS n',
        lambda row: one(row, "call", row["usageQuantity"]),
        lambda row: datetime.fromisoformat(row["occurredAt"]),
        frozenset({"model", "extra", "userId"}),
        ("::timestamptz AS timestamp", LOCAL_CUSTOMER),
    ),
    "LiteLLM": Shape(
        """CREATE TABLE "LiteLLM_SpendLogs" (request_id text PRIMARY KEY, call_type text NOT NULL,
        api_key text NOT NULL DEFAULT '', spend double precision NOT NULL DEFAULT 0.0,
        total_tokens integer NOT NULL DEFAULT 0, prompt_tokens integer NOT NULL DEFAULT 0,
        completion_tokens integer NOT NULL DEFAULT 0, "startTime" timestamp(3) NOT NULL, "endTime" timestamp(3),
        request_duration_ms integer, "completionStartTime" timestamp(3), model text NOT NULL DEFAULT '',
        model_id text DEFAULT '', model_group text DEFAULT '', custom_llm_provider text DEFAULT '',
        api_base text DEFAULT '', "user" text DEFAULT '', metadata jsonb DEFAULT '{}', cache_hit text DEFAULT '',
        cache_key text DEFAULT '', request_tags jsonb DEFAULT '[]', team_id text, organization_id text, end_user text,
        requester_ip_address text, messages jsonb DEFAULT '{}', response jsonb DEFAULT '{}', session_id text,
        status text, mcp_namespaced_tool_name text, agent_id text, proxy_server_request jsonb DEFAULT '{}')""",
        """INSERT INTO "LiteLLM_SpendLogs" (request_id, call_type, api_key, spend, prompt_tokens, completion_tokens,
        total_tokens, "startTime", "endTime", request_duration_ms, model, end_user, "user", metadata)
        SELECT 'chatcmpl-' || n, 'acompletion', 'hash' || n % 2, n * 0.0000137, n * 10, n % 3, n * 10 + n % 3,
        ({start} + n * interval '9 hours') AT TIME ZONE 'UTC', ({start} + n * interval '9 hours') AT TIME ZONE 'UTC',
        n * 7, 'gpt', CASE WHEN n % 2 = 0 THEN 'end' || n % 4 ELSE '' END, 'alice', '{"project": "p"}'
        FROM generate_series(1, 40) AS n""",
        tokens,
        lambda row: utc(row["startTime"]),
        frozenset({"project", "model", "total_tokens", "end_user", "call_type", "request_duration_ms"}),
        ("UNION ALL", "total_tokens is prompt_tokens + completion_tokens", "'USD'::text", LOCAL),
        table="LiteLLM_SpendLogs",
    ),
    "OpenMeter": Shape(
        "CREATE TABLE om_events (namespace text, id text, type text, subject text, source text, time timestamptz,"
        " data text, ingested_at timestamptz, stored_at timestamptz)",
        "INSERT INTO om_events SELECT 'default', gen_random_uuid()::text, 'request', 'customer-' || n % 3, 'api',"
        ' {start} + n * interval \'5 hours\', format(\'{{"duration_ms": %s, "method": "GET"}}\', n * 3),'
        " {start} + n * interval '5 hours', {start} FROM generate_series(1, 40) AS n",
        lambda row: one(row, "request", 1),
        lambda row: row["time"],
        frozenset({"duration_ms", "method", "source", "subject", "namespace", "stored_at"}),
        ("every event counts 1", "'duration_ms'"),
        table="om_events",
    ),
    "Lago": Shape(
        """CREATE TABLE events (id uuid DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY, organization_id uuid NOT NULL,
        customer_id uuid, transaction_id varchar NOT NULL, code varchar NOT NULL,
        properties jsonb DEFAULT '{}' NOT NULL, "timestamp" timestamp,
        created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL,
        metadata jsonb DEFAULT '{}' NOT NULL, subscription_id uuid, deleted_at timestamp(6),
        external_customer_id varchar, external_subscription_id varchar, precise_total_amount_cents numeric(40,15))""",
        """INSERT INTO events (organization_id, transaction_id, code, properties, timestamp, created_at, updated_at,
        external_customer_id, external_subscription_id, deleted_at)
        SELECT '00000000-0000-0000-0000-000000000007', 'tx' || n, 'storage',
        jsonb_build_object('gb', n::text, 'code', 1), ({start} + n * interval '6 hours') AT TIME ZONE 'UTC',
        {start} AT TIME ZONE 'UTC', {start} AT TIME ZONE 'UTC', 'ext-' || n % 3, 'sub-' || n % 5,
        CASE WHEN n = 3 THEN {start} AT TIME ZONE 'UTC' END
        FROM generate_series(1, 40) AS n""",
        lambda row: one(row, "storage", 1),
        lambda row: utc(row["timestamp"]),
        frozenset({"gb", "external_customer_id", "external_subscription_id", "metadata"}),
        ("1 checked row with deleted_at count", "every event counts 1", "'gb'", "CREATE INDEX"),
        table="events",
    ),
    "epochs": Shape(
        "CREATE TABLE other (id bigint PRIMARY KEY, account_id int, user_id bigint, metric text, qty int, ts bigint,"
        " received_at bigint)",
        "INSERT INTO other SELECT n, 3, n % 4, 'x', n, extract(epoch FROM {start})::bigint * 1000 + n * 7000123,"
        " extract(epoch FROM {start})::bigint + n FROM generate_series(1, 40) AS n",
        lambda row: one(row, "x", row["qty"]),
        lambda row: datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=row["ts"]),
        contains=("taken as milliseconds since 1970", "taken as seconds since 1970", "CREATE INDEX"),
    ),
    "two times, no customer, floats": Shape(
        "CREATE TABLE other (alpha timestamptz NOT NULL, beta timestamptz NOT NULL, gpu_hours float8, model text)",
        "INSERT INTO other SELECT {start} + n * interval '6 hours', {start}, n / 7.0, 'm' || n % 2"
        " FROM generate_series(1, 40) AS n",
        lambda row: one(row, "gpu_hours", row["gpu_hours"]),
        lambda row: row["alpha"],
        frozenset({"model", "beta"}),
        ("-- beta AS timestamp,", "if model is the customer", LOCAL, LOCAL_CUSTOMER, "equal rows have one id"),
    ),
    "casts that do not hold": Shape(
        "CREATE TABLE other (id text PRIMARY KEY, customer_id char(12), quantity text, occurred_at text,"
        " created_at date, attributes json, cost text)",
        "INSERT INTO other SELECT 'e' || n, 'c' || n % 3,"
        " CASE WHEN n = 5 THEN 'n/a' WHEN n = 6 THEN '' ELSE n::text END,"
        " CASE WHEN n = 7 THEN 'yesterday' ELSE '2026-09-02 10:00:00' END, '2026-09-02',"
        " CASE WHEN n = 8 THEN '{\"a\": \"\\u0000\"}' ELSE '{\"a\": 1}' END::json, '1e' || n"
        " FROM generate_series(1, 40) AS n",
        lambda row: one(row, "quantity", 0 if row["quantity"] in ("n/a", "") else row["quantity"], row["cost"]),
        lambda row: datetime(2026, 9, 2, tzinfo=UTC),
        frozenset({"attributes", "occurred_at"}),
        ("1 checked value is no number, such as 'n/a': 0", "yesterday"),
    ),
    "local times as text, cents": Shape(
        "CREATE TABLE other (event_id text, customer text, event_type text, units numeric(20, 6), event_time text,"
        " cost_cents int, currency char(3))",
        "INSERT INTO other SELECT gen_random_uuid()::text, ' padded ' || n % 3, 'call', n * 0.000001,"
        " '2026-02-28 0' || n % 10 || ':00', n, 'EUR' FROM generate_series(1, 40) AS n",
        lambda row: one(row, "call", row["units"], Decimal(row["cost_cents"]) / 100),
        lambda row: datetime.fromisoformat(row["event_time"]).replace(tzinfo=UTC),
        frozenset({"customer"}),
        ("cost_cents::numeric * 0.01", "btrim(customer"),
    ),
    "an enum, arrays, a name that needs quotes, a full house of columns": Shape(
        "CREATE TYPE kind AS ENUM ('in', 'out'); CREATE TABLE other (id int PRIMARY KEY, \"time\" timestamptz NOT NULL,"
        ' "customer id" text NOT NULL, metric kind NOT NULL, value float4 NOT NULL, list int[], flag boolean,'
        ' "it\'s" inet,' + ", ".join(f"c{number} text DEFAULT 'x'" for number in range(120)) + ")",
        'INSERT INTO other (id, time, "customer id", metric, value, list, flag, "it\'s") SELECT n,'
        " {start} + n * interval '8 hours', 'c' || n % 3, 'in', n / 10.0, '{{1,2}}', true, '10.0.0.1'"
        " FROM generate_series(1, 40) AS n",
        lambda row: one(row, "in", row["value"]),
        lambda row: row["time"],
        frozenset({"list", "flag", "it's", "c0", "c119", "customer id"}),
    ),
    "measures beside JSON and dates": Shape(
        "CREATE TABLE other (day date NOT NULL, workspace text, api_key_id text, input_tokens bigint,"
        " output_tokens bigint, cost_usd numeric, labels jsonb, UNIQUE (day, workspace, api_key_id))",
        "INSERT INTO other SELECT '2026-09-01'::date + n, 'w1', 'k' || n % 2, nullif(n % 4, 0), n % 5, n * 0.01,"
        " CASE WHEN n % 2 = 0 THEN '{{\"team\": \"t\"}}'::jsonb WHEN n = 3 THEN '[1]'::jsonb END"
        " FROM generate_series(1, 40) AS n",
        lambda row: [
            ("input_tokens", Decimal(row["input_tokens"] or 0), row["cost_usd"]),
            *([("output_tokens", Decimal(row["output_tokens"]), None)] if row["output_tokens"] else []),
        ],
        lambda row: datetime(row["day"].year, row["day"].month, row["day"].day, tzinfo=UTC),
        frozenset({"team", "api_key_id", "workspace"}),
        ("UNION ALL", "'USD'::text"),
    ),
    "nothing but a time": Shape(
        'CREATE TABLE other (created_at timestamptz, "Region" text)',
        "INSERT INTO other SELECT {start} + n * interval '3 hours', 'eu' FROM generate_series(1, 40) AS n",
        lambda row: one(row, "events", 1),
        lambda row: row["created_at"],
        frozenset({"Region"}),
        ("the only time", "every event counts 1"),
    ),
}


def made(connection: ddl.Connection, shape: Shape) -> list[Row]:
    """The table with its rows; the rows as the driver reads them."""
    connection.execute(shape.create.encode())
    start = "'2026-09-01 18:30:00+00'::timestamptz"
    connection.execute(shape.insert.replace("{start}", start).replace("{{", "{").replace("}}", "}").encode())
    connection.commit()
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f'SELECT * FROM "{shape.table}"'.encode()).fetchall()


def view_of(url: str, table: str) -> Finding:
    (view,) = [finding for finding in examine(url, table, TIMEOUT) if finding.name == "view"]
    return view


def run(connection: ddl.Connection, view: Finding) -> str:
    """Run the printed statements; the name of the view."""
    connection.execute(view.fix.encode())
    connection.commit()
    match = re.search(r"--table (\S+) ", view.message)
    assert match
    return match[1]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_view_runs_and_agrees_with_an_independent_count(
    connection: ddl.Connection, database_url: str, shape: Shape
) -> None:
    rows = made(connection, shape)
    view = view_of(database_url, shape.table)
    name = run(connection, view)
    assert name == f"public.{shape.table}_usage"
    missing = [text for text in shape.contains if text not in view.fix + view.message]
    json_text = connection.info.server_version >= 160_000  # text is JSON where PostgreSQL can tell without an error
    assert missing == ([] if json_text or shape.table != "om_events" else ["'duration_ms'"])
    after = [finding for finding in examine(database_url, name, TIMEOUT) if finding.state == "fault"]
    assert after == []

    counts: Counter[str] = Counter()
    sums: dict[str, Decimal] = defaultdict(Decimal)
    times: Counter[datetime] = Counter()
    cost = Decimal(0)
    for row in rows:
        for metric, quantity, amount in shape.events(row):
            counts[metric] += 1
            sums[metric] += quantity
            times[shape.time(row)] += 1
            cost += amount or 0
    with connect(database_url, table=name) as store:
        since, until = min(times), max(times) + timedelta(microseconds=1)
        query = AggregateQuery(group_by="metric_key", bucket="day", since=since, until=until)
        assert {series.key: series.total for series in store.aggregate(query.replace(metric="count")).series} == counts
        summed = store.aggregate(query.replace(metric="sum_quantity"))
        assert {series.key: series.total for series in summed.series} == sums
        listed: list[Event] = []
        page: EventPage | None = store.events(EventQuery(limit=7))
        while page:
            listed += page.events
            page = page.next()
    assert Counter(event.timestamp for event in listed) == times
    assert len({event.id for event in listed}) == len({event.idempotency_key for event in listed}) == len(listed)
    assert sum((event.external_cost_amount or Decimal(0) for event in listed), Decimal(0)) == cost
    found = {key for event in listed for key in event.dimensions}
    assert shape.dimensions - found == (set() if json_text or shape.table != "om_events" else {"duration_ms", "method"})


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_every_choice_and_every_other_statement_runs_too(
    connection: ddl.Connection, database_url: str, shape: Shape
) -> None:
    made(connection, shape)
    findings = examine(database_url, shape.table, TIMEOUT)
    (view,) = [finding for finding in findings if finding.name == "view"]
    lines = view.fix.split("\n")
    for index, line in enumerate(lines):
        if line.startswith("    -- "):
            line_above = max(number for number in range(index) if not lines[number].startswith("    -- "))
            chosen = [*lines[:line_above], line.replace("-- ", "", 1), *lines[line_above + 1 :]]
            connection.execute("\n".join(chosen).encode())
            assert connection.execute(f'SELECT md5(v::text) FROM "{shape.table}_usage" AS v'.encode()).fetchone()
            connection.rollback()
    printed = [
        statement
        for finding in findings
        for statement in re.findall(
            r"(?:ALTER|CREATE (?:UNIQUE )?INDEX|CREATE STATISTICS|GRANT)[^;]*;",
            re.sub(r"CREATE VIEW[^;]*;", "", finding.fix),
        )
    ]
    connection.rollback()
    connection.autocommit = True
    for statement in printed:
        connection.execute(statement.encode())


def test_ids_that_are_text_are_those_of_load_where_the_server_has_sha1(
    connection: ddl.Connection, database_url: str
) -> None:
    texts = ["cus_1", "ü €", " padded ", "x" * 300, "6B1F4F0E-2f5b-5d6c-9d0a-5f6f1c0f0c05"]
    connection.execute(
        "CREATE TABLE other (id int PRIMARY KEY, tenant text, customer text, product text, ts timestamptz)"
    )
    for number, text in enumerate(texts):
        connection.execute("INSERT INTO other VALUES (%s, %s, %s, %s, now())", [number, text, text, text])
    connection.commit()

    def ids() -> list[tuple[UUID, ...]]:
        run(connection, view_of(database_url, "other"))
        query = "SELECT organization_id, customer_id, product_id FROM other_usage ORDER BY idempotency_key"
        rows = connection.execute(query).fetchall()
        connection.execute("DROP VIEW other_usage")
        connection.commit()
        return rows

    def expected(make: Callable[[str], UUID]) -> list[tuple[UUID, ...]]:
        made = [
            tuple(make(f"{kind}={text.strip()}") for kind in ("organization", "customer", "product")) for text in texts
        ]
        return [*made[:-1], (UUID(texts[-1]),) * 3]

    assert ids() == expected(lambda name: UUID(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()))
    available = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
    for extension in {"uuid-ossp", "pgcrypto"} & {name for (name,) in available}:
        connection.execute(
            f'CREATE SCHEMA "an extension"; CREATE EXTENSION "{extension}" SCHEMA "an extension"'.encode()
        )
        connection.commit()
        assert ids() == expected(lambda name: uuid5(NAMESPACE, name))
        connection.execute('DROP SCHEMA "an extension" CASCADE')


def test_rows_of_one_id_stay_apart(connection: ddl.Connection, database_url: str) -> None:
    connection.execute("CREATE TABLE other (id text, source text, subject text, time timestamptz, value int)")
    connection.execute(
        "INSERT INTO other SELECT 'same', 's' || n, 'c', '2026-09-01', n FROM generate_series(1, 30) AS n"
    )
    connection.commit()
    view = view_of(database_url, "other")
    assert "equal rows have one id" in view.fix
    with connect(database_url, table=run(connection, view)) as store:
        events = []
        page: EventPage | None = store.events(EventQuery(limit=7))
        while page:
            events += page.events
            page = page.next()
    assert sorted(event.quantity for event in events) == list(range(1, 31))
    assert {event.dimensions["id"] for event in events} == {"same"}


def test_a_name_that_is_taken_is_not_replaced(connection: ddl.Connection, database_url: str) -> None:
    made(connection, SHAPES["nothing but a time"])
    assert run(connection, view_of(database_url, "other")) == "public.other_usage"
    assert run(connection, view_of(database_url, "other")) == "public.other_usage_2"


def test_a_large_table_is_sampled_and_says_so(
    connection: ddl.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(connection, SHAPES["local times as text, cents"])
    monkeypatch.setattr(recognition, "MAX_CHECKED_ROWS", 39)
    monkeypatch.setattr(recognition, "SAMPLED_ROWS", 30)
    fix = view_of(database_url, "other").fix
    assert "the values of 30 rows of a larger table" in fix
    assert "30 rows were checked, and a value that cannot be read makes a query fail" in fix


def test_without_a_time_there_is_no_view_but_a_reason(connection: ddl.Connection, database_url: str) -> None:
    connection.execute("CREATE TABLE other AS SELECT 1 AS quantity, 'yesterday' AS event_time, 'c' AS customer_id")
    connection.commit()
    view = view_of(database_url, "other")
    assert "no view is offered" in view.message
    assert "event_time holds 'yesterday'" in view.fix


def test_rows_without_a_time_are_said_with_a_way_to_keep_them(connection: ddl.Connection, database_url: str) -> None:
    connection.execute(
        "CREATE TABLE other AS SELECT n AS id, CASE WHEN n > 2 THEN now() END AS occurred_at, now() AS created_at"
        " FROM generate_series(1, 5) AS n"
    )
    connection.commit()
    fix = view_of(database_url, "other").fix
    assert "2 checked rows without: in no result" in fix
    assert "-- coalesce(occurred_at, created_at) AS timestamp," in fix


def test_what_is_not_read_as_a_quantity_is_said(connection: ddl.Connection, database_url: str) -> None:
    connection.execute(
        "CREATE TABLE other AS SELECT now() AS time, 'c' AS user, '1,234.5' AS units, 3 AS amount, 'EUR' AS currency"
    )
    connection.commit()
    fix = view_of(database_url, "other").fix
    assert "units holds '1,234.5': not read as a number" in fix
    assert "amount::numeric AS external_cost_amount" in fix
    assert "-- amount::numeric AS quantity,  -- instead of the line above if amount is no money" in fix


def test_a_total_is_not_counted_beside_its_parts(connection: ddl.Connection, database_url: str) -> None:
    connection.execute(
        "CREATE TABLE other AS SELECT now() AS time, 'c' AS customer, n AS successful_requests,"
        " n % 3 AS failed_requests, n + n % 3 AS api_requests, n AS input_tokens, n AS output_tokens, n AS total_tokens"
        " FROM generate_series(1, 5) AS n"
    )
    connection.commit()
    view = view_of(database_url, "other")
    assert "api_requests is successful_requests + failed_requests" in view.fix
    assert "total_tokens is a total by its name, though not always input_tokens + output_tokens" in view.fix
    run(connection, view)
    metrics = {row[0] for row in connection.execute("SELECT DISTINCT metric_key FROM other_usage").fetchall()}
    assert metrics == {"successful_requests", "failed_requests", "input_tokens", "output_tokens"}


def test_a_page_through_the_view_of_several_measures_reads_an_index(
    connection: ddl.Connection, database_url: str
) -> None:
    connection.execute("CREATE TABLE other (time timestamptz NOT NULL, customer text, tokens_in int, tokens_out int)")
    connection.execute(
        "INSERT INTO other SELECT '2026-01-01'::timestamptz + n * interval '1 minute', 'c', n, n"
        " FROM generate_series(1, 20000) AS n"
    )
    connection.commit()
    view = view_of(database_url, "other")
    assert "AS timestamp" in view.fix
    assert "    time AS timestamp," in view.fix
    assert "CREATE INDEX ON public.other (time DESC);" in view.fix
    run(connection, view)
    connection.execute("ANALYZE other")
    query = "SELECT id FROM other_usage WHERE timestamp < '2026-01-09' ORDER BY timestamp DESC, id DESC LIMIT 50"
    plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {query}".encode()).fetchall())
    assert "Merge Append" in plan
    assert plan.count("Index Scan") == 2
    assert "Subquery Scan" not in plan


def test_an_empty_table_gets_a_view_by_its_names(connection: ddl.Connection, database_url: str) -> None:
    connection.execute(SHAPES["LiteLLM"].create.encode())
    connection.commit()
    view = view_of(database_url, "LiteLLM_SpendLogs")
    for text in ("UNION ALL", '"startTime" AT TIME ZONE', "end_user", "spend::text::numeric"):
        assert text in view.fix
    assert "total_tokens AS quantity" not in view.fix
    run(connection, view)


def test_namespace_and_defaults_are_those_of_load() -> None:
    made = Identifiers()
    assert str(made.made("customer_id", "c", "local")) == LOCAL_CUSTOMER
    assert str(made.made("customer_id", "c", "cus_1")) == str(uuid5(NAMESPACE, "customer=cus_1"))
    assert str(LOCAL_ORGANIZATION) == LOCAL
