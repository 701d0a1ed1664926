"""The headline numbers: how much, compared with before, in how many series."""

from __future__ import annotations

import streamlit as st

from usage_explore.answers import Aggregate
from usage_explore.app import words
from usage_explore.comparison import Comparison
from usage_explore.describe import group_name
from usage_explore.query import METRICS


def headline(answer: Aggregate, comparison: Comparison | None) -> None:
    """Draw them; the exact total is in the tooltip."""
    unit = METRICS[answer.query.metric]
    columns = st.columns([1, 1.4, 1.2, 2], gap="medium")
    columns[0].metric(
        unit.capitalize(),
        words.short(answer.total),
        help=f"Exactly {words.exact(answer.total)} {unit}",
    )
    with columns[1]:
        _change(comparison, unit)
    if answer.query.group_by != "none":
        with columns[2]:
            _series(answer)


def _change(comparison: Comparison | None, unit: str) -> None:
    if comparison is None:
        st.metric("Change", "–", help="There is no earlier period to compare with.")
        return
    before = comparison.total
    value = words.change(before.ratio) if before.now != before.before else "no change"
    st.metric(
        comparison.label[:1].upper() + comparison.label[1:],
        value if before.before or before.now else "–",
        help=f"{words.exact(before.now)} {unit}, before {words.exact(before.before)}",
    )


def _series(answer: Aggregate) -> None:
    folded = answer.folded
    number = sum(series.members for series in answer.series)
    name = group_name(answer.query.group_by)
    st.metric(
        f"Distinct {name}",
        f"{number:,}",
        help=f"{folded:,} of them are folded into Other" if folded else "Each is drawn on its own",
    )
