"""The parts of a change: cells that share no event, each with what it had before and after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from usage_explore.decimals import Number, difference, plain
from usage_explore.explain.spans import Span
from usage_explore.formatting import data_value
from usage_explore.query.base import Question
from usage_explore.query.describe import group_name
from usage_explore.query.filters import DIMENSION, GROUPS, ID_COLUMNS, dimension_key
from usage_explore.query.queries import AggregateQuery, EventQuery

Where = tuple[tuple[str, str | None], ...]
"""(group, value) pairs; None where it is absent."""

EVERYTHING_ELSE = "everything else"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the change: what it had `before` and `after`, and its `share` of the whole change.

    `share` is the contribution over the change, None where nothing changed in all.
    """

    before: Number
    after: Number
    share: Decimal | None

    @property
    def contribution(self) -> Number:
        """By how much the part changed, exactly."""
        return difference(self.after, self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell(Part):
    """The events that have every value of `where` and none of `without`: no event lies in two cells.

    `always` holds further values that all the cell's events have, before and after. `is_new`: there were no such events
    before; `is_gone`: there are none now. `asked` is the explanation's question over the window explained.
    """

    where: Where
    without: Where
    always: Where
    is_new: bool
    is_gone: bool
    asked: AggregateQuery

    @property
    def label(self) -> str:
        """The cell in words: "customer is 0a7f…, api key is k1, region is not eu"; with the customer if it is one."""
        who = [pair for pair in self.always if pair[0] == ID_COLUMNS[0]]
        said = [
            f"{group_name(group)} is {data_value(value)}" for group, value in sorted((*who, *self.where), key=_order)
        ]
        if len(self.without) > 1:
            said.append(f"without {len(self.without)} others")
        else:
            said += [f"{group_name(group)} is not {data_value(value)}" for group, value in self.without]
        return ", ".join(said)

    @property
    def question(self) -> EventQuery:
        """The question for the cell's events in the window explained.

        Raises `QueryError` where a value is longer than a filter's may be.
        """
        return self._events(*self.asked.span)

    def events(self, span: Span) -> EventQuery:
        """The question for the cell's events in another window, such as the explanation's `before`."""
        return self._events(span.since, span.until)

    def to_dict(self) -> dict[str, Any]:
        """The cell as JSON carries it."""
        return {
            "where": pairs_list(self.where),
            "without": pairs_list(self.without),
            "always": pairs_list(self.always),
            **numbers_dict(self),
            "is_new": self.is_new,
            "is_gone": self.is_gone,
        }

    def _events(self, since: datetime, until: datetime) -> EventQuery:
        asked = self.asked
        given = {name: value for name, value in asked.given().items() if name in Question.model_fields}
        dimensions, missing = dict(asked.dimensions), set(asked.missing)
        excluded = {name: set(values) for name, values in asked.exclude}
        for group, value in self.where:
            if value is None:
                missing.add(group)
            elif group.startswith(DIMENSION):
                dimensions[dimension_key(group)] = (value,)
            else:
                given[group] = value
        for group, value in self.without:
            name, banned = ("missing", group) if value is None else (group, value)
            excluded.setdefault(name, set()).add(banned)
        given |= {"dimensions": dimensions, "exclude": excluded}
        if missing:
            given["missing"] = sorted(missing)
        return EventQuery(**{**given, "occurred_after": since, "occurred_before": until})


def _order(pair: tuple[str, str | None]) -> int:
    return GROUPS.index(pair[0]) if pair[0] in GROUPS else len(GROUPS)


def numbers_dict(part: Part) -> dict[str, Any]:
    """The numbers of a part for JSON: decimals as text."""
    values = {"before": part.before, "after": part.after, "contribution": part.contribution}
    texts = {name: plain(value) if isinstance(value, Decimal) else value for name, value in values.items()}
    return {**texts, "share": None if part.share is None else plain(part.share)}


def pairs_list(where: Where) -> list[dict[str, str | None]]:
    """The (group, value) pairs for JSON."""
    return [{"group": group, "value": value} for group, value in where]
