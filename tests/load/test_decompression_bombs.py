"""Small files that would take gigabytes once decoded are refused, or read in bounded memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from uuid import UUID

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.waiting import PATIENCE
from usage_explore.errors import LoadError, QueryError
from usage_explore.files import containers, csv_source, parquet_source, sources, tables, xlsx_decoder
from usage_explore.files.csv_source import CsvSource
from usage_explore.files.exact_json import loads
from usage_explore.files.open import open_source
from usage_explore.files.parquet_source import ParquetSource
from usage_explore.files.values import InvalidValue, is_blank
from usage_explore.load import names
from usage_explore.load.prepared import LoadOptions, prepare
from usage_explore.validation.inputs import read_preferences
from usage_explore.validation.reconciliation.invoices import read_invoices

ROWS, HUGE = 5_000, "x" * 3_000_000


def repeated(rows: int = ROWS) -> pa.Array:
    """One large text in every row, which a dictionary holds once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [HUGE])


def parquet(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 100_000
    return path


def lists(rows: int = ROWS) -> pa.Array:
    """All the texts in the list of one row."""
    return pa.ListArray.from_arrays(pa.array([0, rows], pa.int32()), repeated(rows).dictionary_decode())


def test_a_repeated_large_text_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    source = ParquetSource(parquet(tmp_path / "a.parquet", a=repeated()))
    with pytest.raises(
        LoadError, match=r"after row \d+ its values take more than 268,435,456 bytes, too many for the size of the file"
    ):
        list(source)


def test_so_is_one_in_many_columns(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), ["x" * 50_000])
    source = ParquetSource(parquet(tmp_path / "w.parquet", **{f"c{place}": text for place in range(60)}))
    read = []
    with pytest.raises(LoadError, match="too many for the size of the file"):
        read.extend(line for line, _, _ in source)
    assert read
    assert len(read) * 60 * 50_000 <= containers.MAX_BYTES_OF_SMALL_FILES


def test_a_row_that_is_large_by_a_list_is_refused(tmp_path: Path) -> None:
    source = ParquetSource(parquet(tmp_path / "l.parquet", l=lists(100)))
    with pytest.raises(LoadError, match=r"row 1: has 300,0\d\d,\d\d\d bytes; at most 16,777,216"):
        list(source)


def test_large_rows_are_decoded_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_source, "MAX_BATCH_BYTES", 10_000_000)
    sizes: list[int] = []
    decode = parquet_source._values

    def watched(column: pa.Array, **options: object) -> list[object]:
        sizes.append(len(column))
        return decode(column, **options)

    monkeypatch.setattr(parquet_source, "_values", watched)
    struct = pa.StructArray.from_arrays([repeated(10)], ["k"])
    rows = [record for _, record, _ in ParquetSource(parquet(tmp_path / "s.parquet", s=struct))]
    assert [row["s"] for row in rows] == [{"k": HUGE}] * 10
    assert max(sizes) <= 3


def test_what_fits_is_read_whole(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.int32()), ["a", "b"])
    nested = pa.array([{"k": ["x", None]}, None, {"k": []}, {"k": ["x"]}])
    source = ParquetSource(parquet(tmp_path / "a.parquet", t=text, n=nested, m=pa.array(["a", "a", None, ""])))
    rows = [record for _, record, _ in source]
    assert [row["t"] for row in rows] == ["a", "b", None, "a"]
    assert [row["m"] for row in rows] == ["a", "a", None, ""]
    assert rows[0]["n"] == {"k": ["x", None]}


def test_every_type_of_text_is_read_alike(tmp_path: Path) -> None:
    texts = ["a", None, ""]
    types = {
        "s": pa.string(),
        "l": pa.large_string(),
        "v": pa.string_view(),
        "d": pa.dictionary(pa.int8(), pa.string()),
    }
    table = pa.table({name: pa.array(texts, pa.string()).cast(kind) for name, kind in types.items()})
    pq.write_table(table, tmp_path / "t.parquet")
    assert [record for _, record, _ in ParquetSource(tmp_path / "t.parquet")] == [
        dict.fromkeys(types, t) for t in texts
    ]


def test_columns_that_a_validation_ignores_are_not_read(tmp_path: Path) -> None:
    customers = pa.array([f"00000000-0000-4000-8000-{place:012d}" for place in range(ROWS)])
    path = parquet(tmp_path / "w.parquet", customer_id=customers, currency=pa.array(["EUR"] * ROWS), note=repeated())
    assert len(read_preferences(path).customers) == ROWS
    path = parquet(
        tmp_path / "i.parquet",
        customer_id=customers,
        metric_key=pa.array(["m"] * ROWS),
        quantity=pa.array(["1"] * ROWS),
        note=repeated(),
    )
    assert len(read_invoices(path).lines) == ROWS
    path = parquet(tmp_path / "c.parquet", customer_id=customers, currency=repeated())
    with pytest.raises(QueryError, match="too many for the size of the file"):
        read_preferences(path)


def test_wide_fixed_values_many_columns_and_large_row_groups_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = pa.array([b"x" * 2_000] * 3, pa.binary(2_000))
    with pytest.raises(LoadError, match="values of 2,000 bytes; at most 1,024"):
        ParquetSource(parquet(tmp_path / "f.parquet", f=fixed))
    wide = {f"c{place}": pa.array([1]) for place in range(sources.MAX_COLUMNS + 1)}
    pq.write_table(pa.table(wide), tmp_path / "w.parquet")
    with pytest.raises(LoadError, match="more than 2,000 columns"):
        ParquetSource(tmp_path / "w.parquet")
    monkeypatch.setattr(parquet_source, "MAX_ROW_GROUP_BYTES", 10_000)
    plain = tmp_path / "p.parquet"
    pq.write_table(pa.table({"p": ["x" * 11_000]}), plain, use_dictionary=False)
    with pytest.raises(LoadError, match=r"a row group has .* bytes once uncompressed; at most 10,000"):
        list(ParquetSource(plain))
    monkeypatch.setattr(parquet_source, "MAX_NESTED_VALUES", 10)
    with pytest.raises(LoadError, match=r"column 'l\.list\.element' has 100 values in a row group; at most 10"):
        list(ParquetSource(parquet(tmp_path / "l.parquet", l=lists(100))))


def varint(number: int, length: int) -> bytes:
    """The number as Thrift writes one, in exactly so many bytes."""
    return bytes(number >> 7 * place & 127 | (128 if place < length - 1 else 0) for place in range(length))


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is bounded on Linux only")
@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY"])
def test_a_footer_that_understates_its_sizes_does_not_raise_the_memory_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    path = tmp_path / "f.parquet"
    options = {"use_dictionary": False, "compression": "zstd", "column_encoding": {"t": encoding}}
    pq.write_table(pa.table({"t": [f"{'x' * 3_000_000}{row}" for row in range(100)]}), path, **options)
    claimed = pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    size = varint(claimed * 2, 5).rstrip(b"\0") if claimed >= 1 << 27 else varint(claimed * 2, 4)
    content = path.read_bytes()
    assert content.count(size) == 2  # of the column, and of the row group
    path.write_bytes(content.replace(size, varint(2_000, len(size))))
    assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 1_000
    monkeypatch.setattr(parquet_source, "MAX_DECODER_BYTES", 300_000_000)
    with ParquetSource(path) as source, pytest.raises(LoadError, match="cannot be decoded with 300,000,000 bytes"):
        list(source)


def test_a_row_is_no_larger_than_a_line_of_a_text_file(tmp_path: Path) -> None:
    """As in a file of 28 kB whose metric keys have 60 MiB."""
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"metric_key": ["x" * 20_000_000, "y"]}), path, compression="zstd")
    with ParquetSource(path) as source, pytest.raises(LoadError, match=r"row 1: has 20,000,001 bytes; at most 16,777"):
        list(source)


def test_a_text_that_is_too_long_for_its_column_is_a_fault_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"metric_key": ["x" * 131_073, None, "y"], "dimensions": ["z" * 200_000] * 3}), path)
    with ParquetSource(path) as source:
        source.expect({"metric_key": "text", "dimensions": "object"}, assume_utc=False)
        rows = [record for _, record, _ in source]
    assert rows[0]["metric_key"].reason == "is longer than 131,072 bytes"
    assert [row["metric_key"] for row in rows[1:]] == [None, "y"]
    assert {len(row["dimensions"]) for row in rows} == {200_000}
    with ParquetSource(path) as source:
        source.only(["dimensions"])
        assert [record["dimensions"].reason for _, record, _ in source] == ["is longer than 4,096 bytes"] * 3


def test_many_small_values_in_one_row_are_counted_as_objects(tmp_path: Path) -> None:
    nulls = pa.array([[None] * 1_000_000], pa.list_(pa.null()))
    with pytest.raises(LoadError, match="row 1: has 51,000,000 bytes"):
        list(ParquetSource(parquet(tmp_path / "n.parquet", n=nulls)))


def test_each_row_of_a_map_is_measured_alone(tmp_path: Path) -> None:
    maps = pa.array([[("a", "x" * 10_000_000)], [("b", "y" * 10_000_000)]], pa.map_(pa.string(), pa.string()))
    rows = [record for _, record, _ in ParquetSource(parquet(tmp_path / "m.parquet", m=maps))]
    assert [{key: len(value) for key, value in row["m"].items()} for row in rows] == [{"a": 10**7}, {"b": 10**7}]


def test_text_in_a_delta_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    encoding = {"t": "DELTA_BYTE_ARRAY", "u": "DELTA_LENGTH_BYTE_ARRAY"}
    values = {"t": ["aa", "ab", None], "u": ["x", None, ""]}
    pq.write_table(pa.table(values), path, use_dictionary=False, column_encoding=encoding)
    rows = [record for _, record, _ in ParquetSource(path)]
    assert {name: [row[name] for row in rows] for name in values} == values


def test_a_decoder_ends_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **options: started.append(popen(*args, **options)) or started[-1]
    )
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(1_000_000)}), path)
    rows = iter(ParquetSource(path))
    next(rows)
    assert started[0].poll() is None
    rows.close()
    assert started[0].poll() is not None


def test_a_csv_row_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_source, "MAX_ROW_BYTES", 1_000_000)
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"a,b\n")
        file.write((b'"\n' + b"x" * 46 + b'",') * 25_010)
    assert path.stat().st_size < 1_000_000
    with CsvSource(path) as source, pytest.raises(LoadError, match="the row is longer than 16 MiB"):
        list(source)


@pytest.mark.parametrize(
    ("name", "blank"),
    [
        ("a.csv", b"\n"),
        ("a.csv.gz", b"\r\n"),
        ("a.jsonl.gz", b" \n"),
        ("a.csv", b",\n"),
        ("a.csv", b" ,\r\n"),
        ("a.csv.gz", b",\n"),
        ("a.jsonl.gz", b"{}\n"),
    ],
)
def test_blank_lines_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, blank: bytes
) -> None:
    """No row among them would reach the bound of rows; half a gigabyte of them took over a minute."""
    monkeypatch.setattr(sources, "MAX_BLANK_ROWS", 1_000)
    content = (b"" if "json" in name else b"a,b\n") + blank * 1_000 + b'{"a": 1}\n'
    path = tmp_path / name
    for more, refusal in ((b"", ""), (blank, "more than 1,000 blank lines follow each other; delete them")):
        data = more + content if "json" in name else content[:4] + more + content[4:]
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        if refusal:
            with pytest.raises(LoadError, match=refusal), open_source(path) as source:
                list(source)
        else:
            with open_source(path) as source:
                records = [values for _, values, _ in source]
            assert sum(values is None or not all(map(is_blank, values.values())) for values in records) == 1


def test_a_table_has_a_bound_of_lines_blank_ones_included(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MAX_ROWS", 10_000)
    path = tmp_path / "invoices.csv.gz"
    path.write_bytes(gzip.compress(b"customer_id,metric_key,quantity\n" + (b",,\n" * 999 + b"c,m,1\n") * 11))
    with pytest.raises(QueryError, match="has more than 10,000 lines, the most that can be read"):
        read_invoices(path)


@pytest.mark.parametrize("header", [False, True])
def test_a_row_has_a_bound_of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: bool) -> None:
    """No bound of rows or lines ended a row: 3 million lines in quotes, 146 kB of gzip, took 27 seconds."""
    monkeypatch.setattr(csv_source, "MAX_ROW_LINES", 1_000)
    path = tmp_path / "invoices.csv.gz"
    for lines in (1_000, 1_001):
        note = b'"' + b"\n".join([b"note"] * lines) + b'"'
        names = b"customer_id,metric_key,quantity,"
        rows = (names + note, b"c,m,1,") if header else (names + b"note", b"c,m,1," + note)
        path.write_bytes(gzip.compress(b"\n".join([*rows, b"c,m,1,\n"])))
        if lines == 1_000:
            with tables.opened(path, "invoices") as records:
                assert len(list(records.rows)) == 2
    with pytest.raises(QueryError, match="has more than 1,000 lines; is a quote never closed"):
        read_invoices(path)


@pytest.mark.parametrize(
    ("name", "content", "refusal"),
    [
        (
            "a.csv.gz",
            b"timestamp,customer_id,metric_key,quantity\n" + b"# c\n" * 1_001,
            "or cannot be read follow each other; delete them",
        ),
        (
            "a.jsonl.gz",
            b'{"timestamp": null, "quantity": null}\n' * 1_001,
            "or cannot be read follow each other; delete them",
        ),
    ],
)
def test_the_order_of_days_and_months_is_not_looked_for_in_rows_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, refusal: str
) -> None:
    monkeypatch.setattr(sources, "MAX_BLANK_ROWS", 1_000)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content))
    with pytest.raises(LoadError, match=refusal):
        list(prepare(path, LoadOptions()).records())


def test_names_have_a_bound_of_rows_blank_ones_included(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MAX_NAMES", 1_000)
    path = tmp_path / "names.jsonl"
    path.write_bytes(b'{"id": null}\n' * 1_001)
    with pytest.raises(LoadError, match="has more than 1,000 rows; split it"):
        names._rows(path, UUID(int=1))


def test_a_sheet_of_empty_rows_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = tmp_path / "decoder.py"
    text = Path(xlsx_decoder.__file__).read_text()
    decoder.write_text(text.replace("MAX_ROWS = 1_048_576", "MAX_ROWS = 10_000"))
    monkeypatch.setattr(xlsx_decoder, "__file__", str(decoder))
    path = tmp_path / "a.xlsx"
    book = openpyxl.Workbook()
    book.active.append(["a", "b"])
    book.save(tmp_path / "plain.xlsx")
    with zipfile.ZipFile(tmp_path / "plain.xlsx") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in plain.namelist():
            data = plain.read(member)
            if member.endswith("sheet1.xml"):
                data = data.replace(b"</sheetData>", b'<row r="2"/>' * 10_000 + b"</sheetData>")
            archive.writestr(member, data)
    with pytest.raises(LoadError, match="a sheet has at most 10,000 rows"), open_source(path) as source:
        list(source)


def test_a_table_has_a_bound_of_bytes_whatever_the_size_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_BYTES_OF_SMALL_FILES", 100_000)
    path = tmp_path / "invoices.csv.gz"
    path.write_bytes(gzip.compress(b"customer_id,metric_key,quantity\n" + b"c,m,1\n" * 20_000))
    with pytest.raises(QueryError, match="has more than 100,000 bytes once decompressed"):
        read_invoices(path)


def test_a_header_of_many_columns_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"c{place}" for place in range(500_000)) + "\n")
    with pytest.raises(LoadError, match="line 1: has more than 2,000 columns"):
        CsvSource(path)


def test_a_row_of_more_fields_than_a_file_may_have_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + ",".join(["1"] * 2_001) + "\n")
    with CsvSource(path) as source, pytest.raises(LoadError, match="line 2: has more than 2,000 columns"):
        list(source)
    path.write_text("a,b\n" + '"",' * 80_000 + "\n")
    with CsvSource(path) as source, pytest.raises(LoadError, match="line 2: has more than 2,000 columns"):
        list(source)


@pytest.mark.parametrize("before", ["", "x\n", 'x""\n'])
def test_commas_inside_quotes_do_not_count_as_columns(tmp_path: Path, before: str) -> None:
    path = tmp_path / "a.csv"
    commas = before + "," * 5_000 + '""' + "," * 5_000
    path.write_text(f'a,b\n1,"{commas}"\n' + ",".join(["1"] * 2_000) + "\n")
    with CsvSource(path) as source:
        first, second = source
    assert first[1] == {"a": "1", "b": commas.replace('""', '"')}
    assert second[2] == "has 2000 fields where the header has 2"


def test_many_escaped_quotes_in_one_field_are_counted_once(tmp_path: Path) -> None:
    """Counting the quotes before each of them again would take minutes."""
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"' + ',""' * 1_000_000 + '",1\n1,""\n')
    with CsvSource(path) as source:
        first, second = source
    assert first[2] == "has a field longer than 131,072 characters; perhaps a quote is never closed"
    assert second[1] == {"a": "1", "b": ""}


def test_a_key_that_stands_twice_among_many_is_found_in_linear_time() -> None:
    keys = [f'"k{place}": 1' for place in range(200_000)]
    with pytest.raises(InvalidValue, match="'k199999' stands twice"):
        loads("{" + ", ".join([*keys, '"k199999": 2']) + "}")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_two_gigabytes_of_zeros_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "zeros.jsonl.gz"
    block = gzip.compress(b"0" * 100_000_000)
    with path.open("wb") as file:
        for _ in range(20):  # gzip members one after the other: 2 GB from 2 MB
            file.write(block)
    code = f"""
        from pathlib import Path
        from usage_explore.files.open import open_source
        try:
            with open_source(Path({str(path)!r}), None) as source:
                list(source)
        except Exception as error:
            print(error)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(int(status["VmHWM"].split()[0]) // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    said, megabytes = done.stdout.strip().splitlines()
    assert "is longer than 16 MiB" in said
    assert int(megabytes) < 400


def test_a_file_of_nothing_but_faults_is_not_read_to_its_end(load, table_of) -> None:
    text = table_of() + "x\n" * 30_000
    with pytest.raises(LoadError, match="10,000 rows rejected and the rest not read"):
        load.csv(text)
    assert load.csv(text, skip_bad=True).rejected == 30_000
