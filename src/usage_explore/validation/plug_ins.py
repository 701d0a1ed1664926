"""Checks of installed packages: the entry points `usage_explore.checks`, each of which names a `Check`.

A plug-in that cannot be used is a check that fails with the reason, so that a validation neither breaks nor leaves out
silently what it should have looked for. What a plug-in raises while it runs is its result, too; what it gives is
examined for whether it can be shown, kept and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Select, Table, literal, select
from sqlalchemy.exc import DBAPIError

from usage_explore.db.engine import server_message, translated
from usage_explore.errors import DatabaseUnavailable, StatementTimeout
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.query.validators import EARLIEST, LATEST, shorten
from usage_explore.validation.bounds import Bound
from usage_explore.validation.check import SEVERITIES, Check, Examination, Finding, Outcome
from usage_explore.validation.inputs import Inputs

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
    "quantity": (
        "a finite Decimal or None",
        lambda value: value is None or (isinstance(value, Decimal) and value.is_finite()),
    ),
    "amounts": ("a tuple of (currency, Decimal)", lambda value: _pairs(value, Decimal)),
    "too_high": ("a tuple of (currency, Decimal) or None", lambda value: value is None or _pairs(value, Decimal)),
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


GROUP = "usage_explore.checks"
"""The group of entry points."""

_NEEDS = ("finalized_at", *(field.name for field in fields(Inputs)))

_FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("title", "means", "unit"), ("text", lambda value: isinstance(value, str))),
    "needs": (f"None or one of {', '.join(_NEEDS)}", lambda value: value is None or value in _NEEDS),
    "bounds": ("a tuple", lambda value: isinstance(value, tuple)),
    "examine": ("a function", callable),
    "statement": ("a function", callable),
}
"""What the fields of a check must be beside its name, in words, and whether a value is."""


class PlugInError(Exception):
    """A plug-in cannot be used, or failed. The message names it and its package."""


def plug_ins(checks: Iterable[Check]) -> Iterator[Check]:
    """The checks of installed packages beside these, in order of name; failing ones for those that cannot be used."""
    taken = {check.name: "usage-explore" for check in checks}
    bounds = {bound.key for check in checks for bound in check.bounds}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        source = _source(point)
        try:
            check = _loaded(point, taken, bounds)
        except PlugInError as error:
            check = _failing(point, taken, f"{source}: {error}")
        taken[check.name] = source
        bounds |= {bound.key for bound in check.bounds}
        yield check


def _source(point: EntryPoint) -> str:
    package = "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    return f"plug-in {shorten(point.value)} of {package}"


def _loaded(point: EntryPoint, taken: Mapping[str, str], bounds: Iterable[str]) -> Check:
    """The check, guarded. Raises `PlugInError`."""
    try:
        check = point.load()
    except (Exception, SystemExit) as error:
        raise PlugInError(f"cannot be imported: {_described(error)}") from error
    if not isinstance(check, Check):
        raise PlugInError(f"is {shorten(check)}, not a Check; name one in the entry point")
    if not isinstance(check.name, str) or not check.name.isidentifier():
        raise PlugInError(f"its name {shorten(check.name)} is no identifier; use letters, digits and _")
    if check.name in taken:
        raise PlugInError(f"its name {check.name} is taken by a check of {taken[check.name]}; choose another")
    for name, (wanted, is_right) in _FIELDS.items():
        if not is_right(value := getattr(check, name)):
            raise PlugInError(f"its {name} is {shorten(value)}, not {wanted}")
    known = {*bounds}
    for bound in check.bounds:
        if not isinstance(bound, Bound) or bound.check != check.name or bound.key in known:
            raise PlugInError(f"{shorten(bound)} is no bound of its own; declare Bound({check.name!r}, …) once")
        known.add(bound.key)
    source = _source(point)
    return replace(
        check,
        examine=partial(_examine, check, source),
        statement=partial(_statement, check, source),
        parameters=partial(_parameters, check, source),
    )


def _examine(check: Check, source: str, examination: Examination) -> Outcome:
    """The check's outcome. Raises `PlugInError` for whatever it does wrong, and what the database says where that is
    not the plug-in's doing: it does not answer, or the statement took too long.
    """
    try:
        with examination.connection.begin_nested():  # what the check caught itself must not end the transaction
            outcome = check.examine(examination)
            if isinstance(outcome, Outcome) and isinstance(outcome.findings, Iterable):
                outcome = replace(outcome, findings=tuple(outcome.findings))
    except DatabaseUnavailable:
        raise
    except DBAPIError as error:
        answer = translated(error.orig, broken=error.connection_invalidated)
        if isinstance(answer, DatabaseUnavailable | StatementTimeout):
            raise
        message = server_message(error.orig) if isinstance(error.orig, psycopg.Error) else _described(error)
        raise PlugInError(f"{source}: failed: {message}") from error
    except (Exception, SystemExit) as error:
        raise PlugInError(f"{source}: failed: {_described(error)}") from error
    if words := fault(outcome, check.name):
        raise PlugInError(f"{source}: gave {words}")
    return outcome


def _statement(check: Check, source: str, table: Table, period: Period) -> Select[Any]:
    """The check's statement, for the report; a sentence in place of one that cannot be made."""
    try:
        return check.statement(table, period)
    except (Exception, SystemExit) as error:
        return select(literal(f"{source}: has no statement: {_described(error)}"))


def _parameters(check: Check, source: str) -> Mapping[str, str]:
    try:
        return {str(name): str(words) for name, words in check.words.items()}
    except (Exception, SystemExit) as error:
        return {"parameters": f"{source}: cannot say them: {_described(error)}"}


def _failing(point: EntryPoint, taken: Iterable[str], reason: str) -> Check:
    """A check that fails with the reason, under a name that is free."""
    wanted = point.name if point.name.isidentifier() else "plug_in"
    names = (wanted, *(f"{wanted}_{number}" for number in range(2, 1_000_000)))
    known = {*taken}

    def fail(*arguments: object) -> Any:
        raise PlugInError(reason)

    return Check(
        name=next(name for name in names if name not in known),
        title=f"Plug-in {point.name}",
        means="This check could not be loaded: what it looks for was not looked for.",
        parameters={"failed": reason},
        unit="events",
        one="event",
        statement=partial(_statement_of, reason),
        examine=fail,
    )


def _statement_of(reason: str, table: Table, period: Period) -> Select[Any]:
    return select(literal(reason))


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'without a message'}"
