"""What comes back: the change, the few cells that account for it, and everything else; together exactly the change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from usage_explore.describe import describe, group_name
from usage_explore.explain.spans import Span, words
from usage_explore.filters import DIMENSION, GROUPS, ID_COLUMNS, dimension_key
from usage_explore.numbers import Number, decimal_context, exact_sum, plain, ratio, rfc3339
from usage_explore.query import METRICS, AggregateQuery, EventQuery
from usage_explore.question import Question

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Where = tuple[tuple[str, str | None], ...]
"""(group, value) pairs; None where it is absent."""

_LONGEST = 60
_TELLING = 100
"""A change or share of more than a hundred times the whole is told without its percentage."""

_TOLD = 3
"""How many cells the sentence names."""


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
            f"{group_name(group)} is {value_words(value)}" for group, value in sorted((*who, *self.where), key=_order)
        ]
        if len(self.without) > 1:
            said.append(f"without {len(self.without)} others")
        else:
            said += [f"{group_name(group)} is not {value_words(value)}" for group, value in self.without]
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
            "where": _pairs(self.where),
            "without": _pairs(self.without),
            "always": _pairs(self.always),
            **_numbers(self),
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


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What changed between two windows of a question, or against a number that was expected.

    `query` is the question as it took effect, over the window explained, `after`; `before` is the window it is
    compared with. Against an `expected` number, what a part had before is its share of that number, in proportion to
    what it had in the window before. The contributions of `cells`, ranked by size, and of `rest` sum to the total's
    exactly. `groups` are the dimensions looked at, `notes` say what to know about how the cells were found.
    """

    query: AggregateQuery
    before: Span
    after: Span
    expected: Decimal | None
    total: Part
    cells: tuple[Cell, ...]
    rest: Part
    groups: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def change(self) -> Number:
        """By how much the total changed, exactly."""
        return self.total.contribution

    @property
    @decimal_context()
    def sentence(self) -> str:
        """What changed and what accounts for it, in one sentence."""
        unit = METRICS[self.query.metric]
        now, then = exact(self.total.after), exact(self.total.before)
        against = f"{then} expected" if self.expected is not None else f"{then} {words(self.before, self.query)}"
        said = f"{now} {unit} {words(self.after, self.query)} against {against}"
        if not self.change:
            said += ", no change in all"
        else:
            part = _ratio(self.change, self.total.before)
            said += f", a change of {signed(self.change)}{f' ({part})' if part else ''}"
        if not self.cells:
            return f"{said}: no value or pair of values stands out."
        told = [f"{signed(cell.contribution)}{_share(cell)} where {cell.label}{_birth(cell)}" for cell in self.cells]
        more = len(told) - _TOLD
        if more > 0:
            told = [*told[:_TOLD], f"{more} smaller part{'s' if more > 1 else ''}"]
        return f"{said}: {'; '.join(told)}; {signed(self.rest.contribution)} everything else."

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per cell, ranked, then everything else.

        Columns: `label` (str), `before`, `after`, `contribution` (int64 for counts against counts, else `Decimal`
        objects), `share` (Decimal objects or None), `is_new`, `is_gone` (bool).
        """
        import pandas as pd

        parts: list[Part] = [*self.cells, self.rest]
        number = "int64" if self.query.metric == "count" and self.expected is None else "object"
        columns: dict[str, Any] = {
            "label": pd.Series([*(cell.label for cell in self.cells), EVERYTHING_ELSE], dtype="str"),
            "before": pd.Series([part.before for part in parts], dtype=number),
            "after": pd.Series([part.after for part in parts], dtype=number),
            "contribution": pd.Series([part.contribution for part in parts], dtype=number),
            "share": pd.Series([part.share for part in parts], dtype="object"),
            "is_new": pd.Series([*(cell.is_new for cell in self.cells), False], dtype="bool"),
            "is_gone": pd.Series([*(cell.is_gone for cell in self.cells), False], dtype="bool"),
        }
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        return f"<Explanation: {self.sentence} {describe(self.query)}>"

    def _repr_html_(self) -> str:
        texts = self.frame.assign(
            **{name: [plain(value) for value in self.frame[name]] for name in ("before", "after", "contribution")}
        ).drop(columns="share")
        return f"<p>{escape(self.sentence)}</p>{texts.to_html(max_rows=20)}"

    def chart(self, **options: Any) -> alt.LayerChart:
        """The contributions as ranked bars; see `usage_explore.charts.explanation.chart` for the options."""
        from usage_explore.charts import explanation

        return explanation.chart(self, **options)

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON carries it: decimals and times as text."""
        return {
            "question": dict_of(self.query.to_params()),
            "before": _span(self.before),
            "after": _span(self.after),
            "expected": None if self.expected is None else plain(self.expected),
            "total": _numbers(self.total),
            "cells": [cell.to_dict() for cell in self.cells],
            "rest": _numbers(self.rest),
            "groups": list(self.groups),
            "notes": list(self.notes),
            "sentence": self.sentence,
        }


EVERYTHING_ELSE = "everything else"


def difference(after: Number, before: Number) -> Number:
    """`after` less `before` to the last digit; an `int` where both are."""
    if isinstance(after, int) and isinstance(before, int):
        return after - before
    # copy_negate, because a minus sign would round to the context's 28 digits
    return exact_sum((Decimal(after), Decimal(before).copy_negate()), Decimal(0))


def exact(value: Number) -> str:
    """The number to the last digit, thousands separated by commas."""
    return format(Decimal(plain(value)), ",f")


def signed(value: Number) -> str:
    """The same with its sign: "+1,200"."""
    return exact(value) if value < 0 else f"+{exact(value)}"


def value_words(value: str | None) -> str:
    """A value as people read it, without what moves a cursor or turns the writing round."""
    if value is None:
        return "(missing)"
    short = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    return (short if short.isprintable() else repr(short)[1:-1]) or "(empty)"


def dict_of(params: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Parameters, each with its values."""
    found: dict[str, list[str]] = {}
    for name, value in params:
        found.setdefault(name, []).append(value)
    return found


def _order(pair: tuple[str, str | None]) -> int:
    return GROUPS.index(pair[0]) if pair[0] in GROUPS else len(GROUPS)


def _birth(cell: Cell) -> str:
    return " (new)" if cell.is_new else " (gone)" if cell.is_gone else ""


def _share(part: Part) -> str:
    return "" if part.share is None or part.share.copy_abs() > _TELLING else f" ({part.share:.1%})"


def _ratio(change: Number, before: Number) -> str:
    part = ratio(change, Decimal(before).copy_abs()) if before else None
    return "" if part is None or part.copy_abs() > _TELLING else f"{part:+.1%}"


def _numbers(part: Part) -> dict[str, Any]:
    values = {"before": part.before, "after": part.after, "contribution": part.contribution}
    texts = {name: plain(value) if isinstance(value, Decimal) else value for name, value in values.items()}
    return {**texts, "share": None if part.share is None else plain(part.share)}


def _pairs(where: Where) -> list[dict[str, str | None]]:
    return [{"group": group, "value": value} for group, value in where]


def _span(span: Span) -> dict[str, str]:
    return {"since": rfc3339(span.since), "until": rfc3339(span.until)}
