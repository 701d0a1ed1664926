"""The idempotency key of a row without one: a hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from usage_explore.db.schema import COLUMNS
from usage_explore.files.exact_json import dumps, loads

_CANONICAL: Mapping[str, str] = {
    "quantity": "number",
    "external_cost_amount": "number",
    "dimensions": "object",
}
"""Columns whose text may differ for equal values."""

_KINDS = tuple(_CANONICAL.get(column) for column in COLUMNS)


def row_hash(row: list[str | None]) -> str:
    """Equal for equal content in any file format and order of columns."""
    parts = [
        value if value is None or kind is None else _object(value) if kind == "object" else _number(value)
        for kind, value in zip(_KINDS, row, strict=True)
    ]
    return "row:" + hashlib.blake2b(dumps(parts).encode(), digest_size=16).hexdigest()


def _object(value: str) -> str:
    return "{}" if value == "{}" else dumps(loads(value), sort=True)


def _number(value: str) -> str:
    """The number as `<digits>e<power>`, without zeros at either end of the digits."""
    sign = "-" if value.startswith("-") else ""
    mantissa, _, exponent = value.lstrip("+-").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction) + len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    return f"{sign}{digits}e{power}" if digits else "0"
