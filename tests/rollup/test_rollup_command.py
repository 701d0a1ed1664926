"""`usage-explore rollup`, and what `load` and `demo` do for it: what it says, where, and the exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import sql

from support.partial_rollup import ORGANIZATION, TABLE, Ahead
from support.query_oracle import utc
from support.waiting import PATIENCE
from usage_explore.cli.main import main
from usage_explore.rollup import catalog
from usage_explore.rollup.status import verify

Run = Callable[..., Result]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = utc(2026, 3, 1)


@pytest.fixture
def run(ahead: Ahead) -> Run:
    """Run the command on a database with events but no rollup."""
    ahead.add(FIRST, FIRST + HOUR, FIRST + 2 * DAY, number=40)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["--database-url", ahead.url, *arguments])

    return run


def test_it_makes_shows_verifies_and_drops(run: Run, ahead: Ahead) -> None:
    assert (
        run("rollup", "--show").stderr == "Error: public.usage_events: has no rollup; `usage-explore rollup` makes it\n"
    )
    made = run("rollup")
    assert made.exit_code == 0
    assert f"Organization {ORGANIZATION}" in made.output
    lines = {line.split()[0]: line.split() for line in made.output.splitlines() if line.startswith("  ")}
    assert lines["dim:model"][1:4] == ["hour", "measured", "3"]
    assert run("rollup", "--show").output == made.output
    checked = run("rollup", "--verify", "--all")
    assert (checked.exit_code, checked.output) == (
        0,
        "2 of 2 days of ingestion compared with the events: no difference.\n",
    )
    assert run("rollup", "--verify", "--sample", "1").output.startswith("1 of 2 days")
    assert run("rollup", "--drop").output == "Dropped the rollup.\n"
    assert not catalog.exists(ahead.connection, TABLE)


def test_differences_are_told_and_mended(run: Run, ahead: Ahead) -> None:
    run("rollup")
    ahead.add(FIRST + 5 * timedelta(minutes=1))
    found = run("rollup", "--verify", "--all")
    assert found.exit_code == 1
    assert "none, metric 'tokens', slot 2026-03-01 00:00:00+00" in found.output
    assert "41 events with 41, the rollup says 40 with 40" in found.output
    assert "--rebuild" in found.output
    times = ["--since", "2026-03-01T00:00:00Z", "--until", "2026-03-01T01:00:00Z"]
    assert run("rollup", "--rebuild", *times).output.startswith("Made ")
    assert run("rollup", "--verify", "--all").exit_code == 0
    assert run("rollup", "--rebuild").exit_code == 0
    assert run("rollup", "--verify", "--all").exit_code == 0


def test_what_is_kept_by_hand_stays(run: Run, ahead: Ahead) -> None:
    run("rollup", "--keep", "dim:model=day", "--keep", "customer_id=15m", "--leave-out", "product_id")
    run("rollup")
    assert (ahead.entry("dim:model").grain, ahead.entry("dim:model").by_hand) == (DAY, True)
    assert ahead.entry("customer_id").grain == timedelta(minutes=15)
    shown = run("rollup", "--show").output
    assert "left out by hand" in shown
    run("rollup", "--forget", "dim:model", "--forget", "product_id")
    assert (ahead.entry("dim:model").grain, ahead.entry("dim:model").by_hand) == (HOUR, False)
    assert (ahead.entry("product_id").grain, ahead.entry("product_id").reason) == (HOUR, None)
    assert run("rollup", "--verify", "--all").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--keep", "dim:model"], "--keep: 'dim:model' does not say how; write DIMENSION=GRAIN"),
        (["--keep", "dim:model=week"], "--keep: 'dim:model=week' does not say how"),
        (["--keep", "custmer_id=day"], "--keep: 'custmer_id' is not one of"),
        (["--leave-out", "none"], "--leave-out: none is what every other answer rests on"),
        (["--leave-out", "metric_key"], "--leave-out: metric_key is part of every row"),
        (["--keep", "dim:a=day", "--forget", "dim:a"], "--keep, --leave-out, --forget: dim:a is given twice"),
        (["--show", "--drop"], "--show, --drop: are tasks of their own"),
        (["--verify", "--keep", "dim:a=day"], "--verify: changes nothing of what is kept"),
        (["--all"], "--sample, --all: say how much to compare; give --verify too"),
        (["--verify", "--all", "--sample", "3"], "--sample, --all: are both given"),
        (["--since", "2026-01-01T00:00:00Z"], "--since, --until: say what to rebuild"),
        (["--rebuild", "--since", "2026-01-01"], "--since: "),
        (["--rebuild", "--since", "2026-01-02T00:00:00Z", "--until", "2026-01-02T00:00:00Z"], "--since, --until: 2026"),
        (["--every", "5 minutes"], "--every: '5 minutes' is not a span"),
        (["--every", "0s"], "--every: '0s' is not a span"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["--database-url", "postgresql://127.0.0.1:1/nothing", "rollup", *arguments])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {said}")


def test_without_a_table_it_says_what_to_do(database_url: str) -> None:
    result = CliRunner().invoke(main, ["--database-url", database_url, "rollup"])
    assert (result.exit_code, "usage-explore init" in result.stderr) == (1, True)


def test_a_load_is_counted_at_once(run: Run, ahead: Ahead, tmp_path: Path) -> None:
    text = "customer_id,metric_key,quantity,timestamp,ingested_at,model\n" + "".join(
        f"{ORGANIZATION},tokens,{number},2026-03-0{1 + number % 3}T04:00:00Z,2026-03-05T00:00:00Z,large\n"
        for number in range(30)
    )
    for number in (1, 2):
        path = tmp_path / f"{number}.csv"
        path.write_text(text.replace(",tokens,", f",tokens{number},"))
        result = run("load", str(path), "--dimensions", "--organization-id", str(ORGANIZATION))
        assert result.exit_code == 0, result.output
        found = verify(ahead.connection, TABLE, sample=None)
        assert (found.differing, found.days) == (0, 3)


def test_a_role_that_may_only_load_still_can(run: Run, ahead: Ahead, other_role: str, tmp_path: Path) -> None:
    role = sql.Identifier(urlsplit(other_role).username or "")
    ahead.connection.execute(sql.SQL("GRANT SELECT, INSERT ON usage_events TO {}").format(role))
    ahead.connection.commit()
    path = tmp_path / "new.csv"
    path.write_text(f"customer_id,metric_key,quantity,timestamp\n{ORGANIZATION},tokens,1,2026-03-01T00:00:00Z\n")
    for number in (1, 2):
        result = CliRunner().invoke(
            main, ["--database-url", other_role, "load", str(path), "--organization-id", str(ORGANIZATION)]
        )
        assert (result.exit_code, "The rollup was left as it is" in result.stderr) == (0, True)
        assert f"loaded {2 - number} event" in result.stdout
        run("rollup")
        ahead.connection.execute(sql.SQL("GRANT SELECT ON usage_events_rollup_kept TO {}").format(role))
        ahead.connection.commit()


def test_the_demo_makes_it(database_url: str) -> None:
    result = CliRunner().invoke(
        main, ["--database-url", database_url, "demo", "--until", "2026-09-02T00:00:00Z", "--days", "1"]
    )
    assert result.exit_code == 0, result.output
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT sum(events) FROM usage_events_rollup WHERE dimension = 'none'").fetchone()
        raw = connection.execute("SELECT count(*) FROM usage_events").fetchone()
    assert row == raw


def test_it_keeps_going_while_the_database_is_away(run: Run, ahead: Ahead) -> None:
    name = sql.Identifier(psycopg.conninfo.conninfo_to_dict(ahead.url)["dbname"])
    elsewhere = psycopg.conninfo.make_conninfo(ahead.url, dbname="postgres")
    ahead.connection.close()
    command = [sys.executable, "-m", "usage_explore", "rollup", "--database-url", ahead.url, "--every", "1s"]
    with (
        psycopg.connect(elsewhere, autocommit=True) as admin,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert "rows" in next(line for line in process.stdout if "Counted ahead" in line)
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            assert "not refreshed, again in 1 s: " in process.stderr.readline()
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
            with psycopg.connect(ahead.url, autocommit=True) as connection:
                connection.execute("UPDATE usage_events_rollup_kept SET watermark = NULL")
                connection.execute("DELETE FROM usage_events_rollup")
                while not connection.execute("SELECT FROM usage_events_rollup LIMIT 1").fetchall():
                    connection.execute("SELECT pg_sleep(0.1)")
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=PATIENCE)[1]
        finally:
            process.kill()
    assert process.returncode == 0
    assert rest.endswith("Stopped.\n")
    assert "Traceback" not in rest


def test_stored_keys_lead_no_terminal_astray(run: Run, ahead: Ahead) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e\r\n"
    ahead.add(utc(2026, 3, 1), dimensions={f"red{hostile}": f"value{hostile}"})
    assert run("rollup").exit_code == 0
    ahead.connection.execute("UPDATE usage_events_rollup SET events = 7")
    ahead.connection.commit()
    for task in ("--show", "--verify"):
        printed = run("rollup", task).output
        assert "dim:red" in printed
        assert all(each.isprintable() or each == "\n" for each in printed), task
        assert printed.count("\n") == len(printed.splitlines())
