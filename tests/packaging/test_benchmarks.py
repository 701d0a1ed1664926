"""The benchmark's harness over few rows: every engine on PostgreSQL answers alike, and a report is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_a_small_run_compares_every_answer(home: Path, tmp_path: Path) -> None:
    given = {
        "rows": "3000",
        "rounds": "1",
        "engines": "duckdb-tuned",
        "only": "extract,questions,tail,pages,pickers,export",
        "folder": str(home),
        "results": str(tmp_path / "results"),
    }
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((tmp_path / "results" / "bench.json").read_text())["runs"]
    assert not run["skipped"]
    asked = run["questions"] + run["tail"] + run["pages"] + run["pickers"]
    assert {entry["name"] for entry in asked} > {"Q1", "Q13", "Q5p", "L", "P1", "V4"}
    assert [entry["unequal"] for entry in asked] == [{}] * len(asked)
    assert all(entry["warm"] for entry in asked)
    assert {entry["paths"]["usage-explore"] for entry in run["questions"]} == {"extract"}
    assert all("DuckDB, tuned" in entry["warm"] for entry in run["questions"])
    assert run["extract"]["events"] == pytest.approx(2400, rel=0.1)
    assert run["export"]["csv"]["events"] == run["export"]["parquet"]["events"]
    assert "| Q1 |" in (tmp_path / "results" / "bench.md").read_text()
    assert (tmp_path / "results" / "bench.svg").read_bytes().startswith(b"<svg")
