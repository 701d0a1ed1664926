"""Invoice lines to reconcile: read from a file or a frame, each value checked, exact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    InvoiceSource = Path | str | pd.DataFrame


@dataclass(frozen=True, slots=True)
class Invoices:
    """The lines of the invoices of one period."""


def read_invoices(source: InvoiceSource) -> Invoices:
    """The lines in a `.csv` or `.parquet` file or a frame. Raises `QueryError` naming each faulty line."""
    raise NotImplementedError(source)
