"""Which files and columns are taken, and what is said of the others."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usage_explore.db.schema import events_table
from usage_explore.errors import ConfigurationError, LoadError, TableMismatch
from usage_explore.files.parquet_source import ParquetSource
from usage_explore.files.values import Unreadable
from usage_explore.load import load_files

HEADER = "customer_id,metric_key,quantity,timestamp,idempotency_key"
EVENT = {
    "customer_id": "00000000-0000-4000-8000-0000000000c1",
    "metric_key": "tokens",
    "quantity": "1",
    "timestamp": "2026-01-31T08:00:00Z",
    "idempotency_key": "k1",
}
CUSTOMER = UUID(EVENT["customer_id"])
ROW = ",".join(EVENT.values())
TABLE = pa.table({name: [text] for name, text in EVENT.items()})


def _arrow() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue().to_pybytes()


def _arrow_stream() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("events.csv", "", "is empty"),
        ("events.json", "", "is empty"),
        ("events.parquet", "PAR1\0", "is not a Parquet file"),
        (
            "events.csv.gz",
            gzip.compress(b"a,b\n1,2", mtime=0)[:-9],
            "cannot be read: Compressed file ended",
        ),
        ("events.parquet", "PAR?", "a header and no rows"),
        ("events.xlsx", "x", "a header and no rows"),
        ("events.json", '[{"a":', "line 1: the file ends inside a list or an object; was it copied completely?"),
        ("arrow.json", _arrow, "is an Arrow IPC (Feather) file; write it as Parquet (pyarrow.parquet.write_table)"),
        ("events.csv", _arrow_stream, "is an Arrow IPC stream; write it as Parquet"),
        ("events.csv", gzip.compress(b"", mtime=0), "there is no header line"),
        ("events.xlsx", b"PK\x03\x04", "is a damaged ZIP file"),
        ("events.csv", "PAR1,ARROW1\n1,2\n", "the columns customer_id, metric_key, quantity, timestamp are missing"),
        ("EVENTS.CSV.GZ", gzip.compress(b"a,b\n", mtime=0), "a header and no rows"),
        ("events.csv", "\n", "there is no header line"),
        ("events.csv", f",{HEADER}\n", "column 1 has no name (pandas: to_csv(index=False))"),
        ("events.csv", f"{HEADER},quantity\n", "the header names 'quantity' more than once"),
        ("events.csv", HEADER.encode() + b",caf\xe9\n", "line 1: is not UTF-8 text"),
        ("events.csv", HEADER.replace("quantity,", "") + "\nc,m,t,k\n", "the column quantity is missing"),
        ("events.csv", HEADER.replace("quantity", "Quantity") + "\n" + ROW, "--map quantity=Quantity"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(load, name, content, said):
    path = load.file(name, content() if callable(content) else content)
    with pytest.raises(LoadError, match="^" + str(path)) as refused:
        load(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert load.count() == 0


def test_missing_files_and_directories_are_named(load):
    with pytest.raises(LoadError, match="there is no such file"):
        load(load.folder / "none.csv")
    with pytest.raises(LoadError, match="is a directory; name the files in it"):
        load(load.folder)


def test_every_file_is_looked_at_before_the_first_is_loaded(load):
    good = load.file("good.csv", f"{HEADER}\n{ROW}\n")
    with pytest.raises(LoadError, match="there is no such file"):
        load(good, load.folder / "none.csv")
    assert load.count() == 0


def test_files_before_a_bad_one_stay_and_are_named(load):
    good = load.file("good.csv", f"{HEADER}\n{ROW}\n")
    bad = load.file("bad.csv", f"{HEADER}\n{ROW.replace(',1,', ',x,')}\n")
    with pytest.raises(LoadError) as refused:
        load(good, bad, good)
    lines = str(refused.value).splitlines()
    assert lines[-4:-2] == ["Loaded before and kept:", f"{good}: loaded 1 event (0 already there, 0 rejected)"]
    assert lines[-1] == f"Not tried: {good}"
    assert load.count() == 1


def test_further_columns_are_dimensions_unless_dropped(load):
    text = f"{HEADER},region,Model Name\n{ROW},eu,\n"
    load.csv(text)
    assert load.rows("dimensions") == [({"region": "eu"},)]
    load.csv(text.replace("k1", "k2"), dimensions=False)
    assert [row[0] for row in load.rows("dimensions") if not row[0]] == [{}]


def test_further_json_keys_are_dimensions_wherever_they_are(load):
    lines = [json.dumps(EVENT), json.dumps({**EVENT, "region": 1.5}), json.dumps({**EVENT, "zone": None})]
    load(load.file("events.jsonl", "\n".join(lines)))
    assert sorted(load.rows("dimensions::text")) == [('{"region": 1.5}',), ("{}",), ("{}",)]


def test_a_column_joins_the_dimensions_unless_they_disagree(load):
    text = f'{HEADER},dimensions,region\n{ROW},"{{""model"":""s"",""region"":""eu""}}",'
    load.csv(text + "eu\n", dimensions=True)
    assert load.rows("dimensions") == [({"model": "s", "region": "eu"},)]
    with pytest.raises(LoadError, match="line 2, dimensions: has 'region' too, with another value"):
        load.csv(text + "us\n", dimensions=True)


def test_columns_of_other_names_are_mapped(load):
    text = HEADER.replace("quantity", "Usage").replace("timestamp", "At") + f"\n{ROW}\n"
    load.csv(text, mapping={"quantity": "Usage", "timestamp": "At"})
    assert load.rows("quantity", "metric_key") == [(1, "tokens")]


def test_a_mapping_replaces_the_column_of_that_name(load):
    load.csv(f"{HEADER},Usage\n{ROW},9\n", mapping={"quantity": "Usage"}, dimensions=True)
    assert load.rows("quantity", "dimensions") == [(9, {"quantity": "1"})]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        (
            "copilot.csv",
            "Timestamp,User,Model,Requests Used\n2026-10-02T22:34:09Z,dev-a,large,1.00\n",
            "--map customer_id=User --map metric_key=COLUMN --map quantity=COLUMN --map timestamp=Timestamp;"
            " the file has Timestamp, User, Model, 'Requests Used'",
        ),
        (
            "cloudevents.jsonl",
            '{"type": "api-calls", "time": "2026-10-01T00:00:00Z", "subject": "customer-1"}\n',
            "--map customer_id=COLUMN --map metric_key=COLUMN --map quantity=COLUMN --map timestamp=time;"
            " the file has type, time, subject",
        ),
        (
            "shell.csv",
            "customer_id,Metric (Name),quantity,timestamp,$(x)\n1,2,3,4,5\n",
            "--map 'metric_key=Metric (Name)'; the file has",
        ),
    ],
)
def test_only_names_that_mean_a_missing_column_are_proposed(load, name, content, options):
    with pytest.raises(LoadError) as refused:
        load(load.file(name, content))
    assert options in str(refused.value)


def test_faulty_mappings_name_the_cure(load):
    text = f"{HEADER}\n{ROW}\n"
    with pytest.raises(ConfigurationError, match=r"'quantitty' is not a column .*did you mean quantity\?"):
        load.csv(text, mapping={"quantitty": "quantity"})
    with pytest.raises(LoadError, match=r"no column 'Metrickey' to map to metric_key \(did you mean metric_key\?\)"):
        load.csv(text, mapping={"metric_key": "Metrickey"})
    with pytest.raises(LoadError, match="no column 'Usage' to map to quantity"):
        load(load.file("events.jsonl", json.dumps(EVENT)), mapping={"quantity": "Usage"})
    with pytest.raises(LoadError) as taken:
        load.csv(text, mapping={"quantity": "metric_key"})
    assert "the column metric_key is missing" in str(taken.value)
    assert "--map metric_key=COLUMN;" in str(taken.value)
    assert "; its column metric_key is mapped to quantity" in str(taken.value)
    with pytest.raises(ConfigurationError, match="format: 'xml' is none of csv, jsonl, json, parquet, xlsx, focus"):
        load.csv(text, format="xml")


def test_a_mapped_fault_names_both_columns(load):
    text = HEADER.replace("quantity", "Usage") + f"\n{ROW.replace(',1,', ',x,')}\n"
    with pytest.raises(LoadError, match=r"quantity \(from 'Usage'\): 'x' is not a decimal number"):
        load.csv(text, mapping={"quantity": "Usage"})


def test_the_column_of_organizations_takes_precedence_and_must_be_filled(load):
    other = UUID("00000000-0000-4000-8000-000000000002")
    text = f"{HEADER},organization_id\n{ROW},{other}\n{ROW},\n"
    with pytest.raises(LoadError, match="line 3, organization_id: is missing"):
        load.csv(text, organization_id=None)
    load.csv(text)
    assert {row[0] for row in load.rows("organization_id")} == {other, UUID("00000000-0000-4000-8000-000000000001")}


def test_lines_are_physical_ones(load):
    quoted = '"to\nkens"'
    rows = [ROW.replace("tokens", quoted), "", ROW.replace(",1,", ",x,"), "short,row", ROW + ",more"]
    text = "\ufeff" + "\r\n".join([HEADER, *rows]) + "\r\n"
    report = load.csv(text, skip_bad=True)
    assert [(r.line, r.reason) for r in report.rejections] == [
        (5, "'x' is not a decimal number"),
        (6, "has 2 fields where the header has 5"),
        (7, "has 6 fields where the header has 5"),
    ]
    assert load.rows("metric_key") == [("to\nkens",)]


def test_spoiled_bytes_and_quotes_spoil_their_own_row_only(load):
    good = ROW.encode()
    rows = [good.replace(b"tokens", bad) for bad in (b"\xff", b"a\0b", b'"a"b', b"x" * 140_000, b"a\rb")]
    lines = [HEADER.encode(), *rows, good, good.replace(b"tokens", b'"never closed')]
    report = load(load.file("events.csv", b"\n".join(lines) + b"\n"), skip_bad=True)
    assert report.loaded == 1
    assert [(r.line, r.reason.split(";")[0]) for r in report.rejections] == [
        (2, "is not UTF-8 text: invalid start byte at byte 38"),
        (3, "has a NUL character"),
        (4, "is not CSV: ',' expected after '\"'"),
        (5, "has a field longer than 131,072 characters"),
        (6, "has a carriage return outside quotes"),
        (8, "ends inside a quoted field"),
    ]


def test_unquoted_empty_is_null_and_quoted_empty_is_text(load):
    text = f'{HEADER},price_key,region,note\n{ROW},,"","a,"",b"\n'
    load.csv(text, dimensions=True)
    assert load.rows("price_key", "dimensions") == [(None, {"region": "", "note": 'a,",b'})]


@pytest.mark.parametrize("column", ["price_key", "wallet_currency", "external_cost_currency"])
def test_an_empty_text_that_no_filter_could_name_is_refused(load, column):
    with pytest.raises(LoadError, match=f"{column}: is the empty text; leave it out"):
        load.csv(f'{HEADER},{column}\n{ROW},""\n')
    load.csv(f"{HEADER},{column}\n{ROW},\n")
    assert load.rows(column) == [(None,)]


def test_gzip_is_read(load):
    load(load.file("a.csv.gz", gzip.compress(f"{HEADER}\n{ROW}\n".encode())))
    load(load.file("a.jsonl.gz", gzip.compress(json.dumps({**EVENT, "idempotency_key": "k2"}).encode())))
    assert load.count() == 2
    whole = gzip.compress("\n".join([HEADER, *[ROW] * 10_000]).encode())
    with pytest.raises(LoadError, match="cannot be read after line"):
        load(load.file("b.csv.gz", whole[: len(whole) // 2]))
    assert load.count() == 2


def test_a_header_without_rows_loads_nothing_and_says_so(load):
    report = load.csv(HEADER)
    assert (report.loaded, report.rows) == (0, 0)
    assert "the file has no rows" in str(report)


def test_the_table_is_made_on_the_way_and_views_are_refused(load):
    load.csv(f"{HEADER}\n{ROW}\n")
    load.connection.execute("CREATE VIEW seen AS SELECT * FROM usage_events")
    load.connection.commit()
    with pytest.raises(TableMismatch, match="is a view, which cannot be written to"):
        load_files(load.connection, events_table("seen"), [load.folder / "events.csv"], organization_id=CUSTOMER)
    load_files(
        load.connection,
        events_table("other.events"),
        [load.folder / "events.csv"],
        organization_id=CUSTOMER,
    )
    assert load.connection.execute("SELECT count(*) FROM other.events").fetchone() == (1,)


def test_a_table_that_would_round_is_refused(load):
    load.csv(HEADER)
    load.connection.execute("ALTER TABLE usage_events ALTER quantity TYPE numeric(12, 2)")
    load.connection.commit()
    load.csv(f"{HEADER}\n{ROW.replace(',1,', ',1.50,')}\n")
    with pytest.raises(LoadError, match=r"1 value of quantity would be rounded .* numeric\(12,2\)"):
        load.csv(f"{HEADER}\n{ROW.replace(',1,', ',1.505,').replace('k1', 'k2')}\n")
    assert load.count() == 1


def test_a_role_that_may_not_insert_is_told_what_it_needs(load):
    load.csv(HEADER)
    load.connection.execute("SET ROLE pg_read_all_data")
    load.connection.commit()
    with pytest.raises(TableMismatch, match="this role may not load into it"):
        load.csv(f"{HEADER}\n{ROW}\n")


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("timestamp", pd.Series(pd.to_datetime(["2026-01-31"])), "has no time zone.*tz_localize"),
        ("quantity", pd.Series([True]), "is bool, which does not fit; make it a decimal"),
        ("customer_id", pd.Series([5.0]), "is double, which does not fit; make it text or a UUID"),
        ("idempotency_key", pd.Series([5.0]), "is double, which does not fit; make it text"),
        ("dimensions", pd.Series([1]), "make it JSON text, a struct or a map"),
    ],
)
def test_parquet_types_that_do_not_fit_are_refused(load, column, values, said):
    path = load.folder / "events.parquet"
    pd.DataFrame({**{name: [value] for name, value in EVENT.items()}, column: values}).to_parquet(path)
    with pytest.raises(LoadError, match=f"column '{column}' .*{said}"):
        load(path)


def test_parquet_values_are_taken_exactly(load):
    path = load.folder / "events.parquet"
    stamp = 1_769_846_400_123_456
    table = pa.table(
        {
            "customer_id": pa.array([bytes.fromhex(EVENT["customer_id"].replace("-", ""))] * 3, pa.binary(16)),
            "metric_key": pa.array(["a", "b", "a"]).dictionary_encode(),
            "quantity": pa.array([0.1, 1e-7, 3.0], pa.float64()),
            "external_cost_amount": pa.array([0.1, None, 2.5], pa.float32()),
            "timestamp": pa.array([stamp * 1000, stamp * 1000, stamp * 1000 + 1], pa.timestamp("ns", "Asia/Kathmandu")),
            "idempotency_key": pa.array([1, 2, 3], pa.int64()),
            "dimensions": pa.array([{"a": "x", "n": 1.1}, {"a": None, "n": None}, None]),
            "tags": pa.array([{"t": "1"}, {}, None], pa.map_(pa.string(), pa.string())),
        }
    )
    pq.write_table(table, path)
    with pytest.raises(LoadError, match="row 3, timestamp: is finer than a microsecond"):
        load(path, dimensions=True)
    load(path, dimensions=True, skip_bad=True)
    rows = load.rows("idempotency_key", "quantity::text", "external_cost_amount::text", "dimensions::text")
    assert sorted(rows) == [
        ("1", "0.1", "0.1", '{"a": "x", "n": 1.1, "tags": {"t": "1"}}'),
        ("2", "0.0000001", None, '{"tags": {}}'),
    ]
    assert load.rows("timestamp")[0][0].timestamp() == stamp / 1e6


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([{"price": 0.1}, None], pa.struct([("price", pa.float32())])), [{"price": 0.1}, None]),
        (pa.array([0.1, None], pa.float32()), [0.1, None]),
        (pa.array([0.1, None], pa.float16()), [0.1, None]),
        (pa.array([[0.1, None]], pa.list_(pa.float16())), [[0.1, None]]),
        (pa.array([[("a", 0.7)]], pa.map_(pa.string(), pa.float32())), [{"a": 0.7}]),
    ],
)
def test_a_float_inside_a_column_is_its_shortest_text_too(tmp_path: Path, column: pa.Array, expected: Any) -> None:
    pq.write_table(pa.table({"x": column}), tmp_path / "floats.parquet")
    assert [record["x"] for _, record, _ in ParquetSource(tmp_path / "floats.parquet")] == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array([10**15, 0], pa.timestamp("ms", "UTC")),
        pa.array([2**30, 0], pa.date32()),
        pa.array([b"\xff\xfe", b"text"], pa.binary()).view(pa.string()),
        pa.array([[({"a": 1}, 1)], []], pa.map_(pa.struct([("a", pa.int64())]), pa.int64())),
    ],
)
def test_a_cell_that_python_cannot_hold_spares_the_other_rows(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"x": column}), tmp_path / "odd.parquet")
    first, second = (record["x"] for _, record, _ in ParquetSource(tmp_path / "odd.parquet"))
    assert isinstance(first, Unreadable)
    assert first.reason.startswith("cannot be read: ")
    assert not isinstance(second, Unreadable)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_a_binary_dimension_is_a_fault_of_its_row(load, kind):
    path = load.folder / "events.parquet"
    pq.write_table(TABLE.append_column("payload", pa.array([b"x"], kind)), path)
    with pytest.raises(LoadError, match="row 1, dimensions: has binary data in it, which JSON cannot hold; make it"):
        load(path, dimensions=True)


def test_a_file_without_a_record_that_can_be_read_says_why(load):
    for name, text, said in (
        ("a.json", '[{"a": 1, "a": 2}]', "line 1: the key 'a' stands twice in one object; it is the only record"),
        ("b.jsonl", "{" + ", ".join(f'"k{key}": 0' for key in range(2_001)) + "}", "line 1: has more than 2,000 keys"),
    ):
        with pytest.raises(LoadError) as raised:
            load(load.file(name, text))
        assert said in str(raised.value)


def test_a_json_object_in_a_column_has_as_many_keys_as_a_file_has_columns(load):
    pairs = ", ".join(f'""k{key}"": 0' for key in range(2_001))
    report = load.csv(f'{HEADER},dimensions\n{ROW},"{{{pairs}}}"\n{ROW},\n', skip_bad=True)
    assert [rejection.reason.split(";")[0] for rejection in report.rejections] == ["has 2,001 keys"]
    assert report.loaded == 1


def test_rows_of_different_widths_are_different_faults(load, table_of):
    head, row = table_of().splitlines()
    with pytest.raises(LoadError) as refused:
        load.csv("\n".join([head, "a,b", f"{row},x", "c,d", f"{row},x,y"]) + "\n")
    assert "2 of 4 rows: has 2 fields where the header has 5 (line 2)" in str(refused.value)
    assert "line 3: has 6 fields where the header has 5" in str(refused.value)
    assert "line 5: has 7 fields where the header has 5" in str(refused.value)


@pytest.mark.parametrize(
    ("columns", "values", "note"),
    [
        (
            "external_cost,external_cost_currency",
            "0.14,USD",
            "the column 'external_cost' becomes a dimension; if it is external_cost_amount, load it with --map"
            " external_cost_amount=external_cost",
        ),
        (
            "external_cost_currency",
            "USD",
            "no column has external_cost_amount, so the events have a currency and no cost",
        ),
        ("wallet_curency", "USD", "the column 'wallet_curency' becomes a dimension; if it is wallet_currency, load"),
        ("region,model,quantity_unit", "eu,large,token", None),
        ("external_cost_amount,external_cost_currency,external_cost", "1,USD,2", None),
    ],
)
def test_a_column_that_may_be_meant_for_another_is_named(load_again, columns, values, note):
    report = load_again.csv(f"{HEADER},{columns}\n{ROW},{values}\n", dimensions=True)
    if note is None:
        assert not [said for said in report.notes if "becomes a dimension" in said or "no cost" in said]
    else:
        assert any(note in said for said in report.notes), report.notes
