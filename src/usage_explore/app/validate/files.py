"""Files given to a validation: invoice lines for reconciliation, customers' preferred currencies for wallets.

Only the check that reads the file runs again, for the same period and `as_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from usage_explore import formatting
from usage_explore.app import grid, markdown
from usage_explore.app.cache import Source
from usage_explore.app.problems import sentence
from usage_explore.app.uploads import File
from usage_explore.app.validate import run
from usage_explore.app.validate.run import Progress
from usage_explore.decimals import plain
from usage_explore.errors import QueryError
from usage_explore.query.describe import group_name
from usage_explore.query.filters import GROUPS, ID_COLUMNS
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES
from usage_explore.query.queries import Period
from usage_explore.validation import Result, Validation
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.report.wording import sheet_totals

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE_SUFFIXES = ("csv", "parquet")
_MAX_FAULTS = 20
_MAX_TABLE_ROWS, _MAX_FULL_HEIGHT_ROWS = 20_000, 15


@dataclass(frozen=True, slots=True)
class Reader:
    """A check that reads a file, the argument of `Store.validate` for the file, and the tab's texts.

    `also` are the arguments for files of other tabs that the check reads, too.

    `columns` describes the file, `without` the check without it. With `splits`, every event of the period is in one
    row of the check's table.
    """

    check: str
    argument: str
    title: str
    label: str
    columns: str
    without: str
    also: tuple[str, ...] = ()
    splits: bool = False
    suffixes: tuple[str, ...] = FILE_SUFFIXES


PRICES = Reader(
    check="unpriced",
    argument="prices",
    title="Expected amounts",
    label="Price book",
    columns="Each price names product_id, metric_key or price_key, and has a model, amounts or tiers, and a currency.",
    without="Drop a price book: the usage of this period is rated by it, and the amounts of invoice lines are compared"
    " with it.",
    also=("wallets",),
    suffixes=("toml", *FILE_SUFFIXES),
)
"""The price book; the reconciliation reads it, too."""

FILES = (
    Reader(
        check="wallets",
        argument="wallets",
        title="Wallets",
        label="Customers' preferred currencies",
        columns="A row per customer with customer_id and currency; a row without a customer is the "
        "organization's default.",
        without="Usage per customer and wallet as finalization will group it. Without the customers' preferred "
        "currencies, usage that pins no wallet stays apart.",
        splits=True,
    ),
    PRICES,
    Reader(
        check="reconciliation",
        argument="invoices",
        title="Reconciliation",
        label="Invoice lines",
        columns="A row per line with customer_id, metric_key or price_key, and quantity; subscription_id, "
        "wallet_currency, amount with currency, period_start and period_end are compared where they are given.",
        without="Drop the invoices of this period: each line is compared with its usage, to the last digit.",
        also=("wallets", "prices"),
    ),
    Reader(
        check="control_totals",
        argument="control",
        title="Control totals",
        label="Totals by day",
        columns="A row per day and metric_key with events, quantity or both, and customer_id where totals are by "
        "customer; a row with cost and currency is compared with the cost of the events. Columns of a FOCUS bill are "
        "recognized.",
        without="Drop what the gateway or the provider counted by day: events that never arrived are missing from every"
        " invoice, and only a count made elsewhere shows them.",
    ),
)


@dataclass(frozen=True, slots=True)
class ValidationWithFiles:
    """A validation whose file checks ran on the session's files; `faults` are the files' errors by argument."""

    validation: Validation
    faults: dict[str, QueryError]


def validated_with_files(source: Source, validation: Validation) -> ValidationWithFiles:
    """The validation with the session's files, each given to the checks that read it; a faulty one to none."""
    faults: dict[str, QueryError] = {}
    dropped = {reader.argument: file for reader in FILES if (file := dropped_file(reader, validation))}
    if PRICES.argument in dropped:
        try:
            run.price_book(dropped[PRICES.argument])
        except QueryError as error:
            faults[PRICES.argument] = error
    for reader in offered(validation):
        if reader.argument in dropped and reader.argument not in faults:
            files = {
                argument: dropped[argument]
                for argument in (reader.argument, *reader.also)
                if argument in dropped and argument not in faults
            }
            progress = Progress((CHECKS[reader.check],))
            try:
                validation = run.with_files(source, validation, reader.check, files, progress)
            except QueryError as error:
                faults[reader.argument] = error
            progress.clear()
    return ValidationWithFiles(validation, faults)


def offered(validation: Validation) -> tuple[Reader, ...]:
    """The readers whose check is part of the validation."""
    names = {result.check.name for result in validation.results}
    return tuple(reader for reader in FILES if reader.check in names)


def file_tab(reader: Reader, source: Source, with_files: ValidationWithFiles) -> None:
    """Draw the upload, the file's errors, and the check's table."""
    validation = with_files.validation
    result = next(result for result in validation.results if result.check.name == reader.check)
    if not upload(reader, with_files):
        return
    _outcome(result)
    frame = validation.sheet(reader.check)
    if frame is not None and not frame.empty:
        if reader.splits:
            _sums(frame, validation)
        sheet_table(frame, validation.period.zone, reader.title)


def upload(reader: Reader, with_files: ValidationWithFiles) -> bool:
    """Draw the upload or the file, and its errors; False if it has any."""
    file = dropped_file(reader, with_files.validation)
    if file is None:
        _drop(reader, with_files.validation)
    else:
        _given(reader, file, with_files.validation)
    if error := with_files.faults.get(reader.argument):
        _faulty(reader, error)
        return False
    return True


def _drop(reader: Reader, validation: Validation) -> None:
    key = f"drop {reader.argument}"

    def dropped() -> None:
        file = st.session_state[key]
        # the browser reports a file that is too large; this is for requests past the browser
        if file is not None and file.size <= MAX_UPLOAD_MEGABYTES * 2**20:
            st.session_state[dropped_key(reader.argument, validation.period)] = File(file.name, file.getvalue())

    left, right = st.columns([3, 4], gap="medium", vertical_alignment="center")
    with left:
        st.file_uploader(
            f"{reader.label}, {'TOML, ' if 'toml' in reader.suffixes else ''}CSV or Parquet",
            type=list(reader.suffixes),
            key=key,
            on_change=dropped,
            max_upload_size=MAX_UPLOAD_MEGABYTES,
        )
    right.caption(
        markdown.plain(f"{reader.without} {reader.columns} It is read for this session alone and not stored.")
    )


def _given(reader: Reader, file: File, validation: Validation) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(
            f"{markdown.plain(reader.label)}: **{markdown.plain(file.name)}** "
            f":gray[{formatting.size(len(file.content))}]",
            width="content",
        )
        st.button(
            "Remove",
            type="tertiary",
            icon=":material/close:",
            key=f"remove {reader.argument}",
            on_click=lambda: st.session_state.pop(dropped_key(reader.argument, validation.period), None),
        )


def _faulty(reader: Reader, error: QueryError) -> None:
    lines = [f"- {markdown.plain(fault.message)}" for fault in error.faults[:_MAX_FAULTS]]
    if more := len(error.faults) - len(lines):
        lines.append(f"- and {more:,} more")
    st.error(f"This file was not used; fix it and drop it again:\n\n{chr(10).join(lines)}", icon=":material/error:")


def _outcome(result: Result) -> None:
    """The check's result in a line."""
    outcome = result.outcome
    if result.failed:
        st.error(markdown.plain(f"This check failed: {result.failed}"), icon=":material/error:")
    if outcome is None:
        if result.skipped and not result.check.needs:
            sentence(f"Not checked: {result.skipped}.")
        return
    among = f"{outcome.looked_at:,} {result.check.unit}"
    if outcome.findings:
        sentence(
            f"{formatting.counted(len(outcome.findings), 'finding')} among {among}; they are in the list of findings. "
            f"{outcome.note}"
        )
    elif outcome.reported_by:
        sentence(f"No finding of its own among {among}. {outcome.note}")
    else:
        st.success(markdown.plain(f"Nothing wrong among {among}. {outcome.note}"), icon=":material/check_circle:")


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


def dropped_file(reader: Reader, validation: Validation) -> File | None:
    """The session's file of a reader for the period, None without one."""
    file = st.session_state.get(dropped_key(reader.argument, validation.period))
    return (
        file if isinstance(file, File) and PurePath(file.name).suffix.lower().lstrip(".") in reader.suffixes else None
    )


def dropped_key(argument: str, period: Period) -> str:
    """The session state's key of a file, which belongs to one organization and window."""
    since, until = period.span
    return f"dropped {argument} {period.organization_id} {since.isoformat()} {until.isoformat()}"


def sheet_table(frame: pd.DataFrame, zone: ZoneInfo, title: str) -> None:
    """Draw a check's table, at most its first 20,000 rows: exact numbers, times on the period's clock."""
    shown = frame.head(_MAX_TABLE_ROWS)
    if len(shown) < len(frame):
        st.caption(f"The first {_MAX_TABLE_ROWS:,} of {len(frame):,} rows; the download holds all of them.")
    columns = {}
    for name in map(str, frame.columns):
        values = [None if _is_null(value) or (value == "" and name not in GROUPS) else value for value in shown[name]]
        heading = _heading(name)
        if _is_numeric(values):
            columns[name] = grid.numbers(heading, values)
        else:
            cells = [None if value is None else _cell(value, zone) for value in values]
            columns[name] = grid.texts(heading, cells, formatting.short_ids if name in ID_COLUMNS else None)
    grid.draw(columns, height="content" if len(shown) <= _MAX_FULL_HEIGHT_ROWS else 560, alt=title)


def _heading(name: str) -> str:
    """A column's heading: Customer for `customer_id`; a currency code in it keeps its case."""
    heading = group_name(name)
    return heading[:1].upper() + heading[1:]


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and value != value)


def _cell(value: Any, zone: ZoneInfo) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return formatting.timestamp(value, zone)
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | Decimal) and not isinstance(value, bool)) for value in values)
