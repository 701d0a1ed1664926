# ruff: noqa: DTZ001 - a workbook's dates have no zone
"""Excel workbooks: exact numbers, dates, the choice of a sheet, damaged and hostile files."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import zipfile
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support.small_table import workbook
from usage_explore.errors import LoadError
from usage_explore.files import containers, xlsx_decoder, xlsx_source
from usage_explore.files.open import open_source
from usage_explore.files.values import (
    InvalidValue,
    Unreadable,
    id_reader,
    idempotency_key_text,
    metric_key_text,
    number_text,
)
from usage_explore.load.times import TimeReader

SHEET = "xl/worksheets/sheet1.xml"


def changed(content: bytes, **members: tuple[str, str]) -> bytes:
    """The workbook with text replaced in members: sheet=(pattern, replacement), types, workbook."""
    names = {"sheet": SHEET, "types": "[Content_Types].xml", "workbook": "xl/workbook.xml"}
    replacements = {names[key]: value for key, value in members.items()}
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            text = old.read(name)
            if name in replacements:
                pattern, replacement = replacements[name]
                replaced = re.sub(pattern, lambda _: replacement, text.decode(), count=1, flags=re.DOTALL)  # noqa: B023
                assert replaced != text.decode()
                text = replaced.encode()
            new.writestr(name, text)
    return result.getvalue()


def records(path: Path, content: bytes, **options: Any) -> list[dict[str, Any]]:
    path.write_bytes(content)
    with open_source(path, **options) as source:
        return [record or {"": reason} for _, record, reason in source]


def with_cells(*cells: str, header: str = "abcdefgh") -> bytes:
    """A sheet whose second row has these cells as XML, without their closing tag."""
    letters = "ABCDEFGH"
    row = "".join(f'<c r="{letters[place]}2"{cell}</c>' for place, cell in enumerate(cells))
    content = workbook({"S": [list(header[: len(cells)]), [1]]})
    return changed(content, sheet=(r'<row r="2".*?</row>', f'<row r="2">{row}</row>'))


def with_strings(strings: str) -> bytes:
    """A workbook whose cell A2 is the first of these shared texts, given as XML."""
    content = with_cells(' t="s"><v>0</v>')
    override = (
        '<Override PartName="/xl/sharedStrings.xml"'
        ' ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/></Types>'
    )
    content = changed(content, types=("</Types>", override))
    result = io.BytesIO(content)
    with zipfile.ZipFile(result, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", strings)
    return result.getvalue()


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("0.1", "0.1"),
        ("0.10000000000000001", "0.1"),
        ("9.9999999999999995E-8", "1E-7"),
        ("12345678901234567890", "12345678901234567890"),
        ("1.2345678901234568E+17", "1.2345678901234568E+17"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("-5", "-5"),
        ("007", "7"),
        ("1200.50", "1200.5"),
        ("-0.0", "0"),
    ],
)
def test_numbers_are_the_digits_that_were_written(tmp_path: Path, stored: str, text: str) -> None:
    ((record),) = records(tmp_path / "a.xlsx", with_cells(f"><v>{stored}</v>"))
    assert isinstance(record["a"], Decimal)
    assert Decimal(number_text(record["a"])) == Decimal(text)


@pytest.mark.parametrize("stored", ["4711", "4711.0", "4.711E3", "4711.", "47110e-1"])
def test_a_whole_number_is_the_same_id_however_it_is_written(tmp_path: Path, stored: str) -> None:
    """Libraries other than Excel write each number with a point."""
    ((record),) = records(tmp_path / "a.xlsx", with_cells(f"><v>{stored}</v>"))
    assert number_text(record["a"]) == "4711"


@pytest.mark.parametrize("stored", ["1846273645123450000", "1.8462736451234501E+18", "1234567890123456", "-1E15"])
def test_a_number_of_more_digits_than_excel_keeps_is_no_id(tmp_path: Path, stored: str) -> None:
    """Excel makes zeros of the further digits: two customers were one, and events of another key already there."""
    ((record),) = records(tmp_path / "a.xlsx", with_cells(f"><v>{stored}</v>", "><v>999999999999999</v>"))
    for read in (id_reader("customer"), idempotency_key_text, metric_key_text):
        with pytest.raises(InvalidValue, match=r"is a number of 1[69] digits, of which Excel keeps 15: .* as text"):
            read(record["a"])
    assert idempotency_key_text(record["b"]) == "999999999999999"


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("2026-11-01T10:00:00.000Z", "2026-11-01T10:00:00+00:00"),
        ("2026-11-01T10:00:00.123456+05:00", "2026-11-01T05:00:00.123456+00:00"),
        ("2026-11-01T10:00:00", "2026-11-01T09:00:00+00:00"),
        ("2026-11-01", "2026-10-31T23:00:00+00:00"),
    ],
)
def test_iso_dates_keep_their_offset_and_microseconds(tmp_path: Path, stored: str, read: str) -> None:
    (record,) = records(tmp_path / "a.xlsx", with_cells(f' t="d"><v>{stored}</v>'))
    assert datetime.fromisoformat(TimeReader(ZoneInfo("Europe/Berlin"), None).read(record["a"])) == (
        datetime.fromisoformat(read)
    )


def test_dates_booleans_and_texts(tmp_path: Path) -> None:
    when = datetime(2026, 10, 1, 8, 30, 15)
    rows: list[list[object]] = [
        ["date", "moment", "hour", "length", "yes", "text", "empty"],
        [when.date(), when, time(8, 30), timedelta(hours=30), True, "x\ny", ""],
    ]
    (record,) = records(tmp_path / "a.xlsx", workbook({"S": rows}))
    assert record == {
        "date": datetime(2026, 10, 1),
        "moment": when,
        "hour": time(8, 30),
        "length": timedelta(hours=30),
        "yes": True,
        "text": "x\ny",
    }
    with pytest.raises(InvalidValue, match="has no offset; name its zone with --timezone, such as --timezone UTC"):
        TimeReader(None, None).read(record["moment"])
    assert TimeReader(ZoneInfo("UTC"), None).read(record["moment"]) == "2026-10-01T08:30:15+00:00"


def test_dates_since_1904_are_those_that_are_shown(tmp_path: Path) -> None:
    content = workbook({"S": [["d"], [datetime(2026, 10, 1)]]})
    old = changed(content, workbook=("<workbookPr */>", '<workbookPr date1904="1"/>'))
    assert records(tmp_path / "a.xlsx", old) == [{"d": datetime(2030, 10, 2)}]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (' t="e"><v>#N/A</v>', "is the spreadsheet error #N/A"),
        (' t="e"><f>1/0</f><v>#DIV/0!</v>', "is the spreadsheet error #DIV/0!"),
        ("><f>SUM(A1:A9)</f>", "is a formula without a stored result; open the file in Excel and save it again"),
        ("><f>SUM(A1:A9)</f><v/>", "is a formula without a stored result; open the file in Excel and save it again"),
        ("><v>1e999</v>", "1e999 is not a number that a spreadsheet can hold"),
        ("><v>1_000</v>", "1_000 is not a number that a spreadsheet can hold"),
        (' t="s"><v>99</v>', "cannot be read: list index out of range"),
    ],
)
def test_what_has_no_value_is_unreadable(tmp_path: Path, cell: str, reason: str) -> None:
    (record,) = records(tmp_path / "a.xlsx", with_cells(cell, "><v>1</v>"))
    assert isinstance(record["a"], Unreadable)
    assert record["a"].reason == reason
    assert record["b"] == 1


def test_stored_results_of_formulas_are_read(tmp_path: Path) -> None:
    cells = (
        "><f>1+1</f><v>2</v>",
        ' t="str"><f>A1</f><v>x</v>',
        ' t="str"><f>A1</f><v></v>',
        ' t="b"><f>TRUE</f><v>1</v>',
    )
    assert records(tmp_path / "a.xlsx", with_cells(*cells)) == [{"a": 2, "b": "x", "d": True}]


def test_the_first_row_with_values_is_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook({"S": [[], [None], ["a", 2, "c", None], [], [1, None, "x"], ["", None], [1, 2, 3, 4]]}))
    with open_source(path) as source:
        assert (source.unit, source.names, source.sample_names()) == ("row", ("a", "2", "c"), ("a", "2", "c"))
        assert list(source) == [
            (5, {"a": 1, "c": "x"}, None),
            (7, None, "has a value in column 4 where the header has 3"),
        ]
        assert (source.position, source.length) == (7, 7)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[]], "sheet 'S': has no row with the column names"),
        ([["a", None, "b"]], "row 1: column 2 has no name; the header has to name all columns"),
        ([["a", "a"]], "row 1: the header names 'a' more than once"),
        ([["x"] * 2001], "row 1: has more than 2,000 columns, the most that can be read"),
    ],
)
def test_headers_that_cannot_name_columns(tmp_path: Path, rows: list[list[object]], said: str) -> None:
    with pytest.raises(LoadError, match=said):
        records(tmp_path / "a.xlsx", workbook({"S": rows}))


def test_a_sheet_is_chosen_by_name_or_number_unless_one_alone_has_values(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    one, two = [["a"], [1]], [["a"], [2]]
    assert records(path, workbook({"Empty": [], "Data": one, "Notes": [[None]]})) == [{"a": 1}]
    content = workbook({"2": one, "Müller": two})
    with pytest.raises(
        LoadError, match=f"^{path}: has 2 sheets with values; choose one with --sheet: 1 '2', 2 'Müller'$"
    ):
        records(path, content)
    assert records(path, content, sheet="Müller") == [{"a": 2}]
    assert records(path, content, sheet=1) == [{"a": 1}]
    assert records(path, content, sheet="2") == [{"a": 1}]
    for sheet in ("müller", "0", "3", "-1"):
        with pytest.raises(LoadError, match=f"has no sheet '{sheet}'; its sheets are 1 '2', 2 'Müller'"):
            records(path, content, sheet=sheet)


def test_a_damaged_workbook_is_one_sentence(tmp_path: Path) -> None:
    content = workbook({"S": [["a"], *([number] for number in range(5_000))]})
    for damaged in (content[: len(content) // 2], content[:-30], b"PK\x03\x04" + b"x" * 100):
        with pytest.raises(LoadError, match=r"is a damaged ZIP file: .*; was it copied completely"):
            records(tmp_path / "a.xlsx", damaged)
    for broken in (
        changed(content, sheet=("</sheetData>", "<")),
        changed(content, sheet=(r'r="A4000"', 'r="??"')),
        changed(content, sheet=(r'<row r="4000"', '<row r="x"')),
    ):
        with pytest.raises(LoadError, match=r"cannot be read after row [0-9,]+: .*; save the sheet again, or as CSV"):
            records(tmp_path / "a.xlsx", broken)
    with pytest.raises(LoadError, match=r"cannot be read as an Excel workbook \(.xlsx\): "):
        records(tmp_path / "a.xlsx", changed(content, workbook=("<sheets>.*", "")))


def test_a_row_beyond_the_format_is_refused(tmp_path: Path) -> None:
    content = changed(with_cells("><v>1</v>"), sheet=('<row r="2"><c r="A2"', '<row r="999999999"><c'))
    with pytest.raises(LoadError, match="row 999,999,999: a sheet has at most 1,048,576 rows"):
        records(tmp_path / "a.xlsx", content)


STRINGS = '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'


def test_shared_texts_are_read(tmp_path: Path) -> None:
    strings = f"{STRINGS}<si><r><t>two </t></r><r><t>runs</t></r></si></sst>"
    assert records(tmp_path / "a.xlsx", with_strings(strings)) == [{"a": "two runs"}]


@pytest.mark.parametrize("defused", ["True", "False"])
def test_entities_that_expand_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defused: str) -> None:
    """With and without the optional package defusedxml."""
    monkeypatch.setenv("OPENPYXL_DEFUSEDXML", defused)
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol" * 10}">' for n in range(12))
    for bomb in (
        with_strings(f"<!DOCTYPE sst [{entities}]>{STRINGS}<si><t>&e11;</t></si></sst>"),
        changed(
            changed(workbook({"S": [["a"], ["x"]]}), sheet=("<t>x</t>", "<t>&e11;</t>")),
            sheet=("<worksheet", f"<!DOCTYPE worksheet [{entities}]><worksheet"),
        ),
    ):
        with pytest.raises(LoadError, match=r"cannot be read .*: its XML defines entities, which Excel does not write"):
            records(tmp_path / "a.xlsx", bomb)


def test_a_shared_text_in_every_row_is_not_read_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workbook has the text once; 100 kB of it were 36 GB of values."""
    monkeypatch.setattr(containers, "MAX_BYTES_OF_SMALL_FILES", 100_000)
    monkeypatch.setattr(containers, "MAX_EXPANSION", 1)
    rows = [["a"], *[["x" * 30_000]] * 5]
    with pytest.raises(LoadError, match="has more than 100,000 bytes of values, too many for the size of the file"):
        records(tmp_path / "a.xlsx", workbook({"S": rows}))


def test_a_workbook_that_expands_beyond_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_source, "MAX_UNCOMPRESSED_BYTES", 1_000)
    with pytest.raises(
        LoadError, match=r"has [0-9,]+ bytes once uncompressed; at most 1,000 can be read: save the sheet"
    ):
        records(tmp_path / "a.xlsx", workbook({"S": [["a"]]}))


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is bounded on Linux only")
@pytest.mark.parametrize("filling", ["<!--" + "x" * 20_000_000 + "-->", "<a>" * 2_000_000])
def test_a_sheet_that_takes_too_long_between_two_rows_is_refused(tmp_path: Path, filling: str) -> None:
    path = tmp_path / "slow.xlsx"
    path.write_bytes(changed(with_cells("><v>1</v>"), sheet=('<row r="2".*', filling)))
    # in a process of its own, as in use: the signal may come while garbage is collected, where it is only a warning
    decode = [sys.executable, "-c", DECODE, str(path)]
    said = [subprocess.run(decode, capture_output=True, text=True, timeout=120).stdout for _ in range(3)]
    assert any("row 2 takes more than 0.5 s to read; save the sheet as CSV" in text for text in said), said


DECODE = """
import io, sys
from usage_explore.files import xlsx_decoder
xlsx_decoder.MAX_ROW_SECONDS = 0.5
try:
    xlsx_decoder.decode(sys.argv[1], "1", 10, 1_000, io.StringIO())
except xlsx_decoder.Refused as error:
    print(error)
"""


def test_a_decoder_that_runs_no_signal_handler_ends() -> None:
    """Without memory for an exception Python 3.11 tries for ever; here it computes a sum, which heeds no signal."""
    script = """
from usage_explore.files import xlsx_decoder
xlsx_decoder.GRACE_SECONDS = 0
xlsx_decoder._allow(0.1, "row 1")
sum(range(10**12))
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == -signal.SIGXCPU


def test_a_decoder_that_the_time_limit_ended_is_not_blamed_on_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = tmp_path / "ended.py"
    ended.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGXCPU)\n")
    monkeypatch.setattr(xlsx_decoder, "__file__", str(ended))
    with pytest.raises(LoadError, match="cannot be read in the time it may take; save the sheet as CSV"):
        records(tmp_path / "a.xlsx", workbook({"S": [["a"]]}))


def test_shared_texts_that_take_too_much_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_source, "MAX_DECODER_BYTES", 50_000_000)
    texts = f"<si><t>{'y' * 30_000}</t></si>" * 3_000
    content = with_strings(f"{STRINGS}{texts}</sst>")
    assert len(content) < 200_000
    with pytest.raises(LoadError, match="with 50,000,000 bytes of memory it may take; save the sheet as CSV"):
        records(tmp_path / "a.xlsx", content)


def test_a_zip_directory_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_ZIP_DIRECTORY_BYTES", 100)
    with pytest.raises(LoadError, match="has too many files in it; unpack it"):
        records(tmp_path / "a.xlsx", workbook({"S": [["a"]]}))


def test_a_decoder_starts_without_numpy(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook({"S": [["a"]]}))
    command = [sys.executable, "-I", "-X", "importtime", xlsx_decoder.__file__]
    request = json.dumps({"path": str(path), "max_memory_bytes": xlsx_source.MAX_DECODER_BYTES})
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    assert "S" in done.stdout
    assert "openpyxl" in done.stderr
    assert "numpy." not in done.stderr


def test_a_decoder_ends_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **options: started.append(popen(*args, **options)) or started[-1]
    )
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook({"S": [["a"], *([number] for number in range(50_000))]}))
    source = open_source(path)
    next(iter(source))
    assert started[0].poll() is None
    source.close()
    assert started[0].poll() is not None
