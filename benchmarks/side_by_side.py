"""The same questions to every engine, interleaved; a time counts when the answer equals the plain statement's."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.answers import difference
from benchmarks.questions import Aggregated, Query
from benchmarks.worker import Told, Worker

Say = Callable[[str], object]


def compare(
    workers: Sequence[Worker], reference: str, questions: Iterable[Query], rounds: int, say: Say
) -> list[dict[str, Any]]:
    """One entry per question: `first` and the median of the `warm` runs in ms by engine, and who is `unequal`.

    An engine that ever answered otherwise than the `reference` has no warm time. The first round meets everything cold;
    then each round asks every question of every engine once, taking turns, so that whatever else the machine does
    meets all of them.
    """
    asked = list(questions)
    entries = {question.name: _entry(question) for question in asked}
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}" if number else "first answers")
        for question in asked:
            entry = entries[question.name]
            turn = number % len(workers)
            told = {worker.name: worker.ask(question) for worker in (*workers[turn:], *workers[:turn])}
            for name, each in told.items():
                if wrong := _different(question, told[reference], each):
                    entry["unequal"][name] = wrong
                if each.path:
                    entry["paths"][name] = each.path
                if number:
                    times.setdefault((question.name, name), []).append(each.took)
                else:
                    entry["first"][name] = round(each.took, 2)
    for (question_name, name), found in times.items():
        if name not in entries[question_name]["unequal"]:
            entries[question_name]["warm"][name] = round(statistics.median(found), 2)
    return list(entries.values())


def _entry(question: Query) -> dict[str, Any]:
    return {
        "name": question.name,
        "words": question.words,
        "kind": type(question).__name__.lower(),
        "first": {},
        "warm": {},
        "unequal": {},
        "paths": {},
    }


def _different(question: Query, expected: Told, told: Told) -> str | None:
    if isinstance(question, Aggregated):
        return difference(expected.answer, told.answer)
    return None if expected.answer == told.answer else f"{str(expected.answer)[:80]} and {str(told.answer)[:80]}"
