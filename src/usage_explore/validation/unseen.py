"""The open findings of earlier runs of which a later run says nothing, as it was not given their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.records.decisions import Decision
from usage_explore.records.identities import Identity, RecordedFinding, matched
from usage_explore.records.runs import Run, filters_of
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
    validation: Validation,
    period: str,
    runs: Sequence[Run],
    own: Sequence[Identity],
    decisions: Sequence[Decision],
    now: datetime,
) -> Unseen:
    """The findings of `runs`, newest first, that a validation with the findings `own` does not show.

    `period` is its `Run.period`. Runs of other periods count, too, see `records.runs.related`.
    """
    asked = [result.check.name for result in validation.results]
    return _unseen(asked, _Reader(validation.files, period, *validation.period.span), own, runs, decisions, now)


def of_run(run: Run, runs: Sequence[Run], decisions: Sequence[Decision], now: datetime) -> Unseen:
    """The findings of `runs`, newest first, that a kept run does not show."""
    asked = {*CHECKS, *run.checks} - {*run.left_out}
    own = [finding.identity for finding in run.findings if not finding.folded_into]
    return _unseen(asked, _reader(run), own, runs, decisions, now)


def counts(unseen: Unseen) -> Mapping[str, int]:
    """The number of findings of each severity."""
    return Counter(finding.severity for _, finding in unseen)


class _Reader(NamedTuple):
    """What was examined, by whom a finding of an earlier run is settled where it is not found again."""

    files: Files
    period: str
    since: datetime
    until: datetime

    def has_examined(self, finding: RecordedFinding, run: Run, own: str) -> bool:
        """Whether it had the files of a run's finding, and its period or the period `own`, or all of its time."""
        identity = finding.identity
        has_time = self.since <= identity.since and identity.until <= self.until
        return not lacked_files(identity.check, run.files, self.files) and (
            self.period in (own, run.period) or has_time
        )


def _reader(run: Run) -> _Reader:
    return _Reader(run.files, run.period, run.since, run.until)


def _unseen(
    asked: Iterable[str],
    own: _Reader,
    shown: Sequence[Identity],
    runs: Sequence[Run],
    decisions: Sequence[Decision],
    now: datetime,
) -> Unseen:
    """See `Review`: of the checks `asked` for by `own`, which found `shown`.

    Nor does a later run without them: a finding stays until its check is given the same files again.
    """
    unseen: list[tuple[Run, RecordedFinding]] = []
    readers: dict[str, list[_Reader]] = {check: [own] for check in asked}
    known = [*shown]
    for run in runs:
        theirs = [
            item
            for item in decided([one for one in run.findings if one.identity.check in readers], decisions, now)
            if _is_about(item.finding.identity, run, own)
            and not any(
                reader.has_examined(item.finding, run, own.period) for reader in readers[item.finding.identity.check]
            )
        ]
        for check in run.checks:
            if check in readers:
                readers[check].append(_reader(run))
        found = [item.finding.identity for item in theirs]
        again = set(matched(known, found).values())
        unseen += [
            (run, item.finding) for index, item in enumerate(theirs) if index not in again and item.settled is None
        ]
        known += found
    return tuple(sorted(unseen, key=lambda pair: (RANK.get(pair[1].severity, 0), -pair[1].events)))


def _is_about(identity: Identity, run: Run, own: _Reader) -> bool:
    """Whether a run's finding is of a time in `own`, and of what `own` is filtered to and the run is not."""
    theirs, filters = filters_of(run.period), filters_of(own.period)
    return run.period == own.period or (
        identity.since < own.until
        and own.since < identity.until
        and all(
            theirs.get(name) == values or getattr(identity, name, None) in values for name, values in filters.items()
        )
    )


def is_grave(unseen: Unseen) -> bool:
    """Whether one of the findings is high or medium."""
    return any(finding.severity in ("high", "medium") for _, finding in unseen)


def sentence(unseen: Unseen, given: Files, period: str, zone: ZoneInfo) -> str:
    """How many findings are open and not shown without the files that were not `given`; `period` is a `Run.period`.

    `3 high, 1 low open findings cannot be shown without book.csv: the run by ana, 5 Nov 2026 14:30, found them.` Of
    another period it is "the run by ana, 5 Nov 2026 14:30, of 1–30 Nov 2026, Europe/Berlin, found them".
    """
    numbers = counts(unseen)
    runs = {run.id: run for run, _ in unseen}.values()
    files = {
        run.files[argument]["sha256"]: run.files[argument]["name"]
        for run, finding in unseen
        for argument in lacked_files(finding.identity.check, run.files, given)
    }
    who = []
    for run in runs:
        words = f"{formatting.data_value(run.author)}, {formatting.minute(run.made_at.astimezone(zone))}"
        who.append(words if run.period == period else f"{words}, of {examined(run, period)}")
    found = ", ".join(f"{numbers[severity]:,} {severity}" for severity in SEVERITIES if numbers[severity])
    noun, them = ("finding", "it") if len(unseen) == 1 else ("findings", "them")
    without = joined([formatting.data_value(name) for name in files.values()])
    by = joined([*dict.fromkeys(who)])
    return f"{found} open {noun} cannot be shown without {without}: the run by {by}, found {them}."


def examined(run: Run, period: str) -> str:
    """What a run of another period than the `Run.period` examined, by its own zone: "1–30 Nov 2026, Europe/Berlin"."""
    words = f"{formatting.span_in(run.since, run.until, ZoneInfo(run.timezone))}, {run.timezone}"
    filters, own = filters_of(run.period), filters_of(period)
    if filters == own:
        return words
    return f"{words}, with other filters" if filters else f"the whole organization, {words}"
