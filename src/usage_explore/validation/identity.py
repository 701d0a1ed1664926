"""The identities of a validation's findings: which finding of an earlier run each of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from usage_explore.records.identities import WHAT, WHO, Identity, RecordedFinding, with_ids

if TYPE_CHECKING:
    from usage_explore.validation.check import Finding

_DIRECTION_FACTS = {"excess": Decimal(0), "times the usual cost": Decimal(1)}
"""Facts with a number that says in which direction the events deviate, and the number between the two directions."""

_FACTOR_FACT = "unit wrong by"  # ×1,000 or ÷1,000


def identities(findings: Sequence[Finding]) -> tuple[Identity, ...]:
    """The identities of the findings of one validation, in order, with their ids."""
    return with_ids([_identity(finding) for finding in findings])


def ids_of(findings: Sequence[Finding]) -> dict[int, str]:
    """The id of each finding of one validation, by the `id()` of the object."""
    pairs = zip(findings, identities(findings), strict=True)
    return {id(finding): identity.id for finding, identity in pairs}


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
    )


def _identity(finding: Finding) -> Identity:
    subjects: dict[str, Any] = {
        name: None if (value := getattr(finding, name)) is None else str(value) for name in (*WHO, *WHAT)
    }
    return Identity(
        check=finding.check,
        kind=finding.kind or _direction(dict(finding.facts)),
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
