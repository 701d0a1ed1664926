"""Frames of any library are read as a file with the same lines is; a float is refused, what is no frame named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from usage_explore.errors import QueryError
from usage_explore.pricing.read import read_prices
from usage_explore.validation.inputs import read_inputs

CUSTOMER = "0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11"
TABLE = pa.table(
    {
        "customer_id": [CUSTOMER, CUSTOMER],
        "metric_key": ["calls", "tokens"],
        "quantity": pa.array([Decimal("1.10"), Decimal("12345678901234567890.5")], pa.decimal128(38, 2)),
    }
)


class Opaque:
    """A frame of an unknown library that only offers an Arrow stream."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


FRAMES: dict[str, Callable[[], Any]] = {
    "reader": TABLE.to_reader,
    "batch": lambda: TABLE.to_batches()[0],
    "relation": lambda: duckdb.connect().from_arrow(TABLE),
    "narwhals": lambda: nw.from_native(TABLE),
    "lazy": lambda: nw.from_native(TABLE).lazy(),
    "stream": Opaque,
    "pandas": lambda: pd.DataFrame(TABLE.to_pylist()),
    "polars": lambda: pl.DataFrame(TABLE),
    "polars, lazy": lambda: pl.DataFrame(TABLE).lazy(),
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_every_frame_is_read_like_an_arrow_table(make: Callable[[], Any]) -> None:
    assert read_inputs(invoices=make()) == read_inputs(invoices=TABLE)
    wallets = TABLE.select(["customer_id"]).slice(0, 1).append_column("currency", pa.array(["EUR"]))
    assert read_inputs(wallets=wallets.to_reader()) == read_inputs(wallets=wallets)


def test_polars_frames_are_prices_wallets_and_control_totals() -> None:
    prices = {"metric_key": ["calls", "tokens"], "unit_amount": [Decimal("0.10"), Decimal("0.025")]}
    frame = pl.DataFrame(prices | {"currency": ["USD", "KWD"], "valid_from": [None, date(2026, 9, 1)]})
    assert read_prices(frame).prices == read_prices(frame.to_arrow()).prices
    assert read_prices(frame.lazy()).prices[1].valid_from == date(2026, 9, 1)
    wallets = pl.DataFrame({"customer_id": [CUSTOMER, None], "currency": ["EUR", "USD"]})
    assert read_inputs(wallets=wallets) == read_inputs(wallets={CUSTOMER: "EUR", None: "USD"})
    control = pl.DataFrame({"day": [date(2026, 9, 1)], "metric_key": ["calls"], "events": [3]})
    assert read_inputs(control=control) == read_inputs(control=control.to_arrow())
    with pytest.raises(QueryError, match=r"unit_amount holds floats"):
        read_prices(pl.DataFrame({"metric_key": ["calls"], "unit_amount": [0.1], "currency": ["USD"]}))


def test_what_is_no_frame_or_has_floats_is_refused() -> None:
    class Broken:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            raise RuntimeError

    for source, said in (
        (17, "neither a path nor a frame"),
        (Broken(), "cannot be read by Arrow"),
        (
            duckdb.connect().sql(f"SELECT '{CUSTOMER}' AS customer_id, 'calls' AS metric_key, 0.1::DOUBLE AS quantity"),
            "float",
        ),
    ):
        with pytest.raises(QueryError, match=said):
            read_inputs(invoices=source)  # type: ignore[arg-type]
