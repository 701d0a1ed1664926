"""Checks of installed packages run like the others; one that is broken says so, and breaks nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from support.plain_events import event, september
from support.query_oracle import Row, utc
from usage_explore import Store
from usage_explore.validation import Check, Validation, report
from usage_explore.validation.plug_ins import GROUP, plug_ins
from usage_explore.validation.registry import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"

HEADER = """
from usage_explore.validation import Bound, Check, Finding, Outcome
from usage_explore.validation.checks.new_usage import statement
def check(name="mine", examine=lambda examination: Outcome(looked_at=1), **more):
    return Check(**{"name": name, "title": "Mine", "means": "Mine.", "parameters": {}, "unit": "events",
                    "statement": statement, "examine": examine} | more)
"""


def install(folder: Path, module: str, code: str, *names: str) -> None:
    """Install a package as pip would: its module, and its metadata with entry points of these names."""
    (folder / f"{module}.py").write_text(code)
    metadata = folder / f"{module}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
    lines = "".join(f"{name} = {module}:CHECK\n" for name in names)
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that are installed."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def found(site: Path) -> list[Check]:
    """The plug-ins of the folder."""
    assert all(point.dist is not None for point in entry_points(group=GROUP))
    return list(plug_ins(CHECKS.values()))


def failure(check: Check) -> str:
    """What a check that cannot be used says."""
    return dict(check.words)["failed"]


def example() -> tuple[str, str]:
    """The check and the entry point of the documentation."""
    code, toml = re.findall(
        r"```(?:python|toml)\n(.*?)```", PAGE.read_text().split("## Your own checks")[1], re.DOTALL
    )[:2]
    return code, toml


def failed_alone(site: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[Validation, str]:
    """The validation in which the installed check `faulty` fails and another one runs, and why it failed."""
    sys.modules.pop("faulty", None)
    (check,) = found(site)
    monkeypatch.setitem(CHECKS, "faulty", check)
    validation = store.validate(september(), checks=["faulty", "duplicates"])
    failed, ran = sorted(validation.results, key=lambda result: result.check.name != "faulty")
    assert failed.failed.startswith("plug-in 'faulty:CHECK' of faulty 1.2: ")
    assert ran.is_clean
    return validation, failed.failed


def test_the_documented_example_is_short_and_names_its_entry_point() -> None:
    code, toml = example()
    assert sum(bool(line) for line in code.splitlines()) == 20
    assert f'[project.entry-points."{GROUP}"]' in toml
    assert 'bursts = "bursts:CHECK"' in toml


def test_the_documented_example_works_in_python_the_command_and_the_report(
    make: Callable[[list[Row]], Store], tmp_path: Path, events_database_url: str
) -> None:
    """In a process of its own, as the checks are found once."""
    store = make([*(event(utc(2026, 9, 9, 12)) for _ in range(40)), event(utc(2026, 9, 10))])
    site = tmp_path / "site"
    site.mkdir()
    install(site, "bursts", example()[0], "bursts")
    (tmp_path / "bounds.toml").write_text("[bursts]\nmax_events = 30\n")
    environment = os.environ | {
        "PYTHONPATH": str(site),
        "USAGE_EXPLORE_DATABASE_URL": events_database_url,
        "USAGE_EXPLORE_ORGANIZATION_ID": str(store.organization_id),
        "USAGE_EXPLORE_HOME": str(tmp_path / "home"),
    }
    window = ["--since", "2026-09-01T00:00:00Z", "--until", "2026-10-01T00:00:00Z"]
    command = [sys.executable, "-c", "from usage_explore.cli.main import main; main()", "validate", *window]
    outputs = ["--json", str(tmp_path / "v.json"), "--report", str(tmp_path / "v.html")]
    ran = subprocess.run(
        [*command, "--check", "bursts", "--bounds", str(tmp_path / "bounds.toml"), "--fail-on", "medium", *outputs],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 3, ran.stderr
    document = json.loads((tmp_path / "v.json").read_text())
    (finding,) = document["findings"]
    assert (finding["check"], finding["events"], finding["severity"]) == ("bursts", 40, "medium")
    assert document["changed_bounds"] == {"bursts.max_events": "30 events, by default 1000"}
    page = (tmp_path / "v.html").read_text()
    assert "check-bursts" in page
    assert "date_trunc" in page


def test_the_page_runs_a_plug_in(site: Path) -> None:
    """The page takes the checks from the registry, which has the plug-ins after the others."""
    install(site, "mine", HEADER + "CHECK = check()", "mine")
    script = (
        "from usage_explore.validation.registry import CHECKS\n"
        "from usage_explore.app.validate.files import CHECKS as page\n"
        "print([*CHECKS][-1], page is CHECKS)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert ran.stdout.split() == ["mine", "True"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_like_this", "cannot be imported: ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("CHEK = 1", "cannot be imported: AttributeError: module 'broken' has no attribute 'CHECK'"),
        ("CHECK = 'a check'", "is 'a check', not a Check; name one in the entry point"),
        (HEADER + "CHECK = check('two words')", "its name 'two words' is no identifier"),
        (HEADER + "CHECK = check('silence')", "its name silence is taken by a check of usage-explore; choose another"),
        (
            HEADER + "CHECK = check(bounds=(Bound('silence', 'x', 1, 'events', 0, 9, 'X.'),))",
            "is no bound of its own; declare Bound('mine', …) once",
        ),
    ],
)  # fmt: skip
def test_a_plug_in_that_cannot_be_used_is_a_check_that_fails(
    site: Path, make: Callable[[list[Row]], Store], code: str, message: str
) -> None:
    install(site, "broken", code, "broken")
    sys.modules.pop("broken", None)
    (check,) = found(site)
    assert message in failure(check)
    assert failure(check).startswith("plug-in 'broken:CHECK' of broken 1.2: ")
    assert check.name == "broken"


def test_names_of_two_packages_do_not_collide(site: Path) -> None:
    install(site, "one", HEADER + "CHECK = check()", "first")
    install(site, "two", HEADER + "CHECK = check()", "mine", "silence")
    first, second, third = found(site)
    assert first.name == "mine"
    assert (second.name, third.name) == ("mine_2", "silence_2")
    assert "its name mine is taken by a check of plug-in 'one:CHECK' of one 1.2" in failure(second)


@pytest.mark.parametrize(
    ("examine", "message"),
    [
        ("lambda examination: {}['x']", "failed: KeyError: 'x'"),
        ("lambda examination: None", "gave None, not an Outcome"),
        ("lambda examination: Outcome(findings=('x',))", "gave 'x', not a Finding with check='faulty'"),
    ],
)
def test_what_a_plug_in_raises_is_its_result(
    site: Path, make: Callable[[list[Row]], Store], monkeypatch: pytest.MonkeyPatch, examine: str, message: str
) -> None:
    statement = "lambda table, period: [][0]"
    install(
        site,
        "faulty",
        HEADER + f"CHECK = check('faulty', {examine}, statement={statement}, parameters=lambda: 1/0)",
        "f",
    )
    store = make([event(utc(2026, 9, 9))])
    validation, failed = failed_alone(site, store, monkeypatch)
    assert message in failed
    page = report.html(store, validation, report.statements(store, validation))
    assert "has no statement: IndexError" in page


def giving(**changed: str) -> str:
    """A check that gives one finding, with these fields changed."""
    right = (
        "check='faulty', severity='low', sentence='S.', since=e.period.span[0], until=e.period.span[1], events=1,"
        " question=e.events_question()"
    )
    more = ", ".join(f"{name}={code}" for name, code in changed.items())
    return f"lambda e: Outcome(findings=(Finding(**(dict({right}) | dict({more}))),), looked_at=1)"


@pytest.mark.parametrize(
    ("examine", "message"),
    [
        ("lambda e: list(e.rows(text('select 1/0')))", "failed: division by zero"),
        ("lambda e: list(e.rows(text('select nope')))", 'failed: column "nope" does not exist'),
        ("lambda e: list(e.rows(text('delete from usage_events')))", "failed: cannot execute DELETE in a read-only"),
        ("lambda e: list(e.rows(text('no statement')))", "failed: syntax error"),
        ("hidden", "failed: current transaction is aborted"),
        ("lambda e: e.rows(None).__next__()", "failed: ObjectNotExecutableError"),
        ("lambda e: e.events_question(limit='x')", "failed: QueryError: limit"),
        ("lambda e: sys.exit(0)", "failed: SystemExit: 0"),
        ("lambda e: Outcome(findings=(1 / n for n in [0]))", "failed: ZeroDivisionError"),
        ("lambda e: Outcome(findings=3)", "gave an Outcome whose findings are 3, not a tuple"),
        ("lambda e: Outcome(looked_at='many')", "gave an Outcome whose looked_at is 'many', not a whole number from 0"),
        ("lambda e: Outcome(note=None)", "gave an Outcome whose note is None, not text"),
        ("lambda e: Outcome(sheet=[1])", "gave an Outcome whose sheet is [1], not a pandas DataFrame"),
        (giving(since="None"), "gave a Finding whose since is None, not a time with a time zone"),
        (giving(since="datetime(2026, 9, 9)"), "whose since is datetime.datetime(2026, 9, 9, 0, 0), not a time with a"),
        (giving(until="e.period.span[0] - timedelta(1)"), "gave a Finding whose until is before its since"),
        (giving(until="datetime.max.replace(tzinfo=UTC)"), "whose until is outside the years 1970 to 2200"),
        (giving(events="None"), "gave a Finding whose events is None, not a whole number from 0"),
        (giving(events="-1"), "gave a Finding whose events is -1, not a whole number from 0"),
        (giving(events="True"), "gave a Finding whose events is True, not a whole number from 0"),
        (giving(severity="'critical'"), "gave a Finding whose severity is 'critical', not high, medium or low"),
        (giving(sentence="None"), "gave a Finding whose sentence is None, not text"),
        (giving(question="'events'"), "gave a Finding whose question is 'events', not an EventQuery or AggregateQuery"),
        (giving(customer_id="'c'"), "gave a Finding whose customer_id is 'c', not a UUID or None"),
        (giving(metric_key="1"), "gave a Finding whose metric_key is 1, not text or None"),
        (giving(quantity="1.5"), "gave a Finding whose quantity is 1.5, not a finite Decimal or None"),
        (giving(quantity="Decimal('NaN')"), "whose quantity is Decimal('NaN'), not a finite Decimal or None"),
        (giving(share="Decimal('NaN')"), "gave a Finding whose share is Decimal('NaN'), not a finite Decimal"),
        (giving(amounts="{'EUR': 1}"), "whose amounts is {'EUR': 1}, not a tuple of (currency, Decimal)"),
        (giving(facts="(('lines', 1),)"), "gave a Finding whose facts is (('lines', 1),), not a tuple of (name, text)"),
    ],
)  # fmt: skip
def test_no_plug_in_ends_the_validation(
    site: Path, make: Callable[[list[Row]], Store], monkeypatch: pytest.MonkeyPatch, examine: str, message: str
) -> None:
    """The database refuses, the process is to end, or the result is no result: the others run, and can be reviewed."""
    further = """
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from sqlalchemy import text
def hidden(e):
    with suppress(Exception):
        list(e.rows(text("select 1/0")))
    return Outcome(looked_at=1)
"""
    install(site, "faulty", f"{HEADER}{further}\nCHECK = check('faulty', {examine})", "f")
    store = make([event(utc(2026, 9, 9))])
    validation, failed = failed_alone(site, store, monkeypatch)
    assert message in failed
    assert store.review(validation).items == ()
    assert validation.frame.empty
    assert json.loads(json.dumps(validation.to_dict()))["checks"][-1]["failed"] == failed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("title=None", "its title is None, not text"),
        ("means=1", "its means is 1, not text"),
        ("unit=None", "its unit is None, not text"),
        ("needs='invoice'", "its needs is 'invoice', not None or one of finalized_at, invoices, preferences,"),
        ("bounds=None", "its bounds is None, not a tuple"),
        ("examine=None", "its examine is None, not a function"),
        ("statement=None", "its statement is None, not a function"),
    ],
)
def test_a_check_with_a_wrong_field_fails(site: Path, fields: str, message: str) -> None:
    install(site, "wrong", f"{HEADER}CHECK = check(**dict({fields}))", "wrong")
    sys.modules.pop("wrong", None)
    (check,) = found(site)
    assert message in failure(check)


def test_a_process_that_a_plug_in_would_end_does_not_pass(
    make: Callable[[list[Row]], Store], tmp_path: Path, events_database_url: str
) -> None:
    store = make([event(utc(2026, 9, 9))])
    site = tmp_path / "site"
    site.mkdir()
    install(site, "ending", f"import sys{HEADER}CHECK = check('ending', lambda e: sys.exit(0))", "ending")
    environment = os.environ | {
        "PYTHONPATH": str(site),
        "USAGE_EXPLORE_DATABASE_URL": events_database_url,
        "USAGE_EXPLORE_ORGANIZATION_ID": str(store.organization_id),
        "USAGE_EXPLORE_HOME": str(tmp_path / "home"),
    }
    window = ["--since", "2026-09-01T00:00:00Z", "--until", "2026-10-01T00:00:00Z", "--check", "ending"]
    ran = subprocess.run(
        [sys.executable, "-c", "from usage_explore.cli.main import main; main()", "validate", *window],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert "plug-in 'ending:CHECK' of ending 1.2: failed: SystemExit: 0" in " ".join(ran.stdout.split())


def test_an_entry_point_without_a_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("lonely", "lonely_module:CHECK", GROUP)
    monkeypatch.setattr("usage_explore.validation.plug_ins.entry_points", lambda group: [point])
    (check,) = plug_ins(())
    assert "plug-in 'lonely_module:CHECK' of an unknown package: cannot be imported" in failure(check)
    assert isinstance(check, Check)
