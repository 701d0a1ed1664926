"""Runs of validations: when, of what, as of when, and what was found, so that the next run can say what is new."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, Row, Table, insert, or_, select
from sqlalchemy.exc import IntegrityError

from usage_explore.decimals import rfc3339
from usage_explore.query import url_params
from usage_explore.query.filters import TEXT_COLUMNS
from usage_explore.records import texts
from usage_explore.records.identities import RecordedFinding, findings_json, findings_of
from usage_explore.records.places import PlaceName, Places, records

MAX_COMPARED_RUNS = 20
"""The newest runs of a period that a run is compared with."""

MAX_LISTED_RUNS = 1_000
"""The newest runs that are listed."""

_FILES, _LEFT_OUT = "files", "left_out"
"""The keys of the files and of the checks left out among the versions, where they are stored."""

WINDOW = ("since", "until", "window")
"""The parameters of a period that are no filters."""

_NARROWED = "%&%&%"
"""What the period of a run with filters is like in SQL: it has more parameters than `since` and `until`."""


_SURROGATE = re.compile("[\ud800-\udfff]")
"""What no query string has, and no database takes."""

_MAX_ALTERNATIVES = 100
"""Filters of a link that a statement looks for in the periods of runs: SQLite bounds the depth of expressions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of a validation.

    `made_at` is the database's clock when it began. `period` is the query string of the window and the filters: runs of
    one period are compared. `counts` are the findings by severity, `checks` the names of those that ran to their end,
    `findings` what they found, folded ones too. `versions` has the version of the package and the hash of the bounds,
    `report_hash` the SHA-256 of the validation's content. `files` are the `name` and `sha256` of each file that was
    given, by argument of `Store.validate`, in the order of their importance; of their content nothing is kept.
    `left_out` are the checks that it was run without, or that failed; not those that lacked a file or events to judge.
    Runs of older versions have none.
    """

    id: UUID
    organization_id: UUID
    made_at: datetime
    author: str
    since: datetime
    until: datetime
    timezone: str
    period: str
    as_of: datetime
    events: int
    counts: Mapping[str, int]
    report_hash: str
    versions: Mapping[str, str]
    checks: tuple[str, ...]
    findings: tuple[RecordedFinding, ...] = field(repr=False)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    place: PlaceName = "file"

    def to_dict(self) -> dict[str, Any]:
        """The run as JSON carries it, without its findings."""
        return {
            "id": str(self.id),
            "made_at": rfc3339(self.made_at),
            "by": self.author,
            "as_of": rfc3339(self.as_of),
            "events": self.events,
            "findings_by_severity": dict(self.counts),
            "report_hash": self.report_hash,
            "versions": dict(self.versions),
            "checks": list(self.checks),
            "files": {argument: dict(file) for argument, file in self.files.items()},
        }


def run_id(organization_id: UUID, period: str, made_at: datetime, report_hash: str) -> UUID:
    """The id of a run, the same for the same validation: it is kept once."""
    return uuid5(organization_id, f"{period}\n{rfc3339(made_at)}\n{report_hash}")


def keep(places: Places, run: Run) -> Run:
    """Keep a run; one that is kept already stays as it is. Raises `RecordError`, `DatabaseError`."""
    more = {_FILES: run.to_dict()["files"], _LEFT_OUT: list(run.left_out)}
    values = {
        **{name: getattr(run, name) for name in ("organization_id", "id", "made_at", "since", "until", "timezone")},
        **{name: getattr(run, name) for name in ("period", "as_of", "events", "report_hash")},
        **{severity: run.counts.get(severity, 0) for severity in ("high", "medium", "low")},
        "author": texts.author(run.author),
        "versions": json.dumps({**run.versions, **{name: value for name, value in more.items() if value}}),
        "checks": json.dumps(list(run.checks)),
        "findings": findings_json(run.findings),
    }
    with suppress(IntegrityError), places.saving.writing() as writer:
        writer.change(insert(writer.table).values(**values))
    return run


def runs(
    places: Places,
    organization_id: UUID,
    period: str | None = None,
    before: datetime | None = None,
    most: int = MAX_LISTED_RUNS,
    within: tuple[datetime, datetime] | None = None,
    whole: bool = False,
    examined: bool = False,
) -> list[Run]:
    """The newest runs of the organization, newest first.

    Of a period, begun before a time, of windows that overlap the half-open span `within`, with `whole` without filters,
    and with `examined` those that examined an event or found something. Raises `RecordError`.
    """
    made = []
    for place in places.all:
        table = place.table
        c = table.c
        wanted = [c.organization_id == organization_id]
        wanted += [] if period is None else [c.period == period]
        wanted += [] if before is None else [c.made_at < before]
        wanted += [] if within is None else [c.since < within[1], c.until > within[0]]
        wanted += [c.period.not_like(_NARROWED)] if whole else []
        wanted += [_has_some(table)] if examined else []
        statement = select(table).where(*wanted).order_by(c.made_at.desc(), c.id).limit(most)
        made += records(place, statement, partial(_run, place=place.name))
    return sorted(made, key=lambda run: (run.made_at, str(run.id)), reverse=True)[:most]


def closest(
    places: Places,
    organization_id: UUID,
    within: tuple[datetime, datetime],
    filters: Iterable[tuple[str, str]] = (),
) -> Run | None:
    """The run that examined most of the half-open span; None if none examined any of it.

    Of several it is that with the fewest checks left out, of those the newest. A run examined its window up to its
    `as_of`. It has no filters, or some of `filters`, pairs as in a link. All runs are compared. Raises `RecordError`.
    """
    since, until = within
    allowed = {pair for pair in filters if pair[0] not in WINDOW and not _SURROGATE.search("".join(pair))}
    best, result = None, None
    for place in places.all:
        table = place.table
        c = table.c
        wanted = [c.organization_id == organization_id, c.since < until, c.until > since, _has_some(table)]
        wanted += _may_include(table, allowed)
        columns = (c.id, c.period, c.since, c.until, c.as_of, c.made_at, c.versions)
        for row, number_left_out in records(place, select(*columns).where(*wanted), _with_number_left_out):
            common = min(row.until, row.as_of, until) - max(row.since, since)
            narrowed = (pair for pair in url_params.pairs(row.period) if pair[0] not in WINDOW)
            rank = common, -number_left_out, row.made_at, str(row.id)
            if common > timedelta(0) and allowed.issuperset(narrowed) and (best is None or rank > best):
                best = rank
                result = place, select(table).where(c.organization_id == organization_id, c.id == row.id)
    if result is None:
        return None
    place, statement = result
    return records(place, statement, partial(_run, place=place.name))[0]


def related(
    places: Places, organization_id: UUID, period: str, within: tuple[datetime, datetime], most: int = MAX_COMPARED_RUNS
) -> list[Run]:
    """The newest runs with files of other periods that have most of the window `within`, in no order.

    `period` is the `Run.period` of that window: the filters of the runs include its filters, such as those of the month
    by another zone's days, or of the whole organization for one customer. Raises `RecordError`.
    """
    since, until = within
    own = filters_of(period)
    pairs = {(name, value) for name, values in own.items() for value in values}
    found = []
    for place in places.all:
        table = place.table
        c = table.c
        wanted = [c.organization_id == organization_id, c.since < until, c.until > since, c.period != period]
        wanted += _may_include(table, pairs)
        columns = (c.id, c.period, c.since, c.until, c.made_at, c.versions)
        for row, has_files in records(place, select(*columns).where(*wanted), _with_whether_files):
            is_most = 2 * (min(row.until, until) - max(row.since, since)) > until - since
            if has_files and is_most and _includes(filters_of(row.period), own):
                found.append((row.made_at, str(row.id), place, row.id))
    newest = sorted(found, key=lambda item: item[:2], reverse=True)[:most]
    made: list[Run] = []
    for place in places.all:
        c = place.table.c
        if ids := [id_ for *_, its, id_ in newest if its is place]:
            statement = select(place.table).where(c.organization_id == organization_id, c.id.in_(ids))
            made += records(place, statement, partial(_run, place=place.name))
    return made


def compared(
    places: Places, organization_id: UUID, period: str, within: tuple[datetime, datetime], most: int = MAX_COMPARED_RUNS
) -> list[Run]:
    """The newest runs of a period, whose window is `within`, and `related` ones, newest first. Raises `RecordError`."""
    made = runs(places, organization_id, period, most=most)
    made += related(places, organization_id, period, within, most)
    return sorted(made, key=lambda run: (run.made_at, str(run.id)), reverse=True)


def filters_of(period: str) -> dict[str, set[str]]:
    """The values of each filter of a `Run.period`."""
    filters: dict[str, set[str]] = {}
    for name, value in url_params.pairs(period):
        if name not in WINDOW:
            filters.setdefault(name, set()).add(value)
    return filters


def _includes(filters: Mapping[str, set[str]], own: Mapping[str, set[str]]) -> bool:
    """Whether the `own` filters select no event that `filters` leave out; False where their values do not show it."""
    return all(
        bool(mine := own.get(name, set())) and (mine <= values if name in TEXT_COLUMNS else mine == values)
        for name, values in filters.items()
    )


def _may_include(table: Table, pairs: Collection[tuple[str, str]]) -> list[ColumnElement[bool]]:
    """Runs without filters, or with one of these, so that the runs of other customers are not read."""
    if len(pairs) > _MAX_ALTERNATIVES:
        return []
    has = (table.c.period.contains(url_params.query_string([pair]), autoescape=True) for pair in pairs)
    return [or_(table.c.period.not_like(_NARROWED), *has)]


def _with_whether_files(row: Row[Any]) -> tuple[Row[Any], bool]:
    return row, bool(json.loads(row.versions).get(_FILES))


def _has_some(table: Table) -> ColumnElement[bool]:
    """Whether a run examined an event or found something."""
    return or_(*(table.c[name] > 0 for name in ("events", "high", "medium", "low")))


def _with_number_left_out(row: Row[Any]) -> tuple[Row[Any], int]:
    return row, len(json.loads(row.versions).get(_LEFT_OUT, ()))


def _run(row: Row[Any], place: PlaceName) -> Run:
    values = dict(row._mapping)
    values["counts"] = {severity: values.pop(severity) for severity in ("high", "medium", "low")}
    versions, checks = json.loads(values.pop("versions")), tuple(json.loads(values.pop("checks")))
    files, left_out = versions.pop(_FILES, {}), tuple(versions.pop(_LEFT_OUT, ()))
    findings = findings_of(values.pop("findings"))
    more = {"versions": versions, "checks": checks, "findings": findings, "files": files, "left_out": left_out}
    return Run(**values, **more, place=place)
