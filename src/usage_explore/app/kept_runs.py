"""Kept runs of validations beside other pages: which one is shown, in words, and links to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
from usage_explore.app.cache import Source
from usage_explore.app.navigation import Pages, leave_for
from usage_explore.app.page_state import ValidateView
from usage_explore.app.validate.run import RUN_WANTED
from usage_explore.names import Names
from usage_explore.query import url_params
from usage_explore.query.queries import Period
from usage_explore.records.identities import WHAT, WHO, RecordedFinding
from usage_explore.records.runs import Run
from usage_explore.validation import decided as on_findings
from usage_explore.validation.decided import Decided
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.usage_sums import joined

_MAX_COMPARED = 20
"""Newest runs among which that as of the latest time is looked for."""

_SETTLED = {"acknowledge": "acknowledged", "mute": "muted"}


def newest(source: Source) -> tuple[Run | None, Run | None]:
    """The newest kept run of the whole organization, and a newer one with filters. Raises `RecordError`.

    Of several of its period it is that as of the latest time: a page that was left open examines an older state. Runs
    that examined nothing, such as one right after a load that a program kept, are passed over.
    """
    wholes = source.store.runs(most=_MAX_COMPARED, whole=True, examined=True)
    whole = max(
        (run for run in wholes if run.period == wholes[0].period),
        key=lambda run: (run.as_of, run.made_at),
        default=None,
    )
    latest = next(iter(source.store.runs(most=1, examined=True)), None)
    return whole, latest if latest and latest.period != (whole and whole.period) else None


def found(run: Run, decided: Sequence[Decided]) -> str:
    """What a run found, and is open now: "3 high, 15 medium open, 2 acknowledged", or "nothing found"."""
    settled = Counter[str](item.settled.action for item in decided if item.settled)
    open_ = Counter(run.counts)
    open_.subtract(item.finding.severity for item in decided if item.settled)
    counts = ", ".join(f"{open_[severity]:,} {severity}" for severity in run.counts if open_[severity] > 0)
    if not counts and not settled:
        return "nothing found"
    words = (f"{settled[action]:,} {word}" for action, word in _SETTLED.items() if settled[action])
    return ", ".join((f"{counts or 'nothing'} open", *words))


def decided(run: Run, source: Source) -> tuple[Decided, ...]:
    """The findings of a run with what was decided on them since. Raises `RecordError`."""
    return on_findings.decided(run.findings, source.store.decisions(), source.now)


def with_files(run: Run) -> str:
    """The files that a run was given, which its findings may need: " with book.csv and invoice.csv", "" for none."""
    names = [formatting.data_value(file["name"]) for argument, file in run.files.items() if argument != "names"]
    return f" with {joined(names)}" if names else ""


def pinned_view(run: Run, timezone: str) -> ValidateView:
    """The Validate page of a run, whose checks find the same again. Raises `QueryError` for another version's."""
    period = Period.from_params(url_params.pairs(run.period))
    return ValidateView(period.replace(organization_id=run.organization_id, as_of=run.as_of, timezone=timezone))


def words(run: Run, zone: ZoneInfo) -> str:
    """What a run examined, and as of when: "the validation of 1–30 Nov 2026, as of 1 Dec 2026 09:30".

    "the validation of 1–30 Nov 2026 by 1 of 17 checks, …" if it was run without some, or some failed.
    """
    days = formatting.span_in(run.since, run.until, zone)
    known = formatting.minute(run.as_of.astimezone(zone))
    every = len(run.checks) + len(run.left_out)
    by = f" by {len(run.checks):,} of {every:,} checks" if run.left_out else ""
    return f"the validation of {days}{by}, as of {known}"


def finding_words(item: Decided, names: Names, zone: ZoneInfo) -> str:
    """A finding as a line in Markdown: severity, check, what was decided, and its sentence with names."""
    finding = item.finding
    check = finding.identity.check
    title = CHECKS[check].title if check in CHECKS else check
    gray = f"{title}, {settled}" if (settled := item.words(zone)) else title
    text = formatting.short_ids(names.in_text(finding.sentence))
    return f"**{markdown.plain(finding.severity.capitalize())}** :gray[{markdown.plain(gray)}] {markdown.plain(text)}"


def names_in(findings: Iterable[RecordedFinding], source: Source) -> Names:
    """The names of the ids that findings are about."""
    return source.names_of(
        (column, key)
        for finding in findings
        for column in (*WHO, *WHAT)
        if column.endswith("_id") and (key := getattr(finding.identity, column))
    )


def link(pages: Pages, view: ValidateView, label: str) -> None:
    """Draw a link, `label` in Markdown, to the Validate page."""
    st.page_link(pages.validate, label=label, query_params=view.to_params())


def run_button(view: ValidateView) -> None:
    """Draw the button of a customer that opens the Validate page and runs its checks."""

    def start() -> None:
        st.session_state[RUN_WANTED] = True
        leave_for(view)

    label = "Run checks for this customer"
    st.button(label, key="customer_run_checks", icon=":material/play_arrow:", on_click=start)
