"""The findings of a validation against what is known of them: which finding of an earlier run each of them is, whether
it is new, known or gone, and what was decided.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.decimals import rfc3339
from usage_explore.query.queries import Period
from usage_explore.query.url_params import query_string
from usage_explore.records.decisions import Decision
from usage_explore.records.identities import WHAT, WHO, Identity, RecordedFinding, matched, with_ids
from usage_explore.records.runs import Run, run_id
from usage_explore.validation import unseen
from usage_explore.validation.check import SEVERITIES, SIGN_OFF_FACT, SINCE_SIGN_OFF, Finding, Severity
from usage_explore.validation.decided import RANK, Decided, by_index
from usage_explore.validation.file_kinds import lacked_files
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.result import Validation
from usage_explore.validation.usage_sums import joined

_DIRECTION_FACTS = {"excess": Decimal(0), "times the usual cost": Decimal(1)}
"""Facts with a number that says in which direction the events deviate, and the number between the two directions."""

_FACTOR_FACT = "unit wrong by"  # ×1,000 or ÷1,000


def identities(findings: Sequence[Finding]) -> tuple[Identity, ...]:
    """The identities of the findings of one validation, in order, with their ids."""
    return with_ids([_identity(finding) for finding in findings])


def recorded(findings: Sequence[Finding]) -> tuple[RecordedFinding, ...]:
    """The findings of one validation as records keep them, each followed by those that were folded into it."""
    rows = []
    for finding, identity in zip(findings, identities(findings), strict=True):
        rows.append(recorded_finding(finding, identity))
        rows += [
            recorded_finding(folded, with_ids([_identity(folded)])[0], folded_into=identity.id)
            for folded in finding.folded
        ]
    return tuple(rows)


def recorded_finding(finding: Finding, identity: Identity, folded_into: str = "") -> RecordedFinding:
    """A finding as a record keeps it."""
    return RecordedFinding(
        identity=identity,
        severity=finding.severity,
        sentence=finding.sentence,
        events=finding.events,
        folded_into=folded_into,
        amounts=finding.amounts,
    )


def _identity(finding: Finding) -> Identity:
    subjects: dict[str, Any] = {
        name: None if (value := getattr(finding, name)) is None else str(value) for name in (*WHO, *WHAT)
    }
    facts = dict(finding.facts)
    kind = finding.kind or _direction(facts)
    if finding.kind in SINCE_SIGN_OFF:  # what came after a later sign-off is another finding
        kind = f"{kind} {facts.get(SIGN_OFF_FACT, '')}".rstrip()
    return Identity(
        check=finding.check,
        kind=kind,
        since=finding.since,
        until=finding.until,
        **subjects,
    )


def _direction(facts: Mapping[str, str]) -> str:
    """Whether a finding without a kind is on too much or too little; "" where its facts do not say."""
    if _FACTOR_FACT in facts:
        return "too large" if facts[_FACTOR_FACT].startswith("×") else "too small"
    for name, middle in _DIRECTION_FACTS.items():
        try:
            number = Decimal(facts[name])
        except (KeyError, InvalidOperation):
            continue
        return "" if number.is_nan() else "too large" if number > middle else "too small"
    return ""


State = Literal["new", "known", "open", "acknowledged", "muted", "assigned"]

STATES: tuple[State, ...] = get_args(State)
"""States of a finding, of which it has several: new or known; open, acknowledged or muted; perhaps assigned."""

SETTLED: tuple[State, ...] = ("acknowledged", "muted")
"""States of a finding that is no longer open."""


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """A finding with what is known of it.

    `first_seen` is the run that had it first, None for a new one; `earlier_ids` are other ids that it had in earlier
    runs; `decisions` are those made on it, oldest first; `now` is the time at which a mute counts.
    """

    finding: Finding
    identity: Identity
    first_seen: datetime | None
    earlier_ids: frozenset[str]
    decisions: tuple[Decision, ...]
    now: datetime

    @property
    def id(self) -> str:
        """The finding's id, for links and commands."""
        return self.identity.id

    @property
    def is_new(self) -> bool:
        """Whether no earlier run of the period had it."""
        return self.first_seen is None

    @cached_property
    def _decided(self) -> Decided:
        return Decided(finding=self.recorded(), decisions=self.decisions, now=self.now)

    @property
    def settled(self) -> Decision | None:
        """The acknowledgement or mute in force; None for an open finding."""
        return self._decided.settled

    @property
    def lapsed(self) -> str:
        """Why the last acknowledgement or mute no longer counts; "" if it does, or there is none."""
        return self._decided.lapsed

    @property
    def is_open(self) -> bool:
        """Whether it is neither acknowledged nor muted."""
        return self.settled is None

    @property
    def assignee(self) -> str:
        """The person or team that it is assigned to, "" for none."""
        assigned = [decision.assignee for decision in self.decisions if decision.action == "assign"]
        return assigned[-1] if assigned else ""

    @property
    def states(self) -> tuple[State, ...]:
        """Its states, in the order of `STATES`."""
        decision = self.settled
        own: set[State] = {"new" if self.is_new else "known"}
        own.add("open" if decision is None else "acknowledged" if decision.action == "acknowledge" else "muted")
        if self.assignee:
            own.add("assigned")
        return tuple(state for state in STATES if state in own)

    def words(self, zone: ZoneInfo) -> str:
        """The state in a few words: `new`, `known, muted until 5 Dec 2026 00:00, assigned to Ana`."""
        again = f"open again: {self.lapsed}" if self.lapsed else ""
        parts = ["new" if self.is_new else "known", *filter(None, (self._decided.words(zone) or again,))]
        if self.assignee:
            parts.append(f"assigned to {formatting.data_value(self.assignee, 40)}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """What JSON says beside the finding itself."""
        return {
            "finding_id": self.id,
            "states": list(self.states),
            "first_seen": rfc3339(self.first_seen) if self.first_seen else None,
            "assignee": self.assignee or None,
            "muted_until": rfc3339(self.settled.until) if self.settled and self.settled.until else None,
            "reopened_because": self.lapsed or None,
            "decisions": [decision.to_dict() for decision in self.decisions],
        }

    def recorded(self) -> RecordedFinding:
        """The finding as a record keeps it."""
        return recorded_finding(self.finding, self.identity)


@dataclass(frozen=True, kw_only=True)
class Review:
    """A validation's findings with their states.

    `items` are the open findings, then those that are acknowledged or muted, both by impact. `previous` is the run of
    the same period and filters before this one, None for the first; `gone` are the findings of earlier runs that this
    one no longer has, of the checks that ran to their end. `with_files` is the newest run that was given files,
    `runs` are those of the period until now, newest first. `unseen` are open findings of checks that were asked for
    here, and not given all files that they read, each with the last run that was given these: of the period, or of one
    that includes most of it, such as the month by another zone's days.
    """

    validation: Validation = field(repr=False)
    items: tuple[Reviewed, ...]
    previous: Run | None
    gone: tuple[RecordedFinding, ...]
    now: datetime = field(repr=False)
    with_files: Run | None = None
    runs: Sequence[Run] = field(default=(), repr=False)
    unseen: tuple[tuple[Run, RecordedFinding], ...] = ()

    @cached_property
    def report_hash(self) -> str:
        """The SHA-256 of the validation's content, see `report_hash`."""
        return report_hash(self.validation)

    def of(self, finding: Finding) -> Reviewed:
        """The state of a finding of the validation. Raises `KeyError` for any other."""
        return self._by_finding[id(finding)]

    def named(self, finding_id: str) -> Reviewed | None:
        """The finding with an id, now or in an earlier run; None if there is none."""
        exact = next((item for item in self.items if item.id == finding_id), None)
        return exact or next((item for item in self.items if finding_id in item.earlier_ids), None)

    def recorded(self, finding_id: str) -> tuple[Run, RecordedFinding] | None:
        """The newest run that had a finding with an id, and the finding as it was then; None if none had it."""
        found = ((run, finding) for run in self.runs for finding in run.findings if finding.identity.id == finding_id)
        return next(found, None)

    def open(self, severity: str) -> tuple[Reviewed, ...]:
        """The findings of a severity that are neither acknowledged nor muted."""
        return tuple(item for item in self.items if item.finding.severity == severity and item.is_open)

    def open_counts(self) -> Mapping[Severity, int]:
        """The number of findings of each severity that are neither acknowledged nor muted, the gravest first."""
        return {severity: len(self.open(severity)) for severity in SEVERITIES}

    @property
    def new(self) -> tuple[Reviewed, ...]:
        """The findings that no earlier run of the period had."""
        return tuple(item for item in self.items if item.is_new)

    def counts(self) -> Mapping[State, int]:
        """The number of findings in each state."""
        return {state: sum(state in item.states for item in self.items) for state in STATES}

    def sentence(self, zone: ZoneInfo) -> str:
        """What changed since the run before, `Since the run of 5 Nov 2026 14:30: 2 new, 30 known, 1 gone.`, or that
        there is none; where findings are acknowledged, muted or assigned, how many.
        """
        counts = self.counts()
        decided = [f"{counts[state]:,} {state}" for state in ("acknowledged", "muted", "assigned") if counts[state]]
        if self.previous is None:
            start = "First run of this period that is kept: every finding is new"
            later = [run.made_at for run in self.runs if run.made_at > self.validation.now]
            if later and self.runs[0].report_hash == self.report_hash:
                later = later[1:]  # it is kept itself
            if later:
                made = formatting.minute(later[0].astimezone(zone))
                start = f"No run of this period from before these checks is kept; the run of {made} is later"
            return f"{start}; {', '.join(decided)}." if decided else f"{start}."
        made_at = self.previous.made_at.astimezone(zone).replace(second=0, microsecond=0)
        numbers = f"{counts['new']:,} new, {counts['known']:,} known, {len(self.gone):,} gone"
        return f"Since the run of {formatting.date_and_time(made_at)}: {', '.join((numbers, *decided))}."

    def files_sentence(self, zone: ZoneInfo, again: str = "give") -> str:
        """Which files an earlier run was given and this one was not, or with other content; "" without any.

        `Last validated with prices.csv (sha256 1f0c2a913b7d) by ana, 5 Nov 2026 14:30; give it again to compare.`
        """
        run, given = self.with_files, self.validation.files
        lacking = _lacking(run, self.validation) if run else []
        other = [
            f"{_file_words(given[argument])} is not {_file_words(file)}"
            for argument, file in (run.files.items() if run else ())
            if argument in given and given[argument]["sha256"] != file["sha256"]
        ]
        if run is None or not (lacking or other):
            return ""
        made_at = run.made_at.astimezone(zone).replace(second=0, microsecond=0)
        who = f"by {formatting.data_value(run.author)}, {formatting.date_and_time(made_at)}"
        if not lacking:
            return f"Other files than last time, {who}: {joined(other)}."
        names = joined([_file_words(file) for file in lacking])
        changed = f" {joined(other)}." if other else ""
        them = "it" if len(lacking) == 1 else "them"
        return f"Last validated with {names} {who}; {again} {them} again to compare.{changed}"

    def unseen_sentence(self, zone: ZoneInfo) -> str:
        """How many open findings this validation does not show, see `unseen.sentence`; "" if none is grave."""
        key = period_key(self.validation.period)
        return unseen.sentence(self.unseen, self.validation.files, key, zone) if unseen.is_grave(self.unseen) else ""

    def to_dict(self) -> dict[str, Any]:
        """What JSON says beside the findings."""
        return {
            "report_hash": self.report_hash,
            "previous_run": self.previous.to_dict() if self.previous else None,
            "previous_run_with_files": self.with_files.to_dict() if self.with_files else None,
            "findings_by_state": dict(self.counts()),
            "open_by_severity": dict(self.open_counts()),
            "new": [item.id for item in self.items if item.is_new],
            "known": [item.id for item in self.items if not item.is_new],
            "gone": [finding.to_dict() for finding in self.gone],
            "unseen": [finding.to_dict() for _, finding in self.unseen],
        }

    @cached_property
    def _by_finding(self) -> dict[int, Reviewed]:
        return {id(item.finding): item for item in self.items}


def _lacking(run: Run, validation: Validation) -> list[Mapping[str, str]]:
    """The files that a run was given and the validation was not."""
    return [file for argument, file in run.files.items() if argument not in validation.files]


def _file_words(file: Mapping[str, str]) -> str:
    return f"{formatting.data_value(file['name'])} (sha256 {file['sha256'][:12]})"


def review(
    validation: Validation,
    runs: Sequence[Run],
    decisions: Iterable[Decision],
    now: datetime,
    latest: Sequence[Run] = (),
) -> Review:
    """The review of a validation against the runs before it, newest first, and the organization's decisions.

    `latest` are the runs of the period until now, by default those before: files may be given to an older validation.
    Those of other periods among them, see `records.runs.related`, count as `unseen` alone.
    """
    key = period_key(validation.period)
    own_latest = [run for run in latest or runs if run.period == key]
    findings = validation.findings
    own = identities(findings)
    known = recorded(findings)
    seen: dict[int, datetime] = {}
    ids: dict[int, set[str]] = {index: set() for index in range(len(own))}
    for run in runs:
        earlier = [finding.identity for finding in run.findings]
        for index, position in matched(own, earlier).items():
            seen[index] = min(run.made_at, seen.get(index, run.made_at))
            ids[index].add(earlier[position].id)
    decisions = tuple(decisions)
    by_finding = by_index(own, decisions)
    for about, made in by_finding.items():
        ids[about].update(decision.finding.identity.id for decision in made)
    items = tuple(
        Reviewed(
            finding=finding,
            identity=own[index],
            first_seen=seen.get(index),
            earlier_ids=frozenset(ids[index] - {own[index].id}),
            decisions=tuple(by_finding.get(index, ())),
            now=now,
        )
        for index, finding in enumerate(findings)
    )
    return Review(
        validation=validation,
        items=tuple(sorted(items, key=lambda item: not item.is_open)),
        previous=runs[0] if runs else None,
        gone=_gone(validation, runs, [finding.identity for finding in known]),
        now=now,
        with_files=next((run for run in own_latest if run.files), None),
        runs=own_latest,
        unseen=unseen.of_validation(validation, key, latest or runs, own, decisions, now),
    )


def _gone(validation: Validation, runs: Sequence[Run], known: Sequence[Identity]) -> tuple[RecordedFinding, ...]:
    """The findings that a check's last run before had and that this validation has not, nor folded into another.

    None of a check that was given a file then and is not now.
    """
    gone = []
    for check in complete_checks(validation):
        run = next((run for run in runs if check in run.checks), None)
        if run is None or lacked_files(check, run.files, validation.files):
            continue
        before = [finding for finding in run.findings if finding.identity.check == check and not finding.folded_into]
        taken = matched([finding.identity for finding in before], known)
        gone += [finding for index, finding in enumerate(before) if index not in taken]
    return tuple(sorted(gone, key=lambda finding: (RANK.get(finding.severity, 0), -finding.events)))


def complete_checks(validation: Validation) -> tuple[str, ...]:
    """The names of the checks that ran to their end."""
    return tuple(result.check.name for result in validation.results if result.outcome is not None)


def run_of(validation: Validation, author: str, made_at: datetime | None = None) -> Run:
    """The run to keep of a validation; `made_at` is when files were added to it, None without."""
    made_at = made_at or validation.now
    period, organization_id = validation.period, organization_of(validation)
    since, until = period.span
    text, digest = period_key(period), report_hash(validation)
    return Run(
        id=run_id(organization_id, text, made_at, digest),
        organization_id=organization_id,
        made_at=made_at,
        author=author,
        since=since,
        until=until,
        timezone=period.timezone,
        period=text,
        as_of=period.as_of or validation.now,
        events=validation.totals.events,
        counts={str(severity): number for severity, number in validation.counts().items()},
        report_hash=digest,
        versions=versions(validation),
        checks=complete_checks(validation),
        findings=recorded(validation.findings),
        files=validation.files,
        left_out=_left_out(validation),
    )


def _left_out(validation: Validation) -> tuple[str, ...]:
    """The checks that were not chosen, or that failed."""
    ended = {result.check.name for result in validation.results if not result.failed}
    return tuple(name for name in CHECKS if name not in ended)


def period_key(period: Period) -> str:
    """The window and the filters of a resolved period as a query string: runs that agree in it are compared."""
    key = period.replace(organization_id=None, as_of=None, finalized_at=None, timezone=None)
    return query_string(key.to_params())


def versions(validation: Validation) -> dict[str, str]:
    """The package's version, and a hash of the bounds that the checks applied."""
    bounds = {result.check.name: dict(result.parameters) for result in validation.results}
    return {"usage-explore": version("usage-explore"), "bounds": _hash(bounds)[:16]}


def report_hash(validation: Validation) -> str:
    """The SHA-256 of a validation's content: period, `as_of`, totals, checks and findings, as canonical JSON.

    Without what differs between two runs on the same data: times that checks took, later arrivals, names of ids, and
    links. The same version of the package gives the same hash for the same period and `as_of`, if no event was changed.
    """
    content = validation.to_dict()
    for name in ("url", "unexamined", "organization_name"):
        content.pop(name)
    for check in content["checks"]:
        check.pop("milliseconds")
    for finding in content["findings"]:
        for name in [name for name in finding if name == "url" or name.endswith("_name")]:
            finding.pop(name)
    return _hash(content)


def organization_of(validation: Validation) -> UUID:
    """The organization of a validation."""
    organization_id = validation.period.organization_id
    assert organization_id is not None  # noqa: S101 - a validation's period is scoped
    return organization_id


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
