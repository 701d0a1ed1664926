"""Backup and restore: the restored database is the same, to the last row, and whatever fails changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from support import generated_events
from support.database_servers import remove_server, short_folder
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.plain_events import beside, event
from support.waiting import PATIENCE, eventually
from usage_explore import AggregateQuery, Period, Store, config
from usage_explore.cli.main import main
from usage_explore.db import backup as backups
from usage_explore.db import ddl, embedded, programs
from usage_explore.errors import ConfigurationError, DatabaseError
from usage_explore.extract import background
from usage_explore.extract.refresh import refresh
from usage_explore.open_store import opened

Source = tuple[Path, Path, dict[str, object]]

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
SINCE = (NOW - 29 * DAY).replace(hour=0, minute=0, second=0)  # no "-29d/d": midnight may pass meanwhile
QUERY = AggregateQuery(metric="sum_quantity", group_by="metric_key", since=SINCE, organization_id=ORGANIZATION)

MORE = """
CREATE ROLE acme_reader LOGIN;
CREATE ROLE acme_readers;
GRANT acme_readers TO acme_reader;
GRANT SELECT ON usage_events TO acme_reader;
ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY acme_reader ON usage_events FOR SELECT TO acme_reader USING (metric_key <> 'secret');
CREATE SCHEMA "Other team";
CREATE TABLE "Other team"."Odd, ü name" (n int GENERATED ALWAYS AS IDENTITY, t text, j jsonb, f float8, b bytea);
INSERT INTO "Other team"."Odd, ü name" (t, j, f, b)
VALUES ('', '{"a": [1, null]}', 'NaN', '\\x00ff'), (NULL, NULL, 0.1, NULL), (E'line\\nbreak\\t\\\\', '"ü"', '-0', '');
CREATE VIEW "Other team".v AS SELECT count(*) FROM usage_events;
COMMENT ON TABLE "Other team"."Odd, ü name" IS 'kept';
"""

CATALOG = (
    "SELECT indexdef FROM pg_indexes WHERE schemaname !~ '^pg_' ORDER BY 1",
    "SELECT pg_get_constraintdef(oid), conrelid::regclass::text FROM pg_constraint WHERE conrelid <> 0 ORDER BY 1, 2",
    "SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext ORDER BY 1",
    "SELECT polname, polroles::regrole[]::text, pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY 1",
    "SELECT oid::regclass::text, relacl::text, relrowsecurity, obj_description(oid, 'pg_class') FROM pg_class"
    " WHERE relnamespace::regnamespace::text !~ '^(pg_|information)' ORDER BY 1",
    "SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default, is_identity"
    " FROM information_schema.columns WHERE table_schema !~ '^(pg_|information)' ORDER BY 1, 2, ordinal_position",
    "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members WHERE member >= 16384 ORDER BY 1, 2",
    'SELECT * FROM "Other team".v',
)


def content(url: str) -> dict[str, object]:
    """Every table as sorted lines of COPY, and the definitions of everything in the database."""
    found: dict[str, object] = {}
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information)'"
        ).fetchall()
        for (name,) in tables:
            with connection.cursor().copy(f"COPY {name} TO STDOUT".encode()) as copy:
                found[name] = sorted(b"".join(copy).splitlines())
        for query in CATALOG:
            found[query] = connection.execute(query.encode()).fetchall()
    return found


def opened_under(home: Path, organization_id: Any = None) -> Store:
    return opened(config.settings(home=home, organization_id=organization_id))


def run(home: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *map(str, arguments)])


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    """An embedded database with something in every table, not running; its backup, and its content."""
    home = short_folder()
    url = embedded.start(home)
    events = [
        event(NOW - day * DAY, metric_key=f"metric {day % 3}", quantity=day + 0.125, dimensions='{"model": "a"}')
        for day in range(1, 40)
    ]
    with ddl.connect(url) as connection:
        ddl.ensure_schema(connection, "usage_events")
        generated_events.insert(connection, [*events, *beside(events[:5])])
        connection.commit()
    book = home / "prices.toml"
    book.write_text('[[prices]]\nmetric_key = "metric 1"\nmodel = "per_unit"\nunit_amount = 0.25\ncurrency = "USD"\n')
    names = home / "names.csv"
    names.write_text(f"kind,id,name\norganization,{ORGANIZATION},Acme\n")
    for command in (["prices", "load", book], ["names", "load", names]):
        result = run(home, *command, "--organization-id", ORGANIZATION)
        assert result.exit_code == 0, result.output
    with opened_under(home, ORGANIZATION) as store:
        store.save_view("Mine", QUERY, "note")
        store.share(QUERY, author="ana", without_sign_in=True)
        validation = store.validate(Period(since=NOW - 20 * DAY, until=NOW - 2 * DAY))
        store.keep_run(validation)
        if validation.findings:
            store.decide(validation.findings[0], "acknowledge", by="ana")
        store.sign_off(validation, by="ana")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(MORE.encode())
    path = home / "usage.backup"
    result = run(home, "backup", path)
    assert result.exit_code == 0, result.output
    yield home, path, content(url)
    remove_server(home)


def test_the_restored_database_is_the_same(source: Source, home: Path) -> None:
    original, path, before = source
    with opened_under(original, ORGANIZATION) as store:
        (link,), (view,) = store.links(), store.views()
        answer = store.aggregate(link.query)
        runs, signoffs, decisions = store.runs(), store.signoffs(), store.decisions()
    assert all(before[f"public.{name}"] for name in ("usage_names", "usage_prices", "usage_views", "usage_links"))
    result = run(home, "restore", path)
    assert result.exit_code == 0, result.output
    assert "the same as in" in result.stdout
    assert not (home / "restoring").exists()
    assert content(embedded.start(home)) == before
    with opened_under(home, ORGANIZATION) as store:
        assert store.link(link.token) == link
        assert store.links() == [link]
        assert store.views() == [view]
        assert store.aggregate(link.query).frame.equals(answer.frame)
        assert store.aggregate(link.query).query == answer.query
        assert (store.runs(), store.signoffs(), store.decisions()) == (runs, signoffs, decisions)
        assert runs
        assert signoffs
        assert store.organization_name(QUERY).startswith("Acme (")
        assert store.prices() is not None
    with opened_under(home) as store:
        assert set(store.organizations()) == {ORGANIZATION, NEIGHBOUR}


def test_only_its_owner_can_read_the_file_which_holds_no_password(source: Source, tmp_path: Path) -> None:
    _, path, _ = source
    assert path.stat().st_mode & 0o777 == 0o600
    assert [other.name for other in path.parent.glob(".usage*")] == []
    with zipfile.ZipFile(path) as archive:
        assert "PASSWORD" not in archive.read("roles.sql").decode()


def test_an_extract_of_the_database_before_is_not_used(source: Source, home: Path) -> None:
    """The table of the restored database is another one, until its extract is built."""
    _, path, _ = source

    def built() -> None:
        settings = config.settings(home=home)
        with closing(ddl.connect(config.database_url(settings))) as connection:
            source = background.source(connection, settings)
            refresh(connection, background.target(source, settings, ORGANIZATION), settle=timedelta(0), timeout=DAY)

    def served() -> tuple[str, object]:
        with opened_under(home, ORGANIZATION) as store:
            answer = store.aggregate(QUERY)
            return answer.served.path, answer.total

    with ddl.connect(embedded.start(home)) as connection:
        ddl.ensure_schema(connection, "usage_events")
        generated_events.insert(connection, [event(NOW - DAY, quantity=1000)])
        connection.commit()
    built()
    assert served() == ("extract", 1000)
    embedded.release(home)
    assert run(home, "restore", path).exit_code == 1
    result = run(home, "restore", path, "--replace")
    assert result.exit_code == 0, result.output
    total = sum(Decimal(day) + Decimal("0.125") for day in range(1, 40) if NOW - day * DAY >= SINCE)
    assert served() == ("events", total)
    built()
    assert served() == ("extract", total)


def keep(home: Path) -> Callable[[], None]:
    """Make an embedded database with rows, not running; a function that states that it was not changed."""
    query = "SELECT (SELECT sum(n) FROM mine), system_identifier FROM pg_control_system()"
    with psycopg.connect(embedded.start(home)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT generate_series(1, 1000) AS n")
        before = connection.execute(query).fetchone()
    embedded.release(home)

    def unchanged() -> None:
        assert not (home / "restoring").exists()
        with psycopg.connect(embedded.start(home)) as connection:
            assert connection.execute(query).fetchone() == before
        embedded.release(home)

    return unchanged


def rewritten(
    path: Path, copy: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], sign: bool = True
) -> Path:
    """A copy of a backup with other members; with `sign` its manifest has their hashes."""
    with zipfile.ZipFile(path) as archive:
        members = change({name: archive.read(name) for name in archive.namelist()})
    if sign:
        document = json.loads(members["manifest.json"])
        for entry in document["members"]:
            entry |= {
                "bytes": len(members[entry["name"]]),
                "sha256": hashlib.sha256(members[entry["name"]]).hexdigest(),
            }
        members["manifest.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(copy, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return copy


def with_manifest(**changes: object) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def changed(members: dict[str, bytes]) -> dict[str, bytes]:
        document = {**json.loads(members["manifest.json"]), **changes}
        return {**members, "manifest.json": json.dumps(document).encode()}

    return changed


def without_a_row(members: dict[str, bytes]) -> dict[str, bytes]:
    """A manifest that counts a row more than the dump has."""
    document = json.loads(members["manifest.json"])
    document["tables"][0]["rows"] += 1
    return {**members, "manifest.json": json.dumps(document).encode()}


DEFECTS: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], bool, str]] = {
    "path": (lambda members: {**members, "../../../tmp/evil": b"x"}, True, "does not consist of"),
    "absent": (lambda members: {n: d for n, d in members.items() if n != "roles.sql"}, False, "does not consist of"),
    "version": (with_manifest(format="usage-explore backup 2"), True, "of another version"),
    "unknown": (with_manifest(extra=1), True, "of another version"),
    "newer": (with_manifest(postgresql="99.1"), True, "was made by PostgreSQL 99.1"),
    "postgresql": (with_manifest(postgresql="-1"), True, "does not match its checksums"),
    "hash": (lambda members: {**members, "database.pgdump": members["database.pgdump"][:-1]}, False, "checksums"),
    "dump": (lambda members: {**members, "database.pgdump": members["database.pgdump"][:-999]}, True, "pg_restore"),
    "no dump": (lambda members: {**members, "database.pgdump": b"junk"}, True, "pg_restore failed"),
    "roles": (lambda members: {**members, "roles.sql": b"CREATE NONSENSE;"}, True, "roles of the backup cannot be"),
    "rows": (without_a_row, True, "differ from the backup"),
}


def test_what_cannot_be_restored_changes_nothing(source: Source, home: Path, tmp_path: Path) -> None:
    unchanged = keep(home)
    result = run(home, "restore", source[1])
    assert result.exit_code == 1
    assert "has rows, in 1 table: mine; --replace" in result.stderr
    embedded.start(home)
    result = run(home, "restore", source[1], "--replace")
    assert result.exit_code == 1
    assert "is in use; end the app" in result.stderr
    embedded.release(home)
    for defect, (change, sign, message) in DEFECTS.items():
        bad = rewritten(source[1], tmp_path / "bad.backup", change, sign)
        result = run(home, "restore", bad, "--replace")
        assert result.exit_code == 1, defect
        assert message in result.stderr, defect
        assert "Traceback" not in result.output
    assert not Path("/tmp/evil").exists()
    unchanged()


def test_files_that_are_no_archive(home: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    files = {
        "text": "no archive",
        "empty": "no archive",
        "none": "cannot be read",
        "": "is no file",
        "pipe": "is no file",
    }
    for name, message in files.items():
        result = run(home, "restore", tmp_path / name)
        assert result.exit_code == 1
        assert message in result.stderr
    compressed = tmp_path / "compressed"
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("manifest.json", "roles.sql", "database.pgdump"):
            archive.writestr(name, b"0" * 10_000_000)
    assert "compressed" in run(home, "restore", compressed).stderr
    assert not (home / "data").exists()


def test_no_damage_goes_unnoticed(source: Source, tmp_path: Path) -> None:
    """A byte that differs, or a file that is cut off, is refused, or does not concern the content."""
    path = source[1]
    whole = path.read_bytes()
    with backups._opened(path) as archive:
        expected = backups._checked(archive, path)
    bad = tmp_path / "bad"
    noticed = 0
    ends = [*range(0, 1_000, 13), *range(len(whole) - 4_000, len(whole), 11), *range(0, len(whole), len(whole) // 50)]
    for position in ends:
        for damaged in (
            whole[:position],
            whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :],
            whole[:position] + whole[position + 1 :],
        ):
            bad.write_bytes(damaged)
            try:
                with backups._opened(bad) as archive:
                    assert backups._checked(archive, bad) == expected
            except ConfigurationError:
                noticed += 1
    assert noticed > 2.8 * len(ends)


def test_a_killed_restore_leaves_the_database_as_it_was(source: Source, home: Path) -> None:
    keep(home)
    command = [sys.executable, "-P", "-m", "usage_explore", "--home", str(home), "restore", str(source[1]), "--replace"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/")
    try:
        eventually(lambda: (home / "restoring" / "data" / "postmaster.pid").exists() or process.poll() is not None)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait(PATIENCE)
    with psycopg.connect(embedded.start(home)) as connection:
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (1000,)
    embedded.release(home)
    result = run(home, "restore", source[1], "--replace")
    assert result.exit_code == 0, result.output
    assert not (home / "restoring").exists()
    assert content(embedded.start(home)) == source[2]


@pytest.mark.parametrize("step", ["before", "between", "after"])
def test_a_crash_while_the_cluster_is_replaced_leaves_the_old_or_the_new_one(tmp_path: Path, step: str) -> None:
    server = embedded.Server(tmp_path)
    for name in ("data", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if step == "before":
        (tmp_path / "new").rename(tmp_path / "data.next")
    elif step == "between":
        (tmp_path / "new").rename(tmp_path / "data.next")
        (tmp_path / "data").rename(tmp_path / "data.replaced")
    else:
        (tmp_path / "data").rename(tmp_path / "data.replaced")
        (tmp_path / "new").rename(tmp_path / "data")
    server.finish_replacing()
    (name,) = (path.name for path in (tmp_path / "data").iterdir())
    assert name == ("data" if step == "before" else "new")
    assert not (tmp_path / "data.replaced").exists()
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "third").touch()
    server.replace(tmp_path / "third")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["third"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_is_one_snapshot(home: Path, tmp_path: Path) -> None:
    """Two tables that every transaction changes together have as many rows in the backup."""
    url = embedded.start(home)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE one (n bigint); CREATE TABLE two (n bigint)")
    end = threading.Event()

    def write() -> None:
        with psycopg.connect(url) as connection:
            for number in range(1_000_000):
                connection.execute("INSERT INTO one VALUES (%s)", [number])
                connection.execute("INSERT INTO two VALUES (%s)", [number])
                connection.commit()
                if end.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        manifests = [backups.backup(home, tmp_path / f"{number}.backup") for number in range(3)]
    finally:
        end.set()
        writer.join(PATIENCE)
    for manifest in manifests:
        one, two = manifest.tables
        assert (one.rows, one.checksum) == (two.rows, two.checksum)
    assert manifests[0].rows < manifests[-1].rows
    embedded.release(home)
    restored = backups.restore(home, tmp_path / "2.backup", replace=True)
    assert restored.manifest == manifests[-1]
    with psycopg.connect(embedded.start(home)) as connection:
        assert connection.execute("SELECT count(*) FROM one").fetchone() == (manifests[-1].rows // 2,)


def test_a_backup_of_an_older_postgresql_is_restored_into_the_newest(home: Path, tmp_path: Path) -> None:
    oldest, newest = min(programs.POSTGRES_VERSIONS), programs.newest_version()
    if oldest == newest:
        pytest.skip("this installation has one version of PostgreSQL")
    server = embedded.Server(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "POSTGRES_VERSIONS", {oldest: programs.POSTGRES_VERSIONS[oldest]})
        new = server.private(home / "data.new")
        server.command("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D", new.name)
        new.rename(home / "data")
    with ddl.connect(embedded.start(home)) as connection:
        ddl.ensure_schema(connection, "usage_events")
        generated_events.insert(connection, [event(NOW - day * DAY, quantity=day) for day in range(1, 9)])
        connection.commit()
    with opened_under(home, ORGANIZATION) as store:
        link = store.share(QUERY)
        assert store.aggregate(link.query).total == 36
    manifest = backups.backup(home, tmp_path / "old.backup")
    assert manifest.major == oldest
    embedded.release(home)
    result = run(home, "restore", tmp_path / "old.backup", "--replace")
    assert result.exit_code == 0, result.output
    assert f"PostgreSQL {newest}." in result.stdout
    assert f", before {oldest}." in result.stdout
    assert (home / "data" / "PG_VERSION").read_text().strip() == str(newest)
    with opened_under(home, ORGANIZATION) as store:
        assert store.link(link.token) == link
        assert store.aggregate(link.query).total == 36


def test_a_cluster_of_a_version_that_is_gone_is_replaced(source: Source, home: Path, tmp_path: Path) -> None:
    """After an installation without the old version, a backup made before is all that is needed."""
    (home / "data").mkdir(mode=0o700)
    (home / "data" / "PG_VERSION").write_text("9\n")
    result = run(home, "restore", source[1])
    assert result.exit_code == 1
    assert "was made by PostgreSQL 9" in result.stderr
    assert "--replace" in result.stderr
    command = f"\\! touch {tmp_path}/run\n".encode()  # of psql
    backup = rewritten(
        source[1], tmp_path / "x.backup", lambda members: {**members, "roles.sql": command + members["roles.sql"]}
    )
    result = run(home, "restore", backup, "--replace")
    assert result.exit_code == 0, result.output
    assert content(embedded.start(home)) == source[2]
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_backed_up_says_why(home: Path, tmp_path: Path) -> None:
    result = run(home, "backup", tmp_path / "x.backup")
    assert result.exit_code == 1
    assert "there is no embedded database" in result.stderr
    for command in ("backup", "restore"):
        result = run(home, "--database-url", "postgresql://u:secret@h/d", command, tmp_path / "x.backup")
        assert result.exit_code == 1
        assert "is for the embedded database" in result.stderr
        assert "secret" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    result = run(tmp_path / "home", "backup", tmp_path)  # where there is no database either
    assert result.exit_code == 1
    assert "is a folder; name a file in it" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_backup_that_fails_leaves_the_file_before(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = embedded.start(home)
    path = tmp_path / "x.backup"
    path.write_bytes(b"before")
    monkeypatch.setattr(backups, "_LOCK_WAIT_SECONDS", 1)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        connection.commit()
        connection.execute("LOCK TABLE t")
        with pytest.raises(DatabaseError, match="has locked a table for 1 s"):
            backups.backup(home, path)
        monkeypatch.setattr(backups, "_tables", lambda _: iter(()))  # then pg_dump waits for the lock
        with pytest.raises(DatabaseError, match=r"pg_dump failed: .*LOCK TABLE public.t"):
            backups.backup(home, path)
    assert path.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.backup"]
    result = run(home, "backup", tmp_path / "no" / "folder.backup")
    assert result.exit_code == 1
    assert "cannot be written to" in result.stderr
