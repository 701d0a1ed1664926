"""The table of checks."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
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
    rows = [
        {
            "Check": markdown.plain(result.check.title),
            "Result": _with_note(result),
            "Among": markdown.plain(result.check.counted(result.outcome.looked_at)) if result.outcome else "",
            "Took": f"{result.took.total_seconds():.1f} s" if result.outcome else "",
        }
        for result in validation.results
    ]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
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


def _with_note(result: Result) -> str:
    """The result, and what the check says beside it, such as what it could not judge."""
    note = result.outcome.note if result.outcome else "" if result.check.needs else result.skipped
    text = markdown.plain(_result_text(result))
    return f"{text} :gray[· {markdown.plain(note)}]" if note else text


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
