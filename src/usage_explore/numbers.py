"""Numbers and times as text: exact, plain, the same at every door."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import reduce

Number = int | Decimal

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])  # opposite infinities sum to NaN, as in SQL


def plain(value: int | Decimal) -> str:
    """`value` without exponent, without trailing fractional zeros, and `-0` as `0`.

    >>> plain(Decimal("1E-7")), plain(Decimal("2.500")), plain(Decimal("-0.0"))
    ('0.0000001', '2.5', '0')
    """
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def exact_sum(values: Iterable[Number], zero: Number) -> Number:
    """The sum to the last digit; the default decimal context would round at 28 digits."""
    return reduce(lambda a, b: a + b if isinstance(a, int) and isinstance(b, int) else _EXACT.add(a, b), values, zero)


def rfc3339(instant: datetime) -> str:
    """`instant` in UTC with `Z`, microseconds kept where there are any."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
