"""A thousand daily series with spikes and drops planted among everything that is none: how many are found?

    python -m benchmarks.planted_series

Writes benchmarks/results/detector.md. The series, 120 days each, ten to a customer:

- level 20 to 1,000,000, log-uniform; weekly pattern: none, weekends at 70 %, at 25 %, or at nothing, equally often
- noise 3 to 15 % of the expectation, normal, or (3 in 20) Student's t with 4 degrees of freedom, scaled to that
  deviation and cut at 5 of them, so that noise alone is never what is planted; a third are
  counts, with Poisson noise on top
- 1 in 5 grows or shrinks steadily, -0.5 to +1 % a day; 3 in 20 change level once, to 30-60 % or 160-300 %
- 1 in 10 is intermittent (used on 10-50 % of days, each use log-normal with sigma 0.4), 1 in 33 all zero, 1 in 50
  constant
- each customer has 1 to 3 holidays, on which all its series fall to 5-50 %; these are to be told as one movement

Planted, in all but the zero series: 0 to 3 spikes or drops of 1 or 2 days, anywhere in the 120 days but at least 5 from
each other, from a holiday and from a change of level. A spike is 2 to 10 times the expectation (log-uniform), a drop 0
to 40 % of it; either is at least 6 standard deviations of that series' own noise on that day (Poisson part included; a
constant count is held to Poisson noise), or it is not planted. Intermittent series get spikes only, 8 to 30 times the
usual use.

A finding of kind spike or drop counts as right when it covers a planted day of that kind; precision is over findings,
recall over plants. Noise that happens to look like a plant counts as wrong. A shift is found when it is told within 3
days of where it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from usage_explore.detector import detect

DAYS = 120
SERIES = 1_000
TOGETHER = 10
LEAST = 6.0
PLAINER = 8.0
TUNED_ON = (11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26, 27, 28)
FRESH = (301, 302, 303, 304, 305, 306, 307, 308)
RESULTS = Path(__file__).parent / "results" / "detector.md"

_WEEKENDS = (1.0, 0.7, 0.25, 0.0)
_APART = 5


@dataclass(frozen=True, slots=True)
class Plant:
    """A spike or drop, or a shift, that was put into a series."""

    series: int
    start: int
    end: int
    kind: str


@dataclass(slots=True)
class Planted:
    """The series, which customer each belongs to, and what was put into them."""

    values: npt.NDArray[np.float64]
    customers: npt.NDArray[np.intp]
    least: float
    plants: list[Plant] = field(default_factory=list)
    shifts: list[Plant] = field(default_factory=list)


def planted(seed: int, least: float = LEAST, series: int = SERIES) -> Planted:
    """The series of one seed, plants at least `least` deviations of noise."""
    chance = np.random.default_rng(seed)
    made = Planted(np.zeros((series, DAYS)), np.arange(series) // TOGETHER, least)
    for customer in range(-(-series // TOGETHER)):
        holidays = chance.choice(DAYS, chance.integers(1, 4), replace=False)
        for row in range(customer * TOGETHER, min(series, (customer + 1) * TOGETHER)):
            _fill(made, row, holidays, chance)
    return made


def _fill(made: Planted, row: int, holidays: npt.NDArray[np.intp], chance: np.random.Generator) -> None:
    kind = chance.random()
    if kind < 0.03:
        return
    level = 10 ** chance.uniform(np.log10(20), 6)
    if kind < 0.05:
        made.values[row] = np.round(level)
        _plant(made, row, made.values[row].copy(), np.sqrt(made.values[row]), holidays, chance)
    elif kind < 0.15:
        _intermittent(made, row, level, chance)
    else:
        _regular(made, row, level, holidays, chance)


def _intermittent(made: Planted, row: int, level: float, chance: np.random.Generator) -> None:
    used = chance.random(DAYS) < chance.uniform(0.1, 0.5)
    made.values[row] = np.round(np.where(used, level * chance.lognormal(0, 0.4, DAYS), 0))
    if chance.random() < 0.5:
        day = int(chance.integers(DAYS))
        made.values[row, day] = np.round(level * 10 ** chance.uniform(np.log10(8), np.log10(30)))
        made.plants.append(Plant(row, day, day + 1, "spike"))


def _regular(
    made: Planted, row: int, level: float, holidays: npt.NDArray[np.intp], chance: np.random.Generator
) -> None:
    days = np.arange(DAYS)
    weekend = _WEEKENDS[chance.integers(len(_WEEKENDS))]
    expected = level * np.where((days + chance.integers(7)) % 7 >= 5, weekend, 1.0)
    if chance.random() < 0.2:
        expected *= (1 + chance.uniform(-0.005, 0.01)) ** days
    edges = list(holidays)
    if chance.random() < 0.15:
        at = int(chance.integers(25, DAYS - 25))
        up = chance.random() < 0.5
        expected[at:] *= chance.uniform(1.6, 3) if up else chance.uniform(0.3, 0.6)
        made.shifts.append(Plant(row, at, DAYS, "shift_up" if up else "shift_down"))
        edges.append(at)
    relative = chance.uniform(0.03, 0.15)
    heavy = chance.random() < 0.15
    noise = np.clip(chance.standard_t(4, DAYS) / np.sqrt(2), -5, 5) if heavy else chance.standard_normal(DAYS)
    counted = chance.random() < 1 / 3
    deviation = np.sqrt((relative * expected) ** 2 + (expected if counted else 0))
    expected_now = expected.copy()
    expected_now[holidays] *= chance.uniform(0.05, 0.5, len(holidays))
    values = np.maximum(expected_now * (1 + relative * noise), 0)
    made.values[row] = chance.poisson(values) if counted else values
    _plant(made, row, expected, deviation, np.array(edges), chance)


def _plant(
    made: Planted,
    row: int,
    expected: npt.NDArray[np.float64],
    deviation: npt.NDArray[np.float64],
    taken: npt.NDArray[np.intp],
    chance: np.random.Generator,
) -> None:
    occupied = list(taken)
    for _ in range(chance.integers(4)):
        start = int(chance.integers(DAYS))
        end = min(DAYS, start + int(chance.choice([1, 1, 1, 2])))
        if any(abs(day - other) < _APART for day in (start, end - 1) for other in occupied):
            continue
        spike = chance.random() < 0.5
        factor = 10 ** chance.uniform(np.log10(2), 1) if spike else chance.uniform(0, 0.4)
        days = slice(start, end)
        if (np.abs(factor - 1) * expected[days] < made.least * deviation[days]).any() or (expected[days] <= 0).any():
            continue
        made.values[row, days] = np.round(made.values[row, days] * factor)
        made.plants.append(Plant(row, start, end, "spike" if spike else "drop"))
        occupied += [start, end - 1]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one seed went: shares between 0 and 1, processor seconds of the detection alone."""

    seed: int
    plants: int
    findings: int
    precision: float
    recall: float
    shifts: int
    shift_precision: float
    shift_recall: float
    holidays_told: int
    seconds: float


def measure(seed: int, least: float = LEAST) -> Outcome:
    """Detect on the series of one seed and compare with what was planted."""
    made = planted(seed, least)
    begun = time.process_time()
    found = detect(made.values, 7, made.customers)
    seconds = time.process_time() - begun
    points = [one for one in found if one.kind in ("spike", "drop")]
    where = {(one.series, day, one.kind) for one in points for day in range(one.start, one.end)}
    truth = {(plant.series, day, plant.kind) for plant in made.plants for day in range(plant.start, plant.end)}
    right = sum(any((one.series, day, one.kind) in truth for day in range(one.start, one.end)) for one in points)
    seen = sum(any((p.series, day, p.kind) in where for day in range(p.start, p.end)) for p in made.plants)
    levels = [one for one in found if one.kind.startswith("shift")]
    near = {(shift.series, shift.start + off, shift.kind) for shift in made.shifts for off in range(-3, 4)}
    placed = {(one.series, one.start + off, one.kind) for one in levels for off in range(-3, 4)}
    return Outcome(
        seed,
        len(made.plants),
        len(points),
        right / max(1, len(points)),
        seen / max(1, len(made.plants)),
        len(made.shifts),
        sum((one.series, one.start, one.kind) in near for one in levels) / max(1, len(levels)),
        sum((shift.series, shift.start, shift.kind) in placed for shift in made.shifts) / max(1, len(made.shifts)),
        sum(one.kind == "together_down" for one in found),
        seconds,
    )


def table(outcomes: list[Outcome]) -> list[str]:
    """The outcomes as a table with their mean."""
    rows = ["| seed | plants | findings | precision | recall | shifts | precision | recall | holidays told | ms |"]
    rows.append("|--:" * 10 + "|")
    rows += [
        f"| {one.seed} | {one.plants} | {one.findings} | {one.precision:.3f} | {one.recall:.3f} | {one.shifts} | "
        f"{one.shift_precision:.3f} | {one.shift_recall:.3f} | {one.holidays_told} | {one.seconds * 1000:.0f} |"
        for one in outcomes
    ]
    names = ("precision", "recall", "shift_precision", "shift_recall")
    p, r, sp, sr = (float(np.mean([getattr(one, name) for one in outcomes])) for name in names)
    least = min(one.seconds for one in outcomes) * 1000
    rows.append(f"| mean | | | **{p:.3f}** | **{r:.3f}** | | {sp:.3f} | {sr:.3f} | | least {least:.0f} |")
    return rows


def main() -> None:
    measure(TUNED_ON[0])
    lines = ["# Planted series", "", "`python -m benchmarks.planted_series`", "", *(__doc__ or "").split("\n")[4:]]
    for name, seeds, least in (
        ("Seeds never tuned on", FRESH, LEAST),
        (f"The same seeds, plants of at least {PLAINER:g} deviations", FRESH, PLAINER),
        ("Seeds tuned on", TUNED_ON, LEAST),
    ):
        lines += [f"## {name}", "", *table([measure(seed, least=least) for seed in seeds]), ""]
    lines.append("Times are processor time of one process for all 1,000 series, findings and their sentences included,")
    lines.append("on a machine that was busy with other work.")
    page = "\n".join(lines) + "\n"
    RESULTS.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
