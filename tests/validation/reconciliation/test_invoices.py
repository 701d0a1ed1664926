"""Invoice lines are read exactly or not at all: every faulty line is named with its column and a cure."""

from __future__ import annotations

import gzip
import io
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.small_table import workbook
from usage_explore.decimals import plain
from usage_explore.errors import QueryError
from usage_explore.names import made_id
from usage_explore.validation.reconciliation import invoices
from usage_explore.validation.reconciliation.invoices import read_invoices

CUSTOMER = uuid.UUID("0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11")
OTHER = uuid.UUID("0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b12")


def written(folder: Path, text: str | bytes, name: str = "invoices.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults(source: object) -> list[str]:
    with pytest.raises(QueryError) as caught:
        read_invoices(source)  # type: ignore[arg-type]
    assert all(fault.parameter == "invoices" for fault in caught.value.faults)
    return [fault.message for fault in caught.value.faults]


def test_every_column_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "customer_id,subscription_id,metric_key,price_key,wallet_currency,period_start,period_end,quantity,amount,"
        f"currency\n{CUSTOMER},{OTHER},tokens,p1,EUR,2026-09-01,2026-10-01T00:00:00+02:00,1,2.50,EUR\n".replace(
            "2026-09-01,", "2026-09-01T00:00:00+02:00,"
        ),
    )
    found = read_invoices(path)
    (line,) = found.lines
    assert line == (
        2,
        CUSTOMER,
        OTHER,
        "tokens",
        "p1",
        "EUR",
        datetime(2026, 8, 31, 22, tzinfo=UTC),
        datetime(2026, 9, 30, 22, tzinfo=UTC),
        Decimal(1),
        Decimal("2.50"),
        "EUR",
    )
    assert found.columns == ("subscription_id", "metric_key", "price_key", "wallet_currency")
    assert found.ignored == ()
    assert found.tolerance == 0


def test_names_may_be_written_as_spreadsheets_do(tmp_path: Path) -> None:
    """A byte order mark, CRLF, blank lines, lines of commas, capitals, spaces and further columns."""
    text = (
        f"\ufeffCustomer ID,Metric,Quantity,Customer Name,Note\r\n\r\n{CUSTOMER},tokens,1,Globex,\r\n,,,,\r\n"
        f"{OTHER},tokens,2,,\r\n"
    )
    found = read_invoices(str(written(tmp_path, text)))
    assert [(line.line, line.customer_id, line.quantity) for line in found.lines] == [(3, CUSTOMER, 1), (5, OTHER, 2)]
    assert found.ignored == ("Customer Name", "Note")
    assert found.columns == ("metric_key",)


def test_a_column_blank_in_every_line_tells_nothing_apart(tmp_path: Path) -> None:
    text = f"customer_id,metric_key,subscription_id,price_key,quantity\n{CUSTOMER},a,,,1\n{CUSTOMER},,,p,1\n"
    assert read_invoices(written(tmp_path, text)).columns == ("metric_key", "price_key")


decimals = st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(
    lambda value: abs(value.adjusted()) < 400
)


@given(st.lists(decimals, min_size=1, max_size=5))
def test_each_source_gives_the_same_decimals_to_the_last_digit(quantities: list[Decimal]) -> None:
    texts = [plain(quantity) for quantity in quantities]
    names = {"customer_id": [str(CUSTOMER)] * len(texts), "metric": ["m"] * len(texts)}
    frame = pd.DataFrame({**names, "quantity": pd.Series(texts, dtype="str")})
    sources = [
        frame,
        pd.DataFrame({**names, "quantity": pd.Series(quantities, dtype="object")}),
        pa.table({**names, "quantity": texts}),
        pd.read_csv(io.StringIO(frame.to_csv(index=False)), dtype="str"),
    ]
    for source in sources:
        assert [line.quantity for line in read_invoices(source).lines] == quantities


def test_parquet_decimals_integers_and_text_are_exact(tmp_path: Path) -> None:
    digits = "12345678901234567890.123456789012345678"
    for column in (
        pa.array([Decimal(digits)], pa.decimal128(38, 18)),
        pa.array([digits]),
        pa.array([digits]).dictionary_encode(),
    ):
        table = pa.table({"customer_id": [str(CUSTOMER)], "metric_key": ["m"], "quantity": column})
        pq.write_table(table, tmp_path / "invoices.parquet")
        for source in (tmp_path / "invoices.parquet", table):
            assert read_invoices(source).lines[0].quantity == Decimal(digits)
    whole = pd.DataFrame(
        {"customer_id": [CUSTOMER], "metric_key": ["m"], "quantity": [2**62], "amount": [float("nan")]}
    )
    assert read_invoices(whole).lines[0].quantity == 2**62
    assert read_invoices(whole).lines[0].amount is None


@pytest.mark.parametrize("width", [pa.float64(), pa.float32(), pa.float16()])
def test_floats_are_refused_wherever_they_come_from(tmp_path: Path, width: pa.DataType) -> None:
    import numpy as np

    column = pa.array(np.array([1.5], dtype=width.to_pandas_dtype()), width)
    table = pa.table({"customer_id": [str(CUSTOMER)], "metric_key": ["m"], "quantity": column})
    pq.write_table(table, tmp_path / "invoices.parquet")
    for source in (tmp_path / "invoices.parquet", table, table.to_pandas()):
        (message,) = faults(source)
        assert "'quantity' holds floats" in message
        assert "dtype" in message
    hidden = pd.DataFrame({"customer_id": [str(CUSTOMER)], "metric_key": ["m"], "quantity": [1.5]}, dtype="object")
    assert faults(hidden) == ["row 1: quantity: 1.5 is a float, which is not exact; give a decimal, an integer or text"]


def test_dates_are_kept_as_dates() -> None:
    for first, last in (
        ("2026-09-01", "2026-10-01"),
        (date(2026, 9, 1), date(2026, 10, 1)),
        (pd.Timestamp("2026-09-01"), pd.Timestamp("2026-10-01")),
    ):
        frame = pd.DataFrame(
            {
                "customer": [str(CUSTOMER)],
                "price": ["p"],
                "quantity": [1],
                "period_start": [first],
                "period_end": [last],
            }
        )
        (line,) = read_invoices(frame).lines
        assert (line.period_start, line.period_end) == (date(2026, 9, 1), date(2026, 10, 1))


def test_every_fault_of_every_line_is_named(tmp_path: Path) -> None:
    text = (
        "customer_id,metric_key,quantity,amount,period_start,period_end\n"
        f"{CUSTOMER},m,NaN,1e999999,,\n"
        '3f2b8c1e-0000-4000-8000-00000000000,,"1,50,0",,2026-02-30,2026-03-01\n'
        f"{CUSTOMER},m,,1,2026-03-01,\n"
        f"{CUSTOMER},m,1,1,2026-03-02,2026-03-01\n"
        f"{CUSTOMER},m,1,1,2026-03-01,2026-03-01T00:00:00Z\n"
        f"{CUSTOMER},m,1,1,2026-03-01 08:00,2026-03-02\n"
        f"{CUSTOMER},m\n"
        f"{CUSTOMER},m,1{'0' * 1_000},0.{'0' * 1_000}1,,\n"
    )
    found = faults(written(tmp_path, text))
    expected = [
        "line 2: quantity: 'NaN' is not finite",
        "line 2: amount: '1e999999' has more than 1,000 digits before its decimal point",
        "line 3: customer_id: '3f2b8c1e-0000-4000-8000-00000000000' is not a UUID",
        "line 3: period_start: '2026-02-30' is not a date that exists",
        "line 3: quantity: '1,50,0' has a comma",
        "line 3: metric_key and price_key: both are blank",
        "line 4: quantity: is blank",
        "line 5: period_end: is not after period_start",
        "line 6: period_end: is not of the kind of period_start",
        "line 7: period_start: '2026-03-01 08:00' is not RFC 3339",
        "line 8: has 2 fields where the header has 6",
        "line 9: quantity: ",
        "line 9: amount: ",
    ]
    assert len(found) == len(expected)
    for message, beginning in zip(found, expected, strict=True):
        assert message.startswith(beginning), message
    assert all(len(message) < 200 for message in found)


@pytest.mark.parametrize(
    ("number", "side"),
    [
        *((number, "before") for number in ("1e99999", "1" * 1_001, Decimal("-1E+1000"), 10**1_000, 10**5_000)),
        *((number, "after") for number in ("0." + "1" * 1_001, Decimal("1E-1001"))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_number_of_more_than_a_thousand_digits_is_refused(number: object, side: str) -> None:
    given = {"customer_id": [str(CUSTOMER)] * 2, "metric_key": ["m"] * 2}
    frame = pd.DataFrame({**given, "quantity": pd.Series(["1", number], dtype="object")})
    (message,) = faults(frame)
    assert message.startswith("row 2: quantity: ")
    reason = f"has more than 1,000 digits {side} its decimal point"
    assert reason in message
    with pytest.raises(QueryError, match=rf"tolerance: .*{reason}"):
        read_invoices(pd.DataFrame({"customer_id": []}), tolerance=number)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "limit"),
    [("metric_key", 1_024), ("price_key", 4_096), ("wallet_currency", 4_096), ("currency", 4_096)],
)
def test_values_have_a_longest_length_in_bytes(tmp_path: Path, column: str, limit: int) -> None:
    given = {"customer_id": str(CUSTOMER), "metric_key": "m", "quantity": "1", "amount": "1", "currency": "EUR"}
    for length, character in ((limit, "k"), (limit // 2, "é")):
        longest = {**given, column: character * length}
        (line,) = read_invoices(pd.DataFrame([longest], dtype="str")).lines
        text = longest[column]
        assert getattr(line, column) == (text.replace("k", "K") if column == "currency" else text)
        longest[column] += "k"
        pq.write_table(
            pa.table({name: [given.get(name), text] for name, text in longest.items()}), tmp_path / "invoices.parquet"
        )
        for source in (pd.DataFrame([given, longest], dtype="str"), tmp_path / "invoices.parquet"):
            (message,) = faults(source)
            assert message.startswith(f"row 2: {column}: ")
            assert message.endswith(f"is longer than {limit:,} bytes")
            assert len(message) < 200


def test_a_period_needs_both_its_ends(tmp_path: Path) -> None:
    text = f"customer_id,metric_key,quantity,period_start\n{CUSTOMER},m,1,2026-03-01\n"
    assert faults(written(tmp_path, text)) == ["line 2: period_end: is blank while its other end is given"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("customer_id,metric_key,quantiy", "column 'quantiy' is unknown, did you mean quantity?"),
        ("customer_id,metric_key,quantity,subscripton_id", "did you mean subscription_id?"),
        ("customer_id,metric_key,quantity,wallet_curency", "did you mean wallet_currency?"),
        ("client,metric_key,quantity", "there is no column customer_id; name it so, instead of 'client'"),
        ("customer_id,metric_key", "there is no column quantity; add quantity"),
        ("customer_id,product,quantity", "there is no column metric_key nor price_key"),
        ("customer_id,customer,metric_key,quantity", "column 'customer' is customer_id, as is 'customer_id'"),
        ("customer_id;metric_key;quantity", "has 1 field where the header has 3"),
        ("customer_id,metric_key,quantity,quantity", "more than once"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(tmp_path: Path, header: str, said: str) -> None:
    assert any(said in message for message in faults(written(tmp_path, f"{header}\n1,2,3\n")))


def test_what_is_no_source_says_so(tmp_path: Path) -> None:
    assert "no such file" in faults(tmp_path / "nowhere.csv")[0]
    assert ".parquet" in faults(written(tmp_path, "x", "invoices.ods"))[0]
    assert "is empty" in faults(written(tmp_path, ""))[0]
    assert "there is no column quantity" in faults(written(tmp_path, "customer_id".encode("utf-16")))[0]
    assert "is a web page" in faults(written(tmp_path, "<!DOCTYPE html>"))[0]
    assert "not a Parquet file" in faults(written(tmp_path, "x", "invoices.parquet"))[0]
    assert "neither a path nor a frame" in faults(17)[0]
    assert "there are no lines" in faults(written(tmp_path, "customer_id,metric_key,quantity\n"))[0]
    twice = pd.DataFrame([[1, 2]], columns=["quantity", "quantity"])
    assert "more than once" in faults(twice)[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_with_other_delimiters_and_encodings_is_read(tmp_path: Path, encoding: str) -> None:
    text = f"customer_id;metric_key;quantity\n{CUSTOMER};m;1.5\n"
    assert [line.quantity for line in read_invoices(written(tmp_path, text.encode(encoding))).lines] == [Decimal("1.5")]


@pytest.mark.parametrize(
    "text", [b"customer,metric,quantity\nM\xfcller,b,1\n", b"customer,metric,quantity,\xfc\n1,b,1,1"]
)
def test_text_that_is_not_utf_8_is_to_be_saved_so(tmp_path: Path, text: bytes) -> None:
    """`--encoding` is an option of `load` alone."""
    (fault,) = faults(written(tmp_path, text))
    assert fault.endswith("; save the file as UTF-8")


def test_a_parquet_file_in_gzip_is_read_and_its_floats_refused(tmp_path: Path) -> None:
    table = pa.table({"customer_id": [str(CUSTOMER)], "metric_key": ["m"], "quantity": [1.5]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content = gzip.compress(sink.getvalue().to_pybytes())
    assert "float" in faults(written(tmp_path, content, "invoices.parquet"))[0]


def test_hostile_text_is_cut_and_escaped(tmp_path: Path) -> None:
    (message,) = faults(written(tmp_path, f"customer_id,metric_key,quantity\n\x1b[31m{'x' * 5_000},m,1\n"))
    assert message.isprintable()
    assert len(message) < 200


def test_reading_stops_where_everything_is_faulty(tmp_path: Path) -> None:
    found = faults(written(tmp_path, "customer_id,metric_key,quantity\n" + "x,m,NaN\n" * 5_000))
    assert found[0] == "1,000 lines are faulty; nothing after line 1,001 was read"
    assert len(found) == 100


def test_too_many_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoices, "MAX_LINES", 3)
    text = "customer_id,metric_key,quantity\n" + f"{CUSTOMER},m,1\n" * 3
    assert len(read_invoices(written(tmp_path, text)).lines) == 3
    assert "more than 3 lines" in faults(written(tmp_path, text + f"{CUSTOMER},m,1\n"))[0]


def test_a_tolerance_is_a_decimal_that_is_not_negative(tmp_path: Path) -> None:
    path = written(tmp_path, f"customer_id,metric_key,quantity\n{CUSTOMER},m,1\n")
    found = read_invoices(path, tolerance="0.01")
    assert found.tolerance == Decimal("0.01")
    assert read_invoices(found) is found
    for wrong in (-1, 0.5, "x", "NaN"):
        with pytest.raises(QueryError, match="tolerance"):
            read_invoices(path, tolerance=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("currency", [" usd ", "USD", "\tUsd", "usd"])
def test_a_currency_is_read_without_case_and_spaces_around_it(tmp_path: Path, currency: str) -> None:
    text = f"customer_id,metric_key,quantity,amount,currency\n{CUSTOMER},calls,1,2.50,{currency}\n"
    assert [line.currency for line in read_invoices(written(tmp_path, text)).lines] == ["USD"]


@pytest.mark.parametrize("number", [3, 4, 1_500])
def test_commas_in_a_whole_file_are_one_fault_with_their_count(tmp_path: Path, number: int) -> None:
    """A file with another decimal mark was refused in 100 lines, one for each number."""
    header = "customer_id;metric_key;quantity;amount\n"
    rows = "".join(f"{CUSTOMER};m;{line};2,{line % 900 + 100}\n" for line in range(2, number + 2))
    found = faults(written(tmp_path, f"{header}{rows}{CUSTOMER};;1;1\n"))
    workbook = "an Excel file (.xlsx) of them can be given as it is"
    words = "has a comma; write no thousands separators and a decimal point, like 1234.5"
    if number == 3:
        assert found[:3] == [f"line {line}: amount: '2,{line + 100}' {words}" for line in (2, 3, 4)]
    elif number == 4:
        assert found[0] == f"line 2: amount: '2,102' {words}; 3 more numbers have one: {workbook}"
        (other,) = found[1:]
        assert other.startswith("line 6: metric_key and price_key: both are blank")
    else:
        stopped, commas = found
        assert stopped == "1,000 lines are faulty; nothing after line 1,001 was read"
        assert commas == f"line 2: amount: '2,102' {words}; 999 more numbers have one: {workbook}"


GERMAN = "Kunde;Metrik;Menge;Betrag\n7;a;1.234;1.500\n7;b;1.234,5;12,50\n7;c;-2.000.000;3\n7;d;1,5E+3;0,125\n"


def test_decimal_commas_are_read_where_a_number_shows_them(tmp_path: Path) -> None:
    """Each file that a German Excel saves as CSV was refused. 1.500 waits for the first certain number."""
    given = read_invoices(written(tmp_path, GERMAN))
    assert [(line.quantity, line.amount) for line in given.lines] == [
        (1234, 1500),
        (Decimal("1234.5"), Decimal("12.5")),
        (-2_000_000, 3),
        (1500, Decimal("0.125")),
    ]
    (sign,) = faults(written(tmp_path, GERMAN + "7;e;1;12,50 €\n"))
    assert sign.startswith("line 6: amount: '12,50 €' has a currency sign; write the number alone")
    assert faults(written(tmp_path, GERMAN + "7;e;0.5;1,234.50\n")) == [
        "line 6: quantity: '0.5' has no decimal comma, as '1.234,5' (line 3) has",
        "line 6: amount: '1,234.50' has no decimal comma, as '1.234,5' (line 3) has",
    ]


def test_commas_separate_thousands_where_a_number_shows_it(tmp_path: Path) -> None:
    given = read_invoices(written(tmp_path, GERMAN.translate(str.maketrans(",.", ".,"))))
    assert given.lines == read_invoices(written(tmp_path, GERMAN)).lines
    found = faults(written(tmp_path, GERMAN.replace("7;a;1.234", "7;a;0.5")))
    assert "line 4: quantity: '-2.000.000' is not a decimal number" in found
    (comma,) = (fault for fault in found if "has a comma" in fault)
    assert comma.startswith("line 3: quantity: '1.234,5' has a comma")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_point_that_may_separate_thousands_is_refused(tmp_path: Path, mark: str) -> None:
    """It was a decimal point in a file whose commas are not separators, and each amount a thousandth."""
    rows = [["customer_id", "metric_key", "quantity", "amount"], [CUSTOMER, "m", "108.883", "2.177"]]
    rows += [[CUSTOMER, "n", "12", "1.100"]]
    text = "\n".join(mark.join(map(str, row)) for row in rows)
    (fault,) = faults(written(tmp_path, text))
    assert fault.startswith("does the point separate thousands? quantity: '108.883' (line 2); amount: '2.177' (line 2)")
    assert fault.endswith("write 1200 where the point separates thousands, 1.2 or 1.2000 where it is the decimal mark")
    sure = text + "\n" + mark.join((str(CUSTOMER), "o", "0.5", "3.10"))
    assert read_invoices(written(tmp_path, sure)).lines[0].amount == Decimal("2.177")
    assert read_invoices(written(tmp_path, text.replace(mark, ","))).lines[0].amount == Decimal("2.177")


def test_names_of_columns_that_load_proposes_are_read(tmp_path: Path) -> None:
    """Headers in German were refused, with all columns listed for each one that is missing."""
    (line,) = read_invoices(written(tmp_path, "Kunden-Nr.;Metrik;Anzahl;Betrag;Währung;Notiz\n7;m;3;1.5;EUR;x\n")).lines
    assert (line.metric_key, line.quantity, line.amount, line.currency) == ("m", 3, Decimal("1.5"), "EUR")
    given = read_invoices(written(tmp_path, "customer_id;metric_key;quantity;Menge\n7;m;3;4\n"))
    assert (given.lines[0].quantity, given.ignored, given.left_out) == (3, ("Menge",), "")
    given = read_invoices(written(tmp_path, "Kunde;Metrik;Menge;Nettobetrag;Kostenstelle;MwSt\n7;m;3;4,50;12;1\n"))
    assert given.left_out == "column 'Nettobetrag' not compared"
    assert faults(written(tmp_path, "Kunde;Menge;Anzahl;Dienst\nx;1;2;y\n")) == [
        "there is no column quantity",
        "there is no column metric_key nor price_key; name it so, instead of 'Menge' or 'Anzahl' or 'Dienst'",
    ]


def test_a_workbook_is_read(tmp_path: Path) -> None:
    rows: list[list[object]] = [["Kunde", "Metrik", "Menge", "Betrag", "period_start", "period_end"]]
    rows += [[4711, "m", 0.1, 1234.5, datetime(2026, 10, 1), datetime(2026, 11, 1)], [None] * 6]  # noqa: DTZ001
    (line,) = read_invoices(written(tmp_path, workbook({"S": rows}), "a.xlsx")).lines
    assert line[1:] == (
        *(made_id("customer", "4711"), None, "m", None, None),
        *(date(2026, 10, 1), date(2026, 11, 1), Decimal("0.1"), Decimal("1234.5"), None),
    )
    rows += [[1234567890123456, "m", "1.200", 1, None, None]]
    cut, fault = faults(written(tmp_path, workbook({"S": rows}), "a.xlsx"))
    assert cut.startswith("row 4: customer_id: 1234567890123456 is a number of 16 digits, of which Excel keeps 15")
    assert "Menge: '1.200' (row 4) may be 1200 or 1.200, as it is text in the workbook" in fault
    (fault,) = faults(written(tmp_path, workbook({"S": rows, "T": rows}), "a.xlsx"))
    assert fault.endswith("has 2 sheets with values; save the one that is meant as CSV: 1 'S', 2 'T'")
