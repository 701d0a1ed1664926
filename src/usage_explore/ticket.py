"""An answer as one plain text for a ticket: the sentence, exact headline numbers, the largest series, a pinned link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from usage_explore.answers import Aggregate
from usage_explore.charts import labels
from usage_explore.comparison import change_note
from usage_explore.decimals import Number, difference
from usage_explore.formatting import (
    change,
    counted,
    exact,
    on_one_line,
    percent,
    signed,
    span,
    values_and_missing,
    zoned,
)
from usage_explore.query.describe import describe, group_name, measure_name
from usage_explore.query.filters import CURRENCY, ID_COLUMNS
from usage_explore.results import frames
from usage_explore.results.types import Change, Comparison, Series

MAX_SERIES = 5
"""Series that the text lists, besides Other."""


class Selection(NamedTuple):
    """A selected bar, span or series in words, "model large, 3 Sep 2026", its answer, and how that compares."""

    words: str
    answer: Aggregate
    comparison: Comparison | str


def text(
    answer: Aggregate, comparison: Comparison | str, organization: str, link: str, selection: Selection | None = None
) -> str:
    """The text for a pinned answer; `link` opens the same numbers. Quantities are exact, ids are whole.

    The largest series are those of the selection, if there is one.
    """
    known = zoned(answer.query.as_of or answer.now, answer.query.zone)
    selected = []
    part = Selection("", answer, comparison) if selection is None else selection
    if selection is not None:
        selected = [
            f"Selected: {part.words}: {measured(part.answer, part.answer.total)}"
            + (f", {part.answer.adds}" if part.answer.adds else ""),
            f"Its change: {_change(part.answer, part.comparison)}",
        ]
    is_listed = answer.query.group_by != "none" and (selection is None or len(part.answer.series) > 1)
    return lines(
        [
            answer.names.in_text(describe(answer.query.replace(as_of=None)), ids=True),
            f"Organization: {organization}",
            f"As of: {known}; events that arrived later are not counted",
        ],
        [
            *selected,
            f"Total: {measured(answer, answer.total)}" + (f", {answer.adds}" if answer.adds else ""),
            f"Change: {_change(answer, comparison)}",
            *(
                f"Note: {note}"
                for note in labels.notes(answer)
                # nor notes on the look of a chart
                if note not in (labels.LOOK_NOTE, labels.comparison_note(answer)) and note.lower() != answer.adds
            ),
        ],
        list(_largest(part)) if is_listed else [],
        [link],
    )


def lines(*paragraphs: Iterable[str]) -> str:
    """The paragraphs that have lines, with an empty line between them. Line breaks of stored values are escaped."""
    written = ([on_one_line(line) for line in paragraph] for paragraph in paragraphs)
    return "\n\n".join("\n".join(paragraph) for paragraph in written if paragraph)


def measured(answer: Aggregate, value: Number | None, series: Series | None = None, of: str | None = None) -> str:
    """`1,234.5 tokens`, or in the unit `of`; none for unit costs without a value and several currencies."""
    if value is None:
        several = len(answer.currencies) > 1
        return f"none, as {len(answer.currencies):,} currencies do not add up" if several else "none"
    if answer.query.metric == "count":
        return f"{exact(value)} {measure_name(answer.query.metric, value)}"
    if series is not None and answer.query.group_by == CURRENCY:  # the series is a currency, or has none
        name = measure_name(answer.query.metric, value)
        return f"{exact(value)} {name}" + (f" in {series.label}" if series.kind == "value" else "")
    return f"{exact(value)} {labels.unit(answer, value, of)}"


def _change(answer: Aggregate, comparison: Comparison | str) -> str:
    if isinstance(comparison, str):
        return comparison
    zone = answer.query.zone
    before = span(comparison.since.astimezone(zone), comparison.until.astimezone(zone))
    earlier = measured(answer, comparison.total.before, of=comparison.unit or "")
    note = change_note(answer, comparison)
    return f"{_changed(comparison.total)} {comparison.label} ({before}: {earlier})" + (f"; {note}" if note else "")


def _changed(total: Change) -> str:
    """`+8.1 % (+92,345)`."""
    if total.absolute is None:
        return "not known"
    if total.now == total.before:
        return "none"
    return f"{change(total.ratio)} ({signed(total.absolute)})"


def _share(answer: Aggregate, part: Number | None) -> str:
    """The share of the total in words; nothing for ratios, which do not add up."""
    if part is None or answer.total is None or not answer.adds_up:
        return ""
    return f", {percent(part, answer.total)} of the total"


def _largest(part: Selection) -> Iterator[str]:
    words, answer, comparison = part
    number = sum(series.members for series in answer.series)
    values = f"{counted(number, 'value')} of {group_name(answer.query.group_by)}"
    # ranked by signed total: the first of credits are the smallest
    first = "First" if any((series.total or 0) < 0 for series in answer.series) else "Largest"
    yield f"{first} of {', '.join(filter(None, (values, words)))}{', by signed total' * (first == 'First')}:"
    names = frames.spellings(answer) if answer.query.group_by in ID_COLUMNS else labels.names(answer)
    ranked = list(zip(names, answer.series, strict=True))
    kept = [index for index, (_, series) in enumerate(ranked) if series.kind != "other"][:MAX_SERIES]
    for index in kept:
        name, series = ranked[index]
        moved = "" if isinstance(comparison, str) else f", change {_changed(comparison.series[index])}"
        yield f"- {name}: {measured(answer, series.total, series)}{_share(answer, series.total)}{moved}"
    rest = [series for index, (_, series) in enumerate(ranked) if index not in kept]
    if rest:
        missing = any(series.with_missing or series.kind == "missing" for series in rest)
        others = values_and_missing(sum(series.members for series in rest), missing, "other")
        if answer.total is None or not answer.adds_up:
            yield f"- {others}"
            return
        total = answer.total
        for index in kept:
            total = difference(total, ranked[index][1].total or 0)
        yield f"- {others}: {measured(answer, total)}{_share(answer, total)}"
