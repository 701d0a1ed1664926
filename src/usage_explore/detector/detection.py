"""What the detector found: a value, an expectation, a band and a kind for every point, and the findings among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from usage_explore.detector.ordering import Floats

NOTHING, SPIKE, DROP, SHIFT_UP, SHIFT_DOWN, TOGETHER_UP, TOGETHER_DOWN = range(7)
KINDS = ("nothing", "spike", "drop", "shift_up", "shift_down", "together_up", "together_down")
"""The names of the codes in `Detection.kind`, by code."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One finding: series (its row) and the half-open span of steps it covers, with the words for it.

    `kind` is one of `KINDS`. `value`, `expected`, `low`, `high` and `score` are those of the step farthest outside its
    band; of a shift they are the medians over its first season. `reason` reads on after "the value is": "above the
    band 90–140 learnt from the 8 same days before". `others` are the further series that did the same at the same
    step, told once by the one farthest outside.
    """

    series: int
    start: int
    end: int
    kind: str
    value: float
    expected: float
    low: float
    high: float
    score: float
    reason: str
    others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Detection:
    """The judgement of every point; all arrays are (series, time).

    `expected`, `low`, `high`: float64 in the values' unit, NaN where a point is not judged.
    `score`: float64, how many half bands the value lies from the expectation, signed; beyond ±1 it is outside. NaN
    where not judged.
    `kind`: uint8, see `KINDS`. Each step of a spike or drop carries it, a shift only its first step.
    """

    values: Floats
    expected: Floats
    low: Floats
    high: Floats
    score: Floats
    kind: npt.NDArray[np.uint8]
    found: tuple[Anomaly, ...] = field(repr=False)

    def __iter__(self) -> Iterator[Anomaly]:
        """The findings, by series and start."""
        return iter(self.found)
