"""Exact decimals as Arrow columns: decimal128(38, s), s the largest scale, else text with a note in the metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from usage_explore.decimals import plain

_MAX_DECIMAL128_DIGITS = 38


@dataclass(frozen=True, slots=True)
class DecimalSpan:
    """The most fractional digits (`scale`) and the most integer digits of a column of decimals."""

    scale: int
    integers: int
    finite: bool = True

    @property
    def fits(self) -> bool:
        """Whether decimal128 represents every value exactly."""
        return self.finite and self.scale + self.integers <= _MAX_DECIMAL128_DIGITS

    @property
    def type(self) -> pa.DataType:
        """The column's type: decimal128, else string."""
        return pa.decimal128(_MAX_DECIMAL128_DIGITS, self.scale) if self.fits else pa.string()

    def field(self, name: str) -> pa.Field[pa.DataType]:
        """The column's field; if it is text, its metadata says why."""
        field = pa.field(name, self.type)
        if self.fits:
            return field
        why = "more than 38 digits" if self.finite else "NaN or infinite values"
        return field.with_metadata({"usage-explore": f"decimal kept as text: {why}"})

    def __or__(self, other: DecimalSpan) -> DecimalSpan:
        return DecimalSpan(
            max(self.scale, other.scale), max(self.integers, other.integers), self.finite and other.finite
        )


def integer_digits(value: int | Decimal) -> int:
    """The number of digits before the decimal point; 0 for NaN and infinities."""
    value = Decimal(value)
    return max(value.adjusted() + 1, 0) if value.is_finite() and value else 0


def decimal_array(values: Iterable[Decimal]) -> tuple[pa.Array[Any], pa.Field[pa.DataType]]:
    """Finite decimals as an exact column, and its field, named `value`."""
    values = list(values)
    texts = [plain(value) for value in values]
    scale = max((len(text.partition(".")[2]) for text in texts), default=0)
    field = DecimalSpan(scale, max(map(integer_digits, values), default=0)).field("value")
    array = pa.array(texts, pa.string())
    return array.cast(field.type), field
