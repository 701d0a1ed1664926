"""The generator of histories: the same for a seed, and its truth is what its events have."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark_modules(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    monkeypatch.syspath_prepend(str(ROOT))
    names = ("histories", "incidents", "planted_histories")
    histories, incidents, planted = (importlib.import_module(f"benchmarks.{name}") for name in names)
    return histories, incidents, planted


def test_a_seed_makes_the_same_incidents(benchmark_modules: tuple[Any, Any, Any]) -> None:
    _, incidents, planted = benchmark_modules
    once, again = ([(name, made.incidents) for name, made in planted.planted_histories(7)] for _ in range(2))
    assert once == again
    kinds = {one.kind for name, found in once for one in found}
    assert kinds <= set(incidents.KINDS)
    assert len(kinds) >= 10


@pytest.mark.parametrize("kind", ["outage", "lost_hours", "unit", "duplicates", "future", "no_price"])
def test_the_truth_is_what_the_events_have(benchmark_modules: tuple[Any, Any, Any], kind: str) -> None:
    histories, incidents, _ = benchmark_modules
    made, clean = histories.history("medium", 5), histories.history("medium", 5)
    incidents.plant(made, [kind])
    (incident,) = made.incidents
    since, until = histories.micros(incident.since), histories.micros(incident.until)

    def inside(history: Any) -> Any:
        e = history.events
        rows = (e.timestamp >= since) & (e.timestamp < until)
        if incident.customers is not None:
            (number,) = (one for one in range(history.customers) if history.customer_id(one) == incident.customers[0])
            metrics = [histories.METRICS.index(metric) for metric in incident.metrics]
            rows &= (e.customer == number) & np.isin(e.metric, metrics)
        return e.take(rows)

    events, before = inside(made), inside(clean)
    assert histories.SINCE <= incident.since < incident.until <= histories.UNTIL
    if kind in ("outage", "lost_hours"):
        assert (len(events), len(before)) == (0, incident.events)
    elif kind == "unit":
        assert np.count_nonzero(events.quantity != before.quantity) == incident.events
    elif kind == "duplicates":
        assert len(events) - len(np.unique(events.key)) == incident.events
    elif kind == "future":
        assert np.count_nonzero(events.timestamp > events.ingested) == incident.events
    else:
        assert np.count_nonzero(~events.priced) == incident.events
