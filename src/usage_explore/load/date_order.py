"""Whether the day or the month is first in the times of a column, such as 03/04/2026."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from usage_explore.errors import LoadError
from usage_explore.load.times import TimeReader, reads


def decide_order(path: Path, column: str, times: TimeReader, values: Iterable[tuple[int, object]]) -> None:
    """Set from all rows whether the day or the month is first in times such as 03/04/2026.

    `values` gives (line, value). Raises `LoadError` where no row decides, or rows contradict each other.
    """
    deciding: dict[bool, tuple[int, object]] = {}
    first: tuple[int, object] | None = None
    for line, raw in values:
        if raw is None or raw == "":
            continue
        if not times.is_open(raw):
            if first is None:
                return  # ISO times are not read twice
            continue
        first = first or (line, raw)
        order = times.shows_order(raw)
        if order is not None and order not in deciding:
            deciding[order] = line, raw
            if len(deciding) == 2:
                break
    if first is None:
        return
    if len(deciding) != 1:
        lines = "; ".join(
            f"line {line:,}: {raw!r} has the {'day' if order else 'month'} first"
            for order, (line, raw) in sorted(deciding.items(), reverse=True)
        )
        raise LoadError(
            f"{path}: {column}: is the day or the month first? "
            + (lines or f"no line decides, like line {first[0]:,}: {first[1]!r}; a number above 12 would")
            + "; give the form with --time-format, such as --time-format %m/%d/%Y or --time-format '%d/%m/%Y %H:%M'"
        )
    ((times.day_first, (line, raw)),) = deciding.items()
    times.decided_by = f"line {line:,}: {raw!r}"


_NUMERIC_DATE = re.compile(
    r"\d{1,2}(?P<separator>[/-])\d{1,2}(?P=separator)\d{4}"
    r"(?:(?P<gap>,?[Tt ] *)(?P<clock>\d{1,2}:\d\d)(?P<seconds>:\d\d)?"
    r"(?:(?P<mark>[.,])\d+)?(?P<half> *[AaPp][Mm])?)?(?P<zone> *Z)?",
    re.ASCII,
)


def time_formats(texts: Sequence[str]) -> dict[str, str]:
    """The forms of times like 03/04/2026 8:00 PM, by what they mean: {"the day is first": "%d/%m/%Y %I:%M %p", …}.

    Only forms that read all the texts; none where the texts have no such form, or several.
    """
    match = _NUMERIC_DATE.fullmatch(texts[0].strip()) if texts else None
    if match is None:
        return {}
    clock = ""
    if match["clock"]:
        clock = f"{match['gap']}{'%I' if match['half'] else '%H'}:%M{':%S' if match['seconds'] else ''}"
        clock += f"{match['mark']}%f" if match["mark"] else ""
        clock += f"{' ' * match['half'].count(' ')}%p" if match["half"] else ""
    zone = match["zone"].replace("Z", "%z") if match["zone"] else ""
    formats = {
        f"the {first} is first": match["separator"].join(form) + clock + zone
        for first, form in (("day", ("%d", "%m", "%Y")), ("month", ("%m", "%d", "%Y")))
    }
    readers = {meaning: TimeReader(ZoneInfo("UTC"), form).read for meaning, form in formats.items()}
    return {
        meaning: form for meaning, form in formats.items() if all(reads(readers[meaning], text) for text in {*texts})
    }
