"""What comes back: the change, the few cells that account for it, and everything else; together exactly the change."""

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
from usage_explore.formatting import exact, percent, signed
from usage_explore.query.describe import describe
from usage_explore.query.queries import METRICS, AggregateQuery

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_TELLING = 100
"""A change or share of more than a hundred times the whole is told without its percentage."""

_TOLD = 3
"""How many cells the sentence names."""


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
        """The contributions as ranked bars; see `usage_explore.explain.chart.chart` for the options."""
        from usage_explore.explain import chart as explanation

        return explanation.chart(self.cells, self.rest, self.query.metric, self.sentence, **options)

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON carries it: decimals and times as text."""
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
    """Parameters, each with its values."""
    found: dict[str, list[str]] = {}
    for name, value in params:
        found.setdefault(name, []).append(value)
    return found


def _birth(cell: Cell) -> str:
    return " (new)" if cell.is_new else " (gone)" if cell.is_gone else ""


def _share(part: Part) -> str:
    return "" if part.share is None or part.share.copy_abs() > _TELLING else f" ({percent(part.share)})"


def _ratio(change: Number, before: Number) -> str:
    part = ratio(change, Decimal(before).copy_abs()) if before else None
    return "" if part is None or part.copy_abs() > _TELLING else formatting.change(part)


def _span(span: Span) -> dict[str, str]:
    return {"since": rfc3339(span.since), "until": rfc3339(span.until)}
