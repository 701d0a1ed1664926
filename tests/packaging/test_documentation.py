"""What the documents and docstrings show is run: in Python, over HTTP and by the command, on the demo."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import shlex
import warnings
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import usage_explore
from support.api_server import asking
from support.demo_database import ACME
from usage_explore import AggregateQuery, Store, charts, connect
from usage_explore.cli.main import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SOURCE = ROOT / "src"
EXAMPLES = [
    pytest.param(".".join(path.relative_to(SOURCE).with_suffix("").parts), example, id=example.source.strip())
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>>" in path.read_text()  # most files have none, and parsing them takes half a second
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    for example in doctest.DocTestParser().get_examples(ast.get_docstring(node) or "")
]
"""Each example with its module."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def store(demo_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """The store that `connect()` gives in these examples, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USAGE_EXPLORE_DATABASE_URL", demo_url)
    monkeypatch.setenv("USAGE_EXPLORE_ORGANIZATION_ID", ACME)
    with connect() as opened:
        yield opened


def test_the_python_of_the_readme_finds_events(store: Store) -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(code.replace('since="-30d/d"', 'since="2026-09-01"'), names)
    assert names["answer"].total > 0  # type: ignore[attr-defined]
    assert names["page"].events  # type: ignore[attr-defined]
    assert Path("tokens.parquet").stat().st_size > 1_000
    names["store"].close()  # type: ignore[attr-defined]


def test_the_requests_of_the_readme_are_answered(store: Store) -> None:
    urls = re.findall(r"'http://127\.0\.0\.1:8501/api(/v1[^']*)'", README)
    assert len(urls) > 4
    with asking(store) as client:
        for url in urls:
            answer = client.get(url)
            assert answer.status_code == 200, (url, answer.text)


def test_the_commands_of_the_readme_are_understood() -> None:
    """Every option exists; the commands themselves have tests of their own."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    tried = 0
    for line in lines:
        command, *arguments = shlex.split(line, comments=True) or [""]
        if command == "usage-explore" and "ID" not in arguments:
            arguments = ["0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11" if each == "UUID" else each for each in arguments]
            group = main
            while (found := group.commands[arguments[0]]) and hasattr(found, "commands"):  # type: ignore[attr-defined]
                group, arguments = found, arguments[1:]  # type: ignore[assignment]
            found.make_context(arguments[0], arguments[1:], parent=main.make_context("usage-explore", ["doctor"]))
            tried += 1
    assert tried > 8


@pytest.mark.parametrize(("module", "example"), EXAMPLES)
def test_an_example_in_a_docstring_runs(module: str, example: doctest.Example, store: Store) -> None:
    """Those that doctest skips, as they need a database, too."""
    answer = store.aggregate(AggregateQuery(since="2026-09-01", until="2026-09-08"))
    customer = store.customers()[0].value
    Path("september.csv").write_text(f"customer_id,metric_key,quantity\n{customer},tokens_in,1\n")
    names = {**vars(importlib.import_module(module)), **vars(usage_explore)}
    names |= {"store": store, "answer": answer, "charts": charts, "Decimal": Decimal}
    if example.want:
        assert repr(eval(example.source, names)) == example.want.strip()
    else:
        exec(example.source, names)
    if names["store"] is not store:
        names["store"].close()
