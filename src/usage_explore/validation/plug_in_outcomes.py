"""Whether what a plug-in's check gives can be shown, kept and compared: the types and ranges of its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.query.validators import EARLIEST, LATEST, shorten
from usage_explore.validation.check import SEVERITIES, Finding, Outcome

_Rule = tuple[str, Callable[[Any], bool]]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_frame(value: object) -> bool:
    import pandas as pd

    return value is None or isinstance(value, pd.DataFrame)


def _pairs(value: object, kind: type) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], kind)
        for pair in value
    )


def _all_of(value: object, kind: type) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, kind) for item in value)


_TEXT: _Rule = ("text", lambda value: isinstance(value, str))
_TEXT_OR_NONE: _Rule = ("text or None", lambda value: value is None or isinstance(value, str))
_ID_OR_NONE: _Rule = ("a UUID or None", lambda value: value is None or isinstance(value, UUID))
_COUNT: _Rule = ("a whole number from 0", _is_count)
_FLAG: _Rule = ("True or False", lambda value: isinstance(value, bool))
_NAMES: _Rule = ("a tuple of names", lambda value: _all_of(value, str))
_TIME: _Rule = (
    "a time with a time zone",
    lambda value: isinstance(value, datetime) and value.utcoffset() is not None,
)

_OUTCOME: Mapping[str, _Rule] = {
    "looked_at": _COUNT,
    "sheet": ("a pandas DataFrame or None", _is_frame),
    "note": _TEXT,
    "is_partial": _FLAG,
    "unchecked": _TEXT,
    "skipped": _TEXT,
    "reported_by": _NAMES,
}

_FINDING: Mapping[str, _Rule] = {
    "severity": ("high, medium or low", lambda value: isinstance(value, str) and value in SEVERITIES),
    "sentence": _TEXT,
    "since": _TIME,
    "until": _TIME,
    "events": _COUNT,
    "question": ("an EventQuery or AggregateQuery", lambda value: isinstance(value, EventQuery | AggregateQuery)),
    "quantity": ("a Decimal or None", lambda value: value is None or isinstance(value, Decimal)),
    "amounts": ("a tuple of (currency, Decimal)", lambda value: _pairs(value, Decimal)),
    "share": ("a finite Decimal", lambda value: isinstance(value, Decimal) and value.is_finite()),
    "share_of": _TEXT,
    "customer_id": _ID_OR_NONE,
    "product_id": _ID_OR_NONE,
    "subscription_id": _ID_OR_NONE,
    "metric_key": _TEXT_OR_NONE,
    "price_key": _TEXT_OR_NONE,
    "wallet_currency": _TEXT_OR_NONE,
    "facts": ("a tuple of (name, text)", lambda value: _pairs(value, str)),
    "is_general": _FLAG,
    "also_seen_by": _NAMES,
    "folded": ("a tuple of Findings", lambda value: _all_of(value, Finding)),
    "kind": _TEXT,
}


def fault(outcome: object, check: str) -> str:
    """What is wrong with the outcome of a check of this name, in words after "gave"; "" if nothing is."""
    if not isinstance(outcome, Outcome):
        return f"{shorten(outcome)}, not an Outcome"
    if not isinstance(outcome.findings, tuple):
        return f"an Outcome whose findings are {shorten(outcome.findings)}, not a tuple"
    return next(_faults(outcome, outcome.findings, check), "")


def _faults(outcome: Outcome, findings: Iterable[object], check: str) -> Iterator[str]:
    yield from (f"an Outcome whose {words}" for words in _wrong(outcome, _OUTCOME))
    for finding in findings:
        if not isinstance(finding, Finding) or finding.check != check:
            yield f"{shorten(finding)}, not a Finding with check={check!r}"
            continue
        yield from (f"a Finding whose {words}" for words in _wrong(finding, _FINDING))
        if finding.until < finding.since:
            yield "a Finding whose until is before its since"
        for name in ("since", "until"):
            if not EARLIEST <= getattr(finding, name) <= LATEST:
                yield f"a Finding whose {name} is outside the years 1970 to 2200"
        for folded in _faults(Outcome(), finding.folded, check):
            yield f"{folded}, among its folded ones"


def _wrong(item: object, rules: Mapping[str, _Rule]) -> Iterator[str]:
    for name, (wanted, is_right) in rules.items():
        if not is_right(value := getattr(item, name)):
            yield f"{name} is {shorten(value)}, not {wanted}"
