"""Kept runs of validations beside other pages: which one is shown, in words, and links to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
from usage_explore.app.cache import Source
from usage_explore.app.navigation import Pages, leave_for
from usage_explore.app.page_state import Pairs, ValidateView
from usage_explore.app.validate.run import RUN_WANTED
from usage_explore.errors import QueryError
from usage_explore.names import NO_NAMES, Names
from usage_explore.query import url_params
from usage_explore.query.queries import Period
from usage_explore.records.identities import WHAT, WHO, RecordedFinding
from usage_explore.records.runs import MAX_COMPARED_RUNS, Run
from usage_explore.validation import decided as on_findings
from usage_explore.validation import unseen
from usage_explore.validation.decided import Decided
from usage_explore.validation.file_kinds import lacked_files
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.unseen import Files, Unseen
from usage_explore.validation.usage_sums import joined

_MAX_UNSEEN = 5
"""Open findings that are not shown, of which a warning has the sentences."""

_SETTLED = {"acknowledge": "acknowledged", "mute": "muted"}


@dataclass(frozen=True)
class KeptRun:
    """A kept run, its findings with what was decided on them since, and the open findings that it does not show."""

    run: Run
    decided: tuple[Decided, ...]
    unseen: Unseen

    def found(self) -> str:
        """What is open now: "3 high, 15 medium open, 1 of them not shown, 2 acknowledged", or "nothing found"."""
        settled = Counter[str](item.settled.action for item in self.decided if item.settled)
        open_ = Counter(self.run.counts)
        open_.subtract(item.finding.severity for item in self.decided if item.settled)
        open_.update(unseen.counts(self.unseen))
        counts = ", ".join(f"{open_[severity]:,} {severity}" for severity in self.run.counts if open_[severity] > 0)
        if not counts and not settled:
            return "nothing found"
        hidden = ""
        if self.unseen:
            is_all = len(self.unseen) == sum(number for number in open_.values() if number > 0)
            hidden = "not shown" if is_all else f"{len(self.unseen):,} of them not shown"
        words = (f"{settled[action]:,} {word}" for action, word in _SETTLED.items() if settled[action])
        return ", ".join(filter(None, (f"{counts or 'nothing'} open", hidden, *words)))


def newest(source: Source) -> tuple[Run | None, Run | None]:
    """The newest kept run of the whole organization, and a newer one with filters. Raises `RecordError`.

    Runs that examined nothing, such as one right after a load that a program kept, are passed over.
    """
    wholes = source.store.runs(most=MAX_COMPARED_RUNS, whole=True, examined=True)
    whole = _newest([run for run in wholes if run.period == wholes[0].period], source) if wholes else None
    latest = next(iter(source.store.runs(most=1, examined=True)), None)
    return whole, latest if latest and latest.period != (whole and whole.period) else None


def closest(source: Source, span: tuple[datetime, datetime], filters: Pairs) -> Run | None:
    """The newest run of the period of which one examined most of a span, see `Store.closest_run`; None without any."""
    run = source.store.closest_run(span, filters)
    if run is None:
        return None
    others = source.store.runs(most=MAX_COMPARED_RUNS, period=run.period, examined=True)
    return _newest([run, *(other for other in others if len(other.left_out) <= len(run.left_out))], source)


def _newest(runs: Sequence[Run], source: Source) -> Run:
    """That of several runs of a period which examined the latest arrivals, of those the one that was made last.

    A page that was left open examines an older state. A run whose last arrivals were removed since, such as by
    `load --replace`, has no later state than one that examined all that is left.
    """
    arrival = source.newest().arrival
    return max(runs, key=lambda run: (min(run.as_of, arrival or run.as_of), run.made_at))


def read(run: Run, source: Source, customer_id: str | None = None) -> KeptRun:
    """A run with what is known of its findings now; with `customer_id`, of those that name this customer.

    What a run of one customer does not show may have been found by one of the whole organization. Raises `RecordError`.
    """
    made = source.store.decisions()
    runs = source.store.compared_runs(run.period, (run.since, run.until))

    def is_about(finding: RecordedFinding) -> bool:
        return customer_id is None or finding.identity.customer_id == customer_id

    return KeptRun(
        run,
        tuple(item for item in on_findings.decided(run.findings, made, source.now) if is_about(item.finding)),
        tuple(pair for pair in unseen.of_run(run, runs, made, source.now) if is_about(pair[1])),
    )


def with_files(run: Run) -> str:
    """The files that a run was given, which its findings may need: " with book.csv and invoice.csv", "" for none."""
    names = _file_names(run.files)
    return f" with {names}" if names else ""


def needed_files(known: KeptRun) -> str:
    """The files that show all findings of a run's period: those that it was given, and those that it lacked."""
    run = known.run
    lacked: Files = {
        argument: other.files[argument]
        for other, finding in reversed(known.unseen)
        if other.period == run.period
        for argument in lacked_files(finding.identity.check, other.files, run.files)
    }
    return _file_names({**run.files, **lacked})


def _file_names(files: Files) -> str:
    return joined([formatting.data_value(file["name"]) for argument, file in files.items() if argument != "names"])


def pinned_view(run: Run, timezone: str = "") -> ValidateView:
    """The Validate page of a run, whose checks find the same again; in the run's own time zone where none is given.

    Raises `QueryError` for a run of another version.
    """
    period = Period.from_params(url_params.pairs(run.period))
    shown = {"organization_id": run.organization_id, "as_of": run.as_of, "timezone": timezone or run.timezone}
    return ValidateView(period.replace(**shown))


def words(run: Run, zone: ZoneInfo) -> str:
    """What a run examined, and as of when: "the validation of 1–30 Nov 2026, as of 1 Dec 2026 09:30".

    "the validation of 1–30 Nov 2026 by 1 of 17 checks, …" if it was run without some, or some failed.
    """
    days = formatting.span_in(run.since, run.until, zone)
    known = formatting.minute(run.as_of.astimezone(zone))
    every = len(run.checks) + len(run.left_out)
    by = f" by {len(run.checks):,} of {every:,} checks" if run.left_out else ""
    return f"the validation of {days}{by}, as of {known}"


def warn_of_unseen(
    text: str,
    findings: Unseen,
    period: str,
    pages: Pages,
    source: Source,
    zone: ZoneInfo,
    given_names: Names = NO_NAMES,
    on: str = "",
) -> None:
    """Draw a warning with a sentence on open findings that a `Run.period` does not show, these, and links to others."""
    names = given_names | names_in((finding for _, finding in findings[:_MAX_UNSEEN]), source)
    shown = (Decided(finding=finding, decisions=(), now=source.now) for _, finding in findings[:_MAX_UNSEEN])
    lines = [finding_words(item, names, zone) for item in shown]
    if more := len(findings) - len(lines):
        lines.append(f"and {more:,} more")
    listed = "\n".join(f"- {line}" for line in lines)
    is_other = all(run.period != period for run, _ in findings)
    how = "Open that validation" if is_other else f"Drop the files again{on}"
    st.warning(
        f"**{markdown.plain(text)}** {how} to examine and decide them:\n\n{listed}",
        icon=":material/warning:",
    )
    link_others(pages, findings, period)


def link_others(pages: Pages, findings: Unseen, period: str) -> None:
    """Draw a link to each validation of another period than a `Run.period` that has open findings, with the gravest."""
    others: dict[str, tuple[Run, RecordedFinding]] = {}
    for run, finding in findings:
        if run.period != period:
            others.setdefault(run.period, (run, finding))
    for run, finding in others.values():
        with suppress(QueryError):  # of another version
            view = pinned_view(run).replace(finding=finding.identity.id)
            label = f"Open the validation of {unseen.examined(run, period)},{with_files(run)}"
            link(pages, view, markdown.plain(label))


def finding_words(item: Decided, names: Names, zone: ZoneInfo) -> str:
    """A finding as a line in Markdown: severity, check, what was decided, and its sentence with names."""
    finding = item.finding
    check = finding.identity.check
    title = CHECKS[check].title if check in CHECKS else check
    gray = f"{title}, {settled}" if (settled := item.words(zone)) else title
    text = formatting.short_ids(names.in_text(markdown.in_app(finding.sentence)))
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


def draw(run: Run, is_same: bool, pages: Pages, source: Source, zone: ZoneInfo, finding_id: str | None) -> None:
    """Draw what a run found, and that of a link; if it is of the same period and filters, how to open its findings."""
    known, examined = read(run, source), words(run, zone)
    files = with_files(run)
    lines = [f"{examined[0].upper()}{examined[1:]}: {known.found()}{f',{files}' if files else ''}."]
    if known.unseen:
        lines.append(unseen.sentence(known.unseen, run.files, run.period, zone))
    if is_same:
        needed = needed_files(known)
        lines.append(f"To open its findings, {f'drop {needed} below and ' if needed else ''}press “Run checks”.")
    st.markdown(markdown.plain(" ".join(lines)))
    link_others(pages, known.unseen, run.period)
    unseen_ = tuple(Decided(finding=finding, decisions=(), now=source.now) for _, finding in known.unseen)
    if item := next((one for one in (*known.decided, *unseen_) if one.finding.identity.id == finding_id), None):
        text = finding_words(item, names_in((item.finding,), source), zone)
        st.markdown(f"The finding of this link: {text}")


def run_button(view: ValidateView) -> None:
    """Draw the button of a customer that opens the Validate page and runs its checks."""

    def start() -> None:
        st.session_state[RUN_WANTED] = True
        leave_for(view)

    label = "Run checks for this customer"
    st.button(label, key="customer_run_checks", icon=":material/play_arrow:", on_click=start)
