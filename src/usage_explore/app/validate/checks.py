"""What each check looked at, what it found or why it did not run, and by which rules."""

from __future__ import annotations

import streamlit as st

from usage_explore import formatting
from usage_explore.app import grid, markdown
from usage_explore.validation import Result, Validation

_NEEDS = {
    "invoices": "drop the invoice lines under Reconciliation",
    "preferences": "drop the preferred currencies under Wallets",
    "finalized_at": "say above when the invoice was finalized",
}
"""What to give to a check that did not run without it."""


def checks(validation: Validation) -> None:
    """Draw every check of the examination, then what it means and the bounds it applies."""
    results = validation.results
    ran = [result if result.outcome else None for result in results]
    notes = [each.outcome.note if each.outcome else "" if each.check.needs else each.skipped for each in results]
    columns = {
        "Check": grid.texts("Check", [result.check.title for result in results], width=270),
        "Result": grid.texts("Result", [_said(result) for result in results], width=330),
        "Among": grid.numbers("Among", [each.outcome.looked_at if each.outcome else None for each in results]),
        "Unit": grid.texts("Unit", [each.check.unit if each else None for each in ran]),
        "Seconds": grid.ratios(
            "Took",
            [each.took.total_seconds() if each else None for each in ran],
            lambda seconds: f"{seconds:.1f} s",
        ),
        "Note": grid.texts("Note", notes, width="large"),
    }
    if not any(notes):
        del columns["Note"]
    grid.draw(columns, height="content", alt="The checks, what each found, and among how much")
    with st.expander("What each check means for the invoice, and the bounds it applies"):
        for result in validation.results:
            check = result.check
            st.markdown(f"**{markdown.plain(check.title)}**  \n{markdown.plain(check.means)}")
            if check.parameters:
                st.table(
                    {markdown.plain(name): markdown.plain(meaning) for name, meaning in check.parameters.items()},
                    border="horizontal",
                )


def _said(result: Result) -> str:
    outcome = result.outcome
    if result.failed:
        return f"failed: {result.failed}"
    if outcome is None:
        return f"skipped: {_NEEDS[result.check.needs]}" if result.check.needs in _NEEDS else "skipped"
    if outcome.findings:
        return formatting.counted(len(outcome.findings), "finding")
    return "clean" if outcome.looked_at else "nothing to examine"
