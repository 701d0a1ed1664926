"""An answer as one plain text for a ticket: the sentence, exact headline numbers, the largest series, a pinned link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from usage_explore.answers import Aggregate
from usage_explore.charts import labels
from usage_explore.comparison import Change, Comparison
from usage_explore.decimals import Number, difference
from usage_explore.formatting import change, counted, exact, percent, signed, span, zoned
from usage_explore.query.describe import describe, group_name, measure_name
from usage_explore.results import frames

MAX_SERIES = 5
"""Series that the text lists, besides Other."""

Selection = tuple[str, Number]
"""A selection in words, "model large, 3 Sep 2026", and its exact total."""


def text(
    answer: Aggregate, comparison: Comparison | str, organization: str, link: str, selection: Selection | None = None
) -> str:
    """The text for a pinned answer; `link` opens the same numbers. Quantities are exact, ids are whole."""
    return lines(
        [
            answer.names.in_text(describe(answer.query.replace(as_of=None)), ids=True),
            f"Organization: {organization}",
            f"As of: {zoned(answer.query.as_of or answer.now, answer.query.zone)}",
        ],
        [
            *([f"Selected: {selection[0]}: {_measured(answer, selection[1])}"] if selection else []),
            f"Total: {_measured(answer, answer.total)}" + (f", {answer.adds}" if answer.adds else ""),
            _change(answer, comparison),
            *(f"Note: {note}" for note in labels.notes(answer) if note != labels.LOOK_NOTE),
        ],
        list(_largest(answer, comparison)) if answer.query.group_by != "none" else [],
        [link],
    )


def lines(*paragraphs: Iterable[str]) -> str:
    """The paragraphs that have lines, with an empty line between them."""
    return "\n\n".join("\n".join(written) for paragraph in paragraphs if (written := list(paragraph)))


def _measured(answer: Aggregate, value: Number) -> str:
    return f"{exact(value)} {measure_name(answer.query.metric, value)}"


def _change(answer: Aggregate, comparison: Comparison | str) -> str:
    if isinstance(comparison, str):
        return f"Change: {comparison}"
    zone = answer.query.zone
    before = span(comparison.since.astimezone(zone), comparison.until.astimezone(zone))
    return f"Change: {_changed(comparison.total)} {comparison.label} ({before}: {exact(comparison.total.before)})"


def _changed(total: Change) -> str:
    """`+8.1 % (+92,345)`."""
    if total.now == total.before:
        return "none"
    return f"{change(total.ratio)} ({signed(difference(total.now, total.before))})"


def _largest(answer: Aggregate, comparison: Comparison | str) -> Iterator[str]:
    number = sum(series.members for series in answer.series)
    yield f"Largest of {counted(number, 'value')} of {group_name(answer.query.group_by)}:"
    ranked = list(zip(frames.spellings(answer), answer.series, strict=True))
    kept = [index for index, (_, series) in enumerate(ranked) if series.kind != "other"]
    for index in kept[:MAX_SERIES]:
        name, series = ranked[index]
        moved = "" if isinstance(comparison, str) else f", change {_changed(comparison.series[index])}"
        share = percent(series.total, answer.total)
        yield f"- {name}: {_measured(answer, series.total)}, {share} of the total{moved}"
    rest = [series for index, (_, series) in enumerate(ranked) if index not in kept[:MAX_SERIES]]
    if rest:
        total = answer.total
        for _, series in (ranked[index] for index in kept[:MAX_SERIES]):
            total = difference(total, series.total)
        members = counted(sum(series.members for series in rest), "other")
        yield f"- {members}: {_measured(answer, total)}, {percent(total, answer.total)} of the total"
