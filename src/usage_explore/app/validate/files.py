"""The session's files for a validation, the checks that read them, and the tab of each of these checks.

Files are dropped once, see `file_area`; each serves every check that reads it. Only these checks run again, for the
same period and `as_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from usage_explore import formatting
from usage_explore.app import grid, markdown
from usage_explore.app.cache import Source
from usage_explore.app.navigation import go
from usage_explore.app.page_state import ValidateView
from usage_explore.app.problems import sentence
from usage_explore.app.uploads import File
from usage_explore.app.validate import run
from usage_explore.app.validate.run import Progress
from usage_explore.decimals import Number, plain
from usage_explore.errors import QueryError
from usage_explore.names import NAME_COLUMNS, Names
from usage_explore.query.describe import group_name
from usage_explore.query.filters import GROUPS, ID_COLUMNS
from usage_explore.query.queries import Period
from usage_explore.validation import Result, Validation
from usage_explore.validation.file_kinds import FILES_OF_CHECKS, FileKind
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.report.wording import sheet_totals, unexamined

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_TABLE_ROWS, _MAX_FULL_HEIGHT_ROWS = 20_000, 15
_DIFFERING, _ALL = "differing", "all"
_SHARES = ("_share", "_ratio")
"""Ends of the names of columns with shares of a whole, such as `late_share` and `margin_ratio`."""

_AMOUNTS = ("amount", "expected_amount", "amount_difference", "cost", "margin", "revenue")
_NAME_COLUMN_OF = {column: name for name, column in NAME_COLUMNS.items()}


@dataclass(frozen=True, slots=True)
class Given:
    """A kind of file: the argument of `Store.validate` for it, what it is, and what its rows and columns are.

    `without` is what is not known without it. A file `for_all_periods` is kept for every period of the organization.
    """

    argument: FileKind
    label: str
    rows: str
    columns: str
    without: str
    for_all_periods: bool = False


GIVEN: dict[FileKind, Given] = {
    given.argument: given
    for given in (
        Given(
            "prices",
            "Price book",
            "price",
            "Each price names product_id, metric_key or price_key, and has a model, amounts or tiers, and a currency.",
            "nothing is rated, and amounts are not checked",
            for_all_periods=True,
        ),
        Given(
            "invoices",
            "Invoice lines",
            "line",
            "A row per line with customer_id, metric_key or price_key, and quantity; subscription_id, wallet_currency, "
            "amount with currency, period_start and period_end are compared where they are given.",
            "nothing is reconciled",
        ),
        Given(
            "control",
            "Control totals",
            "total",
            "What the gateway or the provider counted: a row per day and metric_key with events, quantity or both, and "
            "customer_id where totals are by customer; a row with cost and currency is compared with the cost of the "
            "events. Columns of a FOCUS bill are recognized.",
            "events that never arrived are not seen",
        ),
        Given(
            "wallets",
            "Preferred currencies",
            "currency",
            "A row per customer with customer_id and currency; a row without a customer is the organization's default.",
            "usage that names no wallet has none, unless the directory of names has its preferred currency",
            for_all_periods=True,
        ),
        Given(
            "names",
            "Names",
            "name",
            "A row per customer, product or subscription with id or external_id, name and kind.",
            "ids that the directory does not name are shown as ids",
            for_all_periods=True,
        ),
    )
}
"""The kinds of files, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A check that reads files: the one that it needs, the others that its tab names `also`, and its tab.

    With `splits`, every event of the period is in one row of the check's table.
    """

    check: str
    argument: FileKind
    title: str
    also: tuple[FileKind, ...] = ()
    splits: bool = False

    @property
    def arguments(self) -> tuple[FileKind, ...]:
        """The files that its tab names; see `FILES_OF_CHECKS` for all that it reads."""
        return self.argument, *self.also


PRICES = Reader(check="unpriced", argument="prices", title="Expected amounts", also=("wallets",))
"""The price book; the reconciliation reads it, too."""

FILES = (
    Reader(check="wallets", argument="wallets", title="Wallets", splits=True),
    PRICES,
    Reader(check="reconciliation", argument="invoices", title="Reconciliation", also=("prices", "wallets")),
    Reader(check="control_totals", argument="control", title="Control totals"),
)


@dataclass(frozen=True, slots=True)
class ValidationWithFiles:
    """A validation whose file checks ran on the session's files; `faults` are the files' errors by argument."""

    validation: Validation
    faults: dict[FileKind, QueryError]


def validated_with_files(source: Source, validation: Validation) -> ValidationWithFiles:
    """The validation with the session's files, each given to the checks that read it; a faulty one to none."""
    dropped = dropped_files(validation.period)
    faults = faults_of_files(validation.period)
    if "names" in dropped and "names" not in faults:
        validation = replace(validation, names=validation.names | run.names(dropped["names"]))
    # the prices' check reads invoice lines and currencies, too, whose faults the others have found by then
    for check in sorted(_readers(validation), key=lambda check: check == PRICES.check):
        first, *_ = kinds = FILES_OF_CHECKS[check]
        files = {kind: dropped[kind] for kind in kinds if kind in dropped and kind not in faults}
        if first in files or (files.keys() - {"names"} and _has_run(check, validation)):
            progress = Progress((CHECKS[check],))
            try:
                validation = run.with_files(source, validation, check, files, progress)
            except QueryError as error:
                faults[first] = error
            progress.clear()
    if used := {name: file for name, file in dropped.items() if name not in faults and name != "names"}:
        names = {str(kind): {"name": file.name, "sha256": file.sha256} for kind, file in used.items()}
        validation = replace(validation, files=names)
    return ValidationWithFiles(validation, faults)


def faults_of_files(period: Period) -> dict[FileKind, QueryError]:
    """Why files of the period cannot be read, by kind."""
    files = dropped_files(period).items()
    return {argument: error for argument, file in files if (error := run.faults_of(argument, file))}


def _readers(validation: Validation) -> list[str]:
    """The checks of the validation that read files, also those without a tab; in the order of the tabs."""
    names = {result.check.name for result in validation.results}
    return [check for check in dict.fromkeys((*(reader.check for reader in FILES), *FILES_OF_CHECKS)) if check in names]


def _has_run(check: str, validation: Validation) -> bool:
    """Whether the check ran without its file, such as with the prices of the table `usage_prices`."""
    return any(result.check.name == check and result.outcome for result in validation.results)


def offered(validation: Validation) -> tuple[Reader, ...]:
    """The readers whose check is part of the validation."""
    names = {result.check.name for result in validation.results}
    return tuple(reader for reader in FILES if reader.check in names)


def file_tab(reader: Reader, view: ValidateView, source: Source, with_files: ValidationWithFiles) -> None:
    """Draw which files the check uses and which it lacks, and its result and table."""
    validation = with_files.validation
    result = next(result for result in validation.results if result.check.name == reader.check)
    uses(reader, source, with_files)
    if reader.argument in with_files.faults:
        return
    _outcome(view, result)
    frame = validation.sheet(reader.check)
    if frame is not None and not frame.empty:
        if reader.splits:
            _sums(frame, validation)
        sheet_table(frame, validation.period.zone, validation.names, reader.title)


def uses(reader: Reader, source: Source, with_files: ValidationWithFiles) -> None:
    """Draw which of its files a tab uses, and which it lacks, with what follows from that."""
    parts: list[str] = []
    lacking: list[str] = []
    missing: list[FileKind] = []
    for argument in reader.arguments:
        given, file = GIVEN[argument], dropped_file(argument, with_files.validation.period)
        label = given.label.lower()
        if argument in with_files.faults:
            lacking.append(f":red[{label}: {markdown.plain(file.name if file else '')} cannot be used, see above]")
        elif file is not None:
            parts.append(f"{label} **{markdown.plain(file.name)}**")
        elif argument == "prices" and _has_stored_prices(source):
            parts.append(f"{label} of the table usage_prices")
        else:
            missing.append(argument)
            lacking.append(f"no {label}: {given.without}")
    used = f":material/check: Uses {', '.join(parts)}. " if parts else ""
    lacks = "; ".join(lacking)
    if reader.argument in missing:
        lacks = "; ".join(lacking[1:])
        given = GIVEN[reader.argument]
        sentence(f"No {given.label.lower()} yet: {given.without}. Drop a file above. {given.columns}")
    if used or lacks:
        st.caption(f"{used}{f':material/remove: {lacks[:1].upper()}{lacks[1:]}.' if lacks else ''}")


def _has_stored_prices(source: Source) -> bool:
    try:
        return source.store.prices() is not None
    except QueryError:  # rows that make no valid book, which the rating and the checks say
        return True


def unexamined_words(validation: Validation, now: datetime) -> str:
    """How many events of the period were not examined, and how to have them examined; "" without any."""
    left = validation.unexamined
    if left is None or not left.has_settled(now):
        return unexamined(validation, "")
    events = formatting.counted(left.events, "event")
    return f"{events} of the period had not settled then; they can be examined now: run the checks again."


def _outcome(view: ValidateView, result: Result) -> None:
    """The check's result in a line, and the way to its findings."""
    outcome = result.outcome
    if result.failed:
        st.error(markdown.plain(f"This check failed: {result.failed}"), icon=":material/error:")
    if outcome is None:
        if result.skipped and not result.is_not_given:
            sentence(f"Not checked: {result.skipped}.")
        return
    among = result.check.counted(outcome.looked_at)
    unchecked = f"{outcome.unchecked[:1].upper()}{outcome.unchecked[1:]}." if outcome.unchecked else ""
    if outcome.findings:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            number = formatting.counted(len(outcome.findings), "finding")
            st.markdown(f"**{number}** among {markdown.plain(among)}", width="content")
            st.button(
                "Show in Findings",
                key=f"show {result.check.name}",
                type="tertiary",
                icon=":material/arrow_forward:",
                on_click=lambda: _show(view, result.check.name),
            )
        if outcome.note or unchecked:
            st.caption(markdown.plain(f"{unchecked} {outcome.note}".strip()))
    elif outcome.reported_by:
        sentence(f"No finding of its own among {among}. {outcome.note}")
    elif unchecked:
        st.warning(markdown.plain(f"Nothing wrong among {among}. {unchecked} {outcome.note}"), icon=":material/rule:")
    else:
        st.success(markdown.plain(f"Nothing wrong among {among}. {outcome.note}"), icon=":material/check_circle:")


def _show(view: ValidateView, check: str) -> None:
    """Open the list of findings with those of a check alone."""
    st.session_state["validate_tab"] = "Findings"
    alone = {"checks": (check,), "severities": (), "states": (), "customers": (), "metrics": (), "finding": None}
    go(view, lambda: view.replace(**alone))


def _sums(frame: pd.DataFrame, validation: Validation) -> None:
    """Whether the rows add up exactly to the period's events and quantities."""
    sums = sheet_totals(frame)
    if sums == dict(validation.totals.metrics):
        st.caption(
            f"The {formatting.counted(len(frame), 'row')} add up to the period's {validation.totals.events:,} events, "
            f"and to the quantity of each of its {formatting.counted(len(sums), 'metric')}, to the last digit."
        )
    else:
        st.error("These rows do not add up to the period's usage: do not finalize by them.", icon=":material/error:")


def dropped_file(argument: FileKind, period: Period) -> File | None:
    """The session's file of a kind for the period, None without one."""
    file = st.session_state.get(dropped_key(argument, period))
    return file if isinstance(file, File) else None


def dropped_files(period: Period) -> dict[FileKind, File]:
    """The session's files for the period, by kind."""
    return {argument: file for argument in GIVEN if (file := dropped_file(argument, period))}


def dropped_key(argument: FileKind | Literal["unclear"], period: Period) -> str:
    """The session state's key of a file, which belongs to one organization and window, or to all its windows."""
    if argument != "unclear" and GIVEN[argument].for_all_periods:
        return f"dropped {argument} {period.organization_id}"
    since, until = period.span
    return f"dropped {argument} {period.organization_id} {since.isoformat()} {until.isoformat()}"


def sheet_table(frame: pd.DataFrame, zone: ZoneInfo, names: Names, title: str) -> None:
    """Draw a check's table, at most its first 20,000 rows: exact numbers, times on the zone's clock.

    Rows that match are left out at first if others do not. A column without any value is not drawn; ids are named
    first, and follow last.
    """
    frame = _by_status(frame, title)
    shown = frame.head(_MAX_TABLE_ROWS)
    if len(shown) < len(frame):
        st.caption(f"The first {_MAX_TABLE_ROWS:,} of {len(frame):,} rows; the download holds all of them.")
    named: dict[str, grid.Column] = {}
    columns: dict[str, grid.Column] = {}
    ids: dict[str, grid.Column] = {}
    for name in map(str, frame.columns):
        values = [None if _is_null(value) or (value == "" and name not in GROUPS) else value for value in shown[name]]
        heading = _heading(name)
        if name in NAME_COLUMNS or not any(value is not None for value in values):
            continue
        if name in ID_COLUMNS and _NAME_COLUMN_OF[name] in frame.columns:
            labels = [None if value is None else names.known(name, value) or str(value) for value in values]
            named[name] = grid.texts(heading, labels, formatting.short_ids)
            heading = f"{heading} id"
        if _is_numeric(values) and name.endswith(_SHARES):
            columns[name] = grid.percents(heading, values)
            continue
        if _is_numeric(values):
            columns[name] = grid.numbers(heading, [_number(value) for value in values], _format(name, values))
            continue
        cells = [None if value is None else _cell(value, zone) for value in values]
        column = grid.texts(heading, cells, formatting.short_ids if name in ID_COLUMNS else None)
        (ids if name in named else columns)[f"{name} id" if name in named else name] = column
    height: Literal["content"] | int = "content" if len(shown) <= _MAX_FULL_HEIGHT_ROWS else 560
    grid.draw({**named, **columns, **ids}, height=height, alt=title)


def _by_status(frame: pd.DataFrame, title: str) -> pd.DataFrame:
    """The rows of the picked statuses, if the table has any: at first those that do not match."""
    if "status" not in frame.columns:
        return frame
    differing = frame[~frame["status"].isin(["matched", "no price"])]
    if differing.empty or len(differing) == len(frame):
        return frame
    labels = {_DIFFERING: f"Differing {len(differing):,}", _ALL: f"All {len(frame):,}"}
    picked = st.segmented_control(
        "Rows",
        list(labels),
        default=_DIFFERING,
        key=f"rows {title}",
        format_func=lambda option: labels[option],
        required=True,
        label_visibility="collapsed",
    )
    return frame if picked == _ALL else differing


def _heading(name: str) -> str:
    """A column's heading: Customer for `customer_id`; a currency code in it keeps its case."""
    heading = group_name(name)
    return heading[:1].upper() + heading[1:]


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and value != value)


def _format(name: str, values: Sequence[Any]) -> Callable[[Number], str]:
    """Every digit; amounts of currencies that have decimals with at least two of them."""
    is_whole = all(value is None or value == int(value) for value in values if value is None or math.isfinite(value))
    return formatting.exact if name not in _AMOUNTS or is_whole else with_cents


def with_cents(value: Number) -> str:
    """Every digit, at least two decimals."""
    whole, point, fraction = formatting.exact(value).partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}" if point or whole[-1:].isdigit() else whole


def _number(value: Any) -> Number | None:
    return int(value) if isinstance(value, Integral) else value


def _cell(value: Any, zone: ZoneInfo) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral | Decimal):
        return plain(_number(value) or 0)
    if isinstance(value, datetime):
        return formatting.timestamp(value, zone)
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(
        value is None or (isinstance(value, Integral | Decimal) and not isinstance(value, bool)) for value in values
    )
