"""JSON files: where the records are, lines in errors, damaged files, bounded memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path

import pytest

from support.waiting import PATIENCE
from usage_explore.errors import LoadError
from usage_explore.files import json_source
from usage_explore.files.json_source import JsonSource
from usage_explore.files.open import open_source


def rows(path: Path, text: str | bytes, kind: str | None = None) -> list[tuple[int, object, str | None]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with open_source(path, kind) as source:
        return list(source)


def test_records_are_numbered_by_the_line_they_begin_on(tmp_path: Path) -> None:
    text = '\n[\n  {"a": 1,\n   "b": 0.10},\n\n {"a": 12345678901234567890.123}, {"a": 3}]\n'
    assert rows(tmp_path / "a.json", text) == [
        (3, {"a": Decimal(1), "b": Decimal("0.10")}, None),
        (6, {"a": Decimal("12345678901234567890.123")}, None),
        (6, {"a": Decimal(3)}, None),
    ]


def test_records_of_a_single_line_are_numbered_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"data": [{"a": 1}, 2, {"a": 3}]}')
    with open_source(path) as source:
        assert source.unit == "record"
        assert [(number, reason) for number, _, reason in source] == [
            (1, None),
            (2, "is JSON, but not an object; a record is an object with its columns as keys"),
            (3, None),
        ]


@pytest.mark.parametrize("size", [1, 7, 64 * 1024])
def test_pieces_of_any_size_give_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(json_source, "_READ_BYTES", size)
    records = [
        {"k": ["é", "\\", '"]}', "\U0001f600"], "n": 1.5, "s": True, "null": None, "o": {"x": [{}, []]}},
        {"k": -12.5e-7, "long": "ab\\n" * 50},
    ]
    page = {"skip": {"a": ['}"\\', [1, {}]]}, "number": -1.5e3, "text": 'x\\"]', "data": records, "end": [False, [{}]]}
    for ascii in (True, False):
        for indent in (None, 1):
            text = json.dumps(page, indent=indent, ensure_ascii=ascii)
            found = [record for _, record, _ in rows(tmp_path / "a.json", text)]
            assert found == json.loads(json.dumps(records), parse_float=Decimal)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("[]", 0),
        ("[ ]\n", 0),
        ('{"data": [], "meta": [{}]}', 0),
        ('{"a": 1}', 1),
        ('{"a": {"data": [{}]}, "b": [1]}', 1),
        ('{"a": [{}], "b": [{}, {}]}', 1),
        ('{"specversion": "1.0", "data": [{"a": 1}, {"a": 2}]}', 1),
        ('{"error": [{}], "items": [{"a": 1}, {"a": 2}]}', 2),
        ('{\n"credits": [{}, {}]}\n{\n"credits": []}', 2),
    ],
)
def test_where_the_records_are(tmp_path: Path, text: str, count: int) -> None:
    assert len(rows(tmp_path / "a.json", text)) == count


def allocation(**members: object) -> dict[str, object]:
    return {"properties": {"cluster": "c"}, "window": {"start": "2026-10-01T00:00:00Z"}, **members}


@pytest.mark.parametrize("indent", [None, 1])
def test_allocations_by_name_are_records_with_a_name(tmp_path: Path, indent: int | None) -> None:
    days = [
        {},
        None,
        {"team-a": allocation(name="team-a", totalCost=1.5), "team-b": allocation(totalCost=2)},
        {"__idle__": allocation(name=None)},
    ]
    found = rows(tmp_path / "a.json", json.dumps({"code": 200, "data": days}, indent=indent))
    assert [record["name"] for _, record, _ in found] == ["team-a", "team-b", "__idle__"]
    assert [record.get("totalCost") for _, record, _ in found] == [Decimal("1.5"), Decimal(2), None]


def test_objects_of_objects_that_are_no_allocations_stay_records(tmp_path: Path) -> None:
    records = [{"user": {"name": "ann"}, "usage": {"tokens": 5}}]
    assert [record for _, record, _ in rows(tmp_path / "a.json", json.dumps(records))] == records


def test_a_record_that_cannot_be_read_spares_the_others(tmp_path: Path) -> None:
    items = [
        *(b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": "\xff"}', b'{"a": "x\ty"}', b"5", b'{"a": 1e9999}'),
        b'{"a": {"b": 1, "b": 1}, "c": [1]}',
    ]
    found = rows(tmp_path / "a.json", b"[" + b",\n".join(items) + b"]")
    assert [(line, (reason or "").split(";")[0]) for line, _, reason in found] == [
        (1, "the key 'a' stands twice in one object"),
        (2, ""),
        (3, "is not UTF-8 text"),
        (4, "is not JSON: Invalid control character at"),
        (5, "is JSON, but not an object"),
        (6, ""),
        (7, "the key 'b' stands twice in one object"),
    ]
    assert "--encoding cp1252" in (found[2][2] or "")


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_record_has_at_most_as_many_keys_as_a_file_has_columns(tmp_path: Path, kind: str, is_nested: bool) -> None:
    def record(keys: int) -> str:
        inner = {f"k{number}": number for number in range(keys - is_nested)}
        return json.dumps({"data": inner} if is_nested else inner)

    (_, fits, none), (line, refused, reason) = rows(tmp_path / "a", f"{record(2_000)}\n{record(2_001)}\n", kind)
    assert fits
    assert none is None
    assert (line, refused) == (2, None)
    assert reason is not None
    assert reason.startswith("has more than 2,000 keys")


def test_objects_of_a_list_share_their_keys(tmp_path: Path) -> None:
    text = json.dumps({"items_": [{"a": 1, "b": 2}] * 2_000, "a": 1})
    ((_, record, reason),) = rows(tmp_path / "a.jsonl", text, "jsonl")
    assert record
    assert reason is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1},\n{"a": 2}', "line 2, after record 2: the file ends inside a list or an object; was it copied"),
        ('[{"a": 1},\n{"a": "x', "line 2, after record 1: the file ends inside a list or an object"),
        ('[{"a": 1},\n{"a" 2}, {}]' + " " * 100, "line 2, after record 1: is not JSON: Expecting ':' delimiter"),
        ('[{"a": 1}\n{"a": 2}]', r"line 2, after record 1: is not JSON: ',' or '\]' expected before '{'"),
        ('{"data": [{"a": 1}\n], "next": ', "line 2, after record 1: the file ends inside"),
        ('{"data": [{}], 5: 1}', "a key in quotes expected before '5'"),
        ('{"data": [{}]}\n{"a": 1}', "line 2, after record 1: the object that ends here has no list 'data'"),
        ('{"data": [{}], "data": [{}]}', "'data' is not one list of objects"),
        ("[{}] x", "is not JSON: neither an object nor an array begins here"),
        ("[" * 100_000, "is nested too deeply|the file ends inside"),
        ('{"a": ' * 100_000, "is nested too deeply|the file ends inside"),
    ],
)
def test_text_that_is_not_json_names_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(LoadError, match=said) as refused:
        rows(path, text, "json")
    assert str(refused.value).startswith(f"{path}, line ")


def test_an_object_longer_than_a_line_may_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_source, "MAX_ROW_BYTES", 200_000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": "x" * 100_000}, {"a": "x" * 250_000}], indent=1))
    with pytest.raises(LoadError, match="line 5: an object is longer than 16 MiB"), JsonSource(path) as source:
        list(source)
    path.write_text(json.dumps({"skipped": "x" * 900_000, "data": [{"a": 1}]}))
    with JsonSource(path) as source:
        assert [record for _, record, _ in source] == [{"a": 1}]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("indent", [None, 1])
def test_a_large_array_is_read_in_little_memory(tmp_path: Path, indent: int | None) -> None:
    """60 MB, in one line or pretty-printed."""
    path = tmp_path / "a.json.gz"
    one = json.dumps({"id": 1, "model": "large", "cost": 0.1, "text": "x" * 900}, indent=indent)
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write('{"page": 1, "data": [')
        for number in range(60_000):
            file.write(f"{',' if number else ''}{one}")
        file.write("]}")
    code = f"""
        from pathlib import Path
        from usage_explore.files.open import open_source
        def peak():
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            return int(status["VmHWM"].split()[0]) // 1024
        before = peak()
        with open_source(Path({str(path)!r})) as source:
            print(sum(1 for _, record, _ in source if record["id"] == 1), source.description, sep="|")
        print(peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    read, megabytes = done.stdout.strip().splitlines()
    assert read == "60000|JSON, objects in 'data', UTF-8, gzip"
    assert int(megabytes) < 50


@pytest.mark.parametrize(
    ("member", "noted"),
    [
        ('"has_more": true', True),
        ('"next_page": "eyJ"', True),
        ('"has_more": false', False),
        ('"next_page": null', False),
        ('"next": ""', False),
        ('"other": true', False),
        ('"nextLink": "https://a.example"', True),
        ('"@odata.nextLink": "https://a.example"', True),
        ('"NextToken": "eyJ"', True),
        ('"pagination": true', False),
    ],
)
def test_a_page_of_several_says_so(tmp_path: Path, member: str, noted: bool) -> None:
    path = tmp_path / "page.json"
    for text in (f'{{"data": [{{"a": 1}}], {member}}}', f'{{{member}, "data": [{{"a": 1}}]}}'):
        path.write_text(text)
        with open_source(path) as source:
            assert [record for _, record, _ in source] == [{"a": Decimal(1)}]
            key = member.split('"')[1]
            assert source.notes == ((f"one page of several by its '{key}': load the others, too",) if noted else ())


@pytest.mark.parametrize(
    ("member", "by"),
    [
        ('"pagination": {"cursor": "x", "has_more": true}', "pagination.has_more"),
        ('"pagination": {"cursor": null, "has_more": false}', None),
        ('"links": {"self": "a", "next": "b"}', "links.next"),
        ('"_links": {"next": {"href": "b"}}', "_links.next.href"),
        ('"meta": {"page": {"next_cursor": "b", "number": 1}}', "meta.page.next_cursor"),
        ('"meta": {"next": [1]}', None),
    ],
)
def test_a_page_of_several_says_so_in_an_object_beside_the_list(tmp_path: Path, member: str, by: str | None) -> None:
    path = tmp_path / "page.json"
    path.write_text(f'{{"data": [{{"a": 1}}], {member}}}')
    with open_source(path) as source:
        assert len(list(source)) == 1
        assert source.notes == ((f"one page of several by its '{by}': load the others, too",) if by else ())


def test_objects_of_another_list_are_named(tmp_path: Path) -> None:
    path = tmp_path / "lists.json"
    path.write_text('{"items": [{"a": 1}], "names": ["b"], "data": [{"a": [2]}], "errors": []}')
    with open_source(path) as source:
        assert [record for _, record, _ in source] == [{"a": Decimal(1)}]
        assert source.notes == ("the objects in 'data' are not read",)
