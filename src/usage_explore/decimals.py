"""Numbers and times as text: exact, plain, the same at every door."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import (
    MAX_EMAX,
    MAX_PREC,
    MIN_EMIN,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)
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


@contextmanager
def decimal_context() -> Iterator[None]:
    """Decimal arithmetic with 28 digits, rounded half-even, whatever the caller's context; also a decorator.

    Not around a `yield` of a generator: the context would be the caller's until the next value.
    """
    traps = [InvalidOperation, DivisionByZero, Overflow]
    with localcontext(Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, clamp=0, traps=traps)):
        yield


@decimal_context()
def ratio(part: Number, whole: Number) -> Decimal:
    """`part / whole` to 28 digits."""
    return Decimal(part) / Decimal(whole)


def rfc3339(instant: datetime) -> str:
    """`instant` in UTC with `Z`, microseconds kept where there are any."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
