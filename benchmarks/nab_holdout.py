"""The Numenta Anomaly Benchmark with what it is scored on held out: constants chosen on one half, scored on the other.

    python -m benchmarks.nab_holdout --nab NAB

The files, by category and name, go to two halves in turn. Of 100 sets of the stream's weights, its rest and the
threshold, drawn at random from wide ranges (the shipped set is not among them), the one that scores best on one half
is scored on the other, and the reverse; the two together make the score. Standard profile. What each step is worth
comes from that benchmark's own sweeper; adding it up by threshold is done here, and the shipped set's score over all
files shows how near that comes to run.py. Writes benchmarks/results/nab_holdout.json, which `benchmarks.nab` tells.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.nab import DATA, RESULTS, season
from usage_explore.detector import Settings
from usage_explore.detector.judging import judge
from usage_explore.detector.rarity import rarity
from usage_explore.detector.stream import Parts, Weights, called, parts

SETS = 100
MOST = 400  # alarms of a file that are weighed, the strongest
SEED = 7
RESTS = (30, 60, 120, 240)
_FALSE, _MISSED = 0.11, 1.0  # the standard profile's weights of a false alarm and of a missed window
_RANGES = {  # uniform, but for the caps, which are log-uniform
    "band": (0.0, 1.5),
    "band_cap": (1.0, 10.0),
    "season": (0.0, 1.5),
    "step": (0.0, 1.5),
    "step_cap": (1.0, 10.0),
    "shape": (0.0, 1.5),
    "shape_cap": (1.0, 10.0),
    "dearer": (0.0, 0.3),
}


@dataclass(frozen=True, slots=True)
class File:
    """A series: what speaks for an alarm, and by step what one is worth and in which window (-1: none) it lies."""

    found: Parts
    worth: np.ndarray
    window: np.ndarray
    windows: int


def prepare(name: str, data: Path, spans: list[list[str]], sweeper: Any) -> File:
    """Detect on one file, and weigh its steps by the benchmark's sweeper; in its probation a step is worth NaN."""
    frame = pd.read_csv(data / name, parse_dates=["timestamp"])
    values, steps, settings = (
        frame["value"].to_numpy(np.float64)[None],
        season(frame["timestamp"]),
        Settings(causal=True),
    )
    score = judge(values, steps, settings).score
    limits = [(pd.Timestamp(start), pd.Timestamp(end)) for start, end in spans]
    points = sweeper.calcSweepScore(list(frame["timestamp"]), [0.0] * len(frame), limits, name)
    names = [f"{name}|{start}" for start, _ in limits]
    return File(
        parts(values, rarity(values, settings), score, steps, settings),
        np.array([np.nan if point.windowName == "probationary" else point.sweepScore for point in points]),
        np.array([names.index(point.windowName) if point.windowName in names else -1 for point in points]),
        len(spans),
    )


def sums(files: Sequence[File], alarms: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The thresholds, falling, and what the files come to at each: false alarms, windows found and missed."""
    rows = [
        (float(alarm[at]), number, int(file.window[at]), float(file.worth[at]))
        for number, (file, alarm) in enumerate(zip(files, alarms, strict=True))
        for at in _strongest(alarm, file.worth)
    ]
    best: dict[tuple[int, int], float] = {}
    total = -_MISSED * sum(file.windows for file in files)
    thresholds, totals = [np.inf], [total]
    for alarm, number, window, worth in sorted(rows, reverse=True):
        if window < 0:
            total += worth
        else:
            before = best.get((number, window), -_MISSED)
            best[number, window] = max(before, worth)
            total += best[number, window] - before
        if alarm == thresholds[-1]:
            totals[-1] = total
        else:
            thresholds.append(alarm)
            totals.append(total)
    return np.array(thresholds), np.array(totals)


def _strongest(alarm: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """The steps of a file that may be called at all, outside of probation."""
    at = np.flatnonzero((alarm > 0) & ~np.isnan(worth))
    return at[np.argsort(-alarm[at], kind="stable")[:MOST]]


def normal(total: float, windows: int) -> float:
    """As the benchmark normalizes: 0 for silence, 100 for every window found at its start and nothing else."""
    return 100 * (total + _MISSED * windows) / ((1 + _MISSED) * windows)


def draw(chance: np.random.Generator) -> tuple[Weights, int]:
    """A set of constants."""
    drawn = {
        name: float(np.exp(chance.uniform(*np.log(ends))) if name.endswith("_cap") else chance.uniform(*ends))
        for name, ends in _RANGES.items()
    }
    return Weights(**drawn), int(chance.choice(RESTS))


def measure(nab: Path, data: Path) -> dict[str, object]:
    """Choose on one half, score on the other, both ways."""
    sys.path.insert(0, str(nab))
    from nab.sweeper import Sweeper  # type: ignore[import-not-found]

    sweeper = Sweeper(0.15, {"tpWeight": 1.0, "fpWeight": _FALSE, "fnWeight": _MISSED})
    spans = json.loads((data / "labels" / "combined_windows.json").read_text())
    files = [prepare(name, data / "data", spans[name], sweeper) for name in sorted(spans)]
    halves = [list(range(first, len(files), 2)) for first in (0, 1)]
    chance = np.random.default_rng(SEED)
    sets = [(Weights(), Settings().rest), *(draw(chance) for _ in range(SETS))]
    curves = []
    for weights, rest in sets:
        settings = replace(Settings(causal=True), rest=rest)
        alarms = [called(file.found, settings, weights)[0] for file in files]
        curves.append([sums([files[at] for at in half], [alarms[at] for at in half]) for half in halves])
        if len(curves) == 1:
            shipped = float(sums(files, alarms)[1].max())
    windows = [sum(files[at].windows for at in half) for half in halves]
    held_out, shipped_held_out, chosen = 0.0, 0.0, []
    for learnt, kept in ((0, 1), (1, 0)):
        best = max(range(1, len(sets)), key=lambda one: curves[one][learnt][1].max())
        total = _applied(curves[best], learnt, kept)
        held_out += total
        shipped_held_out += _applied(curves[0], learnt, kept)
        chosen.append(
            {
                "files": len(halves[learnt]),
                "windows": windows[learnt],
                "score": round(normal(float(curves[best][learnt][1].max()), windows[learnt]), 2),
                "held_out": round(normal(total, windows[kept]), 2),
                "weights": {name: round(value, 3) for name, value in asdict(sets[best][0]).items()},
                "rest": sets[best][1],
            }
        )
    return {
        "command": "python -m benchmarks.nab_holdout --nab NAB",
        "sets": SETS,
        "held_out": round(normal(held_out, sum(windows)), 2),
        "shipped_threshold_held_out": round(normal(shipped_held_out, sum(windows)), 2),
        "shipped_all": round(normal(shipped, sum(windows)), 2),
        "halves": chosen,
    }


def _applied(curves: Sequence[tuple[np.ndarray, np.ndarray]], learnt: int, kept: int) -> float:
    """What one half comes to at the threshold that is best on the other."""
    thresholds, totals = curves[learnt]
    threshold = thresholds[int(np.argmax(totals))]
    others, came_to = curves[kept]
    return float(came_to[np.flatnonzero(others >= threshold)[-1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--nab", type=Path, required=True, help="a checkout of the benchmark's repository")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with its data and labels")
    asked = parser.parse_args()
    found = measure(asked.nab.resolve(), asked.data.resolve())
    (RESULTS / "nab_holdout.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
