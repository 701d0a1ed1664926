"""The detector's benchmark in little: planted series of one seed."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_planted_spikes_drops_and_levels_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    outcome = importlib.import_module("benchmarks.planted_series").measure(201)
    assert outcome.precision > 0.96
    assert outcome.recall > 0.96
    assert outcome.shift_precision > 0.9
    assert outcome.shift_recall > 0.85
    assert outcome.holidays_told > 150
