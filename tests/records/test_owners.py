"""Tables of records, prices and names that another role made first: none of its code runs with the rights of others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from sqlalchemy.dialects import postgresql

from support.database_servers import drop_role
from support.generated_events import ORGANIZATION
from support.plain_events import JUNE, SINCE, event, store_of
from support.timescale_layouts import without_columnstore
from support.waiting import eventually
from usage_explore import AggregateQuery, EventQuery, Period, Store, connect
from usage_explore.cli.main import main
from usage_explore.db import ddl
from usage_explore.db.names import Entry, remember, upsert
from usage_explore.db.schema import events_table, names_table
from usage_explore.doctor import Finding, examine
from usage_explore.errors import LoadError, QueryError, RecordError, TableMismatch
from usage_explore.load.run import load_files
from usage_explore.pricing.read import read_prices
from usage_explore.pricing.table import create_table, prices_table, replace_prices
from usage_explore.records.places import create_tables
from usage_explore.records.tables import RECORD_TABLES

QUERY = AggregateQuery(since="2026-09-01T00:00:00Z", until="2026-10-01T00:00:00Z")
BOOK = read_prices([{"metric_key": "tokens", "model": "per_unit", "unit_amount": "0.10", "currency": "USD"}])
TABLES = [*(kind.name for kind in RECORD_TABLES), "usage_prices"]


@dataclass
class Roles:
    """An administrator's connection, and roles that may read events and create tables; `spy` writes down who ran it."""

    admin: ddl.Connection
    url: str
    home: Path
    maker: str = ""
    other: str = ""

    def execute(self, statement: str, *names: str) -> None:
        self.admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]
        self.admin.commit()

    def url_of(self, role: str) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))

    def store(self, role: str = "") -> Store:
        return connect(self.url_of(role) if role else self.url, ORGANIZATION, home=self.home / (role or "admin"))

    def make_tables(self, role: str = "") -> None:
        with ddl.connect(self.url_of(role) if role else self.url) as connection:
            create_tables(connection, events_table())
            create_table(connection, events_table())

    def plant(self, table: str) -> None:
        """A trigger of the maker on a table."""
        statement = "CREATE TRIGGER planted BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH STATEMENT"
        with ddl.connect(self.url_of(self.maker)) as connection:
            connection.execute(sql.SQL(statement + " EXECUTE FUNCTION spy()").format(sql.Identifier(table)))

    def ran_as(self) -> set[str]:
        self.admin.rollback()
        return {name for (name,) in self.admin.execute("SELECT name FROM ran").fetchall()}

    def examined(self, role: str = "") -> list[Finding]:
        url = self.url_of(role) if role else self.url
        return [found for found in examine(url, "usage_events", timedelta(seconds=30)) if found.name == "owners"]


@pytest.fixture
def roles(events_connection: ddl.Connection, events_database_url: str, tmp_path: Path) -> Iterator[Roles]:
    store_of(events_connection, events_database_url, [event(SINCE, quantity=Decimal(1))]).close()
    made = Roles(events_connection, events_database_url, tmp_path)
    made.maker, made.other = (f"{name}_{uuid4().hex[:8]}" for name in ("maker", "other"))
    for role in (made.maker, made.other):
        made.execute("CREATE ROLE {} LOGIN", role)
        made.execute("GRANT SELECT ON usage_events TO {0}; GRANT CREATE ON SCHEMA public TO {0}", role)
    made.execute("CREATE TABLE ran (name text); GRANT INSERT ON ran TO public")
    with ddl.connect(made.url_of(made.maker)) as connection:
        connection.execute(
            "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN INSERT INTO ran VALUES (current_user); RETURN NULL; END'"
        )
    yield made
    for role in (made.maker, made.other):
        made.execute("DROP OWNED BY {} CASCADE", role)
        drop_role(made.url, role)


def test_a_superuser_writes_nothing_into_tables_that_another_role_made(roles: Roles) -> None:
    roles.make_tables(roles.maker)
    with roles.store(roles.maker) as store:
        theirs = store.save_view("Theirs", QUERY)
        assert theirs.place == "table"
    for name in TABLES:
        roles.plant(name)
    with roles.store() as store:
        assert store.save_view("Mine", QUERY).place == "file"
        assert {view.name for view in store.views()} == {"Mine", "Theirs"}
        with pytest.raises(RecordError, match=f"belongs to the role {roles.maker}"):
            store.change_view(theirs, note="no")
        with pytest.raises(RecordError, match=f"belongs to the role {roles.maker}"):
            store.delete_view(theirs)
        assert store.records
        with store.engine.connect() as connection:
            for kind in RECORD_TABLES:
                assert store.records.places(connection, store.table, kind).saving.name == "file"
    with pytest.raises(TableMismatch, match=rf"usage_prices belongs to the role {roles.maker}"):
        replace_prices(roles.admin, events_table(), ORGANIZATION, BOOK)
    assert roles.ran_as() == set()
    with roles.store(roles.maker) as store:
        assert store.save_view("More", QUERY).place == "table"
    assert roles.ran_as() == {roles.maker}


def test_init_and_doctor_name_the_tables_and_the_fix(roles: Roles) -> None:
    roles.make_tables(roles.maker)
    roles.plant("usage_views")
    said = CliRunner().invoke(main, ["init", "--database-url", roles.url]).output
    found = roles.examined()
    assert [finding.state for finding in found] == ["warning"] * len(TABLES)
    for table, finding in zip(TABLES, found, strict=True):
        assert finding.message.startswith(f"public.{table} belongs to the role {roles.maker}, ")
        assert f"Warning: {finding.message}" in said
        assert finding.fix in said
        roles.admin.execute(finding.fix[finding.fix.index("ALTER TABLE") :])  # type: ignore[arg-type]
    assert {finding.state for finding in roles.examined(roles.other)} == {"ok"}
    assert roles.examined(roles.maker) == []
    roles.admin.commit()
    (left,) = roles.examined()  # the trigger stays when its table has another owner
    assert left.message.startswith("public.usage_views uses a function, type or view of the role")
    with roles.store() as store:
        assert store.save_view("Mine", QUERY).place == "file"
    roles.execute("DROP TRIGGER planted ON usage_views")
    assert roles.examined() == []
    with roles.store() as store:
        assert store.save_view("Shared", QUERY).place == "table"
    assert roles.ran_as() == set()


def test_a_type_of_another_role_with_the_name_of_ours_is_neither_read_nor_written(roles: Roles) -> None:
    """A cast to PostgreSQL's type, which a comparison calls, is code of the type's owner."""
    roles.execute("CREATE SCHEMA types AUTHORIZATION {}", roles.maker)
    type_ = "types.uuid"
    with ddl.connect(roles.url_of(roles.maker)) as connection:
        connection.execute(
            f"""CREATE TYPE {type_} AS (id uuid);
            CREATE FUNCTION spied({type_}) RETURNS uuid LANGUAGE plpgsql AS
            $$BEGIN RAISE 'ran as %', current_user; END$$;
            CREATE CAST ({type_} AS uuid) WITH FUNCTION spied({type_}) AS IMPLICIT;"""
        )
        for table in (*(kind.table() for kind in RECORD_TABLES), prices_table()):
            own, *others = (f"{column.name} {column.type.compile(postgresql.dialect())}" for column in table.columns)
            columns = ", ".join([own.replace("UUID", type_), *others])
            connection.execute(
                f"CREATE TABLE {table.name} ({columns}); GRANT ALL ON {table.name} TO public;"
                f"INSERT INTO {table.name} (organization_id) VALUES (ROW('{ORGANIZATION}'))"
            )
    for _ in ("as they are", "with another owner, as doctor advises"):
        with roles.store() as store:
            assert (store.views(), store.links(), store.runs(), store.signoffs()) == ([], [], [], [])
            assert store.save_view("Mine", QUERY).place == "file"
            store.delete_view(store.views()[0])
            with pytest.raises(QueryError, match="prices"):
                store.rate(Period(window="2026-09"))
        with pytest.raises(TableMismatch):
            replace_prices(roles.admin, events_table(), ORGANIZATION, BOOK)
        assert [finding.state for finding in roles.examined()] == ["warning"] * len(TABLES)
        for name in TABLES:
            roles.execute("ALTER TABLE {} OWNER TO CURRENT_USER", name)


def test_peers_share_a_table_that_one_of_them_made_by_its_first_save(roles: Roles) -> None:
    with roles.store(roles.maker) as store:
        assert store.save_view("First", QUERY).place == "table"
    roles.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON usage_views TO {}", roles.other)
    with roles.store(roles.other) as store:
        (first,) = store.views()
        assert store.change_view(first, note="seen").note == "seen"
        assert store.save_view("Second", QUERY).place == "table"


@pytest.mark.parametrize(
    "power",
    [
        "owner",
        "member of the owner",
        "member of a member of a superuser",
        "pg_write_server_files",
        "BYPASSRLS",
        "CREATEROLE",
    ],
)
def test_a_role_with_more_rights_keeps_its_records_in_the_file(roles: Roles, power: str) -> None:
    groups: list[str] = []
    if power == "owner":
        roles.execute("ALTER TABLE usage_events OWNER TO {}", roles.other)
    elif power == "member of the owner":
        (me,) = roles.admin.execute("SELECT current_user").fetchone() or ("",)
        roles.execute("GRANT {} TO {}", me, roles.other)
    elif power == "member of a member of a superuser":
        groups = [f"{name}_{roles.other}" for name in ("admins", "root")]
        roles.execute("CREATE ROLE {0}; CREATE ROLE {1} SUPERUSER; GRANT {1} TO {0}", *groups)
        roles.execute("GRANT {} TO {}", groups[0], roles.other)
    elif power.startswith("pg_"):
        roles.execute("GRANT {} TO {}", power, roles.other)
    else:
        roles.execute(f"ALTER ROLE {{}} {power}", roles.other)
    try:
        roles.make_tables(roles.maker)
        roles.execute("GRANT ALL ON usage_views TO {}", roles.other)
        roles.plant("usage_views")
        with roles.store(roles.other) as store:
            assert store.save_view("Mine", QUERY).place == "file"
    finally:
        if power == "owner":
            roles.execute("ALTER TABLE usage_events OWNER TO CURRENT_USER")
        for group in groups:
            roles.execute("DROP ROLE {}", group)
    assert roles.ran_as() == set()


CONDITIONS = {
    "a domain": "((NEW.note::checked)::text IS NULL)",
    "an operator": "(NEW.note OPERATOR(public.###) NEW.name)",
    "PostgreSQL's functions": "(query_to_xml('SELECT said()', true, true, '') IS NULL)",
}


@pytest.mark.parametrize("planted", ["trigger", "default", "constraint", "rule", *CONDITIONS])
def test_code_of_another_role_in_a_table_of_ones_own(roles: Roles, planted: str) -> None:
    """A role that was granted TRIGGER, or whose table became another's."""
    roles.make_tables()
    with ddl.connect(roles.url_of(roles.maker)) as connection:
        connection.execute(
            "CREATE FUNCTION said() RETURNS text LANGUAGE plpgsql AS"
            " 'BEGIN INSERT INTO ran VALUES (current_user); RETURN ''x''; END'"
        )
    if planted == "trigger":
        roles.execute("GRANT ALL ON usage_views TO {}", roles.maker)
        roles.plant("usage_views")
    elif planted in CONDITIONS:
        roles.execute("GRANT ALL ON usage_views TO {}", roles.maker)
        with ddl.connect(roles.url_of(roles.maker)) as connection:
            connection.execute(
                "CREATE FUNCTION said(text) RETURNS boolean LANGUAGE sql AS 'SELECT said() IS NOT NULL';"
                "CREATE FUNCTION said(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT said() IS NOT NULL';"
                "CREATE DOMAIN checked AS text CHECK (said(VALUE));"
                "CREATE OPERATOR public.### (LEFTARG = text, RIGHTARG = text, FUNCTION = said);"
                f"CREATE TRIGGER planted BEFORE INSERT ON usage_views FOR EACH ROW WHEN {CONDITIONS[planted]}"
                " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            )
    elif planted == "default":
        roles.execute("ALTER TABLE usage_views ADD COLUMN more text DEFAULT said()")
    elif planted == "constraint":
        roles.execute("ALTER TABLE usage_views ADD CHECK (note <> said())")
    else:
        roles.execute("CREATE RULE planted AS ON INSERT TO usage_views DO ALSO SELECT said()")
    roles.execute("DELETE FROM ran")
    with roles.store() as store:
        assert store.save_view("Mine", QUERY).place == "file"
    assert roles.ran_as() == set()
    assert {finding.state for finding in roles.examined()} == {"warning"}


def test_a_name_with_line_breaks_makes_no_line_of_its_own(roles: Roles) -> None:
    roles.make_tables()
    forged = "ALTER ROLE me SUPERUSER;"
    roles.execute("GRANT ALL ON usage_views TO {}", roles.maker)
    with ddl.connect(roles.url_of(roles.maker)) as connection:
        connection.execute(
            f'CREATE TRIGGER "a\nwarning  b\n{forged}" BEFORE INSERT ON usage_views FOR EACH ROW'
            " WHEN (length(NEW.name) > 1) EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        )
    for command in ("doctor", "init"):
        said = CliRunner().invoke(main, [command, "--database-url", roles.url, "--home", str(roles.home)]).output
        assert f"b\\+00000a{forged}" in said
        assert not [line for line in said.splitlines() if line.strip().startswith(("warning  b", forged))]


def test_what_the_owner_adds_and_what_others_build_on_a_table_is_no_code_of_another_role(roles: Roles) -> None:
    roles.make_tables()
    roles.execute(
        """CREATE FUNCTION stamped() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.note := ''stamped''; RETURN NEW; END';
        CREATE TRIGGER stamped BEFORE INSERT ON usage_views FOR EACH ROW EXECUTE FUNCTION stamped();
        CREATE TRIGGER changed BEFORE UPDATE ON usage_views FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
        EXECUTE FUNCTION stamped();
        GRANT SELECT ON usage_views TO public"""
    )
    with ddl.connect(roles.url_of(roles.maker)) as connection:
        connection.execute(
            """CREATE FUNCTION said(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
            CREATE VIEW theirs AS SELECT said(name) AS name FROM usage_views;
            CREATE TYPE kind AS ENUM ('organization', 'customer');
            CREATE TABLE customers (organization_id uuid, kind kind, id uuid, name text);
            GRANT SELECT ON customers TO public;
            CREATE POLICY planted ON customers USING (said(name) = '')"""
        )
    roles.execute("ALTER TABLE usage_names RENAME TO kept_names")
    roles.execute(
        f"""INSERT INTO customers VALUES ('{ORGANIZATION}', 'customer', '{JUNE}', 'June');
        CREATE VIEW usage_names AS SELECT organization_id, kind::text AS kind, id, NULL::text AS external_id, name,
            NULL::text AS preferred_currency, NULL::text AS unit FROM customers WHERE kind = 'customer'"""
    )
    try:
        assert roles.examined() == []
        with roles.store() as store:
            assert store.save_view("Mine", QUERY).place == "table"
            assert store.events(EventQuery()).names.name("customer", JUNE) == "June"
    finally:
        roles.execute("DROP VIEW usage_names; ALTER TABLE kept_names RENAME TO usage_names")


def test_a_superuser_does_not_read_its_own_view_over_a_view_of_another_role(roles: Roles) -> None:
    roles.execute("ALTER TABLE usage_names RENAME TO kept_names")
    with ddl.connect(roles.url_of(roles.maker)) as connection:
        connection.execute(
            f"CREATE VIEW theirs AS SELECT '{ORGANIZATION}'::uuid AS organization_id, 'customer' AS kind,"
            f" '{JUNE}'::uuid AS id, NULL::text AS external_id, 'June' AS name, '' AS preferred_currency"
        )
    roles.execute("CREATE VIEW between AS SELECT * FROM theirs; CREATE VIEW usage_names AS SELECT * FROM between")
    try:
        with roles.store() as store:
            assert store.events(EventQuery()).names.name("customer", JUNE) is None
        (found,) = roles.examined()
        assert found.message.startswith("public.usage_names uses a function, type or view of the role")
    finally:
        roles.execute("DROP VIEW usage_names, between; ALTER TABLE kept_names RENAME TO usage_names")


@contextmanager
def uncommitted(roles: Roles, statement: str) -> Iterator[None]:
    """The maker runs a statement, and commits it as soon as another session waits for its lock."""

    def commit() -> None:
        with ddl.connect(roles.url) as watching:
            watching.autocommit = True
            waiting = "SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
            eventually(lambda: watching.execute(waiting).fetchone() is not None)
        maker.commit()

    with ddl.connect(roles.url_of(roles.maker)) as maker, ThreadPoolExecutor(1) as thread:
        maker.execute(statement)  # type: ignore[arg-type]
        committed = thread.submit(commit)
        yield
        committed.result()


@pytest.mark.parametrize("table", ["usage_names", "usage_prices", "usage_views", "usage_events"])
def test_a_trigger_that_is_committed_while_a_superuser_writes(roles: Roles, table: str, tmp_path: Path) -> None:
    """The check looks at the table when it has its lock: what it did not see yet would run."""
    roles.make_tables()
    roles.execute("GRANT TRIGGER ON {} TO {}", table, roles.maker)
    trigger = f"CREATE TRIGGER late BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION spy()"
    refused = f"{table} uses a function, type or view of the role {roles.maker}"
    with roles.store() as store, uncommitted(roles, trigger):
        if table == "usage_names":
            with pytest.raises(TableMismatch, match=refused):
                upsert(
                    roles.admin, names_table(None, events_table()), ORGANIZATION, [Entry("customer", JUNE, name="J")]
                )
        elif table == "usage_prices":
            with pytest.raises(TableMismatch, match=refused):
                replace_prices(roles.admin, events_table(), ORGANIZATION, BOOK)
        elif table == "usage_views":
            with pytest.raises(RecordError, match=refused):
                store.save_view("Mine", QUERY)
        else:
            file = tmp_path / "events.csv"
            file.write_text("customer_id,metric_key,quantity,timestamp\nc,m,1,2026-09-01T00:00:00Z\n")
            with pytest.raises(LoadError, match=f"{refused}.*nothing was loaded"):
                load_files(roles.admin, events_table(), [file], organization_id=ORGANIZATION)
        roles.admin.rollback()
    assert roles.ran_as() == set()


@pytest.mark.parametrize("table", ["usage_names", "usage_prices", "usage_signoffs"])
def test_a_policy_that_is_committed_while_the_owner_of_the_events_reads(roles: Roles, table: str) -> None:
    """The maker owns the table, and the other role the events: it would run the policy's function."""
    roles.make_tables(roles.maker)
    roles.execute("ALTER TABLE usage_events OWNER TO {}", roles.other)
    roles.execute("ALTER TABLE usage_names OWNER TO {}", roles.maker)
    roles.execute("GRANT SELECT ON usage_names, usage_prices, usage_signoffs TO {}", roles.other)
    with ddl.connect(roles.url_of(roles.maker)) as connection:
        connection.execute(
            "CREATE FUNCTION seen() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''ran as %'', current_user; END'"
        )
    policy = f"CREATE POLICY late ON {table} USING (seen()); ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
    try:
        with roles.store(roles.other) as store, uncommitted(roles, policy):
            if table == "usage_names":
                assert store.events(EventQuery()).names.name("customer", JUNE) is None
            elif table == "usage_prices":
                with pytest.raises(TableMismatch, match="usage_prices belongs to the role"):
                    store.rate(Period(window="2026-09"))
            else:
                with pytest.raises(RecordError, match="usage_signoffs belongs to the role"):
                    store.signoffs()
    finally:
        roles.execute("DROP POLICY IF EXISTS late ON usage_names; ALTER TABLE usage_names DISABLE ROW LEVEL SECURITY")
        roles.execute("ALTER TABLE usage_names OWNER TO CURRENT_USER; ALTER TABLE usage_events OWNER TO CURRENT_USER")


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "NO ACTION"])
def test_deleting_runs_no_trigger_of_a_table_that_refers_to_the_events(
    roles: Roles, action: str, tmp_path: Path
) -> None:
    """Until PostgreSQL 17 a deferred trigger runs with the rights of the session, not of the table's owner."""
    roles.execute("GRANT REFERENCES ON usage_events TO {}", roles.maker)
    with ddl.connect(roles.url_of(roles.maker)) as connection:
        connection.execute(
            f"""CREATE TABLE theirs (organization_id uuid, timestamp timestamptz, id uuid,
                FOREIGN KEY (organization_id, timestamp, id) REFERENCES usage_events (organization_id, timestamp, id)
                ON DELETE {action});
            CREATE CONSTRAINT TRIGGER late AFTER DELETE OR UPDATE ON theirs DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION spy()"""
        )
    file = tmp_path / "events.csv"
    file.write_text("customer_id,metric_key,quantity,timestamp\nc,m,1,2026-09-01T00:00:00Z\n")
    if action == "NO ACTION":
        assert load_files(roles.admin, events_table(), [file], organization_id=ORGANIZATION)[0].loaded == 1
        assert roles.examined() == []
        return
    refused = f"usage_events is referenced by a table of the role {roles.maker}"
    with pytest.raises(LoadError, match=refused):
        load_files(roles.admin, events_table(), [file], organization_id=ORGANIZATION)
    roles.admin.rollback()
    (found,) = roles.examined()
    assert (found.state, "REVOKE REFERENCES" in found.fix) == ("warning", True)
    assert refused in found.message


PLANT_LINK = """INSERT INTO usage_links (organization_id, id, author, created_at, page, params, access)
VALUES (%s, %s, 'eve', now(), 'explore', %s, 'anyone')"""


@pytest.mark.parametrize("of", ["a grant", "its own table", "a grant of a column", "a role that sees all events"])
def test_no_link_of_a_role_that_sees_a_part_of_the_events_opens_without_sign_in(roles: Roles, of: str) -> None:
    roles.make_tables(roles.maker if of == "its own table" else "")
    if of == "a grant of a column":
        roles.execute("GRANT SELECT, INSERT, UPDATE (organization_id) ON usage_links TO {}", roles.maker)
    else:
        roles.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON usage_links TO {}", roles.maker)
    with roles.store() as store:
        shared = store.share(QUERY, without_sign_in=True)
    sees_all = of == "a role that sees all events"
    if not sees_all:
        without_columnstore(roles.admin)
        roles.execute("ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY")
    id_ = uuid4()
    with ddl.connect(roles.url_of(roles.maker)) as connection:
        connection.execute(PLANT_LINK, [ORGANIZATION, id_, shared.params])
    with roles.store() as store:
        (planted,) = (link for link in store.links() if link.id == id_)
        assert store.link(planted.url).without_sign_in is sees_all
        assert store.share(QUERY, without_sign_in=True).without_sign_in
        assert [link.place for link in store.links()].count("file") == (0 if sees_all else 1 + (of == "its own table"))
    said = [finding.message for finding in roles.examined()]
    assert any("its links need a sign-in" in message for message in said) is (not sees_all and of != "its own table")


def test_a_policy_lets_links_of_the_table_open_and_keeps_a_role_to_its_organization(roles: Roles) -> None:
    roles.make_tables()
    without_columnstore(roles.admin)
    roles.execute("GRANT SELECT, INSERT ON usage_links TO {}", roles.maker)
    for table in ("usage_events", "usage_links"):
        roles.execute("ALTER TABLE {0} ENABLE ROW LEVEL SECURITY", table)
        roles.execute(f"CREATE POLICY own ON {{}} TO {{}} USING (organization_id = '{uuid4()}')", table, roles.maker)
    with roles.store() as store:
        link = store.share(QUERY, without_sign_in=True)
        assert (link.place, store.link(link.url).without_sign_in) == ("table", True)
    with (
        ddl.connect(roles.url_of(roles.maker)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
    ):
        connection.execute(PLANT_LINK, [ORGANIZATION, uuid4(), link.params])
    assert roles.examined() == []


def test_doctor_names_who_may_create_what_a_powerful_role_would_run(roles: Roles) -> None:
    def found(url: str) -> list[str]:
        return [
            made.message for made in examine(url, "usage_events", timedelta(seconds=30)) if made.name == "search path"
        ]

    (said,) = found(roles.url)
    assert f"{roles.maker} and {roles.other} may create functions and operators in public" in said
    assert found(roles.url_of(roles.other)) == []
    roles.execute("REVOKE CREATE ON SCHEMA public FROM {}, {}", roles.maker, roles.other)
    assert found(roles.url) == []
    roles.execute("ALTER SCHEMA public OWNER TO {}", roles.maker)
    (said,) = found(roles.url)
    assert f"{roles.maker} may create functions and operators in public" in said
    assert said.endswith("may drop what is there as its owner")
    roles.execute("ALTER SCHEMA public OWNER TO pg_database_owner")
    roles.execute("REVOKE ALL ON SCHEMA public FROM {}", roles.maker)
    roles.execute(f"GRANT CREATE ON DATABASE {roles.admin.info.dbname} TO {{}}", roles.maker)
    (said,) = found(roles.url)
    user = roles.admin.info.user
    assert f"{roles.maker} may create functions and operators in {user}" in said
    assert "does not exist" in said
    roles.execute(f"CREATE SCHEMA {user}")
    assert found(roles.url) == []
    roles.execute(f"ALTER SCHEMA {user} OWNER TO {{}}", roles.maker)
    (said,) = found(roles.url)
    assert f"in {user}, which" in said
    assert said.endswith("as its owner")


def test_names_are_not_written_into_a_directory_of_another_role(roles: Roles) -> None:
    roles.execute("ALTER TABLE usage_names OWNER TO {}", roles.maker)
    try:
        roles.plant("usage_names")
        names = names_table(None, events_table())
        entry = ("customer", JUNE, "cus_1", "June")
        assert remember(roles.admin, names, ORGANIZATION, [entry]) is None
        roles.admin.commit()
        file = roles.home / "customers.csv"
        file.write_text(f"id,name\n{JUNE},June\n")
        usage = roles.home / "usage.csv"
        usage.write_text("customer_id,metric_key,quantity,timestamp\nMetering GmbH,tokens,1,2026-09-02T00:00:00Z\n")
        loading = ["load", str(usage), "--organization-id", str(ORGANIZATION), "--database-url", roles.url]
        loaded = CliRunner().invoke(main, loading)
        assert f"no names were kept: usage_names belongs to the role {roles.maker}" in " ".join(loaded.output.split())
        result = CliRunner().invoke(main, ["names", "load", str(file), "--database-url", roles.url])
        assert result.exit_code == 1
        assert f"usage_names belongs to the role {roles.maker}" in result.output
        (found,) = roles.examined()
        assert found.message.startswith("public.usage_names belongs")
        assert roles.ran_as() == set()
        roles.execute("ALTER TABLE usage_events OWNER TO {}", roles.maker)  # the owner of the events is trusted
        said = CliRunner().invoke(main, ["init", "--database-url", roles.url]).output
        assert f"usage_events, which belongs to the role {roles.maker}." in said
        assert remember(roles.admin, names, ORGANIZATION, [entry]) == 1
    finally:
        roles.admin.rollback()
        roles.execute("DROP TRIGGER IF EXISTS planted ON usage_names")
        roles.execute("ALTER TABLE usage_names OWNER TO CURRENT_USER; ALTER TABLE usage_events OWNER TO CURRENT_USER")


def test_the_owner_of_the_events_does_not_read_tables_with_policies_of_another_role(roles: Roles) -> None:
    roles.make_tables(roles.maker)
    with ddl.connect(roles.url_of(roles.maker)) as connection:
        connection.execute(
            "CREATE FUNCTION who() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'ran as %', current_user; END$$"
        )
        for name in TABLES:
            table = sql.Identifier(name)
            connection.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table))
            connection.execute(sql.SQL("CREATE POLICY planted ON {} USING (who())").format(table))
            connection.execute(sql.SQL("GRANT ALL ON {} TO public").format(table))
    roles.execute(
        "INSERT INTO usage_views (organization_id, id, name, note, author, created_at, changed_at, saved_at, page,"
        " params, pinned, as_of)"
        " SELECT organization_id, id, '', '', '', now(), now(), now(), '', '', '', now() FROM usage_events"
    )
    roles.execute("ALTER TABLE usage_events OWNER TO {}", roles.other)
    try:
        with roles.store(roles.other) as store:
            for read in (store.views, store.signoffs, lambda: store.save_view("Mine", QUERY)):
                with pytest.raises(RecordError, match=f"belongs to the role {roles.maker}"):
                    read()
            with pytest.raises(TableMismatch, match=f"usage_prices belongs to the role {roles.maker}"):
                store.rate(Period(window="2026-09"))
    finally:
        roles.execute("ALTER TABLE usage_events OWNER TO CURRENT_USER")


def test_a_superuser_does_not_read_views_of_another_role(roles: Roles) -> None:
    """The functions of a view run with the rights of who reads: READ ONLY does not keep COPY from files."""
    roles.execute("ALTER TABLE usage_names RENAME TO kept_names")
    try:
        with ddl.connect(roles.url_of(roles.maker)) as connection:
            connection.execute(
                "CREATE FUNCTION who() RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'ran as %', current_user; END$$"
            )
            columns = (f"NULL::{column.type} AS {column.name}" for column in prices_table().columns)
            connection.execute(f"CREATE VIEW usage_prices AS SELECT {', '.join(columns)} WHERE who() = ''")
            connection.execute(
                f"CREATE VIEW usage_names AS SELECT '{ORGANIZATION}'::uuid AS organization_id, 'customer' AS kind,"
                f" '{JUNE}'::uuid AS id, NULL::text AS external_id, who() AS name, '' AS preferred_currency"
            )
        with roles.store() as store:
            assert store.events(EventQuery()).names.name("customer", JUNE) is None
            assert store.organization_names().name("organization", ORGANIZATION) is None
            with pytest.raises(TableMismatch, match=f"usage_prices belongs to the role {roles.maker}"):
                store.rate(Period(window="2026-09"))
        customers, book = roles.home / "customers.csv", roles.home / "prices.csv"
        customers.write_text("external_id,name\ncus_1,June\n")
        book.write_text("metric_key,customer,model,unit_amount,currency\ntokens,cus_1,per_unit,1,EUR\n")
        for command in (["names", "load", str(customers)], ["prices", "load", str(book)]):
            result = CliRunner().invoke(main, [*command, "--database-url", roles.url])
            assert (result.exit_code, f"usage_names belongs to the role {roles.maker}" in result.output) == (1, True)
        found = {finding.message.partition(" ")[0]: finding for finding in roles.examined()}
        for name in ("public.usage_prices", "public.usage_names"):
            assert found[name].message.endswith("superusers and the owner of the events do not read it")
    finally:
        roles.execute("DROP VIEW IF EXISTS usage_names, usage_prices")
        roles.execute("ALTER TABLE kept_names RENAME TO usage_names")
