"""The exceptions that usage-explore raises deliberately.

    UsageExploreError
    ├── QueryError              the query is invalid; `.faults` names each parameter and the correction
    ├── ScopeError              no organization chosen, or one that the caller may not see
    ├── ConfigurationError      an option or environment variable is invalid
    ├── DatabaseError
    │   ├── DatabaseUnavailable     no answer, a broken connection, or a server without resources
    │   ├── StatementTimeout        the statement exceeded the statement timeout
    │   ├── TableMismatch           the table is missing, or its columns or permissions do not fit
    │   │   └── SettingsMismatch            the database's settings do not fit: statements would miss rows, for example
    │   └── NotExact                NaN, infinite or too large quantities in an exact sum
    ├── RecordError             a record, such as a saved view or a decision, could not be read or saved
    │   └── LinkGone                a short link that is unknown, has expired or was revoked
    ├── ServerError             the server of a remote store failed
    ├── DrawingError            a chart could not be drawn as a picture
    └── LoadError               a file was not loaded; nothing of it was written

Each message says what is wrong and what to do about it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

MAX_FAULTS = 100
"""Faults that one error lists; further ones are counted."""


class UsageExploreError(Exception):
    """The base class of all exceptions of usage-explore."""


def is_out_of_files(error: BaseException) -> bool:
    """Whether an error, or one behind it, is that the process or the system has too many open files."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in (errno.EMFILE, errno.ENFILE):
            return True
        behind = behind.__cause__ or behind.__context__
    return False


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one parameter; the message says how to correct it."""

    parameter: str
    message: str

    def __str__(self) -> str:
        return f"{self.parameter}: {self.message}"


class QueryError(UsageExploreError):
    """The query is invalid. `faults` has all its faults; beyond 100, the last one counts the others."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        found = tuple(faults)
        if len(found) > MAX_FAULTS:
            more = len(found) - MAX_FAULTS + 1
            found = (*found[: MAX_FAULTS - 1], Fault("…", f"and {more:,} more faults; fix these first"))
        self.faults = found
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type[QueryError], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


class NoPriceBook(QueryError):
    """Usage was to be rated, and no price book was given or is stored."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        message = (
            "there is no price book; give one, in Python prices=, on the command line --prices FILE, or load one with"
            " `usage-explore prices load FILE`"
        )
        super().__init__(tuple(faults) or (Fault("prices", message),))


class ScopeError(UsageExploreError):
    """No organization was chosen, or the caller may not see the one that was."""

    @classmethod
    def refusing(cls, organization_id: UUID) -> ScopeError:
        """The error for an organization that does not exist or may not be seen: the same message for both."""
        return cls(f"organization_id: {organization_id} is not an organization you may see; choose another one")


class ConfigurationError(UsageExploreError):
    """An option or an environment variable has an invalid value."""


class DatabaseError(UsageExploreError):
    """The query is valid, but the database could not answer it.

    `cursor` is the position where iterating over pages of events stopped: `query.replace(cursor=error.cursor)` resumes.
    """

    cursor: str | None = None


class DatabaseUnavailable(DatabaseError):
    """The database does not answer or refuses the connection, the connection broke, or the server lacks resources.

    `public` is the message without addresses and paths, for users of the API and the app.
    """

    def __init__(
        self, message: str, public: str = "The database does not answer, or is busy; try again shortly."
    ) -> None:
        super().__init__(message, public)

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def public(self) -> str:
        """The message without addresses and paths."""
        return str(self.args[1])


class StatementTimeout(DatabaseError):
    """The statement exceeded the statement timeout and was cancelled."""


class TableMismatch(DatabaseError):
    """The table is missing, lacks a column, or may not be read by the role.

    `public` is the message for users of the API and the app.
    """

    public = "The events table is missing or does not fit; `usage-explore doctor` says what to do."

    @classmethod
    def unreadable(cls, table: str, privileges: Iterable[str]) -> TableMismatch:
        """The error for a table that the role may not read, with the grant that is missing."""
        error = cls(
            f"This database role may not read the table {table}; its owner can run GRANT {', '.join(privileges)} ON"
            f" {table} TO the role."
        )
        error.public = f"The server's database role may not read the table {table}; its owner can grant it."
        return error


class SettingsMismatch(TableMismatch):
    """The settings of the role, the database, the server or a pooler hide rows or change how values are written.

    The message names them and has no addresses or paths, so that users of the API and the app see it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.public = message


class NotExact(DatabaseError):
    """A sum would include NaN or infinite quantities or costs, or exceed what the database can hold."""

    @classmethod
    def not_finite(cls) -> NotExact:
        """The error for quantities or costs that are NaN or infinite."""
        return cls(
            "Some quantities or costs are NaN or infinite, so they have no exact sum; "
            "`usage-explore doctor` names them. "
            "Counting (metric=count) still works."
        )


class RecordError(UsageExploreError):
    """A record of the user's, such as a saved view, could not be read, saved or changed; nothing of it was written."""


class LinkGone(RecordError):
    """There is no such short link: it is unknown, has expired or was revoked; the message is the same."""

    def __init__(self) -> None:
        super().__init__("This link is unknown, has expired or was revoked.")

    def __reduce__(self) -> tuple[type[LinkGone], tuple[()]]:
        return type(self), ()


class ServerError(UsageExploreError):
    """The server of a remote store failed; its log has the cause, by the id of the request in the message."""


class DrawingError(UsageExploreError):
    """A chart could not be drawn as a picture: drawing took too long, or its process ended."""


class LoadError(UsageExploreError):
    """A file could not be loaded; nothing of it was written."""
