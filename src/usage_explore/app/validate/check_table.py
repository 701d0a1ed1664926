"""The table of checks."""

from __future__ import annotations

import streamlit as st

from usage_explore import formatting
from usage_explore.app import grid, markdown
from usage_explore.validation import Result, Validation
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.report.wording import changed_bounds

_NEEDS = {
    "invoices": "drop the invoice lines above the tabs",
    "preferences": "drop the preferred currencies above the tabs",
    "control": "drop the totals by day above the tabs",
    "prices": "drop a price book above the tabs",
    "finalized_at": "say above when the invoice was finalized",
}
"""What a check needs to run, by `Check.needs`."""


def checks(validation: Validation) -> None:
    """Draw a row per check, then what each check means and its parameters."""
    results = validation.results
    notes = [
        result.outcome.note if result.outcome else "" if result.check.needs else result.skipped for result in results
    ]
    columns = {
        "Check": grid.texts("Check", [result.check.title for result in results], width=270),
        "Result": grid.texts("Result", [_result_text(result) for result in results], width=330),
        "Among": grid.numbers("Among", [result.outcome.looked_at if result.outcome else None for result in results]),
        "Unit": grid.texts("Unit", [result.check.unit if result.outcome else None for result in results]),
        "Seconds": grid.ratios(
            "Took",
            [result.took.total_seconds() if result.outcome else None for result in results],
            lambda seconds: f"{seconds:.1f} s",
        ),
        "Note": grid.texts("Note", notes, width="large"),
    }
    if not any(notes):
        del columns["Note"]
    grid.draw(columns, height="content", alt="The checks, what each found, and among how much")
    if changed := changed_bounds(validation):
        st.caption(markdown.plain(changed))
    with st.expander("What each check means for the invoice, and the bounds it applies"):
        for result in validation.results:
            check = result.check
            st.markdown(f"**{markdown.plain(check.title)}**  \n{markdown.plain(check.means)}")
            if parameters := result.parameters:
                st.table(
                    {markdown.plain(name): markdown.plain(meaning) for name, meaning in parameters.items()},
                    border="horizontal",
                )


def _result_text(result: Result) -> str:
    outcome = result.outcome
    if result.failed:
        return f"failed: {result.failed}"
    if outcome is None:
        return f"skipped: {_NEEDS[result.check.needs]}" if result.check.needs in _NEEDS else "skipped"
    if outcome.findings:
        return formatting.counted(len(outcome.findings), "finding")
    if outcome.reported_by:
        return f"reported by {', '.join(CHECKS[name].title for name in outcome.reported_by)}"
    return "clean" if outcome.looked_at else "nothing to check"
