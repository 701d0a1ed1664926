"""An explanation: the change, the few cells that account for it, and everything else, which add up to it exactly.

No event is in two cells. `build_parts` makes the parts from the sums of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from usage_explore import formatting
from usage_explore.decimals import Number, decimal_context, difference, exact_sum, plain, ratio, rfc3339
from usage_explore.explain.single_values import Sums
from usage_explore.explain.spans import Span, words
from usage_explore.formatting import counted, data_value, exact, percent, signed
from usage_explore.names import NO_NAMES, Names
from usage_explore.query.describe import describe, group_name, measure_name
from usage_explore.query.filters import DIMENSION, GROUPS, ID_COLUMNS, dimension_key
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.results.named import filtered_ids
from usage_explore.results.types import json_value

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Where = tuple[tuple[str, str | None], ...]
"""(group, value) pairs; None for events without a value."""

EVERYTHING_ELSE = "everything else"
"""Name of the part outside all cells."""

_AMOUNTS = ("before", "after", "contribution")
_WITHIN_CHANCE = "changed clearly more than by chance; some may have risen, others fallen"

_SHARE_CONTEXT = Context(prec=6)
"""Shares are rounded to six digits; contributions are exact."""

_MAX_RATIO = 100
"""A change or share of more than this multiple of the whole is written without its percentage."""

_MAX_CELLS_IN_SENTENCE = 3

_MAX_COMMON_IN_SENTENCE = 5
"""Values that all events have and the sentence names."""

_MAX_EXCLUDED_IN_LABEL = 2
"""Excluded values that a label names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the change: its amounts `before` and `after`, and its `share` of the total change.

    `share` is the contribution divided by the total change, six digits; None if the total did not change.
    """

    before: Number
    after: Number
    share: Decimal | None

    @property
    def contribution(self) -> Number:
        """`after - before`, exact."""
        return difference(self.after, self.before)

    @property
    def is_against(self) -> bool:
        """Whether the part changed in the other direction than the total: its share is negative."""
        return self.share is not None and self.share < 0

    @property
    def share_words(self) -> str:
        """The share in words, "72.7 % of the change" or "-5.3 %, against the change"; blank without, or beyond 100."""
        if self.share is None or self.share.copy_abs() > _MAX_RATIO:
            return ""
        return f"{percent(self.share)}{', against the change' if self.is_against else ' of the change'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell(Part):
    """The events that have every value of `where` and none of `without`: no event is in two cells.

    `always` are further values that all events of the cell have in both windows. `is_new`: it had no events before;
    `is_gone`: it has none after. `query` is the explanation's query over the window explained.
    """

    where: Where
    without: Where
    always: Where
    is_new: bool
    is_gone: bool
    query: AggregateQuery

    @property
    def label(self) -> str:
        """The cell in words: "customer is 0a7f…, region is not eu"; with its customer if it has only one."""
        customer = [pair for pair in self.always if pair[0] == ID_COLUMNS[0]]
        conditions = _conditions((*customer, *self.where))
        if len(self.without) > _MAX_EXCLUDED_IN_LABEL:
            conditions += [f"{name} is not {_some(values)}" for name, values in self._excluded().items()]
        else:
            conditions += [f"{group_name(group)} is not {data_value(value)}" for group, value in self.without]
        return ", ".join(conditions)

    @property
    def exclusions(self) -> str:
        """All values that the cell's events have not: "region is not eu, model is not x or (missing)"; "" for none."""
        return ", ".join(f"{name} is not {' or '.join(values)}" for name, values in self._excluded().items())

    def _excluded(self) -> dict[str, list[str]]:
        """The values that the cell's events have not, by the name of their group."""
        excluded: dict[str, list[str]] = {}
        for group, value in self.without:
            excluded.setdefault(group_name(group), []).append(data_value(value))
        return excluded

    @property
    def question(self) -> EventQuery:
        """The query for the cell's events in the window explained.

        Raises `QueryError` if a value is longer than the values of filters may be.
        """
        return self._events(*self.query.span)

    def events(self, span: Span) -> EventQuery:
        """The query for the cell's events in another window, such as the explanation's `before`."""
        return self._events(span.since, span.until)

    def to_dict(self) -> dict[str, Any]:
        """The cell for JSON: decimals as text."""
        return {
            "where": pairs_list(self.where),
            "without": pairs_list(self.without),
            "always": pairs_list(self.always),
            **numbers_dict(self),
            "is_new": self.is_new,
            "is_gone": self.is_gone,
        }

    def _events(self, since: datetime, until: datetime) -> EventQuery:
        given = self.query.shared_with(EventQuery)
        narrowed = filters_of(self.query, self.where, self.without)
        return EventQuery(**{**given, **narrowed, "occurred_after": since, "occurred_before": until})


def filters_of(query: AggregateQuery, where: Where, without: Where) -> dict[str, Any]:
    """The filters of a query, narrowed to the events that have every value of `where` and none of `without`."""
    result: dict[str, Any] = {}
    dimensions, missing = dict(query.dimensions), set(query.missing)
    excluded = {name: set(values) for name, values in query.exclude}
    for group, value in where:
        if value is None:
            missing.add(group)
        elif group.startswith(DIMENSION):
            dimensions[dimension_key(group)] = (value,)
        else:
            result[group] = value
    for group, value in without:
        name, banned = ("missing", group) if value is None else (group, value)
        excluded.setdefault(name, set()).add(banned)
    result |= {"dimensions": dimensions, "exclude": excluded}
    if missing:
        result["missing"] = sorted(missing)
    return result


def _conditions(pairs: Where) -> list[str]:
    return [f"{group_name(group)} is {data_value(value)}" for group, value in sorted(pairs, key=_order)]


def _order(pair: tuple[str, str | None]) -> int:
    return GROUPS.index(pair[0]) if pair[0] in GROUPS else len(GROUPS)


def numbers_dict(part: Part) -> dict[str, Any]:
    """The numbers of a part for JSON: decimals as text."""
    texts = {name: json_value(getattr(part, name)) for name in _AMOUNTS}
    return {**texts, "share": None if part.share is None else plain(part.share)}


def pairs_list(where: Where) -> list[dict[str, str | None]]:
    """The (group, value) pairs for JSON."""
    return [{"group": group, "value": value} for group, value in where]


class Peak(NamedTuple):
    """The days in which most of a change happened, of the window in which they are unusual, and the change in them."""

    span: Span
    contribution: Number


class Parts(NamedTuple):
    """The total change, the cells by the size of their contributions, and everything else."""

    total: Part
    cells: tuple[Cell, ...]
    rest: Part


def build_parts(
    sums: Sums,
    query: AggregateQuery,
    regions: Sequence[tuple[Where, Where]],
    always: Sequence[Where],
    expected: Decimal | None,
) -> Parts:
    """The parts from the sums of the regions, compared with the `expected` total if there is one.

    `always` are the further values of each region.
    """
    zero: Number = 0 if query.metric == "count" else Decimal(0)
    then, now = sums.events
    earlier, later = _divided(sums.values[0], expected, zero), sums.values[1]
    whole = _part(exact_sum(earlier, zero), exact_sum(later, zero), None)
    change = whole.contribution
    cells = []
    rest_before, rest_after = [earlier[-1]], [later[-1]]
    for number, (where, without) in enumerate(regions):
        contribution = difference(later[number], earlier[number])
        if not contribution:
            rest_before.append(earlier[number])
            rest_after.append(later[number])
            continue
        cells.append(
            Cell(
                where=where,
                without=without,
                always=always[number],
                before=earlier[number],
                after=later[number],
                share=_share(contribution, change),
                is_new=not then[number] and bool(now[number]),
                is_gone=bool(then[number]) and not now[number],
                query=query,
            )
        )
    return Parts(
        total=_part(whole.before, whole.after, change),
        cells=tuple(sorted(cells, key=lambda cell: Decimal(cell.contribution).copy_abs(), reverse=True)),
        rest=_part(exact_sum(rest_before, zero), exact_sum(rest_after, zero), change),
    )


def _divided(values: list[Number], expected: Decimal | None, zero: Number) -> list[Number]:
    """The amounts before, the last one of everything else; an `expected` total is divided in proportion to them.

    Rounded to the digits of the expected number and the amounts; everything else takes the difference.
    """
    total = exact_sum(values, zero)
    if expected is None:
        return values
    parts: list[Number] = [Decimal(0)] * (len(values) - 1)
    if total > 0:
        digits = Decimal(1).scaleb(min(_exponent(expected), *(_exponent(Decimal(value)) for value in values), 0))
        context = Context(prec=max(28, _length(expected) + _length(Decimal(total)) + 10))
        parts = [
            context.quantize(context.divide(context.multiply(expected, Decimal(value)), Decimal(total)), digits)
            for value in values[:-1]
        ]
    return [*parts, difference(expected, exact_sum(parts, Decimal(0)))]


def _exponent(value: Decimal) -> int:
    return int(value.as_tuple().exponent)


def _length(value: Decimal) -> int:
    return len(value.as_tuple().digits) + abs(_exponent(value))


def _part(before: Number, after: Number, change: Number | None) -> Part:
    return Part(before=before, after=after, share=None if change is None else _share(difference(after, before), change))


def _share(contribution: Number, change: Number) -> Decimal | None:
    # 0 is added, as 0 divided by a decrease is -0
    return _SHARE_CONTEXT.add(_SHARE_CONTEXT.divide(Decimal(contribution), Decimal(change)), 0) if change else None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The change between two windows of a query, or against an expected number.

    `query` is the query as it took effect, over the window explained, `after`; `before` is the window it is compared
    with. Against an `expected` number, the amount of a part before is its share of that number, in proportion to its
    amount in the window before. The contributions of `cells`, ranked by size, and of `rest` add up to the total's
    exactly. `currency` is that of a cost, None for other measures and without one. `groups` are the groups searched,
    `notes` the limits of the search, in sentences; `names` has the names of the ids in cells and filters. `is_even`: no
    value stands out, because every larger one of every group searched changed by about as much as the total. `peak` is
    the run of days with at least four fifths of the first cell's change, or without a cell of the total's; None if it
    is spread over more than a third of the window's days, for windows under three days, and against an expected number.
    `common` are the values of all events beside those of the filters, where one window has no events or none differs.
    `exists_since` is the start of the events that exist, if older ones were removed and a window begins before: its
    amounts are too small, no cell is new or gone, and there is no peak and no even spread.
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
    is_even: bool = False
    common: Where = ()
    names: Names = field(default=NO_NAMES, compare=False, repr=False)
    currency: str | None = None
    peak: Peak | None = None
    exists_since: datetime | None = None

    @property
    def change(self) -> Number:
        """The change of the total, exact."""
        return self.total.contribution

    @property
    def sentence(self) -> str:
        """The change and the parts that account for it, in one sentence."""
        return self._sentence(exact, signed, (self.before, self.after))

    @property
    def headline(self) -> str:
        """`sentence` with money to the cent, other numbers of about four digits, and windows to the minute."""
        windows = _to_the_minute(self.before), _to_the_minute(self.after)
        return self._sentence(self._rounded, self.rounded_change, windows)

    def rounded_change(self, number: Number) -> str:
        """A change of money to the cent, of another measure with about four digits, and its sign: `+84.2 k`."""
        text = self._rounded(number)
        return f"+{text}" if number > 0 and text[0].isdigit() else text

    def _rounded(self, number: Number) -> str:
        return formatting.short(number) if self.currency is None else formatting.cents_in_sentence(Decimal(number))

    @decimal_context()
    def _sentence(
        self, exact: Callable[[Number], str], signed: Callable[[Number], str], windows: tuple[Span, Span]
    ) -> str:
        unit = self.currency or measure_name(self.query.metric, self.total.after)
        now, then = exact(self.total.after), exact(self.total.before)
        earlier, later = (words(window, self.query, self.exists_since) for window in windows)
        change = f"{now} {unit} {later} against {then} {earlier if self.expected is None else 'expected'}"
        if not self.change:
            change += ", no change in all"
        else:
            part = _ratio(self.change, self.total.before)
            change += f", a change of {signed(self.change)}{f' ({part})' if part else ''}"
        if self.common:
            change += f", all of it where {self._common()}"
        peak = ""
        if self.peak is not None and self.change:
            size = "high" if self.peak.contribution < 0 else "low"
            earlier = f"because of {size} amounts " if self.peak.span.since < self.after.since else ""
            peak = f", {signed(self.peak.contribution)} of it {earlier}{words(self.peak.span, self.query)}"
        if not self.cells:
            change += peak
            if self.is_even:
                return f"{change}, spread evenly: every larger value changed by about as much, and no value stands out."
            said = _WITHIN_CHANCE if self.total.before or self.total.after else "stands out"
            return self.names.in_text(f"{change}{'' if self.common else f': no value or pair of values {said}'}.")
        parts = self._alike(signed)
        if not parts:
            parts = [
                f"{signed(cell.contribution)}{_share_suffix(cell, is_first=not place)} where {cell.label}"
                f"{_presence(cell)}{'' if place else peak}"
                for place, cell in enumerate(self.cells)
            ]
            more = len(parts) - _MAX_CELLS_IN_SENTENCE
            if more > 0:
                parts = [*parts[:_MAX_CELLS_IN_SENTENCE], counted(more, "smaller part")]
        return self.names.in_text(f"{change}: {'; '.join(parts)}; {signed(self.rest.contribution)} everything else.")

    def _common(self) -> str:
        conditions = _conditions(self.common)
        more = len(conditions) - _MAX_COMMON_IN_SENTENCE
        named = conditions[:_MAX_COMMON_IN_SENTENCE]
        return f"{', '.join(named)} and {more:,} more" if more > 0 else " and ".join(named)

    def _alike(self, signed: Callable[[Number], str]) -> list[str]:
        """More cells than a sentence has room for as one part, if all are single values of one group; else none."""
        groups = {cell.where[0][0] for cell in self.cells}
        is_single = all(len(cell.where) == 1 and not cell.without for cell in self.cells)
        same_way = len({cell.contribution > 0 for cell in self.cells}) == 1
        if len(self.cells) <= _MAX_CELLS_IN_SENTENCE or len(groups) > 1 or not is_single or not same_way:
            return []
        zero: Number = 0 if isinstance(self.change, int) else Decimal(0)
        total = exact_sum((cell.contribution for cell in self.cells), zero)
        whole = Part(before=zero, after=total, share=_share(total, self.change))
        values = formatting.listed([data_value(cell.where[0][1]) for cell in self.cells], most=len(self.cells))
        name = group_name(self.cells[0].where[0][0])
        change = f"{signed(total)}{_share_suffix(whole, is_first=True)}"
        return [f"{change} where {name} is one of {len(self.cells)} values, {values}"]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per cell, ranked, then one for everything else.

        Columns: `label` (str, with the names of ids); `before`, `after`, `contribution` (object: `Decimal`; int64 for
        counts without an expected number); `share` (object: `Decimal` or None); `is_new`, `is_gone` (bool).
        """
        import pandas as pd

        parts: list[Part] = [*self.cells, self.rest]
        labels = [*(self.names.in_text(cell.label) for cell in self.cells), EVERYTHING_ELSE]
        number = "int64" if self.query.metric == "count" and self.expected is None else "object"
        columns: dict[str, Any] = {
            "label": pd.Series(labels, dtype="str"),
            **{name: pd.Series([getattr(part, name) for part in parts], dtype=number) for name in _AMOUNTS},
            "share": pd.Series([part.share for part in parts], dtype="object"),
            "is_new": pd.Series([*(cell.is_new for cell in self.cells), False], dtype="bool"),
            "is_gone": pd.Series([*(cell.is_gone for cell in self.cells), False], dtype="bool"),
        }
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        return f"<Explanation: {self.sentence} {self.names.in_text(describe(self.query, whole_seconds=True))}>"

    def _repr_html_(self) -> str:
        texts = self.frame.drop(columns="share")
        texts = texts.assign(**{name: [plain(value) for value in texts[name]] for name in _AMOUNTS})
        return f"<p>{escape(self.sentence)}</p>{texts.to_html(max_rows=20)}"

    def chart(self, **options: Any) -> alt.LayerChart:
        """The contributions as ranked bars; see `usage_explore.explain.chart.chart` for the options."""
        from usage_explore.explain import chart as explanation

        return explanation.chart(self.cells, self.rest, self.query.metric, self.sentence, names=self.names, **options)

    def ids(self) -> list[tuple[str, str]]:
        """(column, id) of every id in the cells and filters."""
        pairs = [pair for cell in self.cells for pair in (*cell.where, *cell.without, *cell.always)] + [*self.common]
        return [*filtered_ids(self.query), *((group, value) for group, value in pairs if group in ID_COLUMNS and value)]

    def to_dict(self) -> dict[str, Any]:
        """The explanation for JSON: decimals and times as text."""
        return {
            "query": dict_of(self.query.to_params()),
            "before": _span(self.before),
            "after": _span(self.after),
            "currency": self.currency,
            "expected": None if self.expected is None else plain(self.expected),
            "total": numbers_dict(self.total),
            "cells": [cell.to_dict() for cell in self.cells],
            "rest": numbers_dict(self.rest),
            "groups": list(self.groups),
            "notes": list(self.notes),
            "is_even": self.is_even,
            "common": pairs_list(self.common),
            "peak": self.peak and {**_span(self.peak.span), "contribution": json_value(self.peak.contribution)},
            "exists_since": self.exists_since and rfc3339(self.exists_since),
            "sentence": self.sentence,
        }


def dict_of(params: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The values of each parameter."""
    values: dict[str, list[str]] = {}
    for name, value in params:
        values.setdefault(name, []).append(value)
    return values


def _some(values: Sequence[str]) -> str:
    """The first values: `a or b`, `a, b and 12 more`."""
    if len(values) <= _MAX_EXCLUDED_IN_LABEL:
        return " or ".join(values)
    return f"{', '.join(values[:_MAX_EXCLUDED_IN_LABEL])} and {len(values) - _MAX_EXCLUDED_IN_LABEL:,} more"


def _to_the_minute(span: Span) -> Span:
    since, until = (edge.replace(second=0, microsecond=0) for edge in (span.since, span.until))
    return Span(since, until)


def _presence(cell: Cell) -> str:
    return " (new)" if cell.is_new else " (gone)" if cell.is_gone else ""


def _share_suffix(part: Part, *, is_first: bool) -> str:
    """The share in brackets; the first of a sentence, and those against the change, say of what."""
    words = part.share_words
    return f" ({words if is_first or part.is_against else words.removesuffix(' of the change')})" if words else ""


def _ratio(change: Number, before: Number) -> str:
    part = ratio(change, Decimal(before).copy_abs()) if before else None
    return "" if part is None or part.copy_abs() > _MAX_RATIO else formatting.change(part)


def _span(span: Span) -> dict[str, str]:
    return {"since": rfc3339(span.since), "until": rfc3339(span.until)}
