"""What a role or a database sets for its sessions changes no answer and breaks no door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner
from psycopg import sql

from support import generated_events
from support.api_server import asking
from support.database_servers import kind
from support.interface_answers import WHOLE, doors, over_http
from usage_explore import AggregateQuery, EventQuery, Period, Store, connect, demo
from usage_explore.cli.main import main
from usage_explore.db import ddl, engine
from usage_explore.db.schema import events_table
from usage_explore.doctor import examine
from usage_explore.errors import DatabaseError

SETTINGS = {
    "DateStyle": ("German", "SQL, DMY", "Postgres, MDY"),
    "IntervalStyle": ("sql_standard", "iso_8601", "postgres_verbose"),
    "TimeZone": ("Asia/Kathmandu", "America/Havana"),
    "extra_float_digits": ("-15",),
    "bytea_output": ("escape",),
    "standard_conforming_strings": ("off",),
    "array_nulls": ("off",),
    "gin_fuzzy_search_limit": ("1",),
    "transform_null_equals": ("on",),
    "quote_all_identifiers": ("on",),
    "client_encoding": ("LATIN1", "SQL_ASCII"),
    "client_min_messages": ("debug5",),
    "timezone_abbreviations": ("India",),
    "xmloption": ("document",),
    "row_security": ("off",),
    "default_transaction_isolation": ("serializable", "repeatable read"),
    "default_transaction_deferrable": ("on",),
    "default_text_search_config": ("simple",),
    "plan_cache_mode": ("force_generic_plan",),
    "jit": ("on",),
    "work_mem": ("64kB",),
    "search_path": ("public, pg_catalog",),
}
"""Settings that any role can have, with values other than ours."""

ONE_BY_ONE = [(name, value) for name, values in SETTINGS.items() for value in values]
READ_ONLY = ("default_transaction_read_only", "on")


@pytest.fixture
def configure(events_connection: ddl.Connection) -> Callable[..., None]:
    """Set something for every new session in the database."""

    def given(*settings: tuple[str, str]) -> None:
        events_connection.commit()
        name = sql.Identifier(events_connection.info.dbname)
        for setting, value in settings:
            words = sql.SQL(value) if setting == "search_path" else sql.Literal(value)  # type: ignore[arg-type]
            events_connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(setting.lower()), words)
            )
        events_connection.commit()

    return given


@pytest.fixture
def store(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Store]:
    generated_events.insert(events_connection, generated_events.generate(per_scene=8))
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened:
        yield opened


def test_every_door_answers_the_same_under_all_of_them(
    store: Store, configure: Callable[..., None], events_database_url: str, tmp_path: Path
) -> None:
    period = Period(**WHOLE)
    question = AggregateQuery(**WHOLE, metric="sum_quantity")

    def everything() -> object:
        with (
            connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened,
            asking(opened) as client,
        ):
            examined = opened.validate(period)
            assert examined.failed == ()
            found = [finding.state for finding in examine(events_database_url, "usage_events", timedelta(seconds=30))]
            explained = opened.explain(question, since="2026-05-01T00:00:00Z", until="2026-07-01T00:00:00Z")
            said = [finding.sentence for finding in examined.findings]
            pinned = opened.pin(question.replace(until="2026-11-01T00:00:00Z"))  # a window that is over
            return doors(opened, tmp_path), over_http(client), said, found, repr(explained), pinned

    expected = everything()
    for place in range(max(map(len, SETTINGS.values()))):
        configure(*((name, values[place % len(values)]) for name, values in SETTINGS.items()), READ_ONLY)
        assert everything() == expected


@pytest.mark.parametrize("setting", ONE_BY_ONE, ids=" ".join)
def test_no_setting_changes_a_page_or_a_sum(
    store: Store, configure: Callable[..., None], events_database_url: str, setting: tuple[str, str]
) -> None:
    question = AggregateQuery(**WHOLE, group_by="dim:model", metric="sum_quantity", timezone="Europe/Berlin")
    expected = store.aggregate(question).series, store.events().events
    configure(setting)
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened:
        assert (opened.aggregate(question).series, opened.events().events) == expected


def test_what_writes_works_under_all_of_them(
    configure: Callable[..., None], events_database_url: str, tmp_path: Path
) -> None:
    configure(*((name, values[0]) for name, values in SETTINGS.items()))
    file = tmp_path / "events.csv"
    file.write_text(
        "organization_id,customer_id,metric_key,quantity,timestamp,dimensions\n"
        f"{generated_events.ORGANIZATION},{generated_events.CUSTOMERS[0]},"
        f'"ö \\ 1",0.1,2026-05-06T07:08:09.123456Z,"{{""a"": ""\\u00e9""}}"\n'
    )
    for command in (["init"], ["load", str(file)], ["extract"], ["extract", "--verify"], ["doctor"]):
        result = CliRunner().invoke(main, [*command, "--database-url", events_database_url])
        assert result.exit_code == 0, (command, result.output, result.exception)
    with ddl.connect(events_database_url) as connection:
        demo.append(connection, events_table(), days=2, per_day=200, force=True)
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as store:
        (event,) = store.events().events
        assert (event.metric_key, event.dimensions) == ("ö \\ 1", {"a": "é"})
        assert event.timestamp.isoformat() == "2026-05-06T07:08:09.123456+00:00"


def test_the_urls_own_options_count_everywhere(events_connection: ddl.Connection, events_database_url: str) -> None:
    schema = f"metering_{uuid4().hex[:8]}"
    events_connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    events_connection.execute(sql.SQL("ALTER TABLE usage_events SET SCHEMA {}").format(sql.Identifier(schema)))
    events_connection.commit()
    url = f"{events_database_url}{'&' if '?' in events_database_url else '?'}options=-csearch_path%3D{schema}"
    found = {finding.name: finding for finding in examine(url, "usage_events", timedelta(seconds=30))}
    assert found["table"].state == "ok", found["table"]
    with connect(url, organization_id=generated_events.ORGANIZATION) as store:
        assert store.events().events == ()


def test_a_pooler_that_drops_the_options_gets_a_sentence(
    store: Store, configure: Callable[..., None], events_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(("DateStyle", "German"))
    original = engine.timeouts.parameters
    monkeypatch.setattr(engine.timeouts, "parameters", lambda url, settings=None: original(url))
    with (
        connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened,
        pytest.raises(DatabaseError, match="SET DateStyle = 'ISO'"),
    ):
        opened.events()
    with (
        connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened,
        asking(opened) as client,
    ):
        answer = client.get("v1/usage-events")
        assert (answer.status_code, "SET DateStyle = 'ISO'" in answer.json()["detail"]) == (503, True), answer.text


def test_a_style_of_libpq_s_environment_is_named_with_what_to_do(
    store: Store, events_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq sends it beside the connection options, which it overrides; it was said to be a pooler's fault."""
    monkeypatch.setenv("PGDATESTYLE", "German")
    with (
        connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened,
        pytest.raises(DatabaseError, match=r"DateStyle 'German.* environment variable PGDATESTYLE is set, unset it"),
    ):
        opened.events()


def test_a_search_of_dimensions_gives_all_events(configure: Callable[..., None], events_database_url: str) -> None:
    """With a limit, an index on dimensions returns a random part of the events, another one each time."""
    configure(("gin_fuzzy_search_limit", "1"))
    with connect(events_database_url) as opened, opened.engine.connect() as used:
        assert used.exec_driver_sql("SHOW gin_fuzzy_search_limit").scalar_one() == "0"


@pytest.mark.parametrize(
    ("setting", "fix"),
    [
        (("timescaledb.restoring", "on"), "SELECT timescaledb_post_restore()"),
        (("timescaledb.enable_columnarscan", "off"), "reset it"),
    ],
)
def test_settings_that_hide_rows_of_the_columnstore_are_an_error(
    server_url: str,
    events_database_url: str,
    events_connection: ddl.Connection,
    configure: Callable[..., None],
    tmp_path: Path,
    setting: tuple[str, str],
    fix: str,
) -> None:
    """120,000 events were answered as 6,241, those of the chunks that are not in the columnstore yet."""
    if kind(server_url) != "timescaledb":
        pytest.skip("needs TimescaleDB")
    generated_events.insert(events_connection, generated_events.generate(per_scene=2))
    configure(setting)
    (tmp_path / "a.csv").write_text("customer_id,metric_key,quantity,timestamp\na,b,1,2026-05-06T07:08:09Z\n")
    with (
        pytest.raises(DatabaseError, match=setting[0]) as caught,
        connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened,
    ):
        opened.count(EventQuery())
    assert fix in str(caught.value)
    with (
        connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened,
        asking(opened) as client,
    ):
        for path in ("v1/usage-events", "v1/usage-events/aggregate", "readyz"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["detail"]) == (503, str(caught.value)), answer.text
    for command in (["validate"], ["load", str(tmp_path / "a.csv")], ["extract"], ["init"], ["doctor"]):
        result = CliRunner().invoke(main, [*command, "--database-url", events_database_url])
        assert (result.exit_code, setting[0] in result.output) == (1, True), (command, result.output)


def test_the_time_that_a_session_may_be_idle_is_ours(
    store: Store, configure: Callable[..., None], events_database_url: str
) -> None:
    configure(("idle_session_timeout", "1ms"))
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened:
        assert [opened.count(EventQuery()) for _ in range(3)] == 3 * [store.count(EventQuery())]


def test_a_transaction_timeout_that_ends_every_query_is_named(
    store: Store, configure: Callable[..., None], events_database_url: str, events_connection: ddl.Connection
) -> None:
    """Between two statements the session ends without a code of the error."""
    if events_connection.info.server_version < 170_000:
        pytest.skip("PostgreSQL has it since 17")
    configure(("transaction_timeout", "1ms"))
    errors = []
    for _ in range(10):
        with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened:
            try:
                opened.count(EventQuery())
            except DatabaseError as error:
                errors.append(str(error))
    assert errors
    assert {error for error in errors if "transaction_timeout" not in error} == set()


PLANT = """
CREATE SCHEMA planted;
DO $do$
DECLARE
    kinds oid[] := ARRAY(SELECT oid FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace::oid AND typname = ANY
        ('{oid,regclass,regtype,regnamespace,name,text,varchar,char,int2,int4,int8,numeric,float8,bool,timestamptz,date,
        interval,uuid,jsonb,float4,_text,_name,_int2,_oid,_uuid,_varchar,_numeric}'::name[]));
    a regtype; b regtype; symbol text;
BEGIN
    FOR a, b IN SELECT x, y FROM unnest(kinds) AS x, unnest(kinds) AS y LOOP
        EXECUTE format('CREATE FUNCTION planted.run(%1$s, %2$s) RETURNS boolean LANGUAGE plpgsql AS
            $f$BEGIN RAISE ''planted for %1$s and %2$s''; END$f$', a, b);
        FOR symbol IN SELECT s FROM unnest(
            '{=,<>,<,>,<=,>=,+,-,*,/,||,~,!~,~~,->,->>,?,@>}'::text[]) AS s WHERE NOT EXISTS (
            SELECT FROM pg_operator WHERE oprname = s::name AND oprleft = a::oid AND oprright = b::oid) LOOP
            EXECUTE format('CREATE OPERATOR %s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = planted.run)', symbol, a, b);
        END LOOP;
        FOR symbol IN SELECT s FROM unnest(
            '{mod,has_table_privilege,has_schema_privilege,starts_with}'::text[]) AS s LOOP
            EXECUTE format('CREATE FUNCTION %s(%s, %s) RETURNS boolean LANGUAGE plpgsql AS
                $f$BEGIN RAISE ''planted''; END$f$', symbol, a, b);
        END LOOP;
    END LOOP;
    FOR a, symbol IN SELECT x, s FROM unnest(kinds) AS x, unnest('{hashtext,pg_table_size,pg_total_relation_size,
        pg_try_advisory_lock,pg_advisory_lock,pg_advisory_xact_lock,pg_get_userbyid,row_security_active}'::text[]) AS s
    LOOP
        EXECUTE format('CREATE FUNCTION %s(%s) RETURNS boolean LANGUAGE plpgsql AS
            $f$BEGIN RAISE ''planted''; END$f$', btrim(symbol), a);
    END LOOP;
END
$do$
"""
"""Operators and functions of more types than those for which PostgreSQL has them: it calls its own after a cast."""


def test_no_statement_runs_an_operator_that_another_role_created_in_the_path(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    """An exact match goes before PostgreSQL's own operators, wherever it is in the path."""
    events_connection.execute(PLANT)
    events_connection.commit()
    again, zone, replacing = [], [], []
    for name, loads in (("a", again), ("b", zone), ("c", replacing)):
        hours = [f"2025-10-{day:02}T{hour:02}:00:0{len(loads)}" for day in (25, 26) for hour in range(24)]
        hours = [f"{time}{'+01:00' if name == 'b' else 'Z'}" for time in hours]
        rows = "".join(f"a,b,{number}.5,{time},x\n" for number, time in enumerate(hours) if name != "c" or number)
        (tmp_path / f"{name}.csv").write_text("customer_id,metric_key,quantity,timestamp,source\n" + rows)
        loads += ["load", str(tmp_path / f"{name}.csv"), "--organization-id", str(generated_events.ORGANIZATION)]
    replacing += ["--replace-by", "source", "--timezone", "UTC"]
    demo_data = ["demo", "--days", "1", "--force"]
    extract = (["extract"], ["extract", "--verify"])
    first = (["doctor"], ["init"], again, again, zone, replacing, demo_data)
    for command in (*first, ["organizations"], *extract, demo_data):
        result = CliRunner().invoke(main, [*command, "--database-url", events_database_url])
        assert (result.exit_code, "planted" in result.output) == (0, False), (command, result.output)
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as opened:
        doors(opened, tmp_path)
        assert opened.save_view("Shared", AggregateQuery(**WHOLE)).place == "table"
        assert opened.share(AggregateQuery(**WHOLE), without_sign_in=True).place == "table"
        assert (len(opened.views()), opened.signoffs(), opened.decisions()) == (1, [], [])


def test_operators_that_another_role_created_in_the_path_change_no_answer(
    store: Store, events_connection: ddl.Connection
) -> None:
    """An operator for VARCHAR in the schema of the events is an exact match where texts are bound as VARCHAR."""
    by_model = AggregateQuery(**WHOLE, group_by="dim:model", top=50)
    of_metric = AggregateQuery(**WHOLE, metric_key=["tokens"])
    before = [store.aggregate(query).frame for query in (by_model, of_metric)]
    assert all(len(frame) for frame in before)
    events_connection.execute(
        """CREATE FUNCTION lie(text, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT false';
        CREATE OPERATOR = (LEFTARG = text, RIGHTARG = varchar, FUNCTION = lie);
        CREATE FUNCTION lie(jsonb, varchar) RETURNS text LANGUAGE sql AS $$SELECT 'planted'$$;
        CREATE OPERATOR ->> (LEFTARG = jsonb, RIGHTARG = varchar, FUNCTION = lie);
        CREATE FUNCTION lower(varchar) RETURNS text LANGUAGE sql AS $$SELECT 'planted'$$"""
    )
    events_connection.commit()
    for query, frame in zip((by_model, of_metric), before, strict=True):
        assert store.aggregate(query).frame.equals(frame)
