"""The documents and docstrings are checked: their Python, requests and commands are run on the demo, links resolve."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import shlex
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.exceptions import Exit

import usage_explore
from support.api_server import asking
from support.demo_database import ACME
from usage_explore import AggregateQuery, Period, Store, charts, connect
from usage_explore.cli.main import main
from usage_explore.config import Settings
from usage_explore.demo import files as demo_files
from usage_explore.records import places
from usage_explore.validation import Check, Validation

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
MAX_README_LINES = 150
IN_DEMO_DATA = {'since="-30d/d"': 'since="2026-09-01"', 'window="last_month"': 'since="2026-09-01", until="2026-10-01"'}
"""Relative windows of the documents, and the same in the demo data, which ends in the past."""
EXAMPLES = [
    pytest.param(".".join(path.relative_to(SOURCE).with_suffix("").parts), examples, id=examples[0].source.strip())
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>>" in path.read_text()  # most files have none, and parsing them takes half a second
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    if (examples := doctest.DocTestParser().get_examples(ast.get_docstring(node) or ""))
]
"""The examples of each docstring with its module."""


def documents(*, having: str = "") -> pytest.MarkDecorator:
    """A test for each document, or for each that has a text."""
    chosen = [path for path in DOCUMENTS if having in path.read_text()]
    return pytest.mark.parametrize("document", chosen, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def prose(document: Path) -> str:
    """The text without blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def store(demo_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """The store that `connect()` gives in these examples, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USAGE_EXPLORE_DATABASE_URL", demo_url)
    monkeypatch.setenv("USAGE_EXPLORE_ORGANIZATION_ID", ACME)
    # views are saved in the folder, as by a role that only reads: the demo's database never changes
    monkeypatch.setenv("USAGE_EXPLORE_HOME", str(tmp_path))
    may_create = "has_schema_privilege(n.oid, 'CREATE')"
    assert may_create in places._STATE
    monkeypatch.setattr(places, "_STATE", places._STATE.replace(may_create, "false"))
    with connect() as opened:
        yield opened


@pytest.fixture(scope="module")
def validation(demo_url: str) -> Iterator[Validation]:
    """A month of the demo, validated once for all examples."""
    with connect(demo_url, organization_id=ACME) as opened:
        yield opened.validate(Period(since="2026-09-01", until="2026-10-01"))


@documents(having="```python")
def test_the_python_of_a_document_runs(document: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a document share their names, as the cells of a notebook do; no setting names the organization."""
    monkeypatch.delenv("USAGE_EXPLORE_ORGANIZATION_ID")
    code = "\n".join(blocks(document, "python"))
    for relative, absolute in IN_DEMO_DATA.items():
        code = code.replace(relative, absolute)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(code, names)
    if "CHECK" in names:  # a check of one's own
        assert isinstance(names["CHECK"], Check)
        return
    assert names["usage"].total > 0
    if "page" in names:
        assert names["page"].events
        assert Path("tokens.parquet").stat().st_size > 1_000
        assert names["validation"].findings
    names["store"].close()


@documents(having="`from usage_explore")
def test_the_imports_in_the_prose_of_a_document_exist(document: Path) -> None:
    statements = re.findall(r"`(from usage_explore[^`]*)`", prose(document))
    assert statements
    for statement in statements:
        names: dict[str, Any] = {}
        exec(statement, names)
        assert any(callable(value) for name, value in names.items() if not name.startswith("__"))


@documents(having="curl ")
def test_the_requests_of_a_document_are_answered(document: Path, store: Store) -> None:
    requests = re.findall(
        r"curl ([^']*)(?:'Accept[^']*' )?'http://127\.0\.0\.1:8501/api(/v1[^']*)'", document.read_text()
    )
    with asking(store) as client:
        for options, url in requests:
            if "-F " in options:
                customer = store.customers()[0].value
                lines = f"customer_id,metric_key,quantity\n{customer},tokens_in,1\n"
                files = {"lines.csv": lines.encode(), "prices.toml": demo_files.price_book().encode()}
                field, name = options.split("-F ")[1].strip().split("=@")
                answer = client.post(url, files={field: (name, files[name])})
                assert answer.status_code == 202, (url, answer.text)
                assert client.delete(answer.headers["location"].removeprefix("/api")).status_code == 204
            else:
                answer = client.get(url)
                assert answer.status_code == 200, (url, answer.text)


@documents(having="```sh")
def test_the_commands_of_a_document_are_understood(document: Path) -> None:
    """Every option exists; the commands themselves have tests of their own."""
    for line in "\n".join(blocks(document, "sh")).replace("\\\n", " ").splitlines():
        command, *arguments = shlex.split(line, comments=True) or [""]
        if command == "usage-explore":
            arguments = ["0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11" if each == "UUID" else each for each in arguments]
            group = main
            while (found := group.commands[arguments[0]]) and hasattr(found, "commands"):  # type: ignore[attr-defined]
                group, arguments = found, arguments[1:]  # type: ignore[assignment]
            with suppress(Exit):  # of an option that prints a list, such as --list-presets
                found.make_context(arguments[0], arguments[1:], parent=main.make_context("usage-explore", ["doctor"]))


def test_the_documents_show_commands_and_requests() -> None:
    """The patterns above find what they look for."""
    commands = [line for path in DOCUMENTS for block in blocks(path, "sh") for line in block.splitlines()]
    assert sum(line.startswith("usage-explore ") for line in commands) > 20
    assert sum("'http://127.0.0.1:8501/api/v1" in line for line in commands) > 5
    assert sum(bool(blocks(path, "python")) for path in DOCUMENTS) >= 2


@documents(having="```toml")
def test_the_toml_of_a_document_can_be_read(document: Path) -> None:
    for block in blocks(document, "toml"):
        assert tomllib.loads(block)


@documents()
def test_the_links_of_a_document_resolve(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(document)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@documents()
def test_the_files_that_a_document_names_exist(document: Path) -> None:
    """In this checkout, or below the package: `query/limits.py`."""
    for name in re.findall(r"`(\.?[a-z_]+/[a-z_/]*(?:\.py|/)?)`", prose(document)):
        assert any((base / name).exists() for base in (ROOT, SOURCE / "usage_explore")), name


def test_the_readme_lists_every_document() -> None:
    listed = {ROOT / target for target in re.findall(r"\]\(([^)#]+)\)", prose(ROOT / "README.md"))}
    assert {*DOCUMENTS} - listed == {ROOT / "README.md"}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES


def test_every_setting_is_documented() -> None:
    table = (ROOT / "docs" / "configuration.md").read_text()
    for name in Settings.model_fields:
        assert f"| `USAGE_EXPLORE_{name.upper()}` |" in table


def test_every_command_is_documented() -> None:
    table = (ROOT / "docs" / "configuration.md").read_text()
    assert sorted(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE)) == sorted(main.commands)


def test_the_documented_layers_are_those_of_the_contract() -> None:
    """The drawing and the table name every package, in the order of the import-linter contract."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    document = ROOT / "docs" / "architecture.md"
    (drawn,) = blocks(document, "text")
    assert drawn.split("\n")[:-1] == layers
    packages = {name for layer in layers for name in layer.split(" | ")}
    assert packages <= set(re.findall(r"^\| `([a-z_]+)` \|", document.read_text(), re.MULTILINE))


@pytest.mark.parametrize(("module", "examples"), EXAMPLES)
def test_the_examples_of_a_docstring_run(
    module: str,
    examples: list[doctest.Example],
    store: Store,
    validation: Validation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that doctest skips, as they need a database, too."""
    answer = store.aggregate(AggregateQuery(since="2026-09-01", until="2026-09-08"))
    customer = store.customers()[0].value
    Path("september.csv").write_text(f"customer_id,metric_key,quantity\n{customer},tokens_in,1\n")
    Path("gateway.csv").write_text("day,metric_key,events\n2026-09-01,tokens_in,1\n")
    Path("prices.toml").write_text('[[prices]]\nmetric_key = "tokens_in"\nunit_amount = "0.1"\ncurrency = "USD"\n')
    names = {**vars(importlib.import_module(module)), **vars(usage_explore)}
    names |= {"store": store, "answer": answer, "charts": charts, "Decimal": Decimal, "validation": validation}
    if any("signoffs()" in example.source for example in examples):
        store.sign_off(validation, by="ana")
    shown: list[object] = []
    monkeypatch.setattr("sys.displayhook", shown.append)
    for example in examples:
        exec(compile(example.source, module, "single"), names)
        if example.want:
            assert repr(shown[-1]) == example.want.strip()
    if names["store"] is not store:
        names["store"].close()
