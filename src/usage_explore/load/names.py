"""Loads names of ids and units of metrics from a file into the directory: all rows or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from sqlalchemy import Table

from usage_explore.db import names as directory
from usage_explore.db.names import Entry
from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files.open import open_source
from usage_explore.files.values import InvalidValue, plain_text, quoted, uuid_text
from usage_explore.formatting import counted, path_text
from usage_explore.load.identifiers import Identifiers
from usage_explore.names import KINDS, LOCAL_ORGANIZATION, METRIC, NO_NAMES, Key, Names, made_id
from usage_explore.query import validators
from usage_explore.sql.identifiers import identifier

MAX_NAMES = 1_000_000
"""Rows of a file of names."""

_MAX_FAULTS = 10
"""Faulty rows that an error names."""

MAX_UNIT_CHARACTERS = 40
"""Characters of a unit."""

_COLUMNS = ("id", "external_id", "name", "kind", "preferred_currency", METRIC, "unit")


@dataclass(frozen=True, slots=True)
class NamesReport:
    """Names of a file by kind, and how many of them were new or changed. `names` has that of the organization."""

    path: Path
    organization_id: UUID
    kinds: Mapping[str, int]
    changed: int
    names: Names = NO_NAMES

    def __str__(self) -> str:
        kinds = ", ".join(counted(number, kind) for kind, number in sorted(self.kinds.items()))
        organization = self.names.full("organization", self.organization_id)
        return f"{path_text(self.path)}: {kinds}; {self.changed:,} new or changed, of organization {organization}."


class _Row(NamedTuple):
    """A row of the file; `id` is None where the text `external_id` stands for it."""

    line: int
    kind: str
    id: UUID | None
    external_id: str | None
    name: str | None
    preferred_currency: str | None
    unit: str | None = None


def load_names(
    connection: psycopg.Connection[Any], events: Table, table: Table, path: Path, organization_id: UUID | None
) -> NamesReport:
    """Write the names of a CSV, JSON Lines or Parquet file, in the connection's transaction; all rows or none.

    Columns: `id` or `external_id`, `name`, `kind` (default customer), `preferred_currency`, or `metric`, a metric key,
    and `unit`; others are ignored. An `id` that is no UUID is an external id. An external id stands for the id that
    has it in the directory, else, if it is a UUID, for itself, else for the id that `load` makes of the text. A row of
    kind organization needs no id. Without `organization_id` it is the only one that has events, or `LOCAL_ORGANIZATION`
    in an empty table.

    Raises `LoadError`, naming faulty rows, `ConfigurationError`, `TableMismatch`.
    """
    organization = organization_id or only_organization(connection, events)
    rows = _rows(path, organization)
    texts = [(row.kind, row.external_id) for row in rows if row.id is None and row.external_id is not None]
    stored = directory.ids_by_external_id(connection, table, organization, texts) if texts else {}
    entries: dict[tuple[str, UUID], tuple[int, Entry]] = {}
    faults = []
    for row in rows:
        id_ = row.id or _id(row, stored)
        if row.kind == "organization" and id_ != organization:
            faults.append((row.line, f"names organization {id_}, not {organization}; leave its id out"))
            continue
        if before := entries.get((row.kind, id_)):
            faults.append((row.line, f"{row.kind} {id_} is given again, after line {before[0]:,}; keep one"))
            continue
        entries[row.kind, id_] = row.line, Entry(row.kind, id_, *row[3:])
    _raise(path, faults)
    _, changed = directory.upsert(connection, table, organization, (entry for _, entry in entries.values()))
    names = directory.own_names(connection, table, [organization])
    return NamesReport(path, organization, Counter(kind for kind, _ in entries), changed, names)


def only_organization(connection: psycopg.Connection[Any], events: Table) -> UUID:
    """The organization of all events, `LOCAL_ORGANIZATION` without any. Raises `ConfigurationError` for several."""
    statement = "SELECT DISTINCT organization_id FROM {} LIMIT 2"
    rows = connection.execute(psycopg.sql.SQL(statement).format(identifier(events))).fetchall()
    if not rows:
        return LOCAL_ORGANIZATION
    if len(rows) > 1:
        raise ConfigurationError(
            "--organization-id: is missing and the table holds several organizations; name one of them"
        )
    return UUID(str(rows[0][0]))


def without_events(connection: psycopg.Connection[Any], events: Table, organization: UUID) -> str:
    """A warning that the organization has no events while others have, as after a slip in its id; "" if it has some."""
    statement = "SELECT EXISTS (SELECT FROM {0} WHERE organization_id = %s), EXISTS (SELECT FROM {0})"
    found = psycopg.sql.SQL(statement).format(identifier(events))
    ((has_some, others_have),) = connection.execute(found, [organization]).fetchall()
    if has_some or not others_have:
        return ""
    return f"Warning: organization {organization} has no events, others have; check --organization-id."


def _rows(path: Path, organization: UUID) -> list[_Row]:
    """The rows of the file. Raises `LoadError`."""
    rows: list[_Row] = []
    faults: list[tuple[int, str]] = []
    with open_source(path, None) as source:
        if source.names is not None:
            _check_columns(path, source.names)
        for number, (line, record, reason) in enumerate(source, 1):
            if number > MAX_NAMES:
                raise LoadError(f"{path_text(path)}: has more than {MAX_NAMES:,} rows; split it")
            if record is None:
                faults.append((line, reason or "cannot be read"))
                continue
            try:
                if values := _values(record):
                    rows.append(_row(line, values, organization))
            except InvalidValue as error:
                faults.append((line, str(error)))
    _raise(path, faults)
    if not rows:
        raise LoadError(f"{path_text(path)}: has no rows with names")
    return rows


def _check_columns(path: Path, names: Iterable[str]) -> None:
    names = [name.strip().lower() for name in names]
    if METRIC in names and "unit" in names:
        return
    for wanted in (("id", "external_id"), ("name", "preferred_currency")):
        if not set(wanted) & set(names) and (wanted[0] != "id" or "kind" not in names):
            near = next(filter(None, (validators.did_you_mean(name, wanted) for name in names)), "")
            raise LoadError(
                f"{path_text(path)}: has no column {' or '.join(wanted)}{near}; it has {', '.join(names[:20])};"
                " the columns are"
                f" {', '.join(_COLUMNS)}"
            )


def _values(record: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the columns that are used, without blank ones. Raises `InvalidValue`."""
    texts: dict[str, str] = {}
    for column, value in record.items():
        name = str(column).strip().lower()
        if name not in _COLUMNS or value is None:
            continue
        try:
            text = plain_text(value).strip()
        except InvalidValue as error:
            raise InvalidValue(f"{name} {error}") from None
        if texts.setdefault(name, text) != text:
            raise InvalidValue(f"{name} is {quoted(texts[name])} in one column and {quoted(text)} in another; keep one")
    return {name: text for name, text in texts.items() if text}


def _row(line: int, values: Mapping[str, str], organization: UUID) -> _Row:
    kind = values.get("kind", METRIC if METRIC in values else "customer").lower().removesuffix("_id")
    if kind not in (*KINDS, METRIC):
        near = validators.did_you_mean(kind, (*KINDS, METRIC)) or f"; write {', '.join((*KINDS, METRIC))}"
        raise InvalidValue(f"kind {validators.shorten(values['kind'])} is none{near}")
    for name, text in values.items():
        try:
            validators.text(text)
        except ValueError as error:
            raise InvalidValue(f"{name} {error}") from None
    if kind == METRIC:
        return _metric(line, values)
    if unused := [name for name in (METRIC, "unit") if name in values]:
        raise InvalidValue(f"{unused[0]} is not of kind {kind}; metrics have rows of their own, with metric and unit")
    id_, external = _uuid(values.get("id")), values.get("external_id")
    if "id" in values and id_ is None:
        if external not in (None, values["id"]):
            raise InvalidValue("id is no UUID, and external_id is another text; keep one")
        external = values["id"]
    if id_ is None and external is None:
        if kind != "organization":
            raise InvalidValue("has neither id nor external_id")
        id_ = organization
    elif id_ is None and kind == "organization":
        id_ = organization
    if "name" not in values and "preferred_currency" not in values:
        raise InvalidValue("has neither name nor preferred_currency")
    return _Row(line, kind, id_, external, values.get("name"), values.get("preferred_currency"))


def _metric(line: int, values: Mapping[str, str]) -> _Row:
    """A row of a metric, which is known by its key, and has a unit only."""
    if unused := [name for name in ("id", "name", "preferred_currency") if name in values]:
        raise InvalidValue(f"{unused[0]} is not of kind {METRIC}; write its key as metric, and its unit")
    keys = {values[name] for name in (METRIC, "external_id") if name in values}
    if len(keys) != 1:
        raise InvalidValue("metric and external_id are two keys; keep one" if keys else "has no metric")
    if len(values.get("unit", "")) > MAX_UNIT_CHARACTERS:
        raise InvalidValue(f"unit is longer than {MAX_UNIT_CHARACTERS} characters")
    if "unit" not in values:
        raise InvalidValue("has no unit")
    key = keys.pop()
    return _Row(line, METRIC, made_id(METRIC, key), key, None, None, values["unit"])


def _id(row: _Row, stored: Mapping[Key, UUID]) -> UUID:
    text = row.external_id or ""
    return stored.get((row.kind, text)) or UUID(Identifiers().made(f"{row.kind}_id", "", text))


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(uuid_text(text)) if text else None
    except InvalidValue:
        return None


def _raise(path: Path, faults: list[tuple[int, str]]) -> None:
    if faults:
        lines = list(_lines(faults[:_MAX_FAULTS]))
        more = f"\n… and {len(faults) - _MAX_FAULTS:,} more" if len(faults) > _MAX_FAULTS else ""
        raise LoadError(
            f"{path_text(path)}: {counted(len(faults), 'row')} cannot be loaded, so none was:\n"
            + "\n".join(lines)
            + more
        )


def _lines(faults: Iterable[tuple[int, str]]) -> Iterator[str]:
    return (f"line {line:,}: {reason}" for line, reason in faults)
