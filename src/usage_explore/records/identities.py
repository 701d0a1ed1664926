"""What a finding is about, so that it is the same finding in every run: check, kind, who, what and when.

Counts, severities and wording are no part of it. Times move a little when an event arrives late, so two identities are
the same finding if they agree in check, kind and subjects and their times overlap; the id, twelve hexadecimal digits
for links and commands, follows from the day on which the finding begins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from usage_explore.decimals import plain, rfc3339
from usage_explore.errors import RecordError
from usage_explore.query import validators
from usage_explore.records import texts

WHO = ("customer_id", "wallet_currency")
"""Subjects that are equal, or both missing, in the same finding."""

WHAT = ("metric_key", "price_key", "product_id", "subscription_id")
"""Subjects of which one may be missing in the same finding: a late event of another metric makes it one of several."""

_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A finding's identity. `kind` is which of the check's kinds of finding it is, "" where it has one.

    Subjects are texts, ids too. `since` and `until` bound the events concerned, half-open.
    """

    check: str
    kind: str
    since: datetime
    until: datetime
    customer_id: str | None = None
    wallet_currency: str | None = None
    metric_key: str | None = None
    price_key: str | None = None
    product_id: str | None = None
    subscription_id: str | None = None
    id: str = ""

    def is_same_as(self, other: Identity) -> bool:
        """Whether two identities, of different runs, may be of one finding."""
        return (
            (self.check, self.kind) == (other.check, other.kind)
            and all(getattr(self, name) == getattr(other, name) for name in WHO)
            and all(_agree(getattr(self, name), getattr(other, name)) for name in WHAT)
            and self.since < other.until
            and other.since < self.until
        )

    def has_subjects_of(self, other: Identity) -> bool:
        """Whether all subjects are equal."""
        return all(getattr(self, name) == getattr(other, name) for name in (*WHO, *WHAT))

    def to_dict(self) -> dict[str, Any]:
        """The identity as JSON carries it, without missing subjects."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {**values, "since": rfc3339(self.since), "until": rfc3339(self.until)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFinding:
    """A finding as a record keeps it: its identity, and what it was at that time.

    `folded_into` is the id of the finding that reported it, "" for one that was reported itself. `amounts` are by
    currency; a finding that an earlier version recorded has none.
    """

    identity: Identity
    severity: str
    sentence: str
    events: int
    folded_into: str = ""
    amounts: tuple[tuple[str, Decimal], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON carries it."""
        more: dict[str, Any] = {"folded_into": self.folded_into} if self.folded_into else {}
        if self.amounts:
            more["amounts"] = {currency: plain(amount) for currency, amount in self.amounts}
        size = {"severity": self.severity, "sentence": self.sentence, "events": self.events}
        return {**self.identity.to_dict(), **size, **more}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RecordedFinding:
        """The finding of `to_dict`. Raises `RecordError`."""
        given = dict(values)
        try:
            own = {name: given.pop(name) for name in ("severity", "sentence", "events")}
            folded_into = given.pop("folded_into", "")
            amounts = tuple((currency, texts.number(text)) for currency, text in given.pop("amounts", {}).items())
            times = {name: validators.instant(given.pop(name)) for name in ("since", "until")}
            subjects = {name: value for name, value in given.items() if value is not None or name not in (*WHO, *WHAT)}
            words = {**subjects, "severity": own["severity"], "sentence": own["sentence"], "folded_into": folded_into}
            if wrong := [name for name, value in words.items() if not isinstance(value, str)]:
                raise ValueError(f"{validators.shorten(wrong[0])} is no text")
            if type(own["events"]) is not int:
                raise ValueError("events is no whole number")
            return cls(identity=Identity(**{**given, **times}), **own, folded_into=folded_into, amounts=amounts)
        except (AttributeError, InvalidOperation, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"A finding in the records cannot be read: {error}") from None


def findings_json(findings: Iterable[RecordedFinding]) -> str:
    """Findings as a JSON text."""
    return json.dumps([finding.to_dict() for finding in findings], ensure_ascii=False)


def findings_of(text: str) -> tuple[RecordedFinding, ...]:
    """The findings of a JSON text. Raises `RecordError`."""
    try:
        return tuple(map(RecordedFinding.from_dict, json.loads(text)))
    except (ValueError, TypeError) as error:
        raise RecordError(f"Findings in the records cannot be read: {error}") from None


def with_ids(identities: Sequence[Identity]) -> tuple[Identity, ...]:
    """The identities of one run with their ids, all different.

    The id follows from check, kind, subjects and the day (UTC) of `since`; of several with one such id all but the
    first are distinguished by their exact time.
    """
    taken: set[str] = set()
    ids: dict[int, str] = {}
    for index in sorted(range(len(identities)), key=lambda index: (identities[index].since, identities[index].until)):
        identity = identities[index]
        day = identity.since.astimezone(UTC).date().isoformat()
        text = _digest(identity, day)
        if text in taken:
            text = _digest(identity, f"{rfc3339(identity.since)}/{rfc3339(identity.until)}")
        while text in taken:
            text = _digest(identity, text)
        taken.add(text)
        ids[index] = text
    return tuple(replace(identity, id=ids[index]) for index, identity in enumerate(identities))


def matched(identities: Sequence[Identity], earlier: Sequence[Identity]) -> dict[int, int]:
    """Which of the earlier ones each is, by index; each earlier one is taken once.

    Equal subjects go before those of which one lacks a part, then the times that agree best: the longest common part
    of both together, so that a finding whose time contains another's is not taken for it; then equal ids.
    """
    by_subject: dict[object, list[int]] = {}
    for position, other in enumerate(earlier):
        by_subject.setdefault(_subject(other), []).append(position)
    pairs = [
        (
            not one.has_subjects_of(earlier[position]),
            -_agreement(one, earlier[position]),
            one.id != earlier[position].id,
            index,
            position,
        )
        for index, one in enumerate(identities)
        for position in by_subject.get(_subject(one), ())
        if one.is_same_as(earlier[position])
    ]
    result: dict[int, int] = {}
    taken: set[int] = set()
    for *_, index, position in sorted(pairs):
        if index not in result and position not in taken:
            result[index] = position
            taken.add(position)
    return result


def nearest(identity: Identity, among: Sequence[Identity]) -> int | None:
    """Which of these is the same finding, by index; None if none is."""
    return matched([identity], among).get(0)


def _subject(identity: Identity) -> object:
    """What is equal in all identities of one finding."""
    return identity.check, identity.kind, *(getattr(identity, name) for name in WHO)


def _agreement(one: Identity, other: Identity) -> float:
    """How much of the time of both, which overlap, lies in each: 1 if their times are the same."""
    return (min(one.until, other.until) - max(one.since, other.since)) / (
        max(one.until, other.until) - min(one.since, other.since)
    )


def _agree(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other


def _digest(identity: Identity, when: str) -> str:
    parts = [identity.check, identity.kind, *(getattr(identity, name) for name in (*WHO, *WHAT)), when]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]
