"""The Validate page: a billing period, its headline numbers, and tabs for findings, checks, files and code."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from usage_explore import decimals, formatting
from usage_explore.answers import AggregateSource
from usage_explore.app import cache, kept_runs, markdown, sign_in
from usage_explore.app.cache import Source
from usage_explore.app.exports import Download, download_buttons, escape_checkbox, prepared_download
from usage_explore.app.filters import (
    calendar_input,
    chips,
    dimension_hints,
    preset_input,
    reset_button,
    time_input,
    window_inputs,
)
from usage_explore.app.header import header, headline_number, opened_view
from usage_explore.app.navigation import Pages, go, notice
from usage_explore.app.page_state import ValidateView
from usage_explore.app.problems import no_events, sentence, shown
from usage_explore.app.validate import run
from usage_explore.app.validate.amounts import amounts_tab
from usage_explore.app.validate.code_tab import code_tab
from usage_explore.app.validate.decisions import keep_run, reviewed
from usage_explore.app.validate.file_area import adopt_files, file_area, last_files, waiting_period
from usage_explore.app.validate.files import (
    PRICES,
    ValidationWithFiles,
    faults_of_files,
    file_tab,
    offered,
    unexamined_words,
    validated_with_files,
)
from usage_explore.app.validate.findings import clean, findings
from usage_explore.app.validate.run import Note, Progress, watched
from usage_explore.app.validate.signing import changed_since, forget_signoffs, last_of, sign_off, signed_line
from usage_explore.errors import UsageExploreError
from usage_explore.query import buckets
from usage_explore.query.describe import describe, file_dates, window_words
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import SignOff
from usage_explore.results import frames
from usage_explore.validation import SEVERITIES, Result, Severity, Validation, report, unseen
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.report.wording import changed_bounds
from usage_explore.validation.review import Review, period_key
from usage_explore.validation.signed_usage import Changes

_PRESETS = {"this_month": "This month", "last_month": "Last month", "30d": "30 d", "custom": "Custom"}
_THIRTY_DAYS = "-29d/d"  # with today
_SETTLED = "Checks examine arrivals that have settled: those of the last minutes may still be incomplete."
_COLORS: dict[Severity, str] = {"high": "red", "medium": "orange", "low": "gray"}


def draw(pages: Pages) -> None:
    """Draw the page of the address bar. Raises `UsageExploreError`."""
    opened = opened_view(ValidateView, pages)
    if opened is None:
        return
    view, source = opened
    validation = run.known(source, view.query)

    def pinned() -> ValidateView:
        return view.replace(query=validation.period if validation else source.pinned(view.query))

    known_at = (validation.period.as_of if validation else None) or source.now
    header(pages, view, source, known_at=known_at, why=_SETTLED if validation else "", pinned=pinned)
    _controls(view, source)
    chips(view, source)
    notice()
    with shown():
        dimension_hints(view.query, source)
        signed_line(source, view.query, validation)
        _answer(pages, view, source, validation)


def _answer(pages: Pages, view: ValidateView, source: Source, validation: Validation | None) -> None:
    top = st.empty()
    if st.session_state.pop(run.RUN_WANTED, False):
        _run(pages, view, source, top)
    if validation is None:
        with top.container():
            _not_yet(pages, view, source)
        return
    area = st.container()
    adopt_files(view, validation.period)
    with_files = validated_with_files(source, validation)
    keep_run(source, with_files.validation, has_files=with_files.validation is not validation)
    review, unreadable = reviewed(source, with_files.validation)
    with top.container():
        _headline(with_files, review, source.now)
        if unreadable:
            st.warning(markdown.plain(unreadable), icon=":material/warning:")
        elif review.items or review.gone:
            st.caption(markdown.plain(review.sentence(with_files.validation.period.zone)))
        if text := review.unseen_sentence(validation.period.zone):
            names = with_files.validation.names
            period = period_key(validation.period)
            kept_runs.warn_of_unseen(text, review.unseen, period, pages, source, validation.period.zone, names)
    if with_files.validation.totals.events or with_files.validation.unexamined:
        with area:
            file_area(source, with_files.validation.period, with_files.faults, last_files(with_files, review))
    if with_files.validation.totals.events:
        _tabs(pages, view, source, with_files, review)
    else:
        _nothing(pages, view, source, with_files.validation)


def _run(pages: Pages, view: ValidateView, source: Source, top: DeltaGenerator) -> None:
    """Run the checks with their progress in `top`; if they fail, offer them again."""
    top.empty()
    forget_signoffs()
    cache.renew()  # charts and events of the last minute are queried again, too
    progress = Progress(tuple(CHECKS.values()))
    try:
        run.run(source, view.query, progress)
    except Exception:
        progress.clear()
        with top.container():
            _not_yet(pages, view, source)
        raise
    st.rerun()


def _not_yet(pages: Pages, view: ValidateView, source: Source) -> None:
    """Say that the checks have not run for this period, what they look for, and offer to run them."""
    wanted = view.query.resolve(source.now)
    kept = kept_runs.closest(source, wanted.span, view.query.to_params())
    is_same = kept is not None and kept.period == period_key(wanted)
    st.subheader("Findings not shown yet" if is_same else "Checks not run yet", anchor=False)
    if kept is not None:
        kept_runs.draw(kept, is_same, pages, source, view.query.zone, view.finding)
    what = markdown.plain(source.names(view.query).in_text(describe(wanted)))
    titles = markdown.plain("; ".join(check.title.lower() for check in CHECKS.values()))
    st.markdown(
        f"{what}.  \n:gray[{formatting.counted(len(CHECKS), 'check')} look for what would make its invoice wrong: "
        f"{titles}. That takes seconds, of very many events a minute or two.]"
    )
    period = waiting_period(view, source)
    file_area(source, period, faults_of_files(period))
    _run_button("Run checks", type="primary", icon=":material/play_arrow:")


def _nothing(pages: Pages, view: ValidateView, source: Source, validation: Validation) -> None:
    """Say that there was nothing to check, which is not clean, and when the organization has events."""
    text = f"No events match, so nothing was checked: {validation.names.in_text(describe(validation.period))}."
    if validation.unexamined:
        sentence(f"Nothing was checked: {unexamined_words(validation, source.now)}")
        return
    extent, zone = source.extent(), view.query.zone
    if extent is None:
        no_events(pages.load, f"{text} This organization has no events.")
        return
    first, last = (formatting.timestamp(moment, zone) for moment in extent)
    sentence(f"{text} This organization's events lie between {first} and {last}, {view.query.timezone}.")
    start = extent[1].astimezone(zone).date().replace(day=1)
    month = [buckets.day_start(day, zone) for day in (start, (start + timedelta(days=31)).replace(day=1))]
    newest = with_window(view.query, source.now, window=None, since=month[0], until=month[1])
    with st.container(horizontal=True, gap="small", key="nothing"):
        if newest.resolve(source.now).span != validation.period.span:
            st.button(
                f"Show {start:%B %Y}", key="show_extent", on_click=lambda: go(view, lambda: view.with_query(newest))
            )
        reset_button(view)


def _controls(view: ValidateView, source: Source) -> None:
    query, now = view.query, source.now
    with st.container(horizontal=True, vertical_alignment="top", gap="medium", key="period"):
        preset_input(
            "Billing period",
            _PRESETS,
            _preset(query),
            "period_preset",
            lambda name: view.with_query(_with_preset(query, name, now)),
            view,
        )
        calendar_input(
            "or another period",
            _PRESETS,
            view,
            source,
            "period_calendar",
            lambda name: view.with_query(_with_preset(query, name, now)),
        )
        if _preset(query) == "custom":
            window_inputs(
                view, now, "period", lambda **window: view.with_query(with_window(query, now, window=None, **window))
            )
        time_input(
            "Invoice finalized at",
            query.finalized_at,
            view,
            lambda moment: view.with_query(query.replace(finalized_at=moment)),
            key="period_finalized_at",
            help="Events ingested later are not on the invoice. Leave it empty while the invoice is still open.",
        )


def _preset(query: Period) -> str | None:
    """The preset of the window; None for one that is not in `_PRESETS`."""
    if query.window:
        return query.window if query.window in _PRESETS else None
    if isinstance(query.since, datetime) or isinstance(query.until, datetime):
        return "custom"
    return "30d" if (query.since, query.until) == (_THIRTY_DAYS, "now") else None


def with_window(query: Period, now: datetime, **window: object) -> Period:
    """The period with another window; `finalized_at` is dropped if it is not after the window's start."""
    moved = query.replace(finalized_at=None, **window)
    finalized = query.finalized_at
    if finalized is None or finalized <= moved.resolve(now).span[0]:
        return moved
    return moved.replace(finalized_at=finalized)


def _with_preset(query: Period, name: str, now: datetime) -> Period:
    """The period with a preset's window; "custom" keeps the window as absolute times."""
    if name == "custom":
        since, until = query.resolve(now).span
        return query.replace(window=None, since=since, until=until)
    if name == "30d":
        return with_window(query, now, window=None, since=_THIRTY_DAYS, until=None)
    return with_window(query, now, window=name)


def _headline(with_files: ValidationWithFiles, review: Review, now: datetime) -> None:
    """The open findings of each severity, what did not run, the events checked, and a button to run again."""
    validation = with_files.validation
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="headline"):
        hidden = unseen.counts(review.unseen)
        if validation.findings or unseen.is_grave(review.unseen):
            for severity, shown_ in review.open_counts().items():
                number = shown_ + hidden[severity]
                color = _COLORS[severity] if number else "gray"
                some = f", {hidden[severity]:,} not shown" if shown_ else ", not shown"
                words = f"{severity} open{some if hidden[severity] else ''}"
                headline_number(f":{color}[{number:,}]", words, f"{SEVERITIES[severity].capitalize()}.")
        elif validation.failed:
            headline_number("Nothing found", "by the checks that ran", "The Checks tab says which checks failed.")
        elif faulty := len(with_files.faults):
            unused = f"{formatting.counted(faulty, 'file')} {'was' if faulty == 1 else 'were'} not used"
            headline_number("Nothing found", f"but {unused}", f"{unused}, as said below.")
        elif validation.totals.events:
            headline_number(
                ":green[Clean]", clean(validation), "Every check that ran found nothing; the Checks tab lists them."
            )
        if failed := len(validation.failed):
            headline_number(
                f":red[{failed:,}]",
                f"{'check' if failed == 1 else 'checks'} failed",
                "Their errors are not found; the Checks tab says why they failed.",
            )
        skipped = sum(bool(result.skipped) for result in validation.results)
        if skipped:
            headline_number(
                f"{skipped:,}",
                f"{'check' if skipped == 1 else 'checks'} skipped",
                "The Checks tab says why, or what each of them needs.",
            )
        if validation.unchecked:
            unchecked = "; ".join(validation.unchecked)
            of_what = "columns" if "column" in unchecked else "amounts"
            headline_number(":orange[Not checked]", of_what, f"{unchecked[:1].upper()}{unchecked[1:]}.")
        headline_number(
            formatting.short(validation.totals.events),
            "events checked" if validation.totals.events != 1 else "event checked",
            f"Exactly {formatting.counted(validation.totals.events, 'event')}.",
        )
        if validation.unexamined:
            headline_number(
                f":orange[{formatting.short(validation.unexamined.events)}]",
                "not checked yet",
                unexamined_words(validation, now),
            )
        _checked(validation, now)
        _run_button("Run checks again", type="tertiary", icon=":material/refresh:")


def _run_button(label: str, **options: Any) -> None:
    st.button(label, key="run_checks", on_click=st.session_state.update, args=({run.RUN_WANTED: True},), **options)


def _checked(validation: Validation, now: datetime) -> None:
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
    of = f", of what had arrived by {formatting.minute(period.as_of.astimezone(period.zone))}" if period.as_of else ""
    took = sum((result.took for result in validation.results), timedelta(0)).total_seconds()
    st.caption(
        markdown.plain(f"{formatting.without_fractions(window_words(period))}, {period.timezone}; checked {when}{of}"),
        help=markdown.plain(
            f"As the data was known at {known} ({period.timezone}); the checks took {took:.1f} s. {_SETTLED} "
            "What arrived later is not in these numbers: run the checks again to see it."
        ),
        width="content",
    )


def _tabs(pages: Pages, view: ValidateView, source: Source, with_files: ValidationWithFiles, review: Review) -> None:
    """The tabs under the headline; only the open one queries the database."""
    validation = with_files.validation
    draw: dict[str, Callable[[], None]] = {
        "Findings": lambda: findings(pages, view, source, validation, review),
        "Checks": lambda: check_table(validation),
        **{reader.title: partial(file_tab, reader, view, source, with_files) for reader in offered(validation)},
        PRICES.title: partial(amounts_tab, source, with_files, f"amounts-{file_dates(validation.period)}"),
        "Sign-off": lambda: sign_off(view, source, with_files, review),
        "Code": lambda: code_tab(view, with_files),
        "Download": lambda: _download(source, validation, review),
    }
    for tab, content in zip(st.tabs(list(draw), key="validate_tab", on_change="rerun"), draw.values(), strict=True):
        if tab.open:
            with tab:
                content()


def _download(source: Source, validation: Validation, review: Review) -> None:
    """Draw a button per file, which is made at the click."""
    name = f"validation-{file_dates(validation.period)}"
    files: tuple[Download, ...] = (
        ("Findings, CSV", "csv", lambda: BOM_UTF8 + to_csv(validation, review, escape_formulas=escape)),
        ("Everything, JSON", "json", lambda: to_json(source.store, validation, review, *_signed(source, validation))),
    )
    st.caption(
        "The findings with every number exact, each with its link; the JSON also has the totals, what was clean, and "
        "the tables of the checks, whole. "
        "The report is a page that needs no network: findings with their charts, what was clean, totals that reconcile."
    )
    escape = escape_checkbox("validation escape_formulas")
    with st.container(horizontal=True, gap="small"):
        download_buttons(files, name, "validation", source)
        wanted = st.button("Prepare report, HTML", key="prepare report", icon=":material/file_save:")
    if wanted:
        with shown():
            _report(source, validation, review, f"{name}.html")


def _report(source: Source, validation: Validation, review: Review, name: str) -> None:
    """Make the report with a progress bar, then draw its download button."""
    bar = st.progress(0.0, "Counting the totals again")

    def show(progress: dict[str, float], seconds: float) -> None:
        doing = "Drawing the charts" if progress else "Counting the totals again"
        bar.progress(min(progress.get("charts", 0.0), 1.0), f"{doing} · {seconds:.0f} s")

    def make(note: Note) -> str:
        reconciled = report.statements(source.store, validation)
        return report.html(
            source.store,
            validation,
            reconciled,
            by=by,
            progress=partial(note, "charts"),
            review=review,
            signoff=signed,
            changes=changes,
        )

    by, (signed, changes) = sign_in.current_user(), _signed(source, validation)
    with cache.logged_work("report", source.store.organization_id, validation.period):
        content = watched(make, show).encode()
    bar.empty()
    prepared_download("Download report, HTML", content, name, "report")


def to_csv(validation: Validation, review: Review | None = None, *, escape_formulas: bool = False) -> bytes:
    """One row per finding: times in ISO 8601 with the offset, exact numbers, all text quoted.

    With a review, `finding_id`, `states` and `assignee` follow.
    """
    frame = validation.frame
    if review is not None:
        places = {id(finding): place for place, finding in enumerate(validation.findings)}
        frame = frame.iloc[[places[id(item.finding)] for item in review.items]].reset_index(drop=True)
        more = {
            "finding_id": [item.id for item in review.items],
            "states": [", ".join(item.states) for item in review.items],
            "assignee": [item.assignee or None for item in review.items],
        }
        frame = frame.assign(**{name: pd.Series(values, dtype="str") for name, values in more.items()})
    texts = {
        "since": [moment.isoformat() for moment in frame["since"]],
        "until": [moment.isoformat() for moment in frame["until"]],
        "quantity": [None if quantity is None else decimals.plain(quantity) for quantity in frame["quantity"]],
        "amounts": [
            json.dumps({currency: decimals.plain(amount) for currency, amount in amounts.items()})
            for amounts in frame["amounts"]
        ],
        "share": [decimals.plain(share) for share in frame["share"]],
    }
    return frames.csv_bytes({name: texts.get(name, frame[name]) for name in frame.columns}, escape_formulas)


def to_json(
    store: AggregateSource,
    validation: Validation,
    review: Review | None = None,
    signoff: SignOff | None = None,
    changes: Changes | None = None,
) -> bytes:
    """What `usage-explore validate --json` writes: totals counted again, checks, findings with states, tables."""
    document = report.document(validation, report.statements(store, validation), review, signoff, changes)
    return json.dumps(document, ensure_ascii=False, indent=2).encode()


def _signed(source: Source, validation: Validation) -> tuple[SignOff | None, Changes | None]:
    """The last sign-off of the period and what changed since; None without one, or where they cannot be read."""
    signed = None
    try:
        signed = last_of(source, validation.period)
        return signed, None if signed is None else changed_since(source, signed)
    except UsageExploreError:
        return signed, None


_NEEDS = {
    "invoices": "drop the invoice lines above the tabs",
    "preferences": "drop the preferred currencies above the tabs",
    "control": "drop the totals by day above the tabs",
    "prices": "drop a price book above the tabs",
    "finalized_at": "say above when the invoice was finalized",
}
"""What a check needs to run, by `Check.needs`."""


def check_table(validation: Validation) -> None:
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
    note = result.outcome.note if result.outcome else "" if result.is_not_given else result.skipped
    text = markdown.plain(_result_text(result))
    return f"{text} :gray[· {markdown.plain(note)}]" if note else text


def _result_text(result: Result) -> str:
    outcome = result.outcome
    if result.failed:
        return f"failed: {result.failed}"
    if outcome is None:
        is_named = result.is_not_given and result.check.needs in _NEEDS
        return f"skipped: {_NEEDS[result.check.needs or '']}" if is_named else "skipped"
    if outcome.findings:
        return formatting.counted(len(outcome.findings), "finding")
    if outcome.reported_by:
        return f"reported by {', '.join(CHECKS[name].title for name in outcome.reported_by)}"
    return "clean" if outcome.looked_at else "nothing to check"
