"""A command that a signal ends says so, with the exit code of that signal."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import os, signal, click
from usage_explore.cli.options import Group, on_sigterm

@click.group(cls=Group)
def main(): pass

@main.command()
def plain():
    os.kill(os.getpid(), signal.SIGTERM)

@main.command()
def as_interrupt():
    with on_sigterm(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)

@main.command()
def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)

def hidden(number):  # as DuckDB does in a statement
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        raise RuntimeError("Query interrupted") from None

@main.command()
def hidden_term():
    with on_sigterm(KeyboardInterrupt):
        hidden(signal.SIGTERM)

@main.command()
def hidden_ctrl_c():
    hidden(signal.SIGINT)

main()
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [("plain", 143), ("as-interrupt", 143), ("ctrl-c", 130), ("hidden-term", 143), ("hidden-ctrl-c", 130)],
)
def test_a_signal_is_said_and_has_its_code(command: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", _SCRIPT, command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (code, "Interrupted.\n")
