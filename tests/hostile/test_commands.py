"""Hostile words in every option and argument of every command: an error in words, never a trace."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import urlencode

import click
import pytest
from click.testing import CliRunner, Result
from streamlit import config

from support import generated_events, hostile_values
from support.database_servers import fresh_database
from support.query_oracle import Row, utc
from support.query_parameters import LONGEST, faults_of
from support.thoroughness import THOROUGH
from usage_explore import EventQuery, demo
from usage_explore.cli import app_server, uvicorn_server
from usage_explore.cli.main import main
from usage_explore.db import ddl

TEXTS = [*hostile_values.WORST[2:], "\udcff", *("x" * 300 + end for end in (".html", ".json", "*"))]
"""What an argument can be: never a NUL."""
SERVERS = ("app", "api")


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = dict(commands(main))


@pytest.fixture(scope="module")
def database(server_url: str, _template: str, generated: list[Row]) -> Iterator[str]:
    """The generated rows in a database of their own, for commands that write."""
    with fresh_database(server_url, template=_template) as url:
        with ddl.connect(url) as connection:
            generated_events.insert(connection, generated)
        yield url


@pytest.fixture
def run(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Run a command deep in an empty folder, on the generated rows; nothing is served and no demo is made."""
    deep = tmp_path / "a/b/c/d"
    deep.mkdir(parents=True)
    config.get_option("server.address")  # Streamlit reads its settings once, from the folder it is in
    monkeypatch.chdir(deep)
    monkeypatch.setattr(app_server, "launch", lambda *_, **__: 0)
    monkeypatch.setattr(uvicorn_server, "run", lambda *_, **__: None)
    nothing = demo.DemoReport(events=0, days=0, first_day=date(2026, 1, 1), until=utc(2026, 1, 2))
    monkeypatch.setattr(demo, "append", lambda *_, **__: nothing)
    monkeypatch.setattr(demo, "create", lambda *_, **__: nothing)
    monkeypatch.setenv("USAGE_EXPLORE_HOME", str(deep / "home"))
    monkeypatch.setenv("USAGE_EXPLORE_DATABASE_URL", database)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code in (0, 1, 2), (arguments, result.output)
        assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)
        assert not result.exit_code or len(result.output) < LONGEST + max(map(len, arguments)), arguments
        for line in result.output.splitlines():
            assert all(letter.isprintable() for letter in line), (arguments, line)
        assert "Traceback" not in result.output
        return result

    return run


@pytest.mark.parametrize("path", list(COMMANDS))
def test_every_option_and_argument(run, path: tuple[str, ...]) -> None:
    for place, parameter in enumerate(COMMANDS[path].params):
        if isinstance(parameter, click.Option) and parameter.is_flag:
            continue
        for text in TEXTS if THOROUGH else TEXTS[place % 2 :: 2]:
            words = [f"{parameter.opts[0]}={text}"] if isinstance(parameter, click.Option) else ["--", text]
            others = [
                more
                for each, more in ((each, _needed(each)) for each in COMMANDS[path].params)
                if each.required and each is not parameter
                for more in more
            ]
            run(*path, *(others if isinstance(parameter, click.Option) else []), *words)


def _needed(parameter: click.Parameter) -> list[str]:
    return ["--name", "x"] if isinstance(parameter, click.Option) else ["file.csv"]


def test_a_question_on_the_command_line_has_the_package_s_faults(run, tmp_path: Path) -> None:
    for text in TEXTS:
        pairs = [("limit", "0"), ("dim:model", text), ("customer_id", text)]
        found = faults_of(EventQuery, pairs)
        result = run("export", str(tmp_path / "x.csv"), "--query", urlencode(pairs, errors="surrogatepass"))
        assert result.exit_code == 2
        if "\udcff" not in text:
            assert all(f"{name}: {message}" in result.output for name, message in found.items())
    assert not (tmp_path / "x.csv").exists()


def test_nothing_was_written(database: str, generated: list[Row]) -> None:
    with ddl.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM usage_events").fetchone() == (len(generated),)
