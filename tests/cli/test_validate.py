"""`usage-explore validate`: what it says and writes, where, and the exit code."""

from __future__ import annotations

import html
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from support import generated_events
from support.known_findings import check, finding
from support.query_oracle import Row
from support.waiting import PATIENCE, eventually
from usage_explore import Store, connect
from usage_explore.cli.main import main
from usage_explore.cli.validate import FOUND
from usage_explore.db import ddl
from usage_explore.errors import NotExact
from usage_explore.query.queries import Period
from usage_explore.validation.check import Outcome

Run = Callable[..., Result]

WINDOW = ("--since", "2026-03-01T00:00:00Z", "--until", "2026-11-10T00:00:00Z")


@pytest.fixture
def run(events_database_url: str, events_connection: ddl.Connection, generated: list[Row]) -> Run:
    """Run the command on the generated rows."""
    generated_events.insert(events_connection, generated[:500])

    def run(*arguments: str) -> Result:
        options = ["--database-url", events_database_url, "--organization-id", str(generated_events.ORGANIZATION)]
        return CliRunner().invoke(main, ["validate", *options, *arguments])

    return run


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Period]:
    """Registers a check that finds one thing of each of two severities; the periods it saw."""
    periods: list[Period] = []
    own = check("own", finding("medium"), finding("low"))

    def examine(examination: object) -> object:
        periods.append(examination.period)  # type: ignore[attr-defined]
        return own.examine(examination)  # type: ignore[arg-type]

    monkeypatch.setattr(
        "usage_explore.validation.registry.CHECKS",
        {"own": replace(own, examine=examine), "invoiced": check("invoiced", needs="invoices")},
    )
    return periods


@pytest.mark.parametrize(("fail_on", "code"), [(None, 0), ("high", 0), ("medium", FOUND), ("low", FOUND), ("never", 0)])
def test_the_exit_code_says_how_grave_it_is(run: Run, seen: list[Period], fail_on: str | None, code: int) -> None:
    result = run(*WINDOW, *(["--fail-on", fail_on] if fail_on else []))
    assert (result.exit_code, result.stderr) == (code, "")
    assert "2 findings: 1 medium, 1 low" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("fail_on", ["high", "never"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotExact("quantities are <no> numbers"), "quantities are <no> numbers"),
        (KeyError("unexpected"), "an unexpected error, KeyError"),
    ],
)
def test_a_check_that_fails_is_no_clean_one(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    unexpected_failures: list[str],
    tmp_path: Path,
    fail_on: str,
    error: Exception,
    reason: str,
) -> None:
    def examine(_: object) -> Outcome:
        raise error

    monkeypatch.setattr(
        "usage_explore.validation.registry.CHECKS",
        {"own": check("own"), "failing": replace(check("failing"), examine=examine)},
    )
    page = tmp_path / "report.html"
    result = run(*WINDOW, "--fail-on", fail_on, "--report", str(page), "--sign-off", "--by", "ana")
    unexpected_failures.clear()
    assert result.exit_code == 1
    assert "Not signed off: 1 check failed; the log says why. Run it again." in result.stderr
    assert "Nothing found by 1 check; 1 check failed" in result.stdout
    assert f"FAILED: {reason}" in " ".join(result.stdout.split())
    written = page.read_text(encoding="utf-8")
    assert f"FAILED: {html.escape(reason)}" in written
    assert "1 check failed" in written


def load(url: str, folder: Path, *times: str) -> None:
    """Load a file of events at these times, without arrival times of its own."""
    lines = [f"{generated_events.CUSTOMERS[0]},calls,1,{time}" for time in times]
    file = folder / "events.csv"
    file.write_text("\n".join(["customer_id,metric_key,quantity,timestamp", *lines]) + "\n", encoding="utf-8")
    given = ["load", str(file), "--database-url", url, "--organization-id", str(generated_events.ORGANIZATION)]
    assert CliRunner().invoke(main, given).exit_code == 0


SEPTEMBER = ("--since", "2026-09-01T00:00:00Z", "--until", "2026-10-01T00:00:00Z")


def test_what_was_just_loaded_is_no_clean_period(
    events_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage_explore.validation.registry.CHECKS", {"own": check("own")})
    load(events_database_url, tmp_path, *(f"2026-09-{day:02}T00:00:00Z" for day in range(1, 13)))
    command = ["validate", "--database-url", events_database_url, *SEPTEMBER]

    page = tmp_path / "report.html"
    result = CliRunner().invoke(main, [*command, "--json", "-", "--report", str(page)])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    words = " ".join(result.stderr.split())
    assert told["totals"]["events"] == 0
    assert told["unexamined"]["events"] == 12
    latest = told["unexamined"]["latest_ingested_at"]
    assert "12 events of the period arrived in the last 5 minutes and are not examined; wait until 20" in words
    assert f"or pass --as-of {latest}." in words
    assert "Nothing was examined: no event of the period is known" in words
    assert "own" in words
    assert "clean" not in words
    assert 'class="verdict high"' in (written := page.read_text(encoding="utf-8"))
    assert "12 events of the period arrived" in written

    result = CliRunner().invoke(main, [*command, "--sign-off", "--by", "ana"])
    assert result.exit_code == 1
    assert "12 events of the period arrived in the last 5 minutes" in " ".join(result.stdout.split())
    assert "Not signed off: nothing of the period was examined." in result.stderr

    result = CliRunner().invoke(main, [*command, "--as-of", latest, "--json", "-"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["totals"]["events"], told["unexamined"], told["as_of"]) == (12, None, latest)


def test_what_arrived_after_a_given_time_is_counted(run: Run, seen: list[Period]) -> None:
    result = run(*WINDOW, "--as-of", "2026-06-03T00:00:00Z", "--json", "-")
    told = json.loads(result.stdout)
    later = told["unexamined"]
    assert (later["events"] > 0, later["settled_at"]) == (True, None)
    whole = json.loads(run(*WINDOW, "--json", "-").stdout)["totals"]["events"]
    assert later["events"] + told["totals"]["events"] == whole
    assert f"{later['events']} events of the period arrived after 2026-06-03 00:00:00 +00:00" in result.stderr


@pytest.mark.parametrize("window", [("--since", "2031-01-01T00:00:00Z", "--until", "2031-02-01T00:00:00Z"), ()])
def test_a_period_without_events_is_not_examined(run: Run, window: tuple[str, ...]) -> None:
    result = run(*window, "--metric-key", "nothing of this name", "--check", "quantities", "--check", "duplicates")
    assert result.exit_code == 1
    assert "Nothing was examined: no event of the period is known" in result.stdout
    assert "clean" not in result.stdout
    assert "not examined;" not in result.stdout


@pytest.mark.parametrize("name", ["reconciliation", "unpriced", "control_totals", "after_finalization"])
def test_checks_without_the_file_that_they_compare_examine_nothing(run: Run, name: str) -> None:
    result = run(*WINDOW, "--check", name)
    assert (result.exit_code, "Nothing found" in result.stdout) == (1, False)
    assert "Nothing was examined: no check had anything to judge" in result.stdout


def test_files_hold_what_was_found(run: Run, seen: list[Period], tmp_path: Path) -> None:
    page, document = tmp_path / "report.html", tmp_path / "report.json"
    page.write_text("the one before")
    result = run(*WINDOW, "--report", str(page), "--json", str(document), "--by", "Alex Example")
    assert result.exit_code == 0
    assert result.stderr == f"Wrote {page}.\nWrote {document}.\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert "Alex Example" in page.read_text(encoding="utf-8")
    told = json.loads(document.read_text(encoding="utf-8"))
    assert [each["severity"] for each in told["findings"]] == ["medium", "low"]
    assert [each["agrees"] for each in told["reconciled"]] == [True, True]
    assert told["totals"]["events"] > 0


def test_json_alone_is_on_stdout(run: Run, seen: list[Period], store: Store) -> None:
    result = run(*WINDOW, "--json", "-")
    assert json.loads(result.stdout)["findings_by_severity"] == {"high": 0, "medium": 1, "low": 1}
    assert "2 findings: 1 medium, 1 low" in result.stderr


def test_the_period_is_asked_as_everywhere(run: Run, seen: list[Period]) -> None:
    customer = str(generated_events.CUSTOMERS[0])
    result = run(
        *WINDOW, "--timezone", "Europe/Berlin", "--customer-id", customer, "--metric-key", r"a\,b", "--metric-key",
        "Other,tokens_in", "--as-of", "2026-11-01T00:00:00Z", "--finalized-at", "2026-10-01T00:00:00Z",
        "--query", "dim:model=large&not:price_key=p1", "--missing", "product_id",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (period,) = seen
    assert period == Period(
        organization_id=generated_events.ORGANIZATION,
        since="2026-03-01T00:00:00Z",
        until="2026-11-10T00:00:00Z",
        timezone="Europe/Berlin",
        customer_id=customer,
        metric_key=["a,b", "Other", "tokens_in"],
        dimensions={"model": "large"},
        exclude={"price_key": "p1"},
        missing="product_id",
        as_of="2026-11-01T00:00:00Z",
        finalized_at="2026-10-01T00:00:00Z",
    )


def test_a_link_asks_the_same_again(run: Run, seen: list[Period]) -> None:
    first = json.loads(run(*WINDOW, "--json", "-", "--metric-key", "Other", "--no-keep").stdout)
    again = json.loads(run("--query", first["url"], "--json", "-").stdout)
    assert seen[0] == seen[1]
    assert {**again, "checks": None} == {**first, "checks": None}


def test_without_a_window_it_is_last_month(run: Run, seen: list[Period]) -> None:
    assert run("--timezone", "Europe/Berlin", "--fail-on", "low").exit_code == FOUND
    (period,) = seen
    since, until = (edge.astimezone(period.zone) for edge in period.span)
    assert (since.day, since.hour, until.day, until.hour) == (1, 0, 1, 0)
    assert (until - since).days in range(27, 32)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--check", "duplicate_keys"], 2, "checks: 'duplicate_keys' is not a check"),
        (["--since", "2026-03-01"], 2, "since: "),
        (["--query", "metrik_key=x"], 2, "metrik_key: unknown parameter, did you mean metric_key?"),
        (["--query", "window=last_month", "--window", "this_month"], 2, "window: is given more than once"),
        (["--query", "http://127.0.0.1:8501/s/0a1b2c3d4e5f6a7b"], 2, "link: is a short link"),
        (["--query", "http://127.0.0.1:8501/events"], 2, "link: has no parameter"),
        (["--report", "report.txt"], 1, "--report: 'report.txt' does not end in .html"),
        (["--json", "report.html"], 1, "--json: 'report.html' does not end in .json"),
        (["--report", "-"], 1, "--report: '-' does not end in .html"),
        (["--json", "/dev/null"], 1, "--json: 'null' does not end in .json"),
        (["--report", "/nowhere/at/all/report.html"], 1, "path: /nowhere/at/all cannot be written to"),
    ],
)
def test_what_cannot_be_is_refused_before_the_checks(
    run: Run, seen: list[Period], arguments: list[str], code: int, said: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout, seen) == (code, "", [])
    assert result.stderr.startswith(f"Error: {said}")


def test_files_that_are_read_or_folders_are_not_written(run: Run, seen: list[Period], tmp_path: Path) -> None:
    folder = tmp_path / "folder.html"
    folder.mkdir()
    assert "'folder.html' is a folder" in run("--report", str(folder)).stderr
    given = tmp_path / "given.json"
    given.write_text("[]")
    said = run("--json", str(given), "--invoices", str(tmp_path / "folder.html" / ".." / "given.json")).stderr
    assert "--json: 'given.json' is a file to read" in said
    assert (given.read_text(), seen) == ("[]", [])


def test_a_database_that_is_away_leaves_no_file(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("the one before")
    away = ["validate", "--database-url", "postgresql://127.0.0.1:1/nothing", "--report", str(page)]
    result = CliRunner().invoke(main, away)
    assert (result.exit_code, result.stdout) == (1, "")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("report.html", "the one before")]


SLOW = """
from dataclasses import replace
from sqlalchemy import func, select
from usage_explore.validation import registry as running
from usage_explore.validation.check import Outcome
from usage_explore.cli.main import main
from support.known_findings import check

def examine(examination):
    list(examination.rows(select(func.pg_sleep(600))))
    return Outcome()

running.CHECKS = {"slow": replace(check("slow"), examine=examine)}
main()
"""


@pytest.fixture
def slow(run: Run, events_database_url: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command in the middle of a statement that takes a minute."""
    command = [
        *(sys.executable, "-c", SLOW, "validate", "--database-url", events_database_url, *WINDOW),
        *("--organization-id", str(generated_events.ORGANIZATION)),
        *("--report", str(tmp_path / "report.html"), "--json", str(tmp_path / "report.json")),
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        # a shell that runs the tests in the background has them ignore Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        yield process
        process.kill()


def sleeping(connection: psycopg.Connection[tuple[int]]) -> int:
    found = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    ).fetchone()
    assert found is not None
    return found[0]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.thorough), signal.SIGTERM])
def test_it_ends_when_asked_to(
    slow: subprocess.Popen[str], events_database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    with psycopg.connect(events_database_url, autocommit=True) as watching:
        eventually(lambda: slow.poll() is not None or sleeping(watching))
        assert slow.poll() is None, slow.communicate()
        assert len(list(tmp_path.iterdir())) == 2  # both files are begun
        slow.send_signal(number)
        output, error = slow.communicate(timeout=PATIENCE)
        assert sleeping(watching) == 0
    assert (slow.returncode, output) == (128 + number, "")
    assert error.endswith("Interrupted.\n")
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_the_store_gives_the_same(run: Run, seen: list[Period], events_database_url: str) -> None:
    told = json.loads(run(*WINDOW, "--as-of", "2026-11-01T00:00:00Z", "--json", "-").stdout)
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as store:
        validation = store.validate(seen[0])
    found = told.pop("findings")
    for name, value in json.loads(json.dumps(validation.to_dict())).items():
        assert name in ("checks", "findings") or told[name] == value
    for mine, value in zip(found, validation.to_dict()["findings"], strict=True):
        assert {name: mine[name] for name in value} == value


def test_the_tolerance_of_invoices_is_an_option(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "lines.csv"
    lines.write_text(f"customer_id,metric_key,quantity\n{generated_events.CUSTOMERS[0]},unknown,0.02\n", "utf-8")
    period = (*WINDOW, "--check", "reconciliation", "--customer-id", str(generated_events.CUSTOMERS[0]))
    statuses = {}
    for tolerance in (None, "0.019", "0.02", "2e-2"):
        given = () if tolerance is None else ("--tolerance", tolerance)
        result = run(*period, "--metric-key", "unknown", "--invoices", str(lines), "--json", "-", *given)
        (examined,) = json.loads(result.stdout)["checks"]
        statuses[tolerance] = examined["findings"]
    assert statuses == {None: 1, "0.019": 1, "0.02": 0, "2e-2": 0}
    for tolerance, reason in (
        ("-1", "tolerance: is negative"),
        ("", "tolerance: '' is not a decimal number"),
        ("1,5", "tolerance: '1,5' has a comma"),
        ("NaN", "tolerance: 'NaN' is not finite"),
        ("1e1000", "tolerance: '1e1000' has more than 1,000 digits before its decimal point"),
    ):
        result = run(*period, "--invoices", str(lines), f"--tolerance={tolerance}")
        assert (result.exit_code, reason in result.stderr) == (2, True), result.stderr
    result = run(*period, "--tolerance", "1")
    assert (result.exit_code, "--tolerance: is for invoice lines" in result.stderr) == (1, True)


def test_invoices_of_what_was_just_loaded_are_not_too_much(events_database_url: str, tmp_path: Path) -> None:
    """Each line was a high finding: "invoiced … but has no usage of it"."""
    load(events_database_url, tmp_path, *(f"2026-09-{day:02}T00:00:00Z" for day in range(1, 13)))
    lines = tmp_path / "invoices.csv"
    lines.write_text("customer_id,metric_key,quantity\na,calls,12\n")
    command = ["validate", "--database-url", events_database_url, *SEPTEMBER, "--invoices", str(lines), "--json", "-"]
    result = CliRunner().invoke(main, command)
    told = json.loads(result.stdout)
    assert (result.exit_code, told["findings"], told["totals"]["events"]) == (1, [], 0)
    (waits,) = (check for check in told["checks"] if check["check"] == "reconciliation")
    assert waits["skipped"] == "no event of the period is examined yet"


@pytest.mark.parametrize(
    ("check", "option", "content"),
    [
        ("reconciliation", "--invoices", "customer_id,metric_key,quantity\na,calls,12\n"),
        ("control_totals", "--control", "day,metric_key,events\n2026-09-01,calls,1\n2026-09-12,calls,2\n"),
    ],
)
def test_files_wait_until_what_was_loaded_last_has_settled(
    events_database_url: str, tmp_path: Path, check: str, option: str, content: str
) -> None:
    """What settled was compared with lines for all of it: right lines were "1 too much", right totals "missing"."""
    load(events_database_url, tmp_path, *(f"2026-09-{day:02}T00:00:00Z" for day in range(1, 13)))
    with ddl.connect(events_database_url) as connection:
        connection.execute(
            "UPDATE usage_events SET ingested_at = timestamp + interval '1 s' WHERE timestamp > '2026-09-01Z'"
        )
        connection.commit()
    lines = tmp_path / "lines.csv"
    lines.write_text(content)
    command = ["validate", "--database-url", events_database_url, *SEPTEMBER, option, str(lines), "--json", "-"]
    document = json.loads(CliRunner().invoke(main, [*command, "--check", check]).stdout)
    (waits,) = document["checks"]
    assert (document["findings"], document["totals"]["events"]) == ([], 11)
    assert waits["skipped"] == "1 event of the period arrived within the settle time"
    pinned = CliRunner().invoke(main, [*command, "--check", check, "--as-of", "2026-10-02T00:00:00Z"])
    assert json.loads(pinned.stdout)["findings"]  # an answer of its own time waits for nothing


def load_into_two_months(url: str, folder: Path) -> None:
    """Events of August that have settled, and just loaded ones of September."""
    lines = [
        f"{generated_events.CUSTOMERS[0]},calls,1,2026-{month:02}-{day:02}T00:00:00Z,{arrived}"
        for month, arrived in ((8, "2026-09-01T00:00:00Z"), (9, ""))
        for day in range(1, 31)
    ]
    file = folder / "months.csv"
    file.write_text("\n".join(["customer_id,metric_key,quantity,timestamp,ingested_at", *lines]) + "\n")
    given = ["load", str(file), "--database-url", url, "--organization-id", str(generated_events.ORGANIZATION)]
    loaded = CliRunner().invoke(main, given)
    assert loaded.exit_code == 0, loaded.output


@pytest.mark.filterwarnings("always::usage_explore.sql.hints.HintWarning")
def test_the_data_does_not_end_before_what_was_just_loaded(events_database_url: str, tmp_path: Path) -> None:
    """It warned "There are no events from … to …", and its high finding was that the data ends before."""
    load_into_two_months(events_database_url, tmp_path)
    book = tmp_path / "prices.toml"
    book.write_text('[[prices]]\nmetric_key = "calls"\nunit_amount = 1\ncurrency = "USD"\n')
    for command in (["validate", "--json", "-"], ["rate", "--prices", str(book), "--json", "-"]):
        result = CliRunner().invoke(main, [*command, "--database-url", events_database_url, *SEPTEMBER])
        assert (result.exit_code, "There are no events" in result.stderr) == (1, False), result.stderr
        told = json.loads(result.stdout)
        assert told["unexamined"]["events"] == 30
        assert not told.get("findings")
    late = ["--since", "2027-01-01T00:00:00Z", "--until", "2027-02-01T00:00:00Z"]
    result = CliRunner().invoke(main, ["validate", "--database-url", events_database_url, *late])
    assert "There are no events from 2027-01-01" in result.stderr
