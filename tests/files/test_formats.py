"""The same records from every format, encoding and container, and what is detected."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.small_table import NAMES, RECORDS, ROWS, csv_text, json_records, json_text, workbook
from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files import csv_source, text_sources
from usage_explore.files.open import StandardInput, open_source


def opened(path: Path, content: str | bytes, **options: Any) -> tuple[list[dict[str, Any]], str]:
    """The records without nulls, and the description."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with open_source(path, options.pop("kind", None), **options) as source:
        rows = list(source)
        assert [reason for _, _, reason in rows if reason] == []
        assert source.sample_names() == NAMES
        records = [{name: value for name, value in record.items() if value is not None} for _, record, _ in rows]
        return records, source.description


def zipped(members: dict[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # the same bytes at any time
    return content.getvalue()


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)}), sink)
    return sink.getvalue().to_pybytes()


def excel() -> bytes:
    return workbook({"Usage": [list(NAMES), *map(list, ROWS)]})


LINES = "\n".join(map(json_text, json_records()))
FORMATS: dict[str, tuple[str | bytes, str]] = {
    "commas": (csv_text(), "CSV, commas, UTF-8"),
    "semicolons": (csv_text(";"), "CSV, semicolons, UTF-8"),
    "tabs": (csv_text("\t"), "CSV, tabs, UTF-8"),
    "pipes": (csv_text("|"), "CSV, pipes, UTF-8"),
    "Excel's delimiter line": ("sep=;\r\n" + csv_text(";"), "CSV, semicolons, UTF-8"),
    "UTF-8 with BOM": (csv_text().encode("utf-8-sig"), "CSV, commas, UTF-8"),
    "UTF-16 with BOM": (csv_text(";").encode("utf-16"), "CSV, semicolons, UTF-16"),
    "UTF-16 big endian with BOM": (codecs.BOM_UTF16_BE + csv_text().encode("utf-16-be"), "CSV, commas, UTF-16"),
    "UTF-16 without BOM": (csv_text("\t").encode("utf-16-le"), "CSV, tabs, UTF-16"),
    "UTF-16 big endian": (csv_text().encode("utf-16-be"), "CSV, commas, UTF-16"),
    "UTF-32": (csv_text().encode("utf-32"), "CSV, commas, UTF-32"),
    "JSON Lines": (LINES, "JSON Lines, UTF-8"),
    "JSON Lines in UTF-16": (LINES.encode("utf-16"), "JSON Lines, UTF-16"),
    "array": (json_text(json_records()), "JSON array, UTF-8"),
    "pretty array": (json_text(json_records(), indent=2), "JSON array, UTF-8"),
    "array with a trailing comma": (json_text(json_records())[:-1] + ",\n]", "JSON array, UTF-8"),
    "array with BOM": (json_text(json_records()).encode("utf-8-sig"), "JSON array, UTF-8"),
    "array in UTF-16": (json_text(json_records(), indent=1).encode("utf-16"), "JSON array, UTF-16"),
    "arrays one after the other": (
        f"{json_text(json_records()[:1])}\n{json_text(json_records()[1:])}",
        "JSON array, UTF-8",
    ),
    "objects one after the other": (
        "\n".join(json_text(record, indent=1) for record in json_records()),
        "JSON objects, UTF-8",
    ),
    "API page": (
        json_text({"object": "list", "n": [1], "data": json_records(), "more": {"a": [{}]}}),
        "JSON, objects in 'data', UTF-8",
    ),
    "API pages": (
        "\n".join(json_text({"results": [record], "next": '"}]\\'}, indent=1) for record in json_records()),
        "JSON, objects in 'results', UTF-8",
    ),
    "only list of objects": (
        json_text({"meta": {"k": []}, "tags": ["a"], "usage": json_records(), "e": []}, indent=1),
        "JSON, objects in 'usage', UTF-8",
    ),
    "Parquet": (parquet(), "Parquet"),
    "Excel": (excel(), "Excel, sheet 'Usage'"),
}


@pytest.mark.each_value
@pytest.mark.parametrize("container", ["", "gzip", "ZIP", "gzip in ZIP"])
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_records(tmp_path: Path, format: str, container: str) -> None:
    content, description = FORMATS[format]
    data = content if isinstance(content, bytes) else content.encode()
    inside = ""
    if "gzip" in container:
        data, inside = gzip.compress(data), ", gzip"
    if "ZIP" in container:
        data, inside = zipped({"a/": "", "__MACOSX/usage": "x", "a/usage": data}), inside + ", ZIP"
    records, described = opened(tmp_path / "usage", data)
    assert records == RECORDS
    assert described == description + (inside if description.split(",")[0] not in ("Parquet", "Excel") else "")


@pytest.mark.each_value
@pytest.mark.parametrize("name", ["u.csv", "u.xlsx", "u.parquet", "u.csv.gz", "u.json", "u.jsonl"])
@pytest.mark.parametrize("format", ["commas", "JSON Lines", "pretty array", "Parquet", "Excel"])
def test_the_content_decides_not_the_name(tmp_path: Path, name: str, format: str) -> None:
    """Only text that does not begin like JSON is read as JSON by its name: its first line may be damaged."""
    content, description = FORMATS[format]
    if format == "commas" and "json" in name:
        (tmp_path / name).write_text(f"{content}")
        with pytest.raises(LoadError, match="is not JSON"), open_source(tmp_path / name, None) as source:
            raise LoadError(next(reason for _, _, reason in source if reason))
    else:
        assert opened(tmp_path / name, content) == (RECORDS, description)


def test_the_name_decides_what_a_single_line_is(tmp_path: Path) -> None:
    page = json.dumps({"data": [{"a": 1}, {"a": 2}]})
    for name, kind, rows in [("u.json", "json", 2), ("u.jsonl", "jsonl", 1), ("u", "json", 2)]:
        (tmp_path / name).write_text(page)
        with open_source(tmp_path / name) as source:
            assert (source.kind, len(list(source))) == (kind, rows)
    with open_source(tmp_path / "u.jsonl", "json") as source:
        assert len(list(source)) == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^"])
def test_a_quoted_empty_field_is_text_with_every_delimiter(tmp_path: Path, delimiter: str) -> None:
    text = '"",b,c,d\n1,"",,\n"","x,"",""y",,""\n'.replace(",", delimiter).replace(
        '""' + delimiter + "b", "a" + delimiter + "b"
    )
    path = tmp_path / "a.csv"
    path.write_text(text)
    with open_source(path, delimiter=delimiter if delimiter == "^" else None) as source:
        assert source.delimiter == delimiter
        rows = [record for _, record, _ in source]
    assert rows[0] == {"a": "1", "b": ""}
    assert rows[1] == {"a": "", "b": f'x{delimiter}"{delimiter}"y', "d": ""}


@pytest.mark.parametrize(
    ("text", "delimiter", "names"),
    [
        ("a\n1;2\n3,4\n", ",", ("a",)),
        ("a;b,c\n1;2,5\n3;4,5\n", ",", ("a;b", "c")),
        ("a;b\n1,5;2\n1;2,5\n", ";", ("a", "b")),
        ("a,b\n1;2;3,x\n1;2;3,y\n", ",", ("a", "b")),
        ("a,b;c\n1,2\nx,3\n", ",", ("a", "b;c")),
        ("a;b;c\n1;2\n1;2;3\n\n", ";", ("a", "b", "c")),
        ('"x;y;z",b\n"1;2;3",2\n', ",", ("x;y;z", "b")),
        ("a|b", "|", ("a", "b")),
    ],
)
def test_the_delimiter_fits_header_and_rows(tmp_path: Path, text: str, delimiter: str, names: tuple[str, ...]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with open_source(path) as source:
        assert (source.delimiter, source.names) == (delimiter, names)


def test_a_delimiter_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b,c\n1;2,5\n")
    for name in (";", "semicolon"):
        with open_source(path, delimiter=name) as source:
            assert [record for _, record, _ in source] == [{"a": "1", "b,c": "2,5"}]
    for name in (";;", "\udca7"):  # the latter is § in an argument of another encoding
        with pytest.raises(ConfigurationError, match=r"delimiter: '.*' is not a delimiter"):
            open_source(path, delimiter=name)
    with pytest.raises(
        LoadError, match=r"line 1: the columns seem to be separated by ';', not by '\|'; leave out --del"
    ):
        open_source(path, delimiter="|")


def test_windows_text_is_refused_by_row_until_its_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("name,n\nMüller €,1\nx,2\n".encode("cp1252"))
    with open_source(path) as source:
        (line, record, reason), (_, second, _) = source
    assert (line, record, second) == (2, None, {"name": "x", "n": "2"})
    assert reason == (
        "is not UTF-8 text: invalid start byte at byte 2; save the file as UTF-8, or name its encoding:"
        " --encoding cp1252 (Windows, Western Europe)"
    )
    for encoding in ("cp1252", "windows-1252"):
        with open_source(path, encoding=encoding) as source:
            assert next(iter(source))[1] == {"name": "Müller €", "n": "1"}
            assert (source.encoding, source.description) == ("cp1252", "CSV, commas, CP1252")
    path.write_bytes(b"name,n\n\x81,1\nx,2\n")
    with open_source(path, encoding="cp1252") as source:
        assert [reason for _, _, reason in source] == ["is not CP1252 text", None]
    with pytest.raises(ConfigurationError, match="encoding: 'rot13' is none that text files have; name one of utf-8"):
        open_source(path, encoding="rot13")
    path.write_bytes("a,b\n".encode("utf-16"))
    with pytest.raises(ConfigurationError, match="begins with the byte order mark of utf-16-le, so it is not cp1252"):
        open_source(path, encoding="cp1252")


def test_damaged_utf_16_spoils_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("a,b\n1,2\n".encode("utf-16") + b"\x00\xd8" + "x,3\n4,5\n".encode("utf-16-le"))
    with open_source(path) as source:
        assert [(line, record, reason) for line, record, reason in source] == [
            (2, {"a": "1", "b": "2"}, None),
            (3, None, "is not UTF-16 text"),
            (4, {"a": "4", "b": "5"}, None),
        ]
    path.write_bytes("a,b\n1,2\n3,4".encode("utf-16") + b"x")
    with open_source(path) as source, pytest.raises(LoadError, match=r"cannot be read after line .*truncated data"):
        list(source)


def test_options_of_another_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[]")
    for options in ({"delimiter": ";"}, {"sheet": "1"}):
        with pytest.raises(ConfigurationError, match=f"{next(iter(options))}: .* is a JSON file; --"):
            open_source(path, **options)
    with pytest.raises(ConfigurationError, match="format: 'xml' is none of csv, jsonl, json, parquet, xlsx"):
        open_source(path, "xml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes(range(256)) * 8, "has binary data in it, and is in no format that can be read"),
        (b"%PDF-1.7\n", "is a PDF document; export the data as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"is an old Excel workbook \(.xls\), or one protected with a password"),
        (b"\x28\xb5\x2f\xfd__", "is compressed with Zstandard; decompress it"),
        ("\n<!DOCTYPE html><html>", "is a web page .* download the file again"),
        ('<?xml version="1.0"?>', "is an XML file; export the data as CSV or JSON"),
        (zipped({"xl/workbook.bin": ""}), r"is a binary Excel workbook \(.xlsb\); save it as .xlsx or CSV"),
        (zipped({"content.xml": "", "mimetype": ""}), "is an OpenDocument file; save it as .xlsx or CSV"),
        (zipped({}), "is a ZIP file without a file in it"),
        (
            zipped({"a.csv": "a", "b.csv": "b"}),
            r"has 2 files in it \('a.csv', 'b.csv'\); unpack it, and name them one",
        ),
        (
            gzip.compress(gzip.compress(gzip.compress(b"a", mtime=0), mtime=0), mtime=0),
            "is compressed more than twice; decompress it",
        ),
        (gzip.compress(zipped({"a.csv": "a"}), mtime=0), "has a ZIP file inside gzip; unpack it"),
    ],
)
def test_what_cannot_be_read_says_what_it_is(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = tmp_path / "usage"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LoadError, match=said) as refused:
        open_source(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_a_named_format_must_fit_the_content(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    for content, kind, said in [
        (parquet(), "csv", "is a Parquet file, not csv; name it .parquet, without --format"),
        (excel(), "csv", "is an Excel workbook, not csv"),
        (csv_text(), "parquet", "is not a Parquet file"),
        (csv_text(), "xlsx", r"is not an Excel workbook \(.xlsx\); leave out --format"),
        (zipped({"a.csv": "a"}), "xlsx", r"is not an Excel workbook \(.xlsx\); leave out --format"),
    ]:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(LoadError, match=said):
            open_source(path, kind)


def test_standard_input_can_be_read_twice_and_leaves_nothing(tmp_path: Path) -> None:
    with StandardInput(io.BytesIO(csv_text(";").encode())) as standard_input:
        file = standard_input.file
        assert file.stat().st_mode & 0o777 == 0o600
        for _ in range(2):
            with open_source(standard_input) as source:
                assert source.description == "CSV, semicolons, UTF-8"
                assert len(list(source)) == len(ROWS)
    assert not file.exists()


def test_a_dash_is_standard_input(tmp_path: Path) -> None:
    code = (
        "import sys; from usage_explore.files.open import open_source\n"
        "with open_source('-') as source: print(source.path, source.kind, [record for _, record, _ in source])\n"
    )
    for content, said in [(b'[{"a": 1}]', "<stdin> json [{'a': Decimal('1')}]"), (b"", "<stdin>: is empty")]:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, env=environment)
        assert said in (done.stdout + done.stderr).decode()
        assert list(tmp_path.iterdir()) == []


def test_a_copy_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_explore.files.containers.MIN_FREE_BYTES", 1 << 60)
    with pytest.raises(LoadError, match=r"^<stdin>: there is too little space for a temporary copy .* or set TMPDIR"):
        StandardInput(io.BytesIO(b"a"))


def test_sampled_names_are_dotted_and_no_row_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": {"b": {"c": {"d": {"e": 1}}}}, "l": [1, {"x": 2}, {"y": 3}]}\nbad\n{"z": null}\n')
    with open_source(path) as source:
        assert source.sample_names() == ("a", "l", "a.b", "a.b.c", "a.b.c.d", "l.x", "l.y", "z")
        assert source.sample_names(1) == ("a", "l", "a.b", "a.b.c", "a.b.c.d", "l.x", "l.y")
        assert [line for line, _, _ in source] == [1, 2, 3]
    pq.write_table(pa.table({"s": [{"p": {"q": 1}}], "l": [[{"x": Decimal(1)}]]}), tmp_path / "a.parquet")
    with open_source(tmp_path / "a.parquet") as source:
        assert source.sample_names() == ("s", "l", "s.p", "s.p.q", "l.x")


@pytest.mark.parametrize(
    ("above", "line"),
    [
        ("", 1),
        ("\n\n", 3),
        ("Usage report\n", 2),
        ("Period,October 2026\n\n", 3),
        ("\n,,,\nUsage report,,,\n", 4),
        ('"Report\nof October"\n', 3),
    ],
)
def test_the_header_is_below_titles_and_empty_lines(tmp_path: Path, above: str, line: int) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{above}a,b,c,d\n1,2,3,4\n5,6,7,8\n")
    with open_source(path) as source:
        assert source.names == ("a", "b", "c", "d")
        assert list(source) == [
            (line + 1, {"a": "1", "b": "2", "c": "3", "d": "4"}, None),
            (line + 2, {"a": "5", "b": "6", "c": "7", "d": "8"}, None),
        ]
        assert source.notes == (() if line == 1 else (f"header in line {line}",))


def test_a_narrow_table_has_no_titles_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\nx,y\n1,2\n")
    with open_source(path, delimiter=",") as source:
        assert source.names == ("a",)


def test_rows_are_the_same_in_blocks_and_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        "1,2,3",
        '"",x,"a,b"',
        ",,",
        'q,"line\nbreak",z',
        "too,few",
        '"a ""b""",2,',
        "é,ü,ß",
        "1,\0,3",
        "7,8,9",
    ] * 40
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n" + "\n".join(rows) + "\n")
    with open_source(path) as source:
        whole = list(source)
    for size in (1, 7, 64, 1_000):
        monkeypatch.setattr(csv_source, "BLOCK_BYTES", size)
        monkeypatch.setattr(text_sources, "BLOCK_BYTES", size)
        with open_source(path) as source:
            assert list(source) == whole
    monkeypatch.setattr(csv_source.CsvSource, "_rows_of_blocks", lambda *_: iter(()))
    with open_source(path) as source:
        assert list(source) == whole
    assert len(whole) == len(rows)


@pytest.mark.parametrize("rows", [2, 3, 5, 7_000])
def test_text_inside_nested_columns_is_read_from_several_row_groups(tmp_path: Path, rows: int) -> None:
    """The groups have dictionaries of their own, which pyarrow cannot join in one batch."""
    number = 2 * rows + 1
    table = pa.table(
        {
            "s": [{"a": f"x{place % 3}", "n": place} for place in range(number)],
            "l": [[{"b": f"y{place % 5}"}] * (place % 3) for place in range(number)],
            "m": pa.array([[(f"k{place % 2}", "v")] for place in range(number)], pa.map_(pa.string(), pa.string())),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows)
    with open_source(tmp_path / "a.parquet") as source:
        records = [record for _, record, _ in source if record]
    assert len(records) == number
    assert all(record["s"] == {"a": f"x{place % 3}", "n": place} for place, record in enumerate(records))
    assert [len(record["l"] or []) for record in records] == [place % 3 for place in range(number)]


def test_a_parquet_page_that_does_not_fit_its_checksum_is_refused(tmp_path: Path) -> None:
    path, file = tmp_path / "a.parquet", io.BytesIO()
    pq.write_table(pa.table({"quantity": [1] * 5}), file, compression="none", write_page_checksum=True)
    content = bytearray(file.getvalue())
    path.write_bytes(content)
    with open_source(path) as source:
        assert [record for _, record, _ in source] == [{"quantity": 1}] * 5
    content[content.index((1).to_bytes(8, "little"))] = 2
    path.write_bytes(content)
    with pytest.raises(LoadError, match=r"CRC checksum verification failed"), open_source(path) as source:
        list(source)
