"""A command that a signal ends says so, with the exit code of that signal."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_SCRIPT = """
import os, signal, sys, time, click
from usage_explore.cli.options import Group

@click.group(cls=Group)
def main(): pass

@main.command()
def plain():
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
    hidden(signal.SIGTERM)

@main.command()
def hidden_ctrl_c():
    hidden(signal.SIGINT)

@main.command()
def in_import():
    sys.meta_path.insert(0, Finder())
    import colorsys
    print("imported", flush=True)
    time.sleep(60)

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "colorsys":
            os.kill(os.getpid(), signal.SIGTERM)

main()
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [("plain", 143), ("ctrl-c", 130), ("hidden-term", 143), ("hidden-ctrl-c", 130)],
)
def test_a_signal_is_said_and_has_its_code(command: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", _SCRIPT, command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (code, "Interrupted.\n")


def test_a_signal_waits_for_the_end_of_an_import() -> None:
    ended = subprocess.run([sys.executable, "-c", _SCRIPT, "in-import"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "imported\n", "Interrupted.\n")


_EARLY = """
import os, signal, sys
from usage_explore.__main__ import main

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "usage_explore.cli.options":
            os.kill(os.getpid(), int(sys.argv.pop()))

sys.meta_path.insert(0, Finder())
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_command_is_imported_is_said_too(number: signal.Signals) -> None:
    script = [sys.executable, "-c", _EARLY, str(int(number))]
    ended = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (128 + number, "Interrupted.\n")
