"""Files that somebody drops onto an examination: invoice lines to reconcile, preferred currencies for the wallets.

Only the check that reads the file runs again, over the same period as it was known at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown
from usage_explore.app.cache import Source
from usage_explore.app.problems import sentence
from usage_explore.app.validate import run
from usage_explore.app.validate.progress import Progress
from usage_explore.app.validate.run import File
from usage_explore.app.validate.sheet import sheet_table
from usage_explore.errors import QueryError
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES
from usage_explore.query.queries import Period
from usage_explore.validation import Result, Validation
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.report.recount import sheet_totals

if TYPE_CHECKING:
    import pandas as pd

_KINDS = ("csv", "parquet")
_MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Reader:
    """A check that reads a file: which argument of `Store.validate` takes it, and what to call both.

    `splits`: the check's table splits the period's usage, each event is in one row of it.
    """

    check: str
    argument: str
    title: str
    label: str
    columns: str
    without: str
    splits: bool = False


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
    Reader(
        check="reconciliation",
        argument="invoices",
        title="Reconciliation",
        label="Invoice lines",
        columns="A row per line with customer_id, metric_key or price_key, and quantity; subscription_id, "
        "wallet_currency, amount with currency, period_start and period_end are compared where they are given.",
        without="Drop the invoices of this period: each line is compared with its usage, to the last digit.",
    ),
)


@dataclass(frozen=True, slots=True)
class Amended:
    """An examination with the checks that read files run on them, and what is wrong with files, by argument."""

    validation: Validation
    faults: dict[str, QueryError]


def amended(source: Source, validation: Validation) -> Amended:
    """The examination with the files that this session dropped."""
    faults = {}
    for reader in offered(validation):
        if given := _dropped(reader, validation):
            progress = Progress((CHECKS[reader.check],))
            try:
                validation = run.with_file(source, validation, reader.check, reader.argument, given, progress)
            except QueryError as error:
                faults[reader.argument] = error
            progress.clear()
    return Amended(validation, faults)


def offered(validation: Validation) -> tuple[Reader, ...]:
    """The readers whose check is part of the examination."""
    names = {result.check.name for result in validation.results}
    return tuple(reader for reader in FILES if reader.check in names)


def file_tab(reader: Reader, source: Source, found: Amended) -> None:
    """Draw where to drop the file, what is wrong with it, and the table that the check made."""
    validation = found.validation
    result = next(result for result in validation.results if result.check.name == reader.check)
    given = _dropped(reader, validation)
    if given is None:
        _drop(reader, validation)
    else:
        _given(reader, given, validation)
    if error := found.faults.get(reader.argument):
        _faulty(reader, error)
        return
    _outcome(result)
    frame = validation.sheet(reader.check)
    if frame is not None and not frame.empty:
        if reader.splits:
            _sums(frame, validation)
        sheet_table(frame, validation.period.zone, reader.title)


def _drop(reader: Reader, validation: Validation) -> None:
    key = f"drop {reader.argument}"

    def dropped() -> None:
        file = st.session_state[key]
        # the browser says what is too large; who gets round the browser gets nowhere
        if file is not None and file.size <= MAX_UPLOAD_MEGABYTES * 2**20:
            st.session_state[dropped_key(reader.argument, validation.period)] = File(file.name, file.getvalue())

    left, right = st.columns([3, 4], gap="medium", vertical_alignment="center")
    with left:
        st.file_uploader(
            f"{reader.label}, CSV or Parquet",
            type=list(_KINDS),
            key=key,
            on_change=dropped,
            max_upload_size=MAX_UPLOAD_MEGABYTES,
        )
    right.caption(
        markdown.plain(f"{reader.without} {reader.columns} It is read for this session alone and not stored.")
    )


def _given(reader: Reader, given: File, validation: Validation) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(
            f"{markdown.plain(reader.label)}: **{markdown.plain(given.name)}** "
            f":gray[{formatting.size(len(given.content))}]",
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
    lines = [f"- {markdown.plain(fault.message)}" for fault in error.faults[:_MOST_FAULTS]]
    if more := len(error.faults) - len(lines):
        lines.append(f"- and {more:,} more")
    st.error(f"This file was not used; mend it and drop it again:\n\n{chr(10).join(lines)}", icon=":material/error:")


def _outcome(result: Result) -> None:
    """How the check came out, in a line."""
    outcome = result.outcome
    if result.failed:
        st.error(markdown.plain(f"This could not be checked: {result.failed}"), icon=":material/error:")
    if outcome is None:
        if result.skipped and not result.check.needs:
            sentence(f"Not judged: {result.skipped}.")
        return
    among = f"{outcome.looked_at:,} {result.check.unit}"
    if outcome.findings:
        sentence(
            f"{formatting.counted(len(outcome.findings), 'finding')} among {among}; they are in the list of findings. "
            f"{outcome.note}"
        )
    else:
        st.success(markdown.plain(f"Nothing wrong among {among}. {outcome.note}"), icon=":material/check_circle:")


def _sums(frame: pd.DataFrame, validation: Validation) -> None:
    """Whether the rows add up to the period's usage, to the last digit."""
    sums = sheet_totals(frame)
    if sums == dict(validation.totals.metrics):
        st.caption(
            f"The {formatting.counted(len(frame), 'row')} add up to the period's {validation.totals.events:,} events, "
            f"and to the quantity of each of its {formatting.counted(len(sums), 'metric')}, to the last digit."
        )
    else:
        st.error("These rows do not add up to the period's usage: do not finalize by them.", icon=":material/error:")


def _dropped(reader: Reader, validation: Validation) -> File | None:
    file = st.session_state.get(dropped_key(reader.argument, validation.period))
    return file if isinstance(file, File) and PurePath(file.name).suffix.lower().lstrip(".") in _KINDS else None


def dropped_key(argument: str, period: Period) -> str:
    """Where the session keeps a dropped file: for its organization and window, so that no other is compared with it."""
    since, until = period.span
    return f"dropped {argument} {period.organization_id} {since.isoformat()} {until.isoformat()}"
