"""Reading column by column gives what reading row by row gives, and COPY stores every character."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_explore.files.values import InvalidValue
from usage_explore.load.batches import BatchMapper
from usage_explore.load.mapping import ColumnMapping
from usage_explore.load.row_mapper import RowMapper

NAMES = ("customer_id", "metric_key", "quantity", "timestamp", "price_key", "dimensions", "region", "organization_id")

VALUES = {
    "customer_id": ["a", " b ", "00000000-0000-4000-8000-0000000000C1", "00000000000040008000 ", ""],
    "metric_key": ["m", "", "x\ty"],
    "quantity": ["1", "1.50", "-0", "x", "$2", "1e3"],
    "timestamp": ["2026-01-31T08:00:00Z", "2026-01-31 08:00", "2026-01-31T08:00:00.25+05:45", "2026-02-30T08:00:00Z",
                  "2026-01-31T08:00:00.000000Z", "1969-12-31T23:59:59Z", "1769846400"],
    "price_key": ["p", ""],
    "dimensions": ['{"a": 1.0}', "{}", "["],
    "region": ["eu", ""],
    "organization_id": ["acme", "00000000-0000-4000-8000-000000000001"],
}  # fmt: skip

records = st.lists(
    st.fixed_dictionaries({name: st.sampled_from([*values[:2] * 4, *values]) for name, values in VALUES.items()}),
    min_size=1,
    max_size=6,
)


def mapper(names: tuple[str, ...]) -> RowMapper:
    return RowMapper(ColumnMapping(timezone="Asia/Kathmandu"), names, UUID(int=1), is_local=True)


def read(mapper: RowMapper, rows: list[dict[str, Any]]) -> list[list[str | None]] | None:
    columns = BatchMapper(mapper).columns([[row.get(name) for row in rows] for name in mapper.names], lambda: rows)
    return None if columns is None else [list(row) for row in zip(*columns, strict=True)]


@given(records, st.booleans(), st.booleans())
def test_a_batch_is_its_rows(rows: list[dict[str, Any]], has_region: bool, has_organization: bool) -> None:
    names = tuple(
        name for name in NAMES if (has_region or name != "region") and (has_organization or name != "organization_id")
    )
    rows = [{name: value for name, value in row.items() if name in names and value} for row in rows]
    single, many = mapper(names), mapper(names)
    try:
        expected = [event for row in rows for event in single.rows(row)]
    except InvalidValue:
        assert read(many, rows) is None
        assert not many.counts
        assert not any(times.counts for times in many.times.values())
        return
    assert read(many, rows) == expected
    assert many.notes() == single.notes()
    assert many.ids.texts == single.ids.texts


def test_the_common_values_are_read_in_batches() -> None:
    rows = [
        {"customer_id": "a", "metric_key": "m", "quantity": str(n), "timestamp": "2026-01-31T08:00:00Z"}
        for n in range(9)
    ]
    assert [row[7] for row in read(mapper(NAMES[:4]), rows) or []] == [str(n) for n in range(9)]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("id", ["0" * 32, "00000000000040008000000000000001"]),
        ("id", ["00000000-0000-4000-8000-000000000001", "0" * 32]),
        ("id", ["0" * 32 + "\n"]),
        ("timestamp", ["2026-01-31T08:00:00Z", "2026-01-31T08:00:00.000000Z", "2026-01-31T08:00:00.250000Z"]),
        ("timestamp", ["2026-02-30T08:00:00Z"]),
        ("timestamp", ["2026-01-31T24:00:00Z"]),
        ("timestamp", ["1969-12-31T23:59:59Z"]),
        ("timestamp", ["2199-12-31T23:59:59.999999Z"]),
        ("timestamp", ["2200-01-01T00:00:00Z"]),
        ("quantity", ["-1.50", "0.1", "7"]),
        ("quantity", ["1\n2"]),
        ("quantity", ["1e3", "1"]),
        ("idempotency_key", ["a b", "~"]),
        ("idempotency_key", ["a\nb"]),
        ("idempotency_key", ["a\tb", "é"]),
    ],
)
def test_columns_of_like_values_are_what_their_rows_are(name: str, texts: list[str]) -> None:
    base = {"customer_id": "a", "metric_key": "m", "quantity": "1", "timestamp": "2026-01-31T08:00:00Z"}
    names = tuple(dict.fromkeys((*base, name)))
    rows = [{**base, name: text} for text in texts]
    try:
        expected = [event for row in rows for event in mapper(names).rows(row)]
    except InvalidValue:
        assert read(mapper(names), rows) is None
    else:
        assert read(mapper(names), rows) == expected


def test_every_character_is_stored_as_it_is(load):
    texts = ["a\tb", "back\\slash", "line\nbreak", "c\rd", "\\N", "é😀", "\\.", "tab\\\tend"]
    lines = "".join(
        f'"{text}",k{n},"{{""t"": ""{n}\\\\x""}}",c,1,2026-01-31T08:00:00Z\n' for n, text in enumerate(texts)
    )
    load.csv("metric_key,idempotency_key,dimensions,customer_id,quantity,timestamp\n" + lines)
    stored = dict(load.rows("idempotency_key", "metric_key"))
    assert [stored[f"k{n}"] for n in range(len(texts))] == texts
    assert dict(load.rows("idempotency_key", "dimensions"))["k0"] == {"t": "0\\x"}
