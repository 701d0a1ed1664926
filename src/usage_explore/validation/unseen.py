"""The open findings of earlier runs of which a later run says nothing, as it was not given their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.records.decisions import Decision
from usage_explore.records.identities import Identity, RecordedFinding, matched
from usage_explore.records.runs import Run
from usage_explore.validation.check import SEVERITIES
from usage_explore.validation.decided import RANK, decided
from usage_explore.validation.file_kinds import lacked_files
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.result import Validation
from usage_explore.validation.usage_sums import joined

Unseen = tuple[tuple[Run, RecordedFinding], ...]
"""Findings that are open and not shown, the gravest first, each with the last run that had the files of its check."""

Files = Mapping[str, Mapping[str, str]]
"""The `name` and `sha256` of each file that a run was given, by argument."""


def of_validation(
    validation: Validation, runs: Sequence[Run], own: Sequence[Identity], decisions: Sequence[Decision], now: datetime
) -> Unseen:
    """The findings of `runs`, newest first, that a validation with the findings `own` does not show."""
    asked = [result.check.name for result in validation.results]
    return _unseen(asked, validation.files, own, runs, decisions, now)


def of_run(run: Run, runs: Sequence[Run], decisions: Sequence[Decision], now: datetime) -> Unseen:
    """The findings of `runs`, newest first, that a kept run does not show."""
    asked = {*CHECKS, *run.checks} - {*run.left_out}
    own = [finding.identity for finding in run.findings if not finding.folded_into]
    return _unseen(asked, run.files, own, runs, decisions, now)


def counts(unseen: Unseen) -> Mapping[str, int]:
    """The number of findings of each severity."""
    return Counter(finding.severity for _, finding in unseen)


def _unseen(
    asked: Iterable[str],
    files: Files,
    own: Sequence[Identity],
    runs: Sequence[Run],
    decisions: Sequence[Decision],
    now: datetime,
) -> Unseen:
    """See `Review`: of the checks `asked` for, given `files`, which found `own`.

    Nor does a later run without them: a finding stays until its check is given the same files again.
    """
    unseen: list[tuple[Run, RecordedFinding]] = []
    read: dict[str, list[Files]] = {check: [files] for check in asked}
    known = [*own]
    for run in runs:
        checks = {
            check
            for check in run.checks
            if check in read and all(lacked_files(check, run.files, files) for files in read[check])
        }
        for check in checks:
            read[check].append(run.files)
        theirs = decided([one for one in run.findings if one.identity.check in checks], decisions, now)
        found = [item.finding.identity for item in theirs]
        shown = set(matched(known, found).values())
        unseen += [
            (run, item.finding) for index, item in enumerate(theirs) if index not in shown and item.settled is None
        ]
        known += found
    return tuple(sorted(unseen, key=lambda pair: (RANK.get(pair[1].severity, 0), -pair[1].events)))


def is_grave(unseen: Unseen) -> bool:
    """Whether one of the findings is high or medium."""
    return any(finding.severity in ("high", "medium") for _, finding in unseen)


def sentence(unseen: Unseen, given: Files, zone: ZoneInfo) -> str:
    """How many findings are open and not shown without the files that were not `given`.

    `3 high, 1 low open findings cannot be shown without book.csv: the run by ana, 5 Nov 2026 14:30, found them.`
    """
    numbers = counts(unseen)
    runs = {run.id: run for run, _ in unseen}.values()
    files = {
        run.files[argument]["sha256"]: run.files[argument]["name"]
        for run, finding in unseen
        for argument in lacked_files(finding.identity.check, run.files, given)
    }
    minutes = ((run.author, formatting.minute(run.made_at.astimezone(zone))) for run in runs)
    who = [f"{formatting.data_value(author)}, {minute}" for author, minute in dict.fromkeys(minutes)]
    found = ", ".join(f"{numbers[severity]:,} {severity}" for severity in SEVERITIES if numbers[severity])
    noun, them = ("finding", "it") if len(unseen) == 1 else ("findings", "them")
    without = joined([formatting.data_value(name) for name in files.values()])
    return f"{found} open {noun} cannot be shown without {without}: the run by {joined(who)}, found {them}."
