"""The same questions to every engine, interleaved; a time counts when the answer equals the reference's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.answers import difference
from benchmarks.questions import Aggregated, Query, Ranked
from benchmarks.worker import Answer, Worker

Say = Callable[[str], object]


def compare(
    workers: Sequence[Worker], reference: str, questions: Iterable[Query], rounds: int, say: Say
) -> list[dict[str, Any]]:
    """One entry per question: `first` and the fastest of the `warm` runs in ms by engine, and who is `unequal`.

    An engine that ever answered otherwise than the `reference` has no warm time. The first round meets everything cold;
    then each round asks every question of every engine once, taking turns, so that whatever else the machine does
    meets all of them.
    """
    questions = list(questions)
    entries = {question.name: _entry(question) for question in questions}
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}" if number else "first answers")
        for question in questions:
            entry = entries[question.name]
            turn = number % len(workers)
            answers = {worker.name: worker.ask(question) for worker in (*workers[turn:], *workers[:turn])}
            for name, answer in answers.items():
                if wrong := _different(question, answers[reference], answer):
                    entry["unequal"][name] = wrong
                if answer.path:
                    entry["paths"][name] = answer.path
                if number:
                    times.setdefault((question.name, name), []).append(answer.took)
                else:
                    entry["first"][name] = round(answer.took, 2)
    for (question_name, name), milliseconds in times.items():
        if name not in entries[question_name]["unequal"]:
            entries[question_name]["warm"][name] = round(min(milliseconds), 2)
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


def _different(question: Query, expected: Answer, answer: Answer) -> str | None:
    if isinstance(question, Aggregated):
        return difference(expected.answer, answer.answer)
    if isinstance(question, Ranked):
        pairs = ((group, difference(expected.answer[group], answer.answer[group])) for group in question.groups)
        return next((f"{group}: {wrong}" for group, wrong in pairs if wrong), None)
    return None if expected.answer == answer.answer else f"{str(expected.answer)[:80]} and {str(answer.answer)[:80]}"
