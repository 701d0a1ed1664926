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
    """How much a number's floor may grow over the second half: a share of its mean or a step, whichever is larger."""

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
    """For every bound how much the floor grows over the second half, by a linear fit, and how much it may."""
    slices: defaultdict[int, list[Look]] = defaultdict(list)
    for look in looks[len(looks) // 2 :]:
        slices[int(look.at // FLOOR)].append(look)
    if len(slices) < 3:
        return []
    found = []
    for bound in BOUNDS:
        floor = np.array([min(float(getattr(look, bound.name)) for look in each) for each in slices.values()])
        slope = float(np.polyfit(np.arange(len(floor)), floor, 1)[0])
        mean = float(floor.mean())
        found.append(
            {
                "what": bound.words,
                "floor": [round(value, 1) for value in floor.tolist()],
                "mean": round(mean, 1),
                "max": round(max(float(getattr(look, bound.name)) for look in looks), 1),
                "growth": round(slope * (len(floor) - 1), 2),
                "allowed": round(max(bound.share * mean, bound.step), 2),
            }
        )
    return found


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
                found.append(f"grows: {each['what']} by {each['growth']} in the second half, above {each['allowed']}")
    for word in ("Traceback", "not foreseen", '"level": "error"'):
        if word in said:
            found.append(f"the server's log holds {word!r}: {said[said.index(word) :][:500]}")
    return found
