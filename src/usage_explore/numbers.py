"""Numbers and times as text: exact, plain, the same at every door."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal


def plain(value: int | Decimal) -> str:
    """`value` without exponent, without trailing fractional zeros, and `-0` as `0`.

    >>> plain(Decimal("1E-7")), plain(Decimal("2.500")), plain(Decimal("-0.0"))
    ('0.0000001', '2.5', '0')
    """
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def rfc3339(instant: datetime) -> str:
    """`instant` in UTC with `Z`, microseconds kept where there are any."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
