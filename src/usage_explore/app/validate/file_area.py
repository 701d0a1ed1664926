"""The one place for the files of a validation, above its tabs: dropped once, recognized by their columns.

Files are kept for the session alone, also while other pages are open; nothing of them is stored. A file that may be of
several kinds asks what it is, and the kind of any file can be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
from usage_explore.app.cache import Source
from usage_explore.app.middleware import MAX_FILES
from usage_explore.app.page_state import ValidateView
from usage_explore.app.uploads import File
from usage_explore.app.validate import run
from usage_explore.app.validate.files import GIVEN, ValidationWithFiles, dropped_file, dropped_files, dropped_key
from usage_explore.errors import QueryError
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES
from usage_explore.query.queries import Period
from usage_explore.query.url_params import query_string
from usage_explore.validation.file_kinds import FILE_KINDS, FileKind
from usage_explore.validation.review import Review

_SUFFIXES = ("toml", "csv", "xlsx", "parquet", "gz")
_NUMBER, _NOTICES = "validate_drops", "validate_drop_notices"
"""Session state: how often files were dropped, each time into a new upload widget, and what is to be said of them."""

_BY_TEXTS: tuple[FileKind, ...] = ("prices", "wallets")
"""Files whose rows apply to the customers and products that they name, or to no usage."""

_MAX_FAULTS, _MAX_UNCLEAR, _MAX_NAME = 20, 10, 40


def _take_files(period: Period) -> None:
    """Take the dropped files, before the checks that read them run, and leave the upload empty."""
    number = st.session_state.setdefault(_NUMBER, 0)
    dropped = st.session_state.get(_uploader(number)) or []
    for file in dropped:
        # the browser reports a file that is too large; this is for requests past the browser
        if file.size <= MAX_UPLOAD_MEGABYTES * 2**20:
            _take(File(formatting.path_text(file.name, whole=True), file.getvalue()), period)
    if len(dropped) >= MAX_FILES:
        _notice(f"{MAX_FILES} files were taken, the most at a time. If you dropped more, drop the others again.")
    if dropped:
        st.session_state[_NUMBER] = number + 1


def waiting_period(view: ValidateView, source: Source) -> Period:
    """The period to which files belong that are dropped before the checks run: the same until they have run.

    A window that moves with the clock is another one at each run of the page.
    """
    period = view.query.resolve(source.now).replace(organization_id=source.store.organization_id)
    kept: Period = st.session_state.setdefault(_waiting(view), period)
    return kept


def adopt_files(view: ValidateView, period: Period) -> None:
    """Make files that were dropped before the checks ran those of the validated period."""
    waiting = st.session_state.pop(_waiting(view), None)
    kinds: tuple[FileKind | Literal["unclear"], ...] = (*GIVEN, "unclear")
    for argument in kinds if isinstance(waiting, Period) else ():
        before, now = (dropped_key(argument, one) for one in (waiting, period))
        if before != now and before in st.session_state:
            st.session_state.setdefault(now, st.session_state.pop(before))


def _waiting(view: ValidateView) -> str:
    return f"validate_waiting {query_string(view.query.to_params())}"


def file_area(source: Source, period: Period, faults: Mapping[FileKind, QueryError], note: str = "") -> None:
    """Draw the chips of the files, the upload, a note, and what is wrong with a file."""
    given = dropped_files(period)
    unclear = _unclear(period)
    if not given and not unclear:
        left, right = st.columns([3, 4], gap="medium", vertical_alignment="center")
        with left:
            _upload(period)
        right.caption(
            "Drop a price book, invoice lines, control totals, customers' preferred currencies or names, all at once: "
            "each is recognized by its columns and serves all tabs. They are kept for this session alone."
        )
    else:
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="files"):
            for argument, file in given.items():
                _chip(argument, file, argument in faults, period)
            with st.popover("Add files", icon=":material/add:", type="tertiary", key="add_files"):
                _upload(period)
                lacking = [
                    given.label.lower() for argument, given in GIVEN.items() if not dropped_file(argument, period)
                ]
                if lacking:
                    st.caption(f"Not given yet: {formatting.listed(lacking, most=len(lacking))}.")
    if note:
        st.caption(f":material/history: {markdown.plain(note)}")
    for index, file in enumerate(unclear):
        _ask(index, file, period)
    for text in st.session_state.pop(_NOTICES, ()):
        st.caption(f":material/info: {markdown.plain(text)}")
    for argument, error in faults.items():
        if argument in given:
            _faulty(argument, given[argument], error)
    for argument in _BY_TEXTS:
        if argument in given and argument not in faults:
            _warn_of_unknown_texts(source, argument, given[argument])


def last_files(with_files: ValidationWithFiles, review: Review) -> str:
    """Which files the last run had that this one lacks, or has with other content; "" for none."""
    text = review.files_sentence(with_files.validation.period.zone, "drop")
    last = review.with_files.files if review.with_files else {}
    if not text or with_files.validation.files.get("prices") or not last.get("prices"):
        return text
    return f"{text} A price book need not be dropped once an administrator has stored it for the organization."


def _uploader(number: int) -> str:
    return f"drop files {number}"


def _upload(period: Period) -> None:
    st.file_uploader(
        "Files to check this period against: CSV, Excel or Parquet, prices in TOML too.",
        type=list(_SUFFIXES),
        accept_multiple_files=True,
        key=_uploader(st.session_state.setdefault(_NUMBER, 0)),
        max_upload_size=MAX_UPLOAD_MEGABYTES,
        on_change=_take_files,
        args=(period,),
    )


def _take(file: File, period: Period) -> None:
    """Keep a file as what it is; one that may be of several kinds, or of none, as unclear."""
    kinds = run.recognized_file(file).kinds
    if len(kinds) == 1:
        _keep(kinds[0], file, period)
    else:
        st.session_state[dropped_key("unclear", period)] = [*_unclear(period), file][-_MAX_UNCLEAR:]


def _keep(kind: FileKind, file: File, period: Period) -> None:
    former = dropped_file(kind, period)
    if former is not None and former.digest != file.digest:
        text = f"{file.name} is used as {GIVEN[kind].label.lower()} now, instead of {former.name}."
        _notice(text)
    st.session_state[dropped_key(kind, period)] = file


def _notice(text: str) -> None:
    st.session_state[_NOTICES] = [*st.session_state.get(_NOTICES, ()), text]


def _unclear(period: Period) -> list[File]:
    return list(st.session_state.get(dropped_key("unclear", period), ()))


def _chip(argument: FileKind, file: File, is_faulty: bool, period: Period) -> None:
    """The file with its rows and size, what it is, and a button that removes it; the buttons' words are not drawn."""
    rows = run.recognized_file(file).rows
    noun = GIVEN[argument].rows
    plural = "currencies" if noun == "currency" else None
    parts = [formatting.counted(rows, noun, plural)] if rows is not None else []
    size = " · ".join([*parts, formatting.size(len(file.content))])
    label = GIVEN[argument].label
    with st.container(
        horizontal=True, vertical_alignment="center", gap="xsmall", border=True, width="content", key=f"file {argument}"
    ):
        state = ":red[:material/error:] " if is_faulty else ""
        name = markdown.plain(formatting.shortened(file.name, _MAX_NAME))
        st.markdown(f"{state}{label} **{name}** :gray[{size}]", width="content")
        what = f"What is {name}?"
        with st.popover(what, icon=":material/swap_horiz:", type="tertiary", help="Say what this file is"):
            st.radio(
                what,
                FILE_KINDS,
                index=FILE_KINDS.index(argument),
                format_func=lambda kind: GIVEN[kind].label,
                key=f"kind {argument} {file.digest[:8]}",
                on_change=lambda: _move(argument, file, period),
            )
            st.caption(GIVEN[argument].columns)
        st.button(
            f"Remove {name}",
            icon=":material/close:",
            type="tertiary",
            key=f"remove {argument}",
            help=markdown.plain(f"Remove {file.name}"),
            on_click=lambda: st.session_state.pop(dropped_key(argument, period), None),
        )


def _move(argument: FileKind, file: File, period: Period) -> None:
    kind = st.session_state[f"kind {argument} {file.digest[:8]}"]
    st.session_state.pop(dropped_key(argument, period), None)
    _keep(kind, file, period)


def _ask(index: int, file: File, period: Period) -> None:
    """Ask what a file is that its columns do not say."""
    known = run.recognized_file(file)
    kinds = known.kinds or FILE_KINDS
    why = "may be " + " or ".join(GIVEN[kind].label.lower() for kind in kinds)
    if not known.kinds:
        why = f"cannot be read: {known.problem}" if known.problem else "has columns of none of these"
    key = f"unclear {index} {file.digest[:8]}"
    with st.container(border=True, key=f"unclear_{index}"):
        st.markdown(f":orange[:material/help:] **{markdown.plain(file.name)}** {markdown.plain(why)}. What is it?")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            for kind in kinds:
                st.button(
                    GIVEN[kind].label,
                    key=f"{key} {kind}",
                    help=GIVEN[kind].columns,
                    on_click=lambda kind=kind: _said(kind, file, period),
                )
            st.button(
                "Remove",
                key=f"{key} remove",
                type="tertiary",
                icon=":material/close:",
                on_click=lambda: _said(None, file, period),
            )


def _said(kind: FileKind | None, file: File, period: Period) -> None:
    left = [other for other in _unclear(period) if other.digest != file.digest]
    st.session_state[dropped_key("unclear", period)] = left
    if kind is not None:
        _keep(kind, file, period)


def _faulty(argument: FileKind, file: File, error: QueryError) -> None:
    lines = [f"- {markdown.plain(fault.message)}" for fault in error.faults[:_MAX_FAULTS]]
    if more := len(error.faults) - len(lines):
        lines.append(f"- and {more:,} more")
    what = f"**{markdown.plain(file.name)}** as {GIVEN[argument].label.lower()}"
    text = f"This file was not used, {what}; fix it and drop it again:\n\n{chr(10).join(lines)}"
    st.error(text, icon=":material/error:")


def _warn_of_unknown_texts(source: Source, argument: FileKind, file: File) -> None:
    with suppress(QueryError):  # a faulty file is an error when the checks run
        if text := run.unknown_texts(source, argument, file):
            what = f"**{markdown.plain(file.name)}** as {GIVEN[argument].label.lower()}"
            st.warning(f"{what}: {markdown.plain(text)}.", icon=":material/warning:")
