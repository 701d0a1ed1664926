"""Checking and loading an uploaded file: private copies, progress, turns, and messages that name the uploaded file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import config
from usage_explore.app import cache
from usage_explore.app.header import browser_timezone
from usage_explore.app.uploads import File, private_copy
from usage_explore.app.validate import run as validations
from usage_explore.console import ShowProgress
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.extract import background
from usage_explore.files.open import likely_encoding
from usage_explore.files.xlsx_source import sheet_names
from usage_explore.formatting import counted, path_text, shortened
from usage_explore.load import FileCheck, FileReport, LoadOptions, check_file, load_files
from usage_explore.load.command_line import command
from usage_explore.load.prepared import prepare

_MAX_FILES_AT_A_TIME = 2
"""Files that all sessions check or load at a time; others wait."""

_MAX_KEPT_CHECKS = 4
"""Results of checks that a session keeps."""

_REFRESH_SECONDS = 0.1  # between two updates of the progress
_WAIT_SECONDS = 0.25  # between two looks whether it is the session's turn

_MAX_NAME_CHARACTERS = 120
"""Characters of a file's name that are shown."""

_STEPS = ("Reading the events", "Writing the events")

_CHECKS = "load checks"
"""Session state: the results of checks by file and options, latest last."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a file shows before it is read: the preset that fits, its sheets, whether it names organizations.

    `problem` is why it cannot be read, such as that a sheet must be chosen.
    """

    preset: str | None = None
    names_organization: bool = False
    sheets: tuple[str, ...] = ()
    problem: str = ""


@dataclass
class Outcome:
    """The result of a load, None until it is committed. It is filled in by the run that loads, for the next to show."""

    timezone: str
    report: FileReport | None = None
    notes: list[str] = field(default_factory=list)


def shown_name(file: File) -> str:
    """The file's name as one printable line."""
    return shortened(Path(file.name).name or "file", _MAX_NAME_CHARACTERS)


def looked(file: File, options: LoadOptions) -> Look:
    """A look at the header, or the first rows, of the file; it waits for its turn as a check does."""

    def look() -> Look:
        with _turn(), private_copy(file) as path:
            sheets = sheet_names(path)
            try:
                with _named(path, file):  # the header, too, may not be UTF-8
                    prepared = prepare(path, replace(options, encoding=options.encoding or likely_encoding(path)))
            except LoadError as error:
                return Look(sheets=sheets, problem=str(error))
            return Look(
                preset=prepared.preset.name if prepared.preset else None,
                names_organization=prepared.mapper(None).names_organization,
                sheets=sheets,
            )

    return _kept(("look", file.digest, repr(options)), look)


def checked(file: File, options: LoadOptions, *, proposals: bool) -> FileCheck:
    """The check of the whole file, with progress. Raises `LoadError`, `ConfigurationError`."""
    settings = config.settings()
    zone = browser_timezone() if proposals else None
    place = st.empty()  # in every run: pickers that follow would move, and those that are drawn anew lose the focus

    def check() -> FileCheck:
        with place.container(), _working("Checking the file") as show, private_copy(file) as path, _named(path, file):
            result = check_file(
                path,
                options,
                skip_bad=True,
                proposals=proposals,
                organization_id=settings.organization_id,
                browser_timezone=zone,
                show=show,
            )
        place.empty()
        name = Path(shown_name(file))
        faults = tuple(replace(fault, path=name) for fault in result.faults)
        return replace(
            result,
            path=name,
            faults=faults,
            problem=_without_path(result.problem, path, file),
            command=command(
                name, result.options, result.missing, settings={"organization_id": settings.organization_id}
            ),
        )

    return _kept(("check", file.digest, repr(options), str(proposals), str(zone)), check)


class RepeatsStored(LoadError):
    """Nothing was loaded, as rows of the file repeat stored events and would count twice."""


def load(file: File, options: LoadOptions, outcome: Outcome, *, skip_bad: bool, beside_stored: bool) -> None:
    """Load the file in one transaction and fill in the outcome. Raises `LoadError`, `DatabaseError`.

    `beside_stored` loads rows that repeat stored events under other keys, too, which the page cannot undo; else they
    raise `RepeatsStored`. A rerun of the page before the end, such as of a user who leaves, undoes the load.
    """

    def accept(report: FileReport) -> None:
        if not beside_stored and (text := _repeated_words(report)):
            raise RepeatsStored(text)

    settings = config.settings()
    table = events_table(settings.table)
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    with (
        cache.logged_work("load", settings.organization_id, file=shown_name(file)),
        _working(_STEPS[0]) as show,
        closing(ddl.connect(config.database_url(settings))) as connection,
    ):
        with private_copy(file) as path, _named(path, file):
            (report,) = load_files(
                connection,
                table,
                [path],
                organization_id=settings.organization_id,
                skip_bad=skip_bad,
                names_table_name=settings.names_table,
                settle=settings.settle_time,
                home=settings.home,
                signoffs=cache.store().signed,
                accept=accept,
                progress=lambda done, total, step="": show(done, total, _STEPS[step.endswith(": writing")]),
                **given,
            )
        # from here on the events are there, whatever interrupts the page: nothing before `report` is set can
        name = Path(shown_name(file))
        faults = tuple(replace(fault, path=name) for fault in report.faults)
        zone = ZoneInfo(outcome.timezone)
        outcome.report = replace(report, path=name, faults=faults, rejections=(), zone=zone)
        cache.forget()
        validations.forget()
        show(1, 1, "Refreshing the extract")
        refused = background.refresh_after_load(connection, settings, list(report.organizations))
        if refused:
            outcome.notes.append(refused)


def _repeated_words(report: FileReport) -> str:
    """Which rows of a file that is to be loaded repeat stored events under other keys; "" if none do."""
    repeated = {
        "at times that another time zone gives": report.other_zone,
        "with their times cut or rounded, or the reverse": report.cut_times,
        "with other columns, values or keys": report.loaded_again,
        "in everything but key and amounts": report.restated - report.credits,
    }
    parts = [f"{counted(rows, 'row')} {how}" for how, rows in repeated.items() if rows]
    if not parts:
        return ""
    if report.other_zone:
        instead = "choose the zone in which it is stored, where its rows are there already, or leave it"
    else:
        instead = (
            "leave it; if it restates an earlier export, load it in a terminal with --replace, which deletes stored"
            " events of its source and months that it lacks"
        )
    stored = f"the file repeats stored events, {' and '.join(parts)}"
    return f"Nothing was loaded: {stored}. If it is the same usage, it would count twice: {instead}."


def _kept(key: tuple[str, ...], make: Callable[[], _T]) -> _T:
    """The session's result for the key, made if it has none."""
    results: dict[tuple[str, ...], _T] = st.session_state.setdefault(_CHECKS, {})
    if key not in results:
        made = make()
        while len(results) >= _MAX_KEPT_CHECKS:
            results.pop(next(iter(results)))
        results[key] = made
    return results[key]


def forget_checks() -> None:
    """Forget the session's checks, when there is no file any more."""
    st.session_state.pop(_CHECKS, None)


@contextmanager
def _working(title: str) -> Iterator[ShowProgress]:
    """Draw a progress bar until the end; wait for a turn before."""
    bar = st.progress(0.0, title)
    last = 0.0

    def show(done: float, total: float, step: str = title) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REFRESH_SECONDS or done >= total:
            last = now
            bar.progress(min(max(done / total, 0.0), 1.0) if total else 0.0, step)

    try:
        with _turn():
            yield show
    finally:
        bar.empty()


@contextmanager
def _turn() -> Iterator[None]:
    """Wait until one of few files at a time may be read."""
    turns, place = _turns(), None
    while not turns.acquire(timeout=_WAIT_SECONDS):
        place = place or st.empty()
        place.caption("Waiting for other files that are being checked or loaded")
    try:
        if place:
            place.empty()
        yield
    finally:
        turns.release()


@st.cache_resource(show_spinner=False)
def _turns() -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(_MAX_FILES_AT_A_TIME)


@contextmanager
def _named(path: Path, file: File) -> Iterator[None]:
    """Let errors name the uploaded file, not its copy."""
    try:
        yield
    except (LoadError, ConfigurationError) as error:
        raise type(error)(_without_path(str(error), path, file)) from None


def _without_path(text: str, path: Path, file: File) -> str:
    return text.replace(path_text(path), shown_name(file))
