"""What each check looked at, what it found or why it did not run, and by which rules."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from usage_explore.app import words
from usage_explore.checks import Result, Validation

_NEEDS = {
    "invoices": "drop the invoice lines under Reconciliation",
    "preferences": "drop the preferred currencies under Wallets",
    "finalized_at": "say above when the invoice was finalized",
}
"""What to give to a check that did not run without it."""


def checks(validation: Validation) -> None:
    """Draw every check of the examination, then what it means and the bounds it applies."""
    frame = pd.DataFrame([_row(result) for result in validation.results], dtype="object")
    if not any(frame["Note"]):
        frame = frame.drop(columns="Note")
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        column_config={
            "Check": st.column_config.TextColumn("Check", width=270),
            "Result": st.column_config.TextColumn("Result", width=330),
            "Among": st.column_config.TextColumn("Among", width=230),
            "Took": st.column_config.TextColumn("Took", alignment="right", width=80),
            "Note": st.column_config.TextColumn("Note", width="large"),
        },
        alt="The checks, what each found, and among how much",
    )
    with st.expander("What each check means for the invoice, and the bounds it applies"):
        for result in validation.results:
            check = result.check
            st.markdown(f"**{words.plain(check.title)}**  \n{words.plain(check.means)}")
            if check.parameters:
                st.table(
                    {words.plain(name): words.plain(meaning) for name, meaning in check.parameters.items()},
                    border="horizontal",
                )


def _row(result: Result) -> dict[str, str]:
    outcome = result.outcome
    if result.failed:
        said = f"failed: {result.failed}"
    elif outcome is None:
        said = f"skipped: {_NEEDS.get(result.check.needs or '', result.skipped)}"
    elif outcome.findings:
        said = words.plural(len(outcome.findings), "finding")
    else:
        said = "clean" if outcome.looked_at else "nothing to examine"
    return {
        "Check": result.check.title,
        "Result": said,
        "Among": "–" if outcome is None else f"{outcome.looked_at:,} {result.check.unit}",
        "Took": "–" if outcome is None else f"{result.took.total_seconds():.1f} s",
        "Note": outcome.note if outcome else "",
    }
