"""Decisions on findings: acknowledged, muted, assigned, noted, reopened; by whom and when. Rows are only ever added.

A decision belongs to one organization, whose users all see it and may decide again. It follows the finding, not the
run: every later run that has the finding shows it. Every function takes the organization from the caller, who has
checked that it is visible.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, get_args
from uuid import UUID, uuid4

from sqlalchemy import Row, insert, select

from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, QueryError, RecordError
from usage_explore.query import validators
from usage_explore.records import texts
from usage_explore.records.identities import RecordedFinding
from usage_explore.records.places import PlaceName, Places, records

Action = Literal["acknowledge", "mute", "assign", "note", "reopen"]

ACTIONS: tuple[Action, ...] = get_args(Action)

MAX_DECISIONS = 100_000
"""Decisions of an organization, in each place."""

MAX_ASSIGNEE_CHARACTERS = 320
"""Characters of the person or team that a finding is assigned to."""

_ONE_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision. `finding` is what the finding was when it was made.

    `until` is the end of a mute; `assignee` is that of an assign, "" if it was removed. `author` is an e-mail
    address, a name, or "local". `place` is "table" for a decision beside the events, "file" for one in the data folder.
    """

    id: UUID
    organization_id: UUID
    made_at: datetime
    author: str
    action: Action
    finding: RecordedFinding
    until: datetime | None = None
    assignee: str = ""
    note: str = ""
    place: PlaceName

    def to_dict(self) -> dict[str, Any]:
        """The decision as JSON carries it."""
        return {
            "id": str(self.id),
            "made_at": rfc3339(self.made_at),
            "by": self.author,
            "action": self.action,
            "until": rfc3339(self.until) if self.until else None,
            "assignee": self.assignee or None,
            "note": self.note or None,
            "finding_id": self.finding.identity.id,
            "severity_then": self.finding.severity,
            "events_then": self.finding.events,
        }


def decide(
    places: Places,
    organization_id: UUID,
    findings: Sequence[RecordedFinding],
    action: str,
    now: datetime,
    *,
    author: str,
    until: datetime | str | None = None,
    assignee: str | None = None,
    note: str = "",
) -> list[Decision]:
    """Keep the same decision on each finding, or on none.

    Raises `QueryError` with all faults, `RecordError`, `DatabaseError`.
    """
    values = _values(author, action, now, until, assignee, note)
    made = []
    with places.saving.writing() as writer:
        if writer.count(organization_id) + len(findings) > MAX_DECISIONS:
            raise RecordError(f"There may be {MAX_DECISIONS:,} decisions at most, and these would be more.")
        latest = writer.latest(organization_id, "made_at")
        made_at = now if latest is None else max(now, latest + _ONE_MICROSECOND)
        for number, finding in enumerate(findings):
            own = {
                "organization_id": organization_id,
                "id": uuid4(),
                **values,
                "made_at": made_at + number * _ONE_MICROSECOND,
            }
            text = json.dumps(finding.to_dict(), ensure_ascii=False)
            row = {**own, "finding_id": finding.identity.id, "finding": text}
            writer.change(insert(writer.table).values(**row))
            made.append(Decision(**own, finding=finding, place=places.saving.name))
    return made


def decisions(places: Places, organization_id: UUID, finding_id: str | None = None) -> list[Decision]:
    """The organization's decisions, oldest first; those made on a finding of this id. Raises `RecordError`."""
    made = []
    for place in places.all:
        table = place.table
        c = table.c
        wanted = [c.organization_id == organization_id, *([c.finding_id == finding_id] if finding_id else [])]
        made += records(place, select(table).where(*wanted), partial(_decision, place=place.name))
    return sorted(made, key=lambda decision: (decision.made_at, str(decision.id)))


def _decision(row: Row[Any], place: PlaceName) -> Decision:
    values = dict(row._mapping)
    values.pop("finding_id")
    finding = RecordedFinding.from_dict(json.loads(values.pop("finding")))
    return Decision(**values, finding=finding, place=place)


def _values(
    author: str, action: str, now: datetime, until: datetime | str | None, assignee: str | None, note: str
) -> dict[str, Any]:
    """The values of a decision's columns, validated."""
    faults: list[Fault] = []
    by = ""
    try:
        by = texts.given_author(author)
    except ValueError as error:
        faults.append(Fault("by", str(error)))

    def read(parameter: str, reader: Callable[[], Any]) -> Any:
        try:
            return reader()
        except (TypeError, ValueError) as error:
            faults.append(Fault(parameter, str(error)))
            return None

    chosen = read("action", lambda: validators.choice(action, ACTIONS))
    end = None if until is None else read("until", lambda: validators.instant(until))
    whom = None if assignee is None else read("assignee", lambda: _assignee(assignee))
    text = read("note", lambda: texts.note(note))
    if chosen == "mute" and until is None:
        faults.append(Fault("until", "is missing; name the time until which the finding is muted"))
    elif chosen == "mute" and end is not None and end <= now:
        faults.append(Fault("until", f"is not after now, {rfc3339(now)}; name a later time"))
    elif chosen != "mute" and until is not None:
        faults.append(Fault("until", "is for the action mute"))
    if chosen == "assign" and assignee is None:
        faults.append(Fault("assignee", "is missing; name a person or a team, or nobody by an empty text"))
    elif chosen != "assign" and assignee is not None:
        faults.append(Fault("assignee", "is for the action assign"))
    if chosen == "note" and text == "":
        faults.append(Fault("note", "is blank; write what others should know"))
    if faults:
        raise QueryError(faults)
    return {"author": by, "action": chosen, "until": end, "assignee": whom or "", "note": text}


def _assignee(value: str) -> str:
    text = validators.text(value, blank=True).strip()
    if not texts.is_printable(text):
        raise ValueError("has a line break, a control character or an invisible one; write it in plain text")
    return texts.bounded(text, MAX_ASSIGNEE_CHARACTERS)
