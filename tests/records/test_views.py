"""Saved views in both places: what is kept, who sees it, and what two writers do."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import select, text

from support.database_servers import kind
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.hostile_values import WORST
from support.plain_events import beside, event, store_of
from support.record_places import as_role as _as_role
from support.record_places import neighbour
from support.timescale_layouts import without_columnstore
from support.waiting import PATIENCE
from usage_explore import AggregateQuery, EventQuery, Period, QueryError, Store, connect
from usage_explore.db import ddl
from usage_explore.errors import RecordError, ScopeError
from usage_explore.query.url_params import query_string
from usage_explore.records import views as records
from usage_explore.records.places import FilePlace, Records, Writer
from usage_explore.records.tables import RECORD_TABLES, VIEWS, VIEWS_TABLE, RecordTable

NOW = datetime.now(UTC).replace(microsecond=0)
EVENTS = [
    event(NOW - timedelta(days=day), quantity=Decimal("0.1"), dimensions='{"model": "a"}') for day in range(2, 12)
]
CUSTOMER = UUID("00000000-0000-4000-8000-00000000c057")
QUERY = AggregateQuery(metric="sum_quantity", group_by="dim:model", since="-29d/d", timezone="Europe/Berlin")


@pytest.fixture(params=["table", "file"])
def store(
    request: pytest.FixtureRequest, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> Iterator[Store]:
    """A store of the main organization, beside a neighbour's events: its role may create the table, or only read."""
    with as_role(request.param, events_connection, events_database_url, tmp_path) as opened:
        yield opened


def as_role(place: str, connection: ddl.Connection, url: str, home: Path) -> _as_role:
    return _as_role(place, connection, url, home, [*EVENTS, *beside(EVENTS[:3])])


def saved_file(store: Store) -> Path:
    assert store.records
    (path,) = (store.records.home / "records").glob("*.sqlite")
    return path


def test_a_view_is_kept_with_its_query_its_pinned_form_and_its_total(store: Store) -> None:
    saved = store.save_view(
        "By model", QUERY, "Look on Mondays", author="ana@example.com", display=[("chart", "lines")]
    )
    (read,) = store.views()
    assert read == saved
    assert (read.name, read.note, read.author) == ("By model", "Look on Mondays", "ana@example.com")
    assert (read.page, read.total) == ("explore", Decimal("1.0"))
    assert read.query == QUERY.replace(organization_id=ORGANIZATION)
    assert read.pinned_query.as_of == read.as_of
    assert read.pinned_query.as_of <= datetime.now(UTC) - timedelta(minutes=5)
    assert store.aggregate(read.pinned_query).total == read.total
    assert ("chart", "lines") in read.pairs()
    assert ("chart", "lines") in read.pairs(pinned=True)
    assert "organization_id" not in read.params
    assert AggregateQuery.from_params(read.url("http://127.0.0.1:8501")) == read.query


@pytest.mark.parametrize(
    ("query", "page", "total"),
    [
        (EventQuery(metric_key="tokens", limit=3), "events", 10),
        (Period(since="-60d/d"), "validate", 10),
        (AggregateQuery(), "explore", 10),
        (AggregateQuery(metric="unit_cost"), "explore", None),
    ],
)
def test_every_page_has_views_and_a_headline(store: Store, query: AggregateQuery, page: str, total: int | None) -> None:
    saved = store.save_view("One", query)
    assert (saved.page, saved.total) == (page, total)
    assert saved.query == query.replace(organization_id=ORGANIZATION)
    assert store.headline(saved.query).total == total
    assert page == "events" or saved.params, "a link without a parameter would open the start view"


def test_a_total_is_kept_to_the_last_digit(events_connection: ddl.Connection, events_database_url: str) -> None:
    quantity = Decimal("12345678901234567890123456789.000000000000000000001")
    with store_of(events_connection, events_database_url, [event(NOW - timedelta(days=2), quantity=quantity)]) as store:
        events_connection.commit()
        store.save_view("Exact", AggregateQuery(metric="sum_quantity"))
        assert store.views()[0].total == quantity


def test_nobody_sees_or_changes_the_views_of_another_organization(store: Store) -> None:
    saved = store.save_view("Ours", QUERY)
    theirs = neighbour(store).save_view("Ours", QUERY)  # the same name is free there
    assert [view.id for view in store.views()] == [saved.id]
    assert [view.id for view in neighbour(store).views()] == [theirs.id]
    for act in (
        lambda: neighbour(store).delete_view(saved),
        lambda: neighbour(store).change_view(saved, name="Theirs"),
        lambda: neighbour(store).restore_view(saved),
        lambda: replace(store, organization_id=None).restricted([NEIGHBOUR]).delete_view(saved),
        lambda: store.delete_view(replace(saved, organization_id=uuid4())),
        lambda: replace(store, organization_id=uuid4()).views(),
    ):
        with pytest.raises(ScopeError):
            act()
    with pytest.raises(RecordError, match="deleted already"):  # the id of a neighbour's view, claimed as one's own
        neighbour(store).delete_view(replace(saved, organization_id=NEIGHBOUR))
    assert store.views() == [saved]


def test_rename_note_and_overwrite(store: Store) -> None:
    first = store.save_view("First", QUERY)
    renamed = store.change_view(first, name=" Second ", note="why")
    assert (renamed.name, renamed.note, renamed.params) == ("Second", "why", first.params)
    assert renamed.changed_at > first.changed_at == first.created_at == renamed.created_at == renamed.saved_at
    other = store.change_view(renamed, query=EventQuery(metric_key="none"))
    assert (other.page, other.total, other.name) == ("events", 0, "Second")
    assert other.saved_at == other.changed_at > renamed.changed_at
    assert store.views() == [other]


def test_delete_and_undo(store: Store) -> None:
    first = store.save_view("Gone", QUERY)
    saved = store.change_view(first, note="newer")
    assert store.delete_view(first) == saved, "what was deleted is what a later undo restores"
    assert store.views() == []
    with pytest.raises(RecordError, match="deleted already"):
        store.delete_view(saved)
    assert store.restore_view(saved) == saved
    assert store.views() == [saved]
    with pytest.raises(QueryError, match="name of another view"):
        store.restore_view(saved)


def test_a_change_does_not_undo_a_change_of_another(store: Store) -> None:
    saved = store.save_view("Shared", QUERY)
    changed = store.change_view(saved, note="by one")
    with pytest.raises(RecordError, match="changed or deleted meanwhile"):
        store.change_view(saved, note="by another")
    assert store.views() == [changed]


def test_two_savers_of_one_name_get_one_view_and_one_error(store: Store) -> None:
    def save(number: int) -> str:
        try:
            return str(store.save_view("Same", QUERY, str(number)).note)
        except QueryError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(save, range(4)))
    (kept,) = store.views()
    assert sorted("name of another view" in result for result in results) == [False, True, True, True]
    assert kept.note in results


def test_many_savers_at_once_lose_nothing_and_stay_within_the_bound(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_VIEWS", 5)
    monkeypatch.setattr("usage_explore.records.places._MAX_WAIT_SECONDS", PATIENCE)

    def save(number: int) -> bool:
        try:
            return store.save_view(f"View {number}", QUERY).name == f"View {number}"
        except RecordError as error:
            assert "5 views already" in str(error)  # noqa: PT017 - other errors are the test's failure
            return False

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(save, range(8)))
    assert sum(results) == 5 == len(store.views())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "blank"),
        (" \t ", "blank"),
        ("two\nlines", "line break"),
        ("bell\a", "control"),
        ("a\u202eb", "invisible"),
        ("nul\0", "NUL"),
        ("\ud800", "Unicode"),
        ("x" * 101, "more than 100"),
    ],
)
def test_names_that_mislead_are_refused(store: Store, name: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason) as error:
        store.save_view(name, QUERY)
    assert [fault.parameter for fault in error.value.faults] == ["name"]
    assert store.views() == []


def test_hostile_names_and_notes_are_kept_as_they_are(store: Store) -> None:
    texts = [
        "<img src=x onerror=alert(1)>",
        "**bold** [x](javascript:y)",
        "'; DROP TABLE usage_views; --",
        "=1+1",
        "👩‍👩‍👧",
    ]
    for name in texts:
        assert store.save_view(name, QUERY, name).name == name
    assert {(view.name, view.note) for view in store.views()} == {(name, name) for name in texts}


def test_hostile_texts_are_kept_or_refused_by_name(store: Store) -> None:
    for value in WORST:
        try:
            store.save_view(value, QUERY, value)
        except QueryError as error:
            refused = {fault.parameter for fault in error.faults}
            assert refused <= {"name", "note"}
    assert all(view.query == QUERY.replace(organization_id=ORGANIZATION) for view in store.views())


def test_a_note_and_a_query_have_bounds(store: Store) -> None:
    with pytest.raises(QueryError, match="more than 2,000"):
        store.save_view("Long", QUERY, "x" * 2_001)
    with pytest.raises(QueryError, match=r"query: has .* bytes as a link, more than the 16,384"):
        store.save_view("Long", QUERY.replace(metric_key=["x" * 20 + str(number) for number in range(900)]))
    assert store.views() == []


def test_display_options_of_another_page_are_refused(store: Store) -> None:
    with pytest.raises(QueryError, match="finding"):
        store.save_view("Wrong", QUERY, display=[("finding", "0123456789ab")])


@pytest.mark.parametrize("since", ["-30d", "-29d/d"])  # a default, which a link would leave out, and another one
def test_the_view_of_a_customer_s_page_names_its_window(store: Store, since: str) -> None:
    query = AggregateQuery(customer_id=CUSTOMER, since=since)
    saved = store.save_view("One", query, page="customer", display=[("currency", "EUR")])
    assert saved.page == "customer"
    for pinned in (False, True):
        assert {"customer_id", "since", "currency"} <= dict(saved.pairs(pinned=pinned)).keys()
    assert saved.query == query.replace(organization_id=ORGANIZATION)
    assert saved.pinned_query.as_of == saved.as_of
    assert store.views() == [saved]
    changed = store.change_view(saved, query=query.replace(since="-7d"), page="customer")
    assert (changed.page, dict(changed.pairs())["since"]) == ("customer", "-7d")


@pytest.mark.parametrize(
    ("query", "page", "reason"),
    [
        (AggregateQuery(), "customer", "has no customer_id"),
        (EventQuery(customer_id=CUSTOMER), "customer", "has no EventQuery; it can be events"),
        (AggregateQuery(), "no such page", "it can be explore or customer"),
    ],
)
def test_a_page_that_does_not_show_the_query_is_refused(store: Store, query: Any, page: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        store.save_view("Wrong", query, page=page)
    with pytest.raises(QueryError, match="currency"):
        store.save_view("Wrong", AggregateQuery(customer_id=CUSTOMER), display=[("currency", "EUR")])


def test_a_view_of_another_version_is_listed_and_its_query_is_an_error(store: Store) -> None:
    """A row that a later version wrote: a parameter and a page that this one does not know."""
    saved = store.save_view("Later", QUERY)
    unknown = {"params": "since=-7d&colour=blue", "pinned": "since=-7d&colour=blue"}
    write(store, saved.id, **unknown)
    (read,) = store.views()
    with pytest.raises(QueryError, match="colour: unknown parameter"):
        _ = read.query
    with pytest.raises(QueryError, match="colour"):
        _ = read.pinned_query
    write(store, saved.id, page="forecast")
    with pytest.raises(QueryError, match="'forecast' is not a page of this version"):
        _ = store.views()[0].query
    store.delete_view(store.views()[0])


def test_a_query_string_cannot_name_another_organization(store: Store) -> None:
    saved = store.save_view("Ours", QUERY)
    write(store, saved.id, params=f"organization_id={NEIGHBOUR}&since=-7d")
    assert store.views()[0].query.organization_id == ORGANIZATION


def write(store: Store, view_id: UUID, **values: str) -> None:
    """Change a row behind the product's back."""
    columns = ", ".join(f"{name} = :{name}" for name in values)
    with store._saved() as (places, _, _), places.saving.writing() as writer:
        writer.connection.execute(text(f"UPDATE {VIEWS_TABLE} SET {columns} WHERE name IS NOT NULL"), values)


def test_only_rows_of_the_table_of_views_can_be_written(store: Store) -> None:
    store.save_view("One", QUERY)
    with store._saved() as (places, _, _), places.saving.writing() as writer:
        for statement in (
            store.table.delete(),
            store.table.insert().values(id=uuid4()),
            store.table.update().values(quantity=0),
            select(writer.table),
            text("DELETE FROM usage_events"),
        ):
            with pytest.raises(RecordError, match="Only rows of"):
                writer.change(statement)  # type: ignore[arg-type]
    assert store.count(EventQuery()) == len(EVENTS)


def test_reading_views_writes_nothing(store: Store, tmp_path: Path) -> None:
    assert store.views() == []
    assert "which is created for it" in store.views_place()
    assert not (tmp_path / "records").exists()
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT to_regclass('{VIEWS_TABLE}')").scalar_one() is None


def test_the_place_is_named(store: Store) -> None:
    saved = store.save_view("One", QUERY)
    place = store.views_place()
    if saved.place == "table":
        assert place == "the table public.usage_views of the database"
    else:
        assert place == f"the file {saved_file(store)}"


@pytest.mark.parametrize("setting", ["role", "role and database", "database", "options"])
def test_a_role_whose_transactions_are_read_only_by_default_saves_to_the_file(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path, setting: str
) -> None:
    if setting == "database" and kind(events_database_url) == "citus":
        pytest.skip("Citus has workers set what its coordinator does, and cannot reset it there")
    with as_role("file", events_connection, events_database_url, tmp_path) as reader:
        role = sql.Identifier(reader.engine.url.username or "")
        database = sql.Identifier(str(reader.engine.url.database))
        with psycopg.connect(events_database_url, autocommit=True) as admin:
            admin.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(role))
            command = {
                "role": sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(role),
                "role and database": sql.SQL(
                    "ALTER ROLE {} IN DATABASE {} SET default_transaction_read_only = on"
                ).format(role, database),
                "database": sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(database),
            }.get(setting)
            if command:
                admin.execute(command)
        url = reader.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
        if setting == "options":
            url += ("&" if "?" in url else "?") + "options=-c%20default_transaction_read_only%3Don"
        try:
            with connect(url, ORGANIZATION, home=tmp_path) as store:
                saved = store.save_view("Mine", QUERY)
                assert saved.place == "file"
                assert [view.name for view in store.views()] == ["Mine"]
                assert store.change_view(saved, note="read").note == "read"
                store.delete_view(saved)
                assert store.views() == []
        finally:
            with psycopg.connect(
                events_database_url, autocommit=True, options="-c default_transaction_read_only=off"
            ) as admin:
                admin.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(database))
                admin.execute(sql.SQL("REVOKE CREATE ON SCHEMA public FROM {}").format(role))


def test_the_file_is_its_owners_alone(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        with as_role("file", events_connection, events_database_url, tmp_path) as store:
            store.save_view("One", QUERY)
            path = saved_file(store)
            with store._saved() as (places, _, _), places.saving.writing() as writer:
                assert writer.connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
                beside_it = list(path.parent.iterdir())
                assert len(beside_it) == 3
                assert {stat.S_IMODE(file.stat().st_mode) for file in beside_it} == {0o600}
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert all(folder.stat().st_mode & 0o022 == 0 for folder in path.parents if folder.is_relative_to(tmp_path))
    finally:
        os.umask(before)


def test_a_file_of_another_user_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(0)
    place = FilePlace(tmp_path / "closed" / "records.db", VIEWS)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        with pytest.raises(RecordError, match=r"cannot be read \(Permission denied\); run this as the user"):
            place.rows(select(place.table))
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("place", ["table", "file"])
def test_a_writer_waits_for_another_and_then_says_so(
    place: str,
    events_connection: ddl.Connection,
    events_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("usage_explore.records.places._MAX_WAIT_SECONDS", 1)
    with as_role(place, events_connection, events_database_url, tmp_path) as store:
        saved = store.save_view("One", QUERY)
        with store._saved() as (places, _, _), places.saving.writing():
            with pytest.raises(RecordError, match=r"has been writing to .* for 1 s"):
                store.delete_view(saved)
            assert store.views() == [saved]  # readers wait for no writer
        store.delete_view(saved)


def test_a_damaged_file_is_an_error_that_names_it(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    with as_role("file", events_connection, events_database_url, tmp_path) as store:
        store.save_view("One", QUERY)
        path = saved_file(store)
        for file in path.parent.iterdir():
            file.unlink()
        path.write_bytes(b"no database" * 500)
        for act in (store.views, lambda: store.save_view("Two", QUERY)):
            with pytest.raises(RecordError, match=path.name):
                act()
        assert path.read_bytes() == b"no database" * 500


def test_views_of_a_file_stay_when_a_table_appears(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    """A role that may only read saves in the file; once it is granted the table, new views are saved there."""
    opened = as_role("file", events_connection, events_database_url, tmp_path)
    with opened as store:
        old = store.save_view("Old", QUERY)
        with connect(events_database_url, ORGANIZATION, home=tmp_path / "admin") as admin:
            shared = admin.save_view("Shared", QUERY)
        assert store.views() == [old]  # no SELECT on the table yet
        role = sql.Identifier(opened.role)
        grant = "GRANT {} ON usage_views TO {}"
        events_connection.execute(sql.SQL(grant).format(sql.SQL("SELECT"), role))
        events_connection.commit()
        assert store.views() == [old, shared]
        assert store.save_view("Mine", QUERY).place == "file"
        with pytest.raises(RecordError, match=r"may not write to the table public\.usage_views"):
            store.change_view(shared, note="no")
        events_connection.execute(sql.SQL(grant).format(sql.SQL("INSERT, UPDATE, DELETE"), role))
        events_connection.commit()
        assert store.save_view("New", QUERY).place == "table"
        assert [view.name for view in store.views()] == ["Mine", "New", "Old", "Shared"]
        store.change_view(old, note="still the file's")
        assert {view.name: view.place for view in store.views()}["Old"] == "file"


def test_a_foreign_table_of_that_name_is_left_alone(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    with as_role("table", events_connection, events_database_url, tmp_path) as store:
        events_connection.execute("CREATE TABLE usage_views (id int, page text)")
        events_connection.commit()
        assert store.views() == []
        assert store.save_view("One", QUERY).place == "file"
        assert (events_connection.execute("SELECT count(*) FROM usage_views").fetchone() or ())[0] == 0
        events_connection.commit()


def test_the_table_lies_beside_events_in_another_schema(
    connection: ddl.Connection, database_url: str, tmp_path: Path
) -> None:
    ddl.ensure_schema(connection, "metering.usage_events")
    connection.execute(
        "INSERT INTO metering.usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp,"
        " idempotency_key) VALUES (gen_random_uuid(), %s, gen_random_uuid(), 'm', 1, now(), 'k')",
        [ORGANIZATION],
    )
    connection.commit()
    with connect(database_url, table="metering.usage_events", home=tmp_path) as store:
        store.save_view("One", QUERY)
        assert store.views_place() == "the table metering.usage_views of the database"


def test_each_database_has_a_file_of_its_own(tmp_path: Path, store: Store) -> None:
    """A copy of a database has the same organizations, but its totals are others."""
    with store._saved() as (places, _, _):
        name = places.file.path.name
    other = Records(tmp_path, "postgresql://elsewhere/usage")
    with store.engine.connect() as connection:
        assert other.places(connection, store.table).file.path.name != name


def test_row_level_security_may_hide_the_organization(
    events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    with as_role("file", events_connection, events_database_url, tmp_path) as store:
        neighbour(store).save_view("Theirs", QUERY)
        without_columnstore(events_connection)
        events_connection.execute("ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY")
        policy = sql.SQL("CREATE POLICY own ON usage_events FOR SELECT TO PUBLIC USING (organization_id = {})")
        events_connection.execute(policy.format(sql.Literal(ORGANIZATION)))
        events_connection.commit()
        fresh = replace(store, _seen={})
        assert fresh.views() == []
        with pytest.raises(ScopeError):
            neighbour(fresh).views()


@pytest.mark.parametrize("kind", RECORD_TABLES, ids=lambda kind: kind.name)
def test_the_tables_are_the_same_in_both_databases(kind: RecordTable) -> None:
    columns: Callable[[str | None], list[tuple[str, bool, bool]]] = lambda schema: [  # noqa: E731
        (column.name, column.primary_key, bool(column.nullable)) for column in kind.table(schema).columns
    ]
    assert columns(None) == columns("public")
    assert Writer.__slots__ == ("connection", "table", "is_history")
    assert query_string(()) == ""
