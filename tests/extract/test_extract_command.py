"""The command `usage-explore extract`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from extract.small_extract import DAY, HOUR, NOON, ORGANIZATION, Extract, event
from support import generated_events
from support.waiting import PATIENCE, eventually
from usage_explore import AggregateQuery
from usage_explore.cli.main import main
from usage_explore.config import Settings
from usage_explore.open_store import opened


def run(extract: Extract, *arguments: str) -> Result:
    options = ["--database-url", extract.url, "--home", str(extract.home)]
    return CliRunner().invoke(main, ["extract", *options, *arguments])


@pytest.fixture
def filled(extract: Extract) -> Extract:
    """A table with old events of two organizations."""
    rows = [event(NOON - 365 * DAY + number * HOUR, dimensions='{"model": "a"}') for number in range(50)]
    other = event(NOON - 365 * DAY, organization_id=generated_events.NEIGHBOUR)
    extract.add(*rows, other)
    return extract


def test_a_key_with_a_line_break_makes_no_line(extract: Extract) -> None:
    extract.add(*(event(NOON - 365 * DAY + number * HOUR, dimensions=r'{"a\nnone": "b"}') for number in range(50)))
    assert run(extract).exit_code == 0
    assert r"columns of dimensions: a\nnone" in run(extract, "--show").output


def test_a_view_without_a_column_is_named_with_what_to_do(filled: Extract) -> None:
    filled.execute("CREATE VIEW usage_short AS SELECT id, organization_id, timestamp FROM usage_events")
    refused = run(filled, "--table", "usage_short")
    assert refused.exit_code == 1
    assert "The table does not fit: column" in refused.output
    assert "usage-explore doctor" in refused.output


def test_it_creates_shows_verifies_repairs_and_drops(filled: Extract) -> None:
    shown = run(filled, "--show").output
    assert shown.count("none; usage-explore extract makes it") == 2
    created = run(filled)
    assert created.exit_code == 0, created.output
    assert f"Organization {ORGANIZATION}: 50 events ingested before" in created.output
    assert f"Organization {generated_events.NEIGHBOUR}: 1 event ingested before" in created.output
    filled.check()
    shown = run(filled, "--show", "--organization-id", str(ORGANIZATION)).output
    assert "50 events in 1 segment" in shown
    assert "columns of dimensions: model" in shown
    assert str(filled.folder) in shown
    assert run(filled, "--verify").exit_code == 0
    filled.execute("UPDATE usage_events SET quantity = 2.5 WHERE organization_id = %s", ORGANIZATION)
    differing = run(filled, "--verify")
    assert differing.exit_code == 1
    assert "1 event, quantity 2.5; in the extract: 1 event, quantity 1" in differing.output
    assert "50 hours compared, 50 differ." in differing.output
    assert run(filled, "--verify", "--repair").exit_code == 1
    assert "50 hours compared, no difference." in run(filled, "--verify").output
    filled.check()
    assert run(filled, "--drop").output.count("removed") == 2
    assert run(filled, "--drop").output.count("there was no extract") == 2


def test_a_dropped_extract_leaves_what_was_removed_and_says_how_to_forget_it(filled: Extract) -> None:
    run(filled)
    filled.execute("DELETE FROM usage_events WHERE timestamp < %s", NOON - 364 * DAY)
    run(filled)
    before = f"events before {NOON - 364 * DAY:%Y-%m-%d %H:%M} UTC are no longer in the table"
    own = ["--organization-id", str(ORGANIZATION)]
    file = filled.folder / "removed.json"
    for there in ("removed", "there was no extract"):
        said = run(filled, "--drop", *own).output
        assert f": {there}" in said
        assert f"Queries still say that {before}; to forget it, delete {file}" in said
    assert before in run(filled, *own).output
    file.write_bytes(b"{")
    assert "  damaged: removed.json\n" in run(filled, "--show", *own).output
    assert "anew" not in run(filled, "--show", *own).output
    run(filled, "--drop", *own)
    file.write_bytes(b"{")
    taken = "damaged, so all events before the first one are taken for removed: removed.json"
    assert taken in run(filled, "--show", *own).output
    assert "events were removed from the table; to forget it, delete" in run(filled, "--drop", *own).output
    assert f"built anew: {taken}." in run(filled, *own).output
    shown = run(filled, "--show", *own).output
    assert "are taken for removed, perhaps also later ones were: removed.json was damaged" in shown
    run(filled, "--drop", *own)
    file.unlink()
    assert "Queries still say" not in run(filled, "--drop", *own).output
    run(filled, *own)
    shown = run(filled, "--show", *own).output
    assert "removed" not in shown
    assert "no longer in the table" not in shown


@pytest.mark.parametrize("harm", [None, "damaged", "missing"])
def test_a_drop_looks_for_events_that_were_removed_since_the_last_refresh(filled: Extract, harm: str | None) -> None:
    """No later extract could find them out."""
    run(filled)
    filled.execute("DELETE FROM usage_events WHERE timestamp < %s", NOON - 364 * DAY)
    if harm:
        path = filled.folder / filled.manifest.segments[0].rows.name
        path.unlink() if harm == "missing" else path.write_bytes(b"PAR1")
    said = run(filled, "--drop", "--organization-id", str(ORGANIZATION))
    assert said.exit_code == 0, said.output
    before = f"events before {NOON - 364 * DAY:%Y-%m-%d %H:%M} UTC are no longer in the table"
    assert (before in said.output) == (harm is None)
    assert ("removed since its last refresh could not be found out: it was damaged" in said.output) == (
        harm is not None
    )
    run(filled)
    assert (before in run(filled, "--show").output) == (harm is None)


@pytest.mark.parametrize(
    "harm",
    [
        "flip",
        pytest.param("cut", marks=pytest.mark.thorough),
        "remove",
        pytest.param("empty manifest", marks=pytest.mark.thorough),
        "cut manifest",
    ],
)
def test_a_damaged_extract_is_called_damaged(filled: Extract, harm: str) -> None:
    """By --show, --verify, answers and `doctor`; a refresh and --verify --repair make it good."""
    for repairing in ([], ["--verify", "--repair"]):
        assert run(filled).exit_code == 0
        path = filled.folder / ("manifest.json" if "manifest" in harm else filled.manifest.segments[0].rows.name)
        content = bytearray(path.read_bytes())
        if harm == "remove":
            path.unlink()
        elif harm == "flip":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        else:
            path.write_bytes(content[: 0 if harm == "empty manifest" else len(content) // 2])
        own = ["--organization-id", str(ORGANIZATION)]
        shown = run(filled, "--show", *own).output
        assert re.search(rf"damaged.*: {path.name}; .*anew", shown), shown
        assert "none; usage-explore extract makes it" not in shown
        settings = Settings(home=filled.home, organization_id=ORGANIZATION, database_url=filled.url)
        with opened(settings) as store:
            answer = store.aggregate(AggregateQuery(since=NOON - 366 * DAY, until=NOON))
        assert re.search("damaged|missing", answer.served.because or ""), answer.served
        assert answer.total == 50
        doctor = CliRunner().invoke(main, ["doctor", "--database-url", filled.url, "--home", str(filled.home)]).output
        assert re.search(f"damaged.*{path.name}|{path.name}.*damaged", " ".join(doctor.split())), doctor
        verified = run(filled, "--verify", *own)
        assert verified.exit_code == 1
        assert f"damaged or missing, so a refresh builds it anew: {path.name}" in verified.output
        run(filled, *repairing)
        assert run(filled).exit_code == 0
        filled.check()
        assert "anew" not in run(filled, "--show").output
        assert run(filled, "--verify").exit_code == 0


def test_what_does_not_fit_is_said(filled: Extract) -> None:
    filled.execute("UPDATE usage_events SET quantity = 'NaN' WHERE organization_id = %s", ORGANIZATION)
    result = run(filled)
    assert result.exit_code == 0
    assert "quantity is NaN" in result.output
    assert "queries read the events: quantity is NaN" in run(filled, "--show").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--show", "--drop"], "give one of them"),
        (["--repair"], "give --verify too"),
        (["--every", "1x"], "is not a span"),
        (["--organization-id", "0a0a0a0a-0000-4000-8000-00000000ffff"], "`usage-explore organizations` lists them"),
    ],
)
def test_wrong_options_are_errors(filled: Extract, arguments: list[str], words: str) -> None:
    result = run(filled, *arguments)
    assert result.exit_code != 0
    assert words in result.output
    assert not list(filled.home.glob("extract/*/*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_exit_code_of_a_stopped_refresh_is_that_of_the_signal(
    filled: Extract, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("usage_explore.cli.extract._refresh", lambda *_: os.kill(os.getpid(), number))
    try:
        result = run(filled)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 128 + number
    assert "the next run goes on from there" in result.output


def test_every_goes_on_until_it_is_ended(filled: Extract, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "usage_explore", "extract", "--every", "1s", "--database-url", filled.url]
    command += ["--home", str(filled.home), "--organization-id", str(ORGANIZATION)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            eventually(lambda: process.poll() is not None or (filled.folder / "manifest.json").exists())
            eventually(lambda: process.poll() is not None or filled.manifest.rows == 50)
            # behind the watermark: the comparison of the next refresh is about days
            filled.add(event(NOON - 100 * DAY, ingested_at=datetime.now(UTC) - timedelta(hours=1)))
            eventually(lambda: process.poll() is not None or filled.manifest.rows == 51)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, output
    assert "Stopped." in output
    filled.check()


def test_a_role_that_sees_no_organization_is_told(events_database_url: str, tmp_path: Path) -> None:
    """Nothing was printed, and nothing was made."""
    options = ["--database-url", events_database_url, "--home", str(tmp_path)]
    result = CliRunner().invoke(main, ["extract", *options])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("No organization with events is visible to this role")
