"""Every value that cannot be loaded exactly is refused, with its line, its column and the reason."""

from __future__ import annotations

import json
import shlex
from decimal import Decimal

import pytest

from usage_explore.errors import LoadError
from usage_explore.files.values import number_text
from usage_explore.load import LoadOptions, check_file

COLUMNS = "customer_id,metric_key,quantity,timestamp,idempotency_key"
GOOD = "00000000-0000-4000-8000-0000000000c1,tokens,1,2026-01-31T08:00:00Z,k1"


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("id", "acme", "'acme' is not a UUID"),
        ("customer_id", "", "is missing"),
        ("metric_key", "", "is missing"),
        ("metric_key", '""', "empty text"),
        ("metric_key", "é" * 600, "longer than 1,024 bytes"),
        ("idempotency_key", '""', "is the empty text"),
        ("quantity", "", "is missing"),
        ("quantity", '"1,5"', "'1,5' has a comma or thousands separators; name the decimal mark: --decimal . or"),
        ("quantity", '"1,000.5"', "has a comma"),
        ("quantity", "1_000", "is not a decimal number"),
        ("quantity", "٣", "is not a decimal number"),
        ("quantity", "1$2", "is not a decimal number"),
        ("quantity", "NaN", "is not finite"),
        ("quantity", "-Infinity", "is not finite"),
        ("quantity", "1e1000", "'1e1000' has more than 1,000 digits before its decimal point"),
        ("quantity", "1e99999", "more than 1,000 digits before"),
        ("quantity", "1e999999999", "more than 1,000 digits before"),
        ("quantity", "1e99999999999999999999", "is not a decimal number"),
        ("quantity", "1e-1001", "'1e-1001' has more than 1,000 digits after its decimal point"),
        ("quantity", "0." + "1" * 1001, "more than 1,000 digits after"),
        ("quantity", "-" + "9" * 1001, "more than 1,000 digits before"),
        ("external_cost_amount", "1e99999", "more than 1,000 digits before"),
        ("external_cost_amount", "free", "is not a decimal number"),
        ("timestamp", "", "is missing"),
        ("timestamp", "2026-01-31T08:00:00", "has no offset; name its zone with --timezone"),
        ("timestamp", "2026-01-31", "has no offset; name its zone with --timezone"),
        ("timestamp", "31.01.2026 08:00", "has no offset"),
        ("timestamp", "noon", "is not a time; write it like 2026-01-31T08:00:00Z"),
        ("timestamp", "17698464", "is not a time"),
        ("timestamp", "9999999999", "give its form with --time-format"),
        ("timestamp", "2026-02-30T08:00:00Z", "is not a time: day is out of range"),
        ("timestamp", "2026-01-31T08:00:60Z", "is not a time: second must be in"),
        ("timestamp", "1969-12-31T23:59:59Z", "is outside 1970-01-01 to 2200-01-01"),
        ("timestamp", "2200-01-01T00:00:00Z", "is outside"),
        ("ingested_at", "yesterday", "is not a time"),
        ("dimensions", "{", "is not JSON"),
        ("dimensions", "[]", "is not a JSON object"),
        ("dimensions", '"{""a"": NaN}"', "NaN is not finite"),
        ("dimensions", '"{""a"": 1, ""a"": 2}"', "the key 'a' stands twice"),
        ("dimensions", '"{""a"": ""\\u0000""}"', "has a NUL character"),
        ("dimensions", '"{""a"": ""\\ud800""}"', "half a surrogate pair"),
        ("dimensions", '"{""a"": 1e200000}"', "more than 1,000 digits before"),
        ("dimensions", "1e99999", "more than 1,000 digits before"),
        ("dimensions", '"{""a"":' + "[" * 5000 + "]" * 5000 + '}"', "nested too deeply"),
    ],
)
def test_a_bad_value_names_file_line_column_and_reason(load_again, table_of, column, value, reason):
    text = table_of({}, {column: value})
    with pytest.raises(LoadError) as refused:
        load_again.csv(text)
    first = str(refused.value).splitlines()[0]
    assert first.startswith(f"{load_again.folder}/events.csv, line 3, {column}: ")
    assert reason in first
    assert load_again.count() == 0
    report = load_again.csv(text, skip_bad=True)
    assert (report.loaded, report.rejected, load_again.count()) == (1, 1, 1)
    assert [(r.line, r.column) for r in report.rejections] == [(3, column)]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("0.00000080000", "0.00000080000"),
        ("-2.5", "-2.5"),
        ("1e-7", "0.0000001"),
        ("1.5E+3", "1500"),
        (" 7 ", "7"),
        ("+.5", "0.5"),
        ("5.", "5"),
        ("123456789012345678901234567890.123456789012345", "123456789012345678901234567890.123456789012345"),
        ("0." + "0" * 999 + "1", "0." + "0" * 999 + "1"),
        ("1e999", "1" + "0" * 999),
        ("9" * 1000, "9" * 1000),
    ],
)
def test_a_number_is_stored_digit_for_digit(load_again, table_of, text, stored):
    load_again.csv(table_of(external_cost_amount=text))
    assert load_again.connection.execute("SELECT external_cost_amount::text FROM usage_events").fetchone() == (stored,)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00+00:00"),
        ("2026-01-31t08:00:00z", "2026-01-31T08:00:00+00:00"),
        ("2026-01-31 08:00:00.123456+00", "2026-01-31T08:00:00.123456+00:00"),
        ("2026-01-31T08:00:00.120000000+05:45", "2026-01-31T02:15:00.120000+00:00"),
        ("2026-01-31 08:00:00 UTC", "2026-01-31T08:00:00+00:00"),
        ("2026-01-31 08:00:00.25 UTC", "2026-01-31T08:00:00.250000+00:00"),
        ("2026-01-31T08:00-0330", "2026-01-31T11:30:00+00:00"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00"),
        ("2199-12-31T23:59:59.999999Z", "2199-12-31T23:59:59.999999+00:00"),
    ],
)
def test_a_time_with_an_offset_is_kept_to_the_microsecond(load_again, table_of, text, stored):
    load_again.csv(table_of(timestamp=text, ingested_at=text))
    [(timestamp, ingested_at)] = load_again.rows("timestamp", "ingested_at")
    assert timestamp.isoformat() == ingested_at.isoformat() == stored


def test_all_faults_of_a_row_are_listed(load_again):
    with pytest.raises(LoadError) as refused:
        load_again.csv(f"{COLUMNS}\n,tokens,many,today,k\n")
    lines = str(refused.value).splitlines()
    assert [line.split(": ")[0].rsplit(", ")[-1] for line in lines[:3]] == ["quantity", "timestamp", "customer_id"]
    assert "1 row rejected, so nothing of the file was loaded" in lines[3]
    assert "--skip-bad" in lines[3]


def test_a_fault_of_many_rows_is_said_once_with_their_number(load_again):
    bad = GOOD.replace(",1,", ",x,")
    with pytest.raises(LoadError) as refused:
        load_again.csv("\n".join([COLUMNS, *[bad] * 1500]))
    lines = str(refused.value).splitlines()
    path = f"{load_again.folder}/events.csv"
    assert lines == [
        f"{path}, quantity, all 1,500 rows: 'x' is not a decimal number (line 2)",
        f"{path}: 1,500 rows rejected, so nothing of the file was loaded; correct them, or load the"
        " others with --skip-bad",
    ]
    report = load_again.csv("\n".join([COLUMNS, *[bad] * 1500]), skip_bad=True)
    assert (report.loaded, report.rejected, len(report.rejections)) == (0, 1500, 1000)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("quantity", True, "True is not a number"),
        ("quantity", [1], "is not a number"),
        ("quantity", 10**1000, "more than 1,000 digits before its decimal point"),
        ("dimensions", {"a": {"b": [10**1000]}}, "more than 1,000 digits before its decimal point"),
        ("timestamp", 1769846, "is not a time; an epoch time has the seconds or milliseconds since 1970"),
        ("timestamp", True, "True is not a time"),
        ("customer_id", True, "True is not text"),
        ("metric_key", {"a": 1}, "is not text"),
        ("metric_key", "a\0b", "NUL character"),
        ("price_key", "\ud800", "half a surrogate pair"),
        ("dimensions", "nothing", "is not JSON"),
        ("dimensions", [], "is not a JSON object"),
    ],
)
def test_a_json_value_of_the_wrong_type_is_refused(load_again, field, value, reason):
    event = dict(zip(COLUMNS.split(","), GOOD.split(","), strict=True))
    text = json.dumps(event) + "\n\n" + json.dumps({**event, field: value}) + "\n"
    with pytest.raises(LoadError) as refused:
        load_again(load_again.file("events.jsonl", text))
    first = str(refused.value).splitlines()[0]
    assert f"events.jsonl, line 3, {field}: " in first
    assert reason in first


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "not an object; write one object per line"),
        (b'{"quantity": 1, "quantity": 2}', "stands twice"),
        (b'{"metric_key": "\xff"}', "is not UTF-8 text: invalid start byte at byte 17"),
        (b'{"metric_key": "\x00"}', "has a NUL character"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_no_json_object_is_refused(load_again, line, reason):
    good = json.dumps(dict(zip(COLUMNS.split(","), GOOD.split(","), strict=True))).encode()
    path = load_again.file("events.jsonl", good + b"\n" + line + b"\n")
    with pytest.raises(LoadError) as refused:
        load_again(path)
    first = str(refused.value).splitlines()[0]
    assert "events.jsonl, line 2: " in first
    assert reason in first


@pytest.mark.parametrize(
    ("member", "column"),
    [
        ("quantity", "quantity"),
        ("external_cost_amount", "external_cost_amount"),
        ("timestamp", "timestamp"),
        ("customer_id", "customer_id"),
        ("region", "dimensions"),
    ],
)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_json_number_that_is_not_finite_is_refused_with_its_column(load_again, member, column, number):
    """The line alone was named, and a file with such a number in each line was said to have no record."""
    event = dict(zip(COLUMNS.split(","), GOOD.split(","), strict=True))
    event.pop(member, None)
    path = load_again.file("events.jsonl", json.dumps(event)[:-1] + f', "{member}": {number}}}\n')
    with pytest.raises(LoadError, match=f"events.jsonl, line 1, {column}: {number} is not finite"):
        load_again(path)


def test_a_json_number_that_is_not_finite_is_left_alone_where_it_is_not_loaded(load_again):
    event = dict(zip(COLUMNS.split(","), GOOD.split(","), strict=True))
    path = load_again.file("events.jsonl", json.dumps(event)[:-1] + ', "score": NaN}\n')
    assert load_again(path, dimensions=False).loaded == 1


def test_json_numbers_never_become_floats(load_again):
    event = dict(zip(COLUMNS.split(","), GOOD.split(","), strict=True))
    del event["quantity"]
    text = json.dumps(event)[:-1] + ', "quantity": 0.1234567890123456789012, "dimensions": {"p": 1.10, "n": null}}'
    load_again(load_again.file("events.jsonl", text))
    assert load_again.rows("quantity") == [(Decimal("0.1234567890123456789012"),)]
    assert load_again.rows("dimensions::text") == [('{"n": null, "p": 1.10}',)]


def test_faults_are_grouped_by_column_and_reason_with_three_examples(load_again):
    bad = [GOOD.replace(",1,", f",{text},") for text in ("a", "b", "a", "c", "d")]
    late = GOOD.replace("2026-01-31T08", "2026-01-31T25")
    with pytest.raises(LoadError) as refused:
        load_again.csv("\n".join([COLUMNS, *bad, late, GOOD]))
    path = f"{load_again.folder}/events.csv"
    assert str(refused.value).splitlines()[:2] == [
        f"{path}, quantity, 5 of 7 rows: 'a' is not a decimal number (line 2), 'b' (line 3), 'c' (line 5)",
        f"{path}, line 7, timestamp: '2026-01-31T25:00:00Z' is not a time: hour must be in 0..23",
    ]


@pytest.mark.parametrize("zero", ["0e999999999", "0E-999999999", "-0e5000", "0.000e1005"])
def test_zero_has_no_digits_too_many(zero: str) -> None:
    assert Decimal(number_text(zero)) == 0
    assert len(number_text(zero)) < 10


IN_OCTOBER = "customer_id,metric_key,quantity,timestamp,product_id\n"
WITH_U, WITH_MARK = "M\u00fcller", "Mu\u0308ller"


def in_october(*rows: str) -> str:
    """CSV of rows of "customer,metric,quantity", and the product where one follows."""
    parts = [(*row.split(","), "")[:4] for row in rows]
    return IN_OCTOBER + "".join(f"{who},{what},{much},2026-10-03T10:00:00Z,{of}\n" for who, what, much, of in parts)


def both(load, text: str, **options) -> list[str]:
    """The warnings of a load, of which those of the check are the same."""
    checked = check_file(load.file("checked.csv", text), LoadOptions(**options))
    warned = [note for note in load.csv(text, **options).notes if note.startswith("warning")]
    assert [note for note in checked.notes if note.startswith("warning")] == warned
    return warned


@pytest.mark.parametrize("word", ["NULL", "null", "None", "N/A", "-", "\\N", "nan"])
def test_a_word_for_no_value_that_is_an_id_is_warned_of(load_again, word):
    """Each was a customer of its own without a word."""
    [warning] = both(load_again, in_october(f"{word},calls,1", "Null,calls,1", "None Ltd,calls,2"))
    assert f"{word!r} is an id of customers" in warning
    assert f"--null {shlex.quote(word)}" in warning
    with pytest.raises(LoadError, match="customer_id: is missing"):
        load_again.csv(in_october(f"{word},calls,1"), null=[word])
    load_again.connection.rollback()
    load_again.csv(in_october(f"a,calls,8,{word}"), null=[word])
    assert (None, 8) in load_again.rows("product_id", "quantity")


def test_a_line_of_totals_that_is_a_customer_is_warned_of(load_again):
    """Sums were doubled without a word."""
    rows = ("a,calls,1", "b,calls,2", "a,gb,3", "Total,calls,3", "Total,gb,4")
    [warning] = both(load_again, in_october(*rows))
    assert "the customer 'Total' has as much of calls as all others of the file together" in warning
    assert both(load_again, in_october("Total,calls,1", "b,calls,2", "Sum,gb,0")) == []


def test_a_text_in_two_unicode_forms_is_warned_of(load_again):
    """Müller was two customers, and the same usage of both counted twice."""
    assert both(load_again, in_october(f"{WITH_U},calls,1", "Mueller,calls,1")) == []
    report = load_again.csv(in_october(f"{WITH_MARK},calls,1"))
    assert f"the customer {WITH_MARK!r} is written in two ways that look alike (Unicode NFC and NFD, or" in str(report)
    load_again.connection.execute("TRUNCATE usage_events")
    load_again.connection.commit()
    assert "two ways" not in str(load_again.csv(in_october(f"{WITH_U},calls,1")))
    [warning] = both(load_again, in_october(f"{WITH_U},gb,1", f"{WITH_MARK},gb,1"))
    assert "are two customers" in warning


def test_marks_that_are_not_seen_are_warned_of_and_spaces_around_a_metric_are_none(load_again):
    """ "c1" with U+200B was another customer, "calls " another metric, without a word."""
    right = in_october("a b,calls ,1", "a b,\u00a0calls,2", "c1,m\u0435,4", "\u0645\u06cc\u200c\u062e,m,8")
    assert both(load_again, right) == []
    assert {metric for (metric,) in load_again.rows("metric_key")} == {"calls", "m\u0435", "m"}
    file = in_october("x\u200b,calls,1", "\u202ex,gb\u200f,1", "x,gb,2")
    customer, metric = both(load_again, file)
    assert "are two customers" in customer
    assert "are two metrics" in metric
    report = str(load_again.csv(in_october("a\u00a0b,gb,2", "c1\ufeff,calls\u2060,2")))
    for one in ("customer 'a\\xa0b'", "customer 'c1\\ufeff'", "metric 'calls\\u2060'"):
        assert f"the {one} is written in two ways that look alike" in report
    load_again.csv(in_october("y\u200b,hits,1", "z,hits\u2060,1", "z,m\u00e4,1"))
    report = str(load_again.csv(in_october("y,hits,1", "z,m,1", "z,hits,1")))
    for one in ("customer 'y\\u200b'", "metric 'hits\\u2060'"):
        assert f"the {one} is written in two ways that look alike" in report, "the stored one has the mark"
    assert report.count("in two ways") == 2
    for column in ("metric_key", "customer_id"):
        assert f"load the whole export again with --replace-by {column}" in report
    load_again.csv(in_october("y,hits,1", "z,m,1", "z,hits,1"), replace_by=["customer_id"])
    load_again.csv(in_october("y,hits,1", "z,m,1", "z,hits,1"), replace_by=["metric_key"])
    hits = "SELECT metric_key, count(*) FROM usage_events WHERE metric_key ~ '^hits' GROUP BY 1"
    assert load_again.connection.execute(hits).fetchall() == [("hits", 2)]
