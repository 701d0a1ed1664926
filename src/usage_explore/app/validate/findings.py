"""The findings by impact, narrowed as the address bar says, one of them opened beside the list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import streamlit as st

from usage_explore import formatting
from usage_explore.app import grid, markdown
from usage_explore.app.cache import Source
from usage_explore.app.navigation import changed, follow, go
from usage_explore.app.pages import Pages
from usage_explore.app.problems import sentence, shown
from usage_explore.app.query_edits import named_value
from usage_explore.app.validate.finding import opened
from usage_explore.app.validate.headline import clean
from usage_explore.app.validate.view import ValidateView, identity
from usage_explore.charts import theme
from usage_explore.validation import SEVERITIES, Finding, Validation
from usage_explore.validation.registry import CHECKS

_TALL, _TALLER = 560, 900  # pixels of the list where it is long, and beside an opened finding
_FEW = 12


def findings(pages: Pages, view: ValidateView, source: Source, validation: Validation) -> None:
    """Draw the filters, the list, and the finding that the view names."""
    found = validation.findings
    if not found and validation.failed:
        titles = ", ".join(result.check.title for result in validation.failed)
        st.warning(
            markdown.plain(f"{clean(validation)}, but these failed, so the period is not clean: {titles}."),
            icon=":material/warning:",
        )
        return
    if not found:
        st.success(markdown.plain(f"{clean(validation)}."), icon=":material/check_circle:")
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
            sentence(f"None of the {formatting.counted(len(found), 'finding')} is listed with these filters.")
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
        _pick(view, "metrics", "Metric", {each: named_value(each) for each, _ in metrics.most_common()}, metrics)


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
    columns = _columns(listed, bool(one))
    look = theme(st.context.theme.type == "dark")
    inks = {"high": look.shades[7], "medium": look.hues[1], "low": look.soft}
    rows = [place for place, finding in enumerate(listed) if finding is one]
    key = f"findings {hash((validation.period, view))}"
    grid.draw(
        columns,
        inks={"Severity": [inks[finding.severity] for finding in listed]},
        height="content" if len(listed) <= _FEW else _TALLER if one else _TALL,
        key=key,
        selection_mode=("single-row", "single-cell"),
        selection_default={"selection": {"rows": rows}},
        on_select=lambda: _select(view, listed, grid.clicked(st.session_state[key], rows)),
        alt="Findings by impact",
    )
    st.caption(
        "By impact: the gravest first, then the largest affected part. "
        + ("" if one else "Click a row to see what is behind it.")
    )


def _columns(listed: Sequence[Finding], beside: bool) -> dict[str, grid.Column]:
    """The columns of the list; only the first four `beside` an opened finding."""
    columns = {
        grid.RANK: grid.ranks(len(listed)),
        "Severity": grid.texts("Severity", [each.severity for each in listed], _severity, width=90),
        "Affected": grid.ratios(
            "Affected",
            [float(each.share) for each in listed],
            lambda share: formatting.percent(Decimal(repr(share)), 1),
            help="The affected part of what the column Affected of names, in the period.",
        ),
        "Finding": grid.texts(
            "Finding", [each.sentence for each in listed], formatting.short_ids, width=440 if beside else 560
        ),
    }
    if beside:
        return columns
    titles = [CHECKS[each.check].title if each.check in CHECKS else each.check for each in listed]
    columns |= {
        "Affected of": grid.texts("Affected of", [each.share_of or None for each in listed]),
        "Check": grid.texts("Check", titles),
        "Events": grid.numbers("Events", [each.events for each in listed]),
        "Quantity": grid.numbers("Quantity", [each.quantity for each in listed]),
    }
    costs = [dict(each.amounts) for each in listed]
    for currency in sorted({currency for cost in costs for currency in cost}):  # never added, never one for all
        heading = f"Cost, {named_value(currency)}"
        columns[heading] = grid.numbers(heading, [cost.get(currency) for cost in costs])
    return columns


def _severity(severity: str) -> str:
    return f"● {severity.capitalize()}"


def _select(view: ValidateView, listed: Sequence[Finding], row: int | None) -> None:
    go(lambda: view.replace(finding=None if row is None else identity(listed[row])))
