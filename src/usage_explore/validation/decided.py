"""What was decided on a finding, and whether that still counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.decimals import difference
from usage_explore.pricing.currencies import exact_money
from usage_explore.records.decisions import Decision
from usage_explore.records.identities import Identity, RecordedFinding, nearest
from usage_explore.validation.check import AFTER_SIGN_OFF, SEVERITIES

MAX_GROWTH = 2
"""Factor by which a finding's events and amounts may grow before an acknowledgement or a mute no longer covers it."""

RANK: dict[str, int] = {severity: rank for rank, severity in enumerate(SEVERITIES)}
"""The rank of each severity, the gravest first."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A finding, as a record keeps it, with the decisions made on it, oldest first; `now` is when a mute counts."""

    finding: RecordedFinding
    decisions: tuple[Decision, ...]
    now: datetime

    @cached_property
    def _latest(self) -> Decision | None:
        """The decision that settles it: the last one of acknowledge, mute and reopen."""
        settling = [decision for decision in self.decisions if decision.action in ("acknowledge", "mute", "reopen")]
        return settling[-1] if settling and settling[-1].action != "reopen" else None

    @property
    def settled(self) -> Decision | None:
        """The acknowledgement or mute in force; None for an open finding."""
        return None if self._latest is None or self.lapsed else self._latest

    @cached_property
    def lapsed(self) -> str:
        """Why the last acknowledgement or mute no longer counts; "" if it does, or there is none."""
        decision = self._latest
        if decision is None:
            return ""
        then = decision.finding
        if decision.until is not None and decision.until <= self.now:
            return "the mute has ended"
        if RANK.get(self.finding.severity, 0) < RANK.get(then.severity, 0):
            return f"it was {then.severity} when it was decided on"
        if decision.action == "acknowledge" and self.finding.identity.kind.startswith(AFTER_SIGN_OFF):
            if self.finding.events > then.events:  # what is acknowledged is to be billed, and the rest is not known yet
                return f"{self._more_than(then)} more than when it was decided on"
        elif self.finding.events > MAX_GROWTH * then.events:
            return f"it had {formatting.counted(then.events, 'event')} when it was decided on"
        amounts = dict(then.amounts)
        for currency, amount in self.finding.amounts if amounts else ():
            before = amounts.get(currency, Decimal(0))
            if not (amount.is_finite() and before.is_finite()):
                continue
            if Fraction(amount.copy_abs()) > MAX_GROWTH * Fraction(before.copy_abs()):
                return f"its amount was {formatting.exact(before)} {currency}".rstrip() + " when it was decided on"
        if not self.finding.identity.has_subjects_of(then.identity):
            return "it was on another metric, price or product when it was decided on"
        return ""

    def _more_than(self, then: RecordedFinding) -> str:
        """What is new of the events, and of the amounts where some were known: `11 events, 140.24 USD`."""
        amounts = dict(then.amounts)
        added = (
            (currency, Decimal(difference(amount, amounts.get(currency, Decimal(0)))))
            for currency, amount in self.finding.amounts
            if amounts
        )
        sums = [exact_money(amount, currency) for currency, amount in added if amount > 0]
        return ", ".join([formatting.counted(self.finding.events - then.events, "event"), *sums])

    def words(self, zone: ZoneInfo) -> str:
        """`acknowledged` or `muted until 5 Dec 2026 00:00`; "" for an open finding."""
        decision = self.settled
        if decision is None or decision.until is None:
            return "acknowledged" if decision else ""
        return f"muted until {formatting.date_and_time(decision.until.astimezone(zone))}"


def decided(findings: Iterable[RecordedFinding], decisions: Iterable[Decision], now: datetime) -> tuple[Decided, ...]:
    """The reported findings of a kept run, in order, with the organization's decisions on them."""
    reported = [finding for finding in findings if not finding.folded_into]
    made = by_index([finding.identity for finding in reported], decisions)
    return tuple(
        Decided(finding=finding, decisions=tuple(made.get(index, ())), now=now)
        for index, finding in enumerate(reported)
    )


def by_index(identities: Sequence[Identity], decisions: Iterable[Decision]) -> dict[int, list[Decision]]:
    """The decisions on each finding, by its index."""
    made: dict[int, list[Decision]] = {}
    for decision in decisions:
        about = nearest(decision.finding.identity, identities)
        if about is not None:
            made.setdefault(about, []).append(decision)
    return made
