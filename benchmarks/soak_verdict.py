"""What the soak found, in numbers, and whether that is good."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from soak_log import Asked, Log
from soak_watch import Look

JUDGED_FROM = 5
"""Minutes that a soak must last for its memory to be judged: caches fill and pools open first."""


@dataclass(frozen=True)
class Bound:
    """How much a number's floor may grow after the second quarter: a share of it or a step, whichever is larger."""

    name: str
    words: str
    share: float
    step: float


FLOOR = 30
"""Seconds of which the lowest value counts: what stays when what was in work is gone."""

BOUNDS = (
    Bound("app_uss", "app and API, memory (MiB)", 0.10, 32),
    Bound("postgres_private", "PostgreSQL, private memory (MiB)", 0.10, 32),
    Bound("app_threads", "app and API, threads", 0.10, 5),
    Bound("app_files", "app and API, file handles", 0.10, 10),
    Bound("connections", "connections to PostgreSQL", 0.10, 4),
)


def latencies(asked: list[Asked]) -> list[dict[str, Any]]:
    """For every kind of request how many there were and how long they took, in milliseconds, the last with its end."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for one in asked:
        found[one.kind].append(one.seconds * 1000)
    return [
        {
            "kind": kind,
            "requests": len(times),
            **{f"p{share}_ms": round(float(np.percentile(times, share)), 1) for share in (50, 95, 99)},
            "max_ms": round(max(times), 1),
        }
        for kind, times in sorted(found.items())
    ]


def growths(looks: list[Look]) -> list[dict[str, Any]]:
    """For every bound how much the floor grows from the second quarter of the time to the last, and how much it may.

    The first quarter is warming up. A quarter's floor is the median of its slices' lowest values: what comes and goes
    with the load moves a fitted line by as much as a leak would, a median hardly.
    """
    quarters = [_slices(list(part)) for part in np.array_split(np.array(looks, dtype=object), 4)]
    if min(map(len, quarters)) < 2:
        return []
    found = []
    for bound in BOUNDS:
        floors = [_floor(slices, bound.name) for slices in quarters]
        found.append(
            {
                "what": bound.words,
                "quarters": [round(floor, 1) for floor in floors],
                "max": round(max(float(getattr(look, bound.name)) for look in looks), 1),
                "growth": round(floors[3] - floors[1], 2),
                "allowed": round(max(bound.share * floors[1], bound.step), 2),
            }
        )
    return found


def _slices(looks: list[Look]) -> list[list[Look]]:
    found: defaultdict[int, list[Look]] = defaultdict(list)
    for look in looks:
        found[int(look.at // FLOOR)].append(look)
    return list(found.values())


def _floor(slices: list[list[Look]], name: str) -> float:
    return float(np.median([min(float(getattr(look, name)) for look in each) for each in slices]))


def faults(log: Log, looks: list[Look], minutes: float, said: str, lost: list[str]) -> list[str]:
    """Everything that is not as it should be, in words; nothing where all is well."""
    found = [f"unexpected: {what} ({number} times)" for what, number in log.errors.items()]
    found += [f"broken: {what} ({number} times)" for what, number in log.broken.items()]
    found += lost
    if log.busy:
        found.append(f"busy: {log.busy} answers were 503")
    if minutes >= JUDGED_FROM:
        for each in growths(looks):
            if each["growth"] > each["allowed"]:
                found.append(
                    f"grows: {each['what']} by {each['growth']} since the second quarter, above {each['allowed']}"
                )
    for word in ("Traceback", "not foreseen", '"level": "error"'):
        if word in said:
            found.append(f"the server's log holds {word!r}: {said[said.index(word) :][:500]}")
    return found
