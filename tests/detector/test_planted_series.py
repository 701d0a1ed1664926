"""The yardsticks in little: planted series of one seed, and one public series, as a stream."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import numpy as np
import pytest

from usage_explore.detector import Settings, detect

ROOT = Path(__file__).parents[2]
TRAFFIC = ROOT.parent / "shared/data/nab/data/realTraffic/speed_7578.csv"


def test_planted_spikes_drops_and_levels_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    outcome = importlib.import_module("benchmarks.planted_series").measure(201)
    assert outcome.precision > 0.96
    assert outcome.recall > 0.96
    assert outcome.shift_precision > 0.9
    assert outcome.shift_recall > 0.85
    assert outcome.holidays_told > 150


def test_a_stream_calls_seldom_and_the_same_whatever_follows() -> None:
    if not TRAFFIC.exists():
        pytest.skip("the public series are not here")
    with TRAFFIC.open() as lines:
        values = np.array([[float(row["value"]) for row in csv.DictReader(lines)]])
    whole, part = (detect(cut, 288, Settings(causal=True)) for cut in (values, values[:, :900]))
    assert np.allclose(whole.alarm[:, :900], part.alarm)
    assert 1 <= np.count_nonzero(whole.alarm >= 1) <= 20
    judged = ~np.isnan(whole.score)
    assert judged.sum() > 900
    assert (whole.low[judged] <= whole.high[judged]).all()
