"""The headline of an examination: how many findings of each severity, over how much, as known when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
from usage_explore.query.describe import window_words
from usage_explore.validation import SEVERITIES, Severity, Validation
from usage_explore.validation.report.wording import unexamined

WANTED = "run_wanted"
"""The session's note that the checks are to be run."""

COLORS: dict[Severity, str] = {"high": "red", "medium": "orange", "low": "gray"}
"""What colour goes with each severity's word."""


def headline(validation: Validation, now: datetime) -> None:
    """Draw it in one line, with a button that runs the checks again."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="headline"):
        if validation.findings:
            for severity, number in validation.counts().items():
                color = COLORS[severity] if number else "gray"
                _number(f":{color}[{number:,}]", severity, f"{SEVERITIES[severity].capitalize()}.")
        elif validation.failed:
            _number("Nothing found", "by the checks that ran", "What the failed checks look for was not looked for.")
        elif validation.totals.events:
            _number(
                ":green[Clean]", clean(validation), "Every check that ran found nothing; the Checks tab lists them."
            )
        if failed := len(validation.failed):
            _number(
                f":red[{failed:,}]",
                f"{'check' if failed == 1 else 'checks'} failed",
                "What they look for was not looked for; the Checks tab says why.",
            )
        skipped = sum(bool(result.skipped) for result in validation.results)
        if skipped:
            _number(
                f"{skipped:,}",
                f"{'check' if skipped == 1 else 'checks'} skipped",
                "The Checks tab says why, or what each of them needs.",
            )
        _number(
            formatting.short(validation.totals.events),
            "events examined" if validation.totals.events != 1 else "event examined",
            f"Exactly {formatting.counted(validation.totals.events, 'event')}.",
        )
        if validation.unexamined:
            _number(
                f":orange[{formatting.short(validation.unexamined.events)}]",
                "not examined yet",
                unexamined(validation),
            )
        _examined(validation, now)
        run_button("Run again", type="tertiary", icon=":material/refresh:")


def run_button(label: str, **options: Any) -> None:
    """Draw the button that runs the checks; `options` go to `st.button`."""

    def want() -> None:
        st.session_state[WANTED] = True

    st.button(label, key="run_checks", on_click=want, **options)


def clean(validation: Validation) -> str:
    """That nothing was found, and among how much: 12 checks over 1.1 M events found nothing."""
    ran = sum(result.is_clean for result in validation.results)
    events = formatting.short(validation.totals.events)
    partial = ", ".join(result.check.title for result in validation.results if result.is_partial)
    left = f"; usage too sparse to judge was left out by {partial}" if partial else ""
    return f"{formatting.counted(ran, 'check')} over {events} events found nothing{left}"


def _examined(validation: Validation, now: datetime) -> None:
    period = validation.period
    known = formatting.timestamp(period.as_of, period.zone) if period.as_of else ""
    ago = max(now - validation.now, timedelta(0)) // timedelta(minutes=1)
    when = (
        "just now"
        if ago < 1
        else f"{formatting.counted(ago, 'minute')} ago"
        if ago < 120
        else f"{ago // 60:,} hours ago"
    )
    took = sum((result.took for result in validation.results), timedelta(0)).total_seconds()
    st.caption(
        markdown.plain(f"{window_words(period)}, {period.timezone}; examined {when}"),
        help=markdown.plain(
            f"As the data was known at {known} ({period.timezone}); the checks took {took:.1f} s. "
            "What arrived later is not in these numbers: run the checks again to see it."
        ),
        width="content",
    )


def _number(value: str, meaning: str, explained: str) -> None:
    st.subheader(f"{value} :small[:gray[{markdown.plain(meaning)}]]", anchor=False, width="content", help=explained)
