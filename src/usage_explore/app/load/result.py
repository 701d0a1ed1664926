"""What a file would become, and what loading it did."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import grid, markdown
from usage_explore.app.header import headline_number
from usage_explore.app.load.pickers import IN_PLACE_OF, LABELS
from usage_explore.formatting import counted
from usage_explore.load import FileCheck, FileReport
from usage_explore.load.check import MAX_LISTED_METRICS
from usage_explore.load.report import MAX_LISTED_FAULTS, Fault

_OPTION = re.compile(rf"(?<![\w-])(?:{'|'.join(IN_PLACE_OF)})(?![\w-])")

_ON_THE_PAGE = {
    # advice of the command -> that of the page
    "name another with --organization-id UUID or --set organization_id=NAME": "choose another under “Organization”",
    "name a column with --map customer_id=COLUMN": f"choose a column under “{LABELS['customer_id']}”",
    "with --map external_cost_currency=COLUMN": f"under “{LABELS['external_cost_currency']}”",
    "join it with --map": "in a terminal, join it with --map",
    "load the file again with --replace": "in a terminal, load the file again with --replace",
    "load the others with --skip-bad": "leave their rows out",
}
_MAX_LINE_CHARACTERS = 600
"""Characters of a fault or note that are shown."""

_WARNING = "warning: "
"""What a line of a report or a check begins with that is more than a note."""

_EXAMPLE_COLUMNS = {
    "customer_id": "Customer",
    "metric_key": "Metric",
    "quantity": "Quantity",
    "external_cost_amount": "Cost",
    "external_cost_currency": "Cost currency",
    "dimensions": "Dimensions",
}
_NUMBERS = ("quantity", "external_cost_amount")


def show_check(check: FileCheck) -> None:
    """Draw the numbers of the file's events, their first rows, totals, notes and faults."""
    zone = ZoneInfo(check.options.timezone or "UTC")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="check_numbers"):
        noun = "event" if check.events == 1 else "events"
        headline_number(f"{check.events:,}", noun, help="Events that the file's rows become.")
        st.markdown(_summary(check, zone), width="content")
    if check.faults:
        _faults(check.faults, check.rejected, check.read)
    if check.events:
        left, right = st.columns([5, 3], gap="medium")
        with left:
            _examples(check, zone)
        with right:
            _totals(check)
    for note in check.notes:
        if not note.startswith(_WARNING):
            st.caption(markdown.plain(_line(note)))
    _warnings([_line(note) for note in check.notes])


def _summary(check: FileCheck, zone: ZoneInfo) -> str:
    parts = [
        f"{counted(check.read, 'row')}",
        counted(check.customers, "customer"),
        counted(len(check.totals), "metric"),
    ]
    if check.rejected:
        parts.append(f"{check.rejected:,} rejected")
    parts += [f"cost {formatting.exact(total.amount)} {total.name or 'without a currency'}" for total in check.costs]
    if check.first and check.last:
        first, last = (formatting.timestamp(moment, zone) for moment in (check.first, check.last))
        parts.append(f"{first} to {last} {zone}")
    return markdown.plain(" · ".join(parts))


def _examples(check: FileCheck, zone: ZoneInfo) -> None:
    st.markdown("**The first rows**")
    events = [event for _, event in check.examples]
    shown = [name for name in _EXAMPLE_COLUMNS if any(event[name] not in (None, "{}") for event in events)]
    columns = {
        "Line": grid.numbers("Line", [line for line, _ in check.examples]),
        "Time": grid.texts(f"Time ({zone})", [_time(event["timestamp"], zone) for event in events]),
    }
    for name in shown:
        heading, values = _EXAMPLE_COLUMNS[name], [event[name] for event in events]
        if name in _NUMBERS:
            columns[heading] = grid.numbers(heading, [None if text is None else Decimal(text) for text in values])
        else:
            columns[heading] = grid.texts(heading, values, width="large" if name == "dimensions" else None)
    grid.draw(columns, alt="The first rows of the file as events", height="content", key="examples")


def _time(text: str | None, zone: ZoneInfo) -> str | None:
    return text and formatting.timestamp(datetime.fromisoformat(text), zone)


def _totals(check: FileCheck) -> None:
    st.markdown("**Totals**")
    totals = check.totals[:MAX_LISTED_METRICS]
    grid.draw(
        {
            "Metric": grid.texts("Metric", [total.name for total in totals]),
            "Quantity": grid.numbers("Quantity", [total.amount for total in totals]),
            "Events": grid.numbers("Events", [total.events for total in totals]),
        },
        alt="Quantity and events by metric",
        height="content",
        key="totals",
    )
    if more := len(check.totals) - len(totals):
        st.caption(f"The {len(totals)} metrics with most events; {more:,} more are loaded too.")


def _faults(faults: Sequence[Fault], rejected: int, read: int) -> None:
    """Each kind of fault once, by column."""
    lines = [f"- {markdown.plain(_fault(fault))}" for fault in faults[:MAX_LISTED_FAULTS]]
    if len(faults) > MAX_LISTED_FAULTS:
        lines.append(f"- the first {MAX_LISTED_FAULTS} kinds of faults are shown")
    heading = f"{rejected:,} of {counted(read, 'row')} cannot be loaded:"
    st.error("\n".join([heading, "", *lines]), icon=":material/error:")


def _fault(fault: Fault) -> str:
    """The fault's sentence, without the name of the file."""
    return formatting.shortened(
        for_pickers(str(fault).removeprefix(f"{formatting.path_text(fault.path)}, ")), _MAX_LINE_CHARACTERS
    )


def for_pickers(text: str) -> str:
    """A message of the command with the labels of pickers in place of its options, such as “Form of the times”.

    What the page cannot do is said to need a terminal.
    """
    text = markdown.in_app(text)
    for advice, on_the_page in _ON_THE_PAGE.items():
        text = text.replace(advice, on_the_page)
    return _OPTION.sub(lambda option: f"“{IN_PLACE_OF[option[0]]}”", text)


def outcome_lines(report: FileReport, notes: Sequence[str]) -> None:
    """Draw the report of a load: what was loaded, and each note and warning."""
    first, *others = str(report).split("\n")
    is_new = report.loaded > 0
    (st.success if is_new else st.info)(
        markdown.plain(_line(first)), icon=":material/check_circle:" if is_new else ":material/info:"
    )
    lines = [_line(line) for line in (*others, *notes)]
    if plain := [line for line in lines if not line.startswith(_WARNING)]:
        st.markdown("\n".join(f"- {markdown.plain(line)}" for line in plain))
    _warnings(lines)


def _warnings(lines: Sequence[str]) -> None:
    for line in lines:
        if line.startswith(_WARNING):
            text = line.removeprefix(_WARNING)
            st.warning(markdown.prose(text[:1].upper() + text[1:]), icon=":material/warning:")


def _line(text: str) -> str:
    return formatting.shortened(for_pickers(text.strip()), _MAX_LINE_CHARACTERS)
