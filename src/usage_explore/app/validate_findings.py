"""The findings by impact, narrowed as the address bar says, one of them opened beside the list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from usage_explore.app import words
from usage_explore.app.data import Source
from usage_explore.app.navigate import changed, follow, go
from usage_explore.app.pages import Pages
from usage_explore.app.problems import sentence, shown
from usage_explore.app.validate_finding import opened
from usage_explore.app.validate_headline import clean
from usage_explore.app.validate_view import ValidateView, identity
from usage_explore.charts import theme
from usage_explore.checks import SEVERITIES, Finding, Validation
from usage_explore.checks.registry import CHECKS

_TALL, _TALLER = 560, 900  # pixels of the list where it is long, and beside an opened finding
_FEW = 12
_UUID = re.compile(r"([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def findings(pages: Pages, view: ValidateView, source: Source, validation: Validation) -> None:
    """Draw the filters, the list, and the finding that the view names."""
    found = validation.findings
    if not found and validation.failed:
        titles = ", ".join(result.check.title for result in validation.failed)
        st.warning(
            words.plain(f"{clean(validation)}, but these failed, so the period is not clean: {titles}."),
            icon=":material/warning:",
        )
        return
    if not found:
        st.success(words.plain(f"{clean(validation)}."), icon=":material/check_circle:")
        return
    _filters(view, found)
    listed = view.listed(found)
    one = next((finding for finding in found if identity(finding) == view.finding), None)
    if view.finding and one is None:
        sentence(
            "The finding that this link names is not among these; it may have been explained by what arrived since, "
            "or the period is another one."
        )
    left, right = st.columns([4, 5], gap="medium") if one else (st.container(), None)
    with left:
        if listed:
            _list(view, validation, listed, one)
        else:
            sentence(f"None of the {words.plural(len(found), 'finding')} is listed with these filters.")
    if right and one:
        with right, shown():
            opened(pages, view, source, validation, one)


def _filters(view: ValidateView, found: Sequence[Finding]) -> None:
    """Widgets that narrow the list; each names how many findings it would leave of all."""
    with st.container(horizontal=True, vertical_alignment="top", gap="medium", key="finding_filters"):
        severities = Counter(finding.severity for finding in found)
        key = follow("severities", list(view.severities))
        st.segmented_control(
            "Severity",
            tuple(SEVERITIES),
            selection_mode="multi",
            key=key,
            format_func=lambda name: f"{name.capitalize()} {severities[name]:,}",
            on_change=changed(key, lambda picked: view.replace(severities=tuple(picked), finding=None)),
        )
        checks = Counter(finding.check for finding in found)
        customers = Counter(str(finding.customer_id) for finding in found if finding.customer_id)
        metrics = Counter(finding.metric_key for finding in found if finding.metric_key is not None)
        _pick(view, "checks", "Check", {name: CHECKS[name].title for name in CHECKS if name in checks}, checks)
        _pick(view, "customers", "Customer", {each: each for each, _ in customers.most_common()}, customers)
        _pick(view, "metrics", "Metric", {each: each or "(empty)" for each, _ in metrics.most_common()}, metrics)


def _pick(view: ValidateView, field: str, label: str, options: dict[str, str], counts: Counter[str]) -> None:
    picked: tuple[str, ...] = getattr(view, field)
    key = follow(f"finding_{field}", list(picked))
    st.multiselect(
        label,
        [*options, *(value for value in picked if value not in options)],
        key=key,
        format_func=lambda value: f"{options.get(value, value)}  ·  {counts[value]:,}",
        on_change=changed(key, lambda values: view.replace(**{field: tuple(values), "finding": None})),
        select_all=False,
        placeholder="any",
        width=180,
    )


def _list(view: ValidateView, validation: Validation, listed: Sequence[Finding], one: Finding | None) -> None:
    frame = pd.DataFrame([_row(finding) for finding in listed], dtype="object")
    columns = ["Severity", "Affected", "Finding"] if one else list(frame.columns)
    look = theme(st.context.theme.type == "dark")
    inks = {"high": look.hues[7], "medium": look.hues[1], "low": look.soft}
    styled = frame[columns].style.apply(
        lambda column: [f"color: {inks[finding.severity]}" for finding in listed], axis=0, subset=["Severity"]
    )
    rows = [place for place, finding in enumerate(listed) if finding is one]
    key = f"findings {hash((validation.period, view))}"
    st.dataframe(
        styled,
        hide_index=True,
        height="content" if len(listed) <= _FEW else _TALLER if one else _TALL,
        column_config={
            "Severity": st.column_config.TextColumn("Severity", width=90),
            "Finding": st.column_config.TextColumn("Finding", width=440 if one else 560),
            "Cost": st.column_config.TextColumn("Cost", width=180),
            "Affected": st.column_config.TextColumn(
                "Affected",
                alignment="right",
                width=80,
                help="The affected part of what the metric, or the cost in its currency, came to in the period.",
            ),
            **{name: st.column_config.TextColumn(name, alignment="right") for name in ("Events", "Quantity")},
        },
        key=key,
        selection_mode="single-row",
        selection_default={"selection": {"rows": rows}},
        on_select=lambda: _select(view, listed, st.session_state[key]),
        alt="Findings by impact",
    )
    st.caption(
        "By impact: the gravest first, then the largest affected part. "
        + ("" if one else "Select a row to see what is behind it.")
    )


def _row(finding: Finding) -> dict[str, str]:
    return {
        "Severity": f"● {finding.severity.capitalize()}",
        "Affected": words.share(finding.share, 1),
        "Finding": _UUID.sub(r"\1…", finding.sentence),
        "Check": CHECKS[finding.check].title if finding.check in CHECKS else finding.check,
        "Events": f"{finding.events:,}",
        "Quantity": "–" if finding.quantity is None else words.exact(finding.quantity),
        "Cost": _cost(finding),
    }


def _cost(finding: Finding) -> str:
    """What the affected usage costs, exact; of several currencies the first, and how many more there are."""
    if not finding.amounts:
        return "–"
    currency, amount = finding.amounts[0]
    more = len(finding.amounts) - 1
    return f"{words.exact(amount)} {currency}{f' and {more} more' if more else ''}"


def _select(view: ValidateView, listed: Sequence[Finding], selected: Any) -> None:
    rows = selected["selection"]["rows"]
    go(lambda: view.replace(finding=identity(listed[rows[0]]) if rows else None))
