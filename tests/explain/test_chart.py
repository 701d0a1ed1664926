"""The chart of an explanation: its bars keep their width on a phone, and its labels stay beside them."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from usage_explore.charts import image
from usage_explore.explain.chart import chart
from usage_explore.explain.result import Cell, Part
from usage_explore.query.queries import AggregateQuery

pytestmark = pytest.mark.usefixtures("validated_charts")

QUERY = AggregateQuery(since="2026-11-01T00:00:00Z", until="2026-11-08T00:00:00Z")
CUSTOMER = "0b9c1a2e-7f1e-5d6c-9b4e-1d2f3a4b5c6d"


def cell(before: int, after: int, api_key: str) -> Cell:
    return Cell(
        where=(("dim:api_key", api_key), ("metric_key", "llm.tokens.input")),
        without=(("dim:region", "us-east"),),
        always=(("customer_id", CUSTOMER),),
        before=before,
        after=after,
        share=Decimal(after - before) / 1000,
        is_new=not before,
        is_gone=not after,
        query=QUERY,
    )


@pytest.mark.parametrize("width", [358, 700])
def test_the_longest_bar_takes_most_of_the_width(width: int) -> None:
    cells = (cell(0, 900, "key-7f3a"), cell(10, 200, "k" * 200), cell(150, 0, "old"))
    drawn = image(chart(cells, Part(before=7, after=67, share=Decimal("0.06")), "count", "+1,000", width=width), "svg")
    bars = [
        float(found) for found in re.findall(r'aria-roledescription="bar" d="M[\d.]+,[\d.]+h([\d.]+)', drawn.decode())
    ]
    assert len(bars) == 4
    assert max(bars) > width / 2


def test_a_label_begins_with_the_exact_change_and_shortens_ids() -> None:
    rest = Part(before=7, after=67, share=Decimal("0.06"))
    spec = chart((cell(0, 1234567, "a"),), rest, "count", "+1,234,567", width=2000).to_dict()
    values = spec["layer"][0]["data"]["values"]
    labels = re.findall(r'"lines": \[([^]]*)\]', values)
    assert labels[0].startswith('"+1,234,567 (')
    assert "0b9c1a2e\\u2026" in labels[0]
    assert CUSTOMER in values
