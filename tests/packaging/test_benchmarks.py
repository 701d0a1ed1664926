"""The benchmark's harness over few rows: every engine on PostgreSQL answers alike, and a report is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_small_run_compares_every_answer(home: Path, tmp_path: Path) -> None:
    given = {
        "rows": "10000",
        "rounds": "1",
        "engines": "",
        "only": "questions,pages,pickers",
        "folder": str(home),
        "results": str(tmp_path / "results"),
    }
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((tmp_path / "results" / "bench.json").read_text())["runs"]
    asked = run["questions"] + run["pages"] + run["pickers"]
    assert {entry["name"] for entry in asked} > {"Q1", "Q11", "Q5p", "P1", "V4"}
    assert [entry["unequal"] for entry in asked] == [{}] * len(asked)
    assert all(entry["warm"] for entry in asked)
    assert "rollup" in {path for entry in asked for path in entry["paths"].values()}
    assert "| Q1 |" in (tmp_path / "results" / "bench.md").read_text()
    assert (tmp_path / "results" / "bench.svg").read_bytes().startswith(b"<svg")
