"""How long an acknowledgement or a mute covers a finding."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from usage_explore import formatting
from usage_explore.records.decisions import Decision
from usage_explore.records.identities import Identity, RecordedFinding
from usage_explore.validation.check import SEVERITIES, Finding

MAX_GROWTH = 2
"""Factor by which a finding's events and amounts may grow before an acknowledgement or a mute no longer covers it."""

_RANK: dict[str, int] = {severity: rank for rank, severity in enumerate(SEVERITIES)}


def rank(finding: Finding | RecordedFinding) -> int:
    """The place of its severity, 0 for the gravest."""
    return _RANK.get(finding.severity, 0)


def settling(decisions: Iterable[Decision]) -> Decision | None:
    """The decision that settles a finding: the last one of acknowledge, mute and reopen."""
    made = [decision for decision in decisions if decision.action in ("acknowledge", "mute", "reopen")]
    return made[-1] if made and made[-1].action != "reopen" else None


def lapsed(decision: Decision, finding: Finding | RecordedFinding, identity: Identity, now: datetime) -> str:
    """Why a decision on a finding no longer counts; "" if it does."""
    then = decision.finding
    if decision.until is not None and decision.until <= now:
        return "the mute has ended"
    if rank(finding) < rank(then):
        return f"it was {then.severity} when it was decided on"
    if finding.events > MAX_GROWTH * then.events:
        return f"it had {formatting.counted(then.events, 'event')} when it was decided on"
    amounts = dict(then.amounts)
    for currency, amount in finding.amounts if amounts else ():
        before = amounts.get(currency, Decimal(0))
        if not (amount.is_finite() and before.is_finite()):
            continue
        if Fraction(amount.copy_abs()) > MAX_GROWTH * Fraction(before.copy_abs()):
            return f"its amount was {formatting.exact(before)} {currency}".rstrip() + " when it was decided on"
    if not identity.has_subjects_of(then.identity):
        return "it was on another metric, price or product when it was decided on"
    return ""
