"""A validation on a terminal: all of it, in lines that fit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import click
import pytest

from support import hostile_values
from support.known_findings import check, finding
from support.query_oracle import utc
from usage_explore import Store, formatting
from usage_explore.validation import Validation, report
from usage_explore.validation.report import terminal, wording

Validate = Callable[..., Validation]


def said(store: Store, validation: Validation, width: int = 100) -> list[str]:
    return [click.unstyle(line) for line in report.lines(validation, report.statements(store, validation), width)]


def cells(line: str) -> int:
    """How many columns of a terminal the line takes: combining marks none, East Asian wide characters two."""
    return sum(
        0 if unicodedata.category(each) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in line
    )


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(store: Store, validated: Validate, width: int) -> None:
    found = [finding(sentence=f"Word {text} " * 9) for text in hostile_values.WORST]
    validation = validated(check("own", *found), check("another", needs="invoices"))
    lines = said(store, validation, width)
    assert max(map(cells, lines)) <= width
    assert all(line.isprintable() for line in lines)


def test_everything_is_said(store: Store, validated: Validate) -> None:
    validation = validated(
        check("own", finding("low"), finding(events=5)), check("spotless"), check("invoiced", needs="invoices")
    )
    lines = said(store, validation)
    text = re.sub(r"\s+", " ", " ".join(lines))
    assert f"Organization {validation.period.organization_id}, data as of 2026-" in text
    assert "2 findings: 1 high, 1 low" in lines
    assert [line.split()[0] for line in lines if "own: 12 events were sent twice." in line] == ["high", "low"]
    events = f"{validation.totals.events:,} events"
    assert re.search(rf"own \S+ m?s \d+ % 2 findings among {events}", text)
    assert re.search(rf"spotless \S+ m?s \d+ % clean among {events}", text)
    assert "invoiced skipped: invoices was not given" in text
    for metric, (number, _) in validation.totals.metrics.items():
        assert re.search(rf"{re.escape(metric)}\s+{number:,}\s", text)
    assert text.count("agrees ") == 2


def test_what_is_not_listed_is_counted(store: Store, validated: Validate) -> None:
    high = [finding(events=number) for number in range(terminal.MAX_FINDINGS + 2)]
    lines = said(store, validated(check("own", *high, *[finding("low")] * 7)))
    assert sum(line.startswith("high ") for line in lines) == len(high)
    assert "and 7 more, none of high severity; --report and --json have them all" in lines


def test_nothing_found_is_said(store: Store, validated: Validate) -> None:
    assert "Nothing found by 1 check" in said(store, validated(check("own"), check("more", needs="invoices")))


@pytest.mark.parametrize(
    ("part", "written"),
    [("0", "0 %"), ("0.031", "3.1 %"), ("0.00001", "0.001 %"), ("1", "100 %"), ("12.345", "1,234 %")],
)
def test_shares(part: str, written: str) -> None:
    assert formatting.percent(Decimal(part)) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0031, "3 ms"), (0.9996, "1.00 s"), (1.2345, "1.23 s"), (59.996, "1 min 0 s"), (125.4, "2 min 5 s")],
)
def test_durations(seconds: float, written: str) -> None:
    assert formatting.elapsed(timedelta(seconds=seconds)) == written


def test_times_have_their_offset() -> None:
    from zoneinfo import ZoneInfo

    assert formatting.zoned(utc(2026, 7, 1, 0, 5), ZoneInfo("Europe/Berlin")) == "2026-07-01 02:05:00 +02:00"
    assert formatting.zoned(utc(2026, 7, 1, 0, 5), ZoneInfo("America/St_Johns")) == "2026-06-30 21:35:00 -02:30"


@pytest.mark.parametrize("value", hostile_values.ALL)
def test_text_is_inert(value: str) -> None:
    written = wording.text(value)
    assert written.isprintable()
    assert len(written) <= wording.MAX_VALUE_CHARACTERS
