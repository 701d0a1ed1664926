"""The Load page: a file is dropped, checked as by `load --check`, mapped with pickers, and loaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import streamlit as st

from usage_explore import config
from usage_explore.app import cache, markdown, sign_in
from usage_explore.app.components import focus
from usage_explore.app.header import page_links
from usage_explore.app.load import permission, pickers, work
from usage_explore.app.load.pickers import LABELS, Owner
from usage_explore.app.load.result import for_pickers, outcome_lines, show_check
from usage_explore.app.load.work import Outcome
from usage_explore.app.navigation import Pages, read_url
from usage_explore.app.page_state import LoadView
from usage_explore.app.problems import sentence
from usage_explore.app.uploads import File
from usage_explore.errors import DatabaseUnavailable, UsageExploreError
from usage_explore.formatting import counted, path_text, size
from usage_explore.load import FileCheck, LoadOptions, loaded_queries
from usage_explore.names import NO_NAMES
from usage_explore.query import buckets
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES
from usage_explore.query.queries import AggregateQuery, Period
from usage_explore.validation.periods import INSTANT

_NUMBER = "load number"
"""Session state: how many files were loaded and put aside; each has an upload widget of its own."""

_OUTCOME = "load outcome"
"""Session state: the id of the upload that was loaded, and its `Outcome`."""


_REPEATED = "load repeated"
"""Session state: the upload and options of a load that was undone, as it repeats stored events, and why."""


def draw(pages: Pages) -> None:
    """Draw the page of the address bar. Raises `UsageExploreError`."""
    view = LoadView.from_params(read_url())
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="header"):
        page_links(pages, (view.to_params(),) * 3, view)
        st.space("stretch")
        sign_in.account()
    st.subheader("Load a file", anchor=False)
    if reason := permission.refusal():
        sentence(reason, icon=":material/lock:")
        return
    dropped = _dropped()
    if dropped is None:
        work.forget_checks()
        return
    upload_id, file = dropped
    loaded_id, outcome = st.session_state.get(_OUTCOME, ("", None))
    if loaded_id == upload_id and outcome.report is not None:
        _loaded(pages, outcome)
        return
    _mapped(upload_id, file, view)


def _dropped() -> tuple[str, File] | None:
    """Draw the upload widget; the id and the file of the upload in it."""
    number = st.session_state.setdefault(_NUMBER, 0)
    left, right = st.columns([3, 4], gap="medium", vertical_alignment="center")
    with left:
        uploaded = st.file_uploader(
            "Drop a file: CSV, JSON, Parquet or Excel, also in .gz or .zip",
            key=f"dropped {number}",
            max_upload_size=MAX_UPLOAD_MEGABYTES,
        )
    with right:
        st.caption(
            "The file is checked first; nothing is written until you load it, and then all of its rows or none. It is"
            " kept for this session alone and then deleted."
        )
    # the browser reports a file that is too large; this is for requests past the browser
    if uploaded is not None and uploaded.size > MAX_UPLOAD_MEGABYTES * 2**20:
        _problem(f"The file is larger than {MAX_UPLOAD_MEGABYTES} MB; load it with `usage-explore load FILE`.")
        return None
    if uploaded is None:
        with st.expander(f"A file larger than {MAX_UPLOAD_MEGABYTES} MB", key="larger"):
            st.caption("Load it in a terminal:")
            st.code("usage-explore load FILE", language=None)
        return None
    return uploaded.file_id, File(path_text(uploaded.name, whole=True), uploaded.getvalue())


def _mapped(upload_id: str, file: File, view: LoadView) -> None:
    """Draw the pickers, the check, and the button that loads."""
    key = f"{st.session_state[_NUMBER]} {file.digest[:12]}"
    heading = st.empty()
    heading.markdown(f"**{markdown.plain(work.shown_name(file))}**")
    first = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="file_options")
    with first:
        look = work.looked(file, LoadOptions())
        sheet = pickers.sheet(look.sheets, key)
        encoding = st.session_state.get(pickers.encoding_key(key))  # of the last picker in the row
        given = LoadOptions(sheet=sheet, encoding=encoding)
        preset = pickers.preset(work.looked(file, given), f"{key} {sheet} {encoding}")
        given = replace(given, preset=preset)
        look = work.looked(file, given)
        owner = pickers.organization(look, config.settings(), view.organization_id, key)
        pickers.encoding(file, look, key)
    if look.problem:
        _problem(look.problem)
        return
    if owner is None:
        sentence("Choose whose events these are.")
        return
    if not pickers.is_meant(owner, key):
        return
    try:
        given = replace(given, constants={"organization_id": owner.text} if owner.text else {})
        base = work.checked(file, given, proposals=True)
        check = _checked_with_picks(file, base, f"{key} {preset} {sheet} {encoding}")
    except UsageExploreError as error:
        _problem(str(error))
        return
    what = f"{size(len(file.content))}, {check.format}, {counted(len(check.names), 'column')}"
    heading.markdown(f"**{markdown.plain(work.shown_name(file))}** :gray[{markdown.plain(what)}]")
    _check_and_load(upload_id, file, check, owner)


def _checked_with_picks(file: File, base: FileCheck, key: str) -> FileCheck:
    """Draw the pickers of columns and values; the check of what they hold."""
    is_clear = base.preset is not None and not base.is_proposed and not base.missing and not base.rejected
    with st.expander("Columns and values", expanded=not is_clear, key=f"columns {key}"):
        if base.is_proposed:
            st.caption("Proposed from names and values; change what is not right.")
        elif base.preset is not None:
            st.caption(markdown.plain(f"As the preset {base.preset.name} has it; change what is not right."))
        if reason := base.reasons.get("encoding"):
            st.caption(markdown.plain(f"{pickers.ENCODING} {base.options.encoding}: {reason}."))
        options = pickers.columns_and_values(base, key)
    return base if options == base.options else work.checked(file, options, proposals=False)


def _check_and_load(upload_id: str, file: File, check: FileCheck, owner: Owner) -> None:
    if check.missing:
        columns = " and ".join(LABELS.get(column, column) for column in check.missing)
        _problem(f"Still missing: {columns}. Choose a column, or type a value for all rows.")
        return
    if check.problem:
        _problem(check.problem)
        return
    show_check(check)
    tried = f"{upload_id} {check.options!r}"
    repeated_of, repeated = st.session_state.get(_REPEATED, ("", ""))
    skip_bad, beside_stored = False, repeated_of != tried
    if not beside_stored:
        st.warning(markdown.prose(for_pickers(repeated)), icon=":material/warning:")
        beside_stored = st.checkbox("Load all rows beside the stored events", key=f"beside_stored {file.digest[:12]}")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="load_row"):
        if check.rejected and check.events:
            skip_bad = st.checkbox(
                f"Leave out {counted(check.rejected, 'rejected row')}", key=f"skip_bad {file.digest[:12]}"
            )
        is_ready = check.events > 0 and (skip_bad or not check.rejected) and beside_stored
        is_clicked = st.button(
            f"Load {counted(check.events, 'event')}",
            key="load_file",
            type="primary",
            icon=":material/upload:",
            disabled=not is_ready,
        )
        if check.rejected and not skip_bad:
            st.caption("Rejected rows refuse the whole file.", width="content")
        elif not check.events:
            st.caption("There is nothing to load: no row becomes an event.", width="content")
        elif owner.text:
            new = "a new organization " if owner.is_new else ""
            st.caption(f"Into {new}{markdown.plain(owner.label)}", width="content")
    if is_clicked and is_ready:
        try:
            _load(upload_id, file, check.options, owner, skip_bad=skip_bad, beside_stored=repeated_of == tried)
        except work.RepeatsStored as error:
            st.session_state[_REPEATED] = tried, str(error)
            st.rerun()
    with st.expander("The same in a terminal", key="terminal"):
        st.code(f"{check.command}{' --skip-bad' if skip_bad else ''}", language="bash", wrap_lines=True)


def _load(
    upload_id: str, file: File, options: LoadOptions, owner: Owner, *, skip_bad: bool, beside_stored: bool
) -> None:
    outcome = Outcome(timezone=options.timezone or "UTC")
    if owner.is_new:
        outcome.notes.append(f"{owner.label} is a new organization: these are its first events")
    st.session_state[_OUTCOME] = upload_id, outcome  # before the load: an interrupted run still leaves its report
    try:
        work.load(file, options, outcome, skip_bad=skip_bad, beside_stored=beside_stored)
    except work.RepeatsStored:
        raise
    except UsageExploreError as error:
        _problem(error.public if isinstance(error, DatabaseUnavailable) and not sign_in.is_alone() else str(error))
        return
    if outcome.report is not None:
        pickers.keep_owner(outcome.report.organizations)
    st.rerun()


def _validate_link(pages: Pages, loaded: AggregateQuery, month_end: datetime) -> None:
    """Draw the way to the checks of the month with most of what was loaded, which has an event at `month_end`."""
    since = buckets.floor(month_end, "month", loaded.zone)
    until = buckets.following(since, "month", loaded.zone)
    month = Period(organization_id=loaded.organization_id, since=since, until=until, timezone=loaded.timezone)
    label = f"Validate {since.astimezone(loaded.zone):%B %Y}"
    st.page_link(pages.validate, label=label, icon=":material/fact_check:", query_params=month.to_params())


def _loaded(pages: Pages, outcome: Outcome) -> None:
    """Draw the report of the load, and the ways to its events in Explore and to their checks."""
    report = outcome.report
    if report is None:
        return
    outcome_lines(report, outcome.notes)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="loaded"):
        is_one = len(report.organizations) == 1
        names = NO_NAMES if is_one else cache.organization_names()
        for query in loaded_queries([report], outcome.timezone):
            id_ = str(query.organization_id)
            of_several = "" if is_one else f" ({markdown.plain(names.known('organization', id_) or id_)})"
            label = f"Open in Explore{of_several}"
            st.page_link(pages.explore, label=label, icon=":material/bar_chart:", query_params=query.to_params())
            if is_one:
                _validate_link(pages, query, report.month_end or query.span[1] - INSTANT)
        st.button("Load another file", key="another", on_click=_another)
        focus(".st-key-loaded", f"loaded {st.session_state[_NUMBER]}")  # the button that had the focus is gone


def _another() -> None:
    st.session_state[_NUMBER] += 1
    st.session_state.pop(_OUTCOME, None)
    work.forget_checks()


def _problem(text: str) -> None:
    """Draw an error of one or several lines, with the pickers' labels for the options of the command."""
    lines = for_pickers(text).split("\n")
    st.error("  \n".join(map(markdown.prose, lines)), icon=":material/error:")
