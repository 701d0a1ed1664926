"""Warnings of a file's events that are in a period which was signed off already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import func, select

from usage_explore.db.schema import events_table
from usage_explore.errors import QueryError, RecordError
from usage_explore.formatting import counted, data_value, date
from usage_explore.load.staging import Stage
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import SignOff, corrections_command, period_words, signed_period
from usage_explore.sql.filters import conditions

SignOffs = Callable[[UUID], Sequence[SignOff]]
"""Gives the sign-offs of an organization, newest first."""

_MAX_NAMED = 3
"""Signed periods of an organization that are named."""


def signed_warnings(signoffs: Iterable[SignOff], stage: Stage, *, replaces: bool) -> Iterator[str]:
    """The warnings of staged rows in signed periods of the organization with these sign-offs, newest first.

    `replaces` says whether stored events of the organization were superseded, which may be of such a period, too.
    """
    if stage.first is None or stage.last is None:
        return
    c = events_table("pg_temp.usage_explore_load").c
    arrival = func.coalesce(c.ingested_at, func.now()).label("ingested_at")
    staged = select(*(column for column in c if column is not c.ingested_at), arrival).subquery()
    found: dict[Period, tuple[SignOff, int]] = {}
    for one in signoffs:
        try:
            period = signed_period(one).replace(as_of=None)
        except (QueryError, RecordError):
            continue  # of another version: validation names it
        if one.since <= stage.last and stage.first < one.until and period not in found:
            rows = stage.read(select(func.count()).select_from(staged).where(*conditions(staged, period))).fetchone()
            found[period] = one, rows[0] if rows else 0
    changed = [(one, events) for one, events in found.values() if events or replaces]
    is_one_of_several = bool(changed) and stage.holds_several()
    for one, events in changed[:_MAX_NAMED]:
        what = f"{counted(events, 'event')} {'is' if events == 1 else 'are'}" if events else "superseded events may be"
        command = corrections_command(one, is_one_of_several=is_one_of_several)
        yield (
            f"warning: {what} in a period that {data_value(one.author)} signed on"
            f" {date(one.signed_at.astimezone(ZoneInfo(one.timezone)))} ({period_words(one)}): `{command}`"
            " lists what is to be billed or credited since"
        )
    if len(changed) > _MAX_NAMED:
        yield f"warning: {len(changed) - _MAX_NAMED:,} more signed periods have such events"
