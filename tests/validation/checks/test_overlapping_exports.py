"""Exports that grew or moved on and have other columns, or keys: the rows of the common time count twice, are found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

import pytest

from support.plain_events import JUNE, SINCE, SMALL, beside, event, september
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.validation.check import Finding

FIRST, SECOND = SINCE + timedelta(days=20), SINCE + timedelta(days=25)

Make = Callable[[list[Row]], Store]


def irregular(number: int) -> timedelta:
    return timedelta(seconds=3_000 * number + number * number * 37 % 2_999 + 1)


def hourly(number: int) -> timedelta:
    return timedelta(hours=number // 2)


def export(
    numbers: Iterable[int],
    loaded: datetime,
    columns: str,
    *,
    times: Callable[[int], timedelta] = irregular,
    most: int = 500,
    seed: int = 1,
) -> list[Row]:
    """Rows of two customers with random quantities up to `most`; "KEY" is a column of keys, others are dimensions."""
    chance = Random(seed)
    quantities = [chance.randint(1, most) for _ in range(400)]
    rows = []
    for number in numbers:
        values = {"m": "sl"[number % 2], "r": ("eu", "us")[number // 2 % 2], "t": f"t{number % 3}"}
        names = [name for name in columns.split(",") if name != "KEY"]
        dimensions = json.dumps(
            {name: values[name[0].lower()].upper() if name.isupper() else values[name[0].lower()] for name in names}
        )
        rows.append(
            event(
                SINCE + times(number),
                customer_id=(JUNE, SMALL)[number % 2],
                quantity=Decimal(quantities[number]),
                ingested_at=loaded,
                idempotency_key=f"ref-{number}"
                if "KEY" in columns
                else f"row:{Random(f'{number} {columns} {seed}').getrandbits(128):032x}",
                dimensions=dimensions,
            )
        )
    return rows


def found(make: Make, rows: list[Row]) -> list[Finding]:
    result = make(rows + beside(rows)).validate(september(), checks=["look_alikes"]).findings
    return [finding for finding in result if "loaded again with other options or columns" in finding.sentence]


@pytest.mark.parametrize(
    "columns", ["model,region,team", "Modell,Region", "MODEL,REGION", "model,team", "Modell,region,KEY"]
)
@pytest.mark.parametrize(
    ("first", "second", "repeated"),
    [
        (range(60), range(200), 60),  # from the first of the month to its day
        (range(120), range(90, 210), 30),  # a moving window
    ],
)
def test_an_export_that_grew_and_has_other_columns_is_found(
    make: Make, columns: str, first: range, second: range, repeated: int
) -> None:
    """It was in no finding, and each common row counted twice: they are few of the later load."""
    findings = found(make, export(first, FIRST, "model,region") + export(second, SECOND, columns))
    assert sum(finding.events for finding in findings) == repeated
    assert {finding.severity for finding in findings} == {"high"}


@pytest.mark.parametrize(
    ("rows", "how"),
    [
        (5, {"times": lambda number: irregular(number) + timedelta(microseconds=137 * number + 1), "most": 1}),
        (30, {"most": 1}),
        (60, {"times": hourly}),
    ],
)
@pytest.mark.parametrize("columns", ["model,region,team", "region"])
def test_few_rows_or_regular_times_of_an_export_that_grew_are_found(
    make: Make, rows: int, how: dict[str, object], columns: str
) -> None:
    store = export(range(rows), FIRST, "model,region", **how) + export(range(200), SECOND, columns, **how)  # type: ignore[arg-type]
    assert sum(finding.events for finding in found(make, store)) == rows


def test_an_export_that_grew_after_loads_of_a_few_rows_each_is_found(make: Make) -> None:
    rows = export(range(200), SECOND, "model,region,team")
    for first in range(0, 60, 4):
        rows += export(range(first, first + 4), FIRST + timedelta(hours=first), "model,region")
    findings = found(make, rows)
    assert sum(finding.events for finding in findings) == 60


@pytest.mark.parametrize("columns", ["Modell,region", "model,region,team", "MODEL,REGION", "region", "model,team"])
@pytest.mark.parametrize("keyed_first", [False, True])
@pytest.mark.parametrize(("rows", "hours"), [(30, 1), (60, 24), (120, 1)])
def test_an_hourly_or_daily_file_that_has_keys_and_other_columns_the_second_time_is_found(
    make: Make, columns: str, keyed_first: bool, rows: int, hours: int
) -> None:
    """`load` warned of it, but it was in no finding: keys alone are found as look-alikes at such times."""
    loads = ["model,region", f"{columns},KEY"]
    first, second = reversed(loads) if keyed_first else loads
    both = [
        export(range(rows), loaded, names, times=lambda number: number // 2 * timedelta(hours=hours))
        for loaded, names in ((FIRST, first), (SECOND, second))
    ]
    findings = found(make, [*both[0], *both[1]])
    repeated = 0 if columns == "model,team" else rows  # no proof without all values of one of the two
    assert sum(finding.events for finding in findings) == repeated


@pytest.mark.parametrize(
    "how",
    [
        {"times": hourly, "most": 1, "seed": 1},  # an hourly constant
        {"times": lambda number: timedelta(minutes=number // 2, seconds=7), "most": 1},  # a constant of each minute
        {"times": hourly, "most": 3},
        {"times": lambda number: timedelta(hours=number // 40), "most": 9},  # many rows each hour
        {"times": lambda number: timedelta(seconds=number // 2), "most": 2},
        {"times": lambda number: timedelta(seconds=number // 40), "most": 9},
        {},
    ],
)
@pytest.mark.parametrize("columns", ["model,region,team", "region", "Modell,region,KEY"])
def test_other_usage_of_a_longer_time_with_other_columns_is_not_found(
    make: Make, how: dict[str, object], columns: str
) -> None:
    first = export(range(100), FIRST, "model,region", **how)  # type: ignore[arg-type]
    second = export(range(400), SECOND, columns, **{"seed": 2, **how})  # type: ignore[arg-type]
    assert found(make, first + second) == []
