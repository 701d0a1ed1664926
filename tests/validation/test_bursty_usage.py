"""Sparse usage in bursts: no clean history of it is high, a runaway client's in the same history is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from usage_explore.validation.anomalies.deviations import deviations, with_sums
from usage_explore.validation.anomalies.incidents import Incident, incidents
from usage_explore.validation.anomalies.series import Block, Floats, grid_of_edges

DAYS, FIRST = 93, 63
"""Days of a history, and its first day of the period that is judged."""

SEEDS = 40
BUSIEST = 12
GRID = grid_of_edges(
    "day", tuple(datetime.fromisoformat("2026-06-30T00:00Z") + timedelta(days=day) for day in range(DAYS + 1)),
    ZoneInfo("UTC"),
)  # fmt: skip


def single_days(draw: np.random.Generator) -> Floats:
    """1 to 12 events on half of the days."""
    return np.where(draw.random(DAYS) < 0.5, draw.integers(1, BUSIEST + 1, DAYS), 0).astype(float)


def runs_of_days(draw: np.random.Generator) -> Floats:
    """3 to 12 events a day for about a week, at random, in a third of the weeks."""
    days: list[float] = []
    while len(days) < DAYS:
        length, is_used = int(draw.geometric(1 / 6)), draw.random() < 0.3
        days += draw.integers(3, BUSIEST + 1, length).tolist() if is_used else [0.0] * length
    return np.array(days[:DAYS], float)


def quiet_and_busy_weeks(draw: np.random.Generator) -> Floats:
    """Up to 12 events a day for 5 to 24 days, then none for as long."""
    days: list[float] = []
    is_used = draw.random() < 0.9
    while len(days) < DAYS:
        length = int(draw.integers(5, 25))
        days += draw.integers(0, BUSIEST + 1, length).tolist() if is_used else [0.0] * length
        is_used = not is_used
    return np.array(days[:DAYS], float)


def histories(
    counts: Callable[[np.random.Generator], Floats], customers: int, *key: int
) -> Iterator[tuple[Floats, Floats]]:
    """Events and heavy-tailed quantities by customer and day."""
    for seed in range(SEEDS):
        draw = np.random.default_rng([seed, *key])
        events = np.array([counts(draw) for _ in range(customers)])
        yield events, np.array([[draw.lognormal(3, 1.8, int(day)).sum() for day in row] for row in events])


def incidents_of(events: Floats, quantities: Floats) -> list[Incident]:
    block = Block(
        tuple(UUID(int=1 + number) for number in range(len(events))),
        ("m",) * len(events),
        {"count": events, "sum_quantity": quantities},
    )
    of_period = int(events[:, FIRST:].sum()), Decimal(str(quantities[:, FIRST:].sum()))
    examination: Any = SimpleNamespace(totals=SimpleNamespace(metrics={"m": of_period}))
    candidates = [one for part in with_sums([block], GRID) for one in deviations(part, GRID, FIRST)]
    return incidents(examination, candidates, list)


@pytest.mark.parametrize(
    ("counts", "customers", "key"),
    [(single_days, 5, (50, 3)), (runs_of_days, 3, (30, 8)), (quiet_and_busy_weeks, 3, (90, 7))],
)
def test_bursts_without_an_incident_are_not_high(
    counts: Callable[[np.random.Generator], Floats], customers: int, key: tuple[int, ...]
) -> None:
    found = [one for history in histories(counts, customers, *key) for one in incidents_of(*history)]
    assert not [one for one in found if one.severity == "high"]


def test_a_runaway_in_such_a_history_is_high() -> None:
    for events, quantities in histories(single_days, 5, 50, 3):
        events[0, 80] += 30 * BUSIEST
        quantities[0, 80] += 30 * BUSIEST * np.exp(3.0)
        assert "high" in {one.severity for one in incidents_of(events, quantities)}
