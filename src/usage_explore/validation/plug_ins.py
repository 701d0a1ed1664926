"""Checks of installed packages: the entry points `usage_explore.checks`, each of which names a `Check`.

A plug-in that cannot be used is a check that fails with the reason, so that a validation neither breaks nor leaves out
silently what it should have looked for. What a plug-in raises while it runs is its result, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sqlalchemy import Select, Table, literal, select
from sqlalchemy.exc import SQLAlchemyError

from usage_explore.errors import UsageExploreError
from usage_explore.query.queries import Period
from usage_explore.query.validators import shorten
from usage_explore.validation.bounds import Bound
from usage_explore.validation.check import Check, Examination, Finding, Outcome

GROUP = "usage_explore.checks"
"""The group of entry points."""


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
    """The check's outcome. Raises `PlugInError` for what the database and the queries do not explain."""
    try:
        outcome = check.examine(examination)
    except (UsageExploreError, SQLAlchemyError):
        raise
    except Exception as error:
        raise PlugInError(f"{source}: failed: {_described(error)}") from error
    if not isinstance(outcome, Outcome):
        raise PlugInError(f"{source}: gave {shorten(outcome)}, not an Outcome")
    for finding in outcome.findings:
        if not isinstance(finding, Finding) or finding.check != check.name:
            raise PlugInError(f"{source}: gave {shorten(finding)}, not a Finding with check={check.name!r}")
    return outcome


def _statement(check: Check, source: str, table: Table, period: Period) -> Select[Any]:
    """The check's statement, for the report; a sentence in place of one that cannot be made."""
    try:
        return check.statement(table, period)
    except Exception as error:
        return select(literal(f"{source}: has no statement: {_described(error)}"))


def _parameters(check: Check, source: str) -> Mapping[str, str]:
    try:
        return {str(name): str(words) for name, words in check.words.items()}
    except Exception as error:
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
        statement=partial(_statement_of, reason),
        examine=fail,
    )


def _statement_of(reason: str, table: Table, period: Period) -> Select[Any]:
    return select(literal(reason))


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'without a message'}"
