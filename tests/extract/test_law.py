"""The law: whatever happened, extract, events and plain Python agree on every query, to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract.table_histories import Answers, History
from support.thoroughness import cases, further
from usage_explore.extract import routing, segments, statement, watermark


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_extract_events_and_oracle_agree(
    events_database_url: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MIN_SUMMARY_ROWS", 5)  # so that small segments have summaries
    monkeypatch.setattr(segments, "MIN_KNOWN_ROWS", 2)
    for name in ("MAX_SUMMARY_SHARE", "MAX_HOURS_SHARE", "MAX_CUSTOMERS_SHARE", "MAX_KEPT_SHARE"):
        monkeypatch.setattr(segments, name, 1.0 if seed == 1 else 0.7)
    monkeypatch.setattr(routing, "_MAX_POINTS_IN_PYTHON", {1: 20_000, 2: 10, 3: 200}[seed])  # beyond, DuckDB ranks
    monkeypatch.setattr(statement, "_MANY_EVENTS", {1: 100_000, 2: 0, 3: 20}[seed])  # from which scans are added up
    if seed != 1:  # metric keys are found apart
        monkeypatch.setattr(routing, "_MANY_ROWS", 0)
        monkeypatch.setattr(routing, "_MANY_TIMES", 0)
    history, answers = History(events_database_url, seed, tmp_path), Answers(events_database_url, tmp_path)
    monkeypatch.setattr(watermark, "safe", history.safe)
    try:
        for _ in range(14):
            history.step()
            for _ in (1, 2, 3, *further(4, 5, 6)):
                answers.check(history.query(), history.rows)
        report = history.refresh(history.clock)
        assert not report.manifest.unfit
        for _ in range(cases(60)):
            answers.check(history.query(), history.rows)
        assert answers.refused
        assert answers.paths["extract"] > 0.6 * answers.paths.total(), answers.paths
    finally:
        answers.close()
        history.close()
