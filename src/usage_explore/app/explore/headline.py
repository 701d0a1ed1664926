"""The headline numbers: how much, compared with before, in how many series."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from usage_explore import formatting
from usage_explore.answers import Aggregate
from usage_explore.app import markdown
from usage_explore.comparison import Comparison
from usage_explore.query.describe import group_name
from usage_explore.query.queries import METRICS


def headline(answer: Aggregate, comparison: Comparison | str) -> None:
    """Draw them in one line; the exact numbers are in the tooltips. A `comparison` in words is why there is none."""
    unit = "event" if answer.query.metric == "count" and answer.total == 1 else METRICS[answer.query.metric]
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="headline"):
        exactly = formatting.typographic(f"Exactly {formatting.exact(answer.total)} {unit}.")
        if answer.adds:
            exactly += (
                " Quantities of different metrics have no common unit: filter to one metric, or group by metric key."
            )
        _number(
            formatting.short(answer.total),
            f"{unit}, {answer.adds}" if answer.adds else unit,
            exactly,
        )
        _change(answer, comparison, unit)
        if answer.query.group_by != "none":
            _series(answer)
        _served(answer)


def _served(answer: Aggregate) -> None:
    """How fast the database was and which path it took, in small print."""
    milliseconds = max(1, round(answer.served.took / timedelta(milliseconds=1)))
    path = "Served by the rollup, which is exact."
    if answer.served.because:
        path = f"Read from the events, because {answer.served.because}. The rollup would give the same numbers."
    st.caption(f"answered in {milliseconds:,} ms", help=markdown.plain(path), width="content")


def _change(answer: Aggregate, comparison: Comparison | str, unit: str) -> None:
    if isinstance(comparison, str):
        _number("–", comparison, "A change needs an earlier period that lies wholly within the events.")
        return
    total = comparison.total
    if not total.before:
        value = "new" if total.now else "–"
    elif total.now == total.before:
        value = "no change"
    else:
        value = formatting.change(total.ratio)
    zone = answer.query.zone
    now, then = (
        formatting.span(since.astimezone(zone), until.astimezone(zone))
        for since, until in (
            (answer.query.span[0], comparison.now_until),
            (comparison.since, comparison.until),
        )
    )
    _number(
        value,
        comparison.label,
        formatting.typographic(
            f"{now}: {formatting.exact(total.now)} {unit}. {then}: {formatting.exact(total.before)}."
        ),
    )


def _series(answer: Aggregate) -> None:
    number = sum(series.members for series in answer.series)
    noun = f"distinct {group_name(answer.query.group_by)}" + ("" if number == 1 else " values")
    folded = f", {answer.folded:,} in Other" if answer.folded else ""
    _number(
        f"{number:,}", noun + folded, "Other holds the smallest ones; keep more of them apart with the control above."
    )


def _number(value: str, meaning: str, explained: str) -> None:
    st.subheader(
        f"{markdown.plain(formatting.typographic(value))} :small[:gray[{markdown.plain(meaning)}]]",
        anchor=False,
        width="content",
        help=explained,
    )
