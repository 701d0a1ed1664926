"""The rollup's law: whatever happened, it answers what the events answer and what plain Python counts, to the digit."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from rollup.table_histories import DAY, TABLE, Asked, History
from usage_explore.rollup import choose_dimensions, refresh
from usage_explore.rollup.status import verify
from usage_explore.sql import rollup_plan


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rollup_raw_and_oracle_agree(
    events_database_url: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "BY_THE_HOUR", seed * DAY)  # so that hours of ingestion become days
    for limit in ("MOST_HOURLY", "MOST_DAILY", "BUDGET"):  # so that few events are worth keeping
        monkeypatch.setattr(choose_dimensions, limit, Decimal(100))
    summarized: list[rollup_plan.Slots] = []

    def counted(slots: rollup_plan.Slots) -> tuple[rollup_plan.Slots, ...]:
        found = whole(slots)
        summarized.extend(each for each in found if each.dimension.startswith(rollup_plan.SUMMARY))
        return found

    whole = rollup_plan._summarized
    monkeypatch.setattr(rollup_plan, "_summarized", counted)
    history, asked = History(events_database_url, seed, tmp_path), Asked(events_database_url)
    try:
        history.advance()
        history.summarize()
        for _ in range(12):
            history.step()
            for _ in range(6):
                asked.check(history.question(), history.rows)
        while len(history.steps) < 6:
            history.step()
        history.advance()
        history.summarize()
        for _ in range(40):
            asked.check(history.question(), history.rows)
        found = verify(history.connection, TABLE, sample=None)
        assert (found.differing, found.compared) == (0, found.days), found.differences
        assert asked.paths["rollup"] > 0.25 * asked.paths.total(), asked.paths
        assert len(summarized) > 5
    finally:
        asked.close()
        history.close()
