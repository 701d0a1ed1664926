"""Everything usage-explore raises on purpose, one tree with one root.

    UsageExploreError
    ├── QueryError              the question is wrong; `.faults` names each parameter and its cure
    ├── ScopeError              no organization chosen, or one the asker may not see
    ├── ConfigurationError      an option or environment variable is wrong
    ├── DatabaseError
    │   ├── DatabaseUnavailable     nobody answers, the connection broke, or the server has no room
    │   ├── StatementTimeout        the statement took longer than allowed
    │   ├── TableMismatch           the table is missing, or its columns or permissions do not fit
    │   └── NotExact                NaN, infinite or too large quantities where an exact sum was asked for
    ├── DrawingError            a chart could not be made a picture
    └── LoadError               a file was not loaded; nothing of it was written

Each message is one a user can act on: it names what is wrong and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

MAX_FAULTS = 100
"""Faults that one error lists; further ones are counted."""


class UsageExploreError(Exception):
    """The root: catch this one to catch them all."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one parameter, in words that say how to mend it."""

    parameter: str
    message: str

    def __str__(self) -> str:
        return f"{self.parameter}: {self.message}"


class QueryError(UsageExploreError):
    """The question is wrong. `faults` holds everything wrong with it, not only the first; beyond 100 their number."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        found = tuple(faults)
        if len(found) > MAX_FAULTS:
            more = len(found) - MAX_FAULTS + 1
            found = (*found[: MAX_FAULTS - 1], Fault("…", f"and {more:,} more faults; mend these first"))
        self.faults = found
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type[QueryError], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


class ScopeError(UsageExploreError):
    """No organization was chosen, or the one asked for is not for the asker to see."""

    @classmethod
    def refusing(cls, organization_id: UUID) -> ScopeError:
        """The error for an organization that is not the asker's or does not exist: the same words for both."""
        return cls(f"organization_id: {organization_id} is not an organization you may see; choose another one")


class ConfigurationError(UsageExploreError):
    """An option or an environment variable has a value that cannot work."""


class DatabaseError(UsageExploreError):
    """The question is fine, the database could not answer it.

    `cursor` says where iterating over pages of events stopped: `query.replace(cursor=error.cursor)` goes on from there.
    """

    cursor: str | None = None


class DatabaseUnavailable(DatabaseError):
    """Nobody answers at the database's address, the connection broke half-way, or the server has no room just now.

    `public` says it without addresses or paths, for those who only ask questions.
    """

    def __init__(
        self, message: str, public: str = "The database does not answer, or is busy; try again shortly."
    ) -> None:
        super().__init__(message, public)

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def public(self) -> str:
        """The words for everybody."""
        return str(self.args[1])


class StatementTimeout(DatabaseError):
    """The statement ran longer than the statement timeout and was cancelled."""


class TableMismatch(DatabaseError):
    """The table is missing, lacks a column, or the role may not read it."""


class NotExact(DatabaseError):
    """A sum would include NaN or infinite quantities, or exceed what the database can hold: no exact answer exists."""


class DrawingError(UsageExploreError):
    """A chart could not be made a picture: it took too long, or the process that draws ended."""


class LoadError(UsageExploreError):
    """A file could not be loaded; nothing of it was written."""
