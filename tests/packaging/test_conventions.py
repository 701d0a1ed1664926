"""Conventions of the code base that no linter checks; the layers of imports are in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import usage_explore

SOURCE = Path(usage_explore.__file__).parent


def test_the_environment_is_read_in_one_place() -> None:
    readers = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    ]
    assert readers == ["config.py"]


def test_the_public_names_are_few_and_sorted() -> None:
    assert usage_explore.__all__ == sorted(usage_explore.__all__)
    assert len(usage_explore.__all__) <= 14
    assert all(hasattr(usage_explore, name) for name in usage_explore.__all__)


def test_the_server_of_the_app_is_imported_without_the_package_of_charts() -> None:
    """It is a third of the CPU time of a start, and the first page or picture imports it."""
    code = "import sys, usage_explore.cli.app_server; sys.exit('altair' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
