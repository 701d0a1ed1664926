"""What a server says of itself and of its jobs, from decoded JSON; other JSON raises `TypeError` and the like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from usage_explore.remote import wire


@dataclass(frozen=True, slots=True)
class State:
    """What a server says of an organization."""

    organization: str
    organization_id: UUID
    now: datetime
    known: datetime | None
    settle: timedelta

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> State:
        """The state that the operation `STATE` describes."""
        return cls(
            organization=str(found["organization"]),
            organization_id=UUID(found["organization_id"]),
            now=datetime.fromisoformat(found["now"]),
            known=found["known"] and datetime.fromisoformat(found["known"]),
            settle=timedelta(seconds=found["settle_seconds"]),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A job on the server; `problem` is why there is no result."""

    id: str
    state: str
    progress: Mapping[str, float]
    result: Any
    problem: Mapping[str, Any] | None

    @classmethod
    def of(cls, kind: type[Any], found: Mapping[str, Any]) -> Job:
        """A job whose result is of this type."""
        return cls(
            id=str(found["id"]),
            state=str(found["state"]),
            progress={str(name): float(part) for name, part in found["progress"].items()},
            result=wire.one(kind, None)(found["result"]),
            problem=wire.one(dict, None)(found["problem"]),
        )


def listed_organizations(found: Mapping[str, Any]) -> list[tuple[UUID, str | None]]:
    """Ids and names of organizations."""
    return [(UUID(row["id"]), wire.one(str, None)(row["name"])) for row in found["organizations"]]
