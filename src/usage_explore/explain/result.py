"""An explanation: the change, the few cells that account for it, and everything else, which add up to it exactly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from usage_explore import formatting
from usage_explore.decimals import Number, decimal_context, plain, ratio, rfc3339
from usage_explore.explain.cells import EVERYTHING_ELSE, Cell, Part, numbers_dict
from usage_explore.explain.spans import Span, words
from usage_explore.formatting import counted, exact, percent, signed
from usage_explore.query.describe import describe, measure_name
from usage_explore.query.queries import AggregateQuery

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_MAX_RATIO = 100
"""A change or share of more than this multiple of the whole is written without its percentage."""

_MAX_CELLS_IN_SENTENCE = 3


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The change between two windows of a query, or against an expected number.

    `query` is the query as it took effect, over the window explained, `after`; `before` is the window it is compared
    with. Against an `expected` number, the amount of a part before is its share of that number, in proportion to its
    amount in the window before. The contributions of `cells`, ranked by size, and of `rest` add up to the total's
    exactly. `groups` are the groups searched, `notes` the limits of the search, in sentences.
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
        """The change of the total, exact."""
        return self.total.contribution

    @property
    @decimal_context()
    def sentence(self) -> str:
        """The change and the parts that account for it, in one sentence."""
        unit = measure_name(self.query.metric, self.total.after)
        now, then = exact(self.total.after), exact(self.total.before)
        against = f"{then} expected" if self.expected is not None else f"{then} {words(self.before, self.query)}"
        change = f"{now} {unit} {words(self.after, self.query)} against {against}"
        if not self.change:
            change += ", no change in all"
        else:
            part = _ratio(self.change, self.total.before)
            change += f", a change of {signed(self.change)}{f' ({part})' if part else ''}"
        if not self.cells:
            return f"{change}: no value or pair of values stands out."
        parts = [
            f"{signed(cell.contribution)}{_share(cell)} where {cell.label}{_presence(cell)}" for cell in self.cells
        ]
        more = len(parts) - _MAX_CELLS_IN_SENTENCE
        if more > 0:
            parts = [*parts[:_MAX_CELLS_IN_SENTENCE], counted(more, "smaller part")]
        return f"{change}: {'; '.join(parts)}; {signed(self.rest.contribution)} everything else."

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per cell, ranked, then one for everything else.

        Columns: `label` (str); `before`, `after`, `contribution` (object: `Decimal`; int64 for counts without an
        expected number); `share` (object: `Decimal` or None); `is_new`, `is_gone` (bool).
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
        return f"<Explanation: {self.sentence} {describe(self.query, whole_seconds=True)}>"

    def _repr_html_(self) -> str:
        texts = self.frame.assign(
            **{name: [plain(value) for value in self.frame[name]] for name in ("before", "after", "contribution")}
        ).drop(columns="share")
        return f"<p>{escape(self.sentence)}</p>{texts.to_html(max_rows=20)}"

    def chart(self, **options: Any) -> alt.LayerChart:
        """The contributions as ranked bars; see `usage_explore.explain.chart.chart` for the options."""
        from usage_explore.explain import chart as explanation

        return explanation.chart(self.cells, self.rest, self.query.metric, self.sentence, **options)

    def to_dict(self) -> dict[str, Any]:
        """The explanation for JSON: decimals and times as text."""
        return {
            "question": dict_of(self.query.to_params()),
            "before": _span(self.before),
            "after": _span(self.after),
            "expected": None if self.expected is None else plain(self.expected),
            "total": numbers_dict(self.total),
            "cells": [cell.to_dict() for cell in self.cells],
            "rest": numbers_dict(self.rest),
            "groups": list(self.groups),
            "notes": list(self.notes),
            "sentence": self.sentence,
        }


def dict_of(params: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The values of each parameter."""
    values: dict[str, list[str]] = {}
    for name, value in params:
        values.setdefault(name, []).append(value)
    return values


def _presence(cell: Cell) -> str:
    return " (new)" if cell.is_new else " (gone)" if cell.is_gone else ""


def _share(part: Part) -> str:
    return "" if part.share is None or part.share.copy_abs() > _MAX_RATIO else f" ({percent(part.share)})"


def _ratio(change: Number, before: Number) -> str:
    part = ratio(change, Decimal(before).copy_abs()) if before else None
    return "" if part is None or part.copy_abs() > _MAX_RATIO else formatting.change(part)


def _span(span: Span) -> dict[str, str]:
    return {"since": rfc3339(span.since), "until": rfc3339(span.until)}
