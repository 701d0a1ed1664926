"""Exact arithmetic, and numbers and times as the text that machines read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
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
from typing import Any

Number = int | Decimal

UNIT_COST_DIGITS = 12
"""Significant digits of a unit cost."""

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer up to which a double holds every integer."""

_PLACEHOLDER = re.compile(r'"\\u0000(\d+)\\u0000"')
_UNIT_COST = Context(prec=UNIT_COST_DIGITS, rounding=ROUND_HALF_EVEN, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])  # opposite infinities sum to NaN, as in SQL


def plain(value: int | Decimal) -> str:
    """`value` without exponent, without trailing fractional zeros, and `-0` as `0`.

    >>> plain(Decimal("1E-7")), plain(Decimal("2.500")), plain(Decimal("-0.0"))
    ('0.0000001', '2.5', '0')
    """
    text = str(value) if type(value) is int else format(value, "f")  # int's "f" goes through a double
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def exact_sum(values: Iterable[Number], zero: Number) -> Number:
    """The sum to the last digit; the default decimal context would round at 28 digits."""
    values = list(values)
    kinds = {type(zero), *map(type, values)}
    if kinds == {int}:
        return sum(values, zero)
    if kinds == {Decimal}:
        return reduce(_EXACT.add, values, zero)
    return reduce(lambda a, b: a + b if isinstance(a, int) and isinstance(b, int) else _EXACT.add(a, b), values, zero)


def exact_product(values: Iterable[Decimal]) -> Decimal:
    """The product to the last digit, 1 of none."""
    return reduce(_EXACT.multiply, values, Decimal(1))


def total(values: Iterable[Decimal]) -> Decimal:
    """The exact sum of decimals, 0 of none; NaN where opposite infinities meet."""
    return Decimal(exact_sum(values, Decimal(0)))


def difference(after: Number, before: Number) -> Number:
    """`after - before` to the last digit; an `int` where both are."""
    if isinstance(after, int) and isinstance(before, int):
        return after - before
    return exact_sum((Decimal(after), Decimal(before).copy_negate()), Decimal(0))  # unary minus would round


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


def unit_cost(cost: Decimal, quantity: Decimal) -> Decimal | None:
    """`cost / quantity`, rounded half-even to 12 significant digits; None for a quantity of 0.

    >>> unit_cost(Decimal(2), Decimal(3)), unit_cost(Decimal(2), Decimal(0))
    (Decimal('0.666666666667'), None)
    """
    return _UNIT_COST.add(_UNIT_COST.divide(cost, quantity), 0) if quantity else None  # no -0


def rfc3339(instant: datetime) -> str:
    """`instant` in UTC with `Z`, microseconds kept where there are any."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def instant_texts() -> Callable[[datetime], str]:
    """`rfc3339` that writes an object once: the points of all series share those of their buckets' edges.

    By identity, since two times of one zone that differ in `fold` are equal and not the same instant.
    """
    texts: dict[int, tuple[datetime, str]] = {}

    def text(instant: datetime) -> str:
        known = texts.get(id(instant))
        if known is None:
            known = texts[id(instant)] = instant, rfc3339(instant)
        return known[1]

    return text


def dimension_text(value: Any) -> str | None:
    """The text that PostgreSQL's `->>` gives of a JSON value, which filters compare; None of null.

    >>> dimension_text(Decimal("1.50")), dimension_text({"a": [True, "b"]})
    ('1.50', '{"a": [true, "b"]}')
    """
    return value if value is None or isinstance(value, str) else json_text(value)


def json_text(value: Any) -> str:
    """JSON as PostgreSQL writes jsonb: decimals as bare numbers with every digit, which json.dumps cannot write."""
    numbers: list[str] = []

    def placeholder(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: placeholder(member) for key, member in item.items()}
        if isinstance(item, list):
            return [placeholder(member) for member in item]
        if isinstance(item, Decimal):
            numbers.append(format(item, "f"))
            return f"\0{len(numbers) - 1}\0"
        return item

    text = json.dumps(placeholder(value), ensure_ascii=False)
    return _PLACEHOLDER.sub(lambda match: numbers[int(match[1])], text)


def json_dimensions(dimensions: Any) -> Any:
    """Dimensions for JSON: a value that a reader of JSON could write otherwise is text instead, as `->>` gives it.

    So are numbers with trailing zeros, such as 1.50, or with more digits than a double holds, and lists and objects
    that contain one.
    """
    if isinstance(dimensions, dict):
        return {key: _json_dimension(value) for key, value in dimensions.items()}
    return _json_dimension(dimensions)


def _json_dimension(value: Any) -> Any:
    return _with_doubles(value) if _is_kept(value) else dimension_text(value)


def _is_kept(value: Any) -> bool:
    """Whether the shortest form of each double in a JSON value has the digits of the number."""
    if isinstance(value, dict | list):
        return all(map(_is_kept, value.values() if isinstance(value, dict) else value))
    if isinstance(value, Decimal):
        return repr(float(value)) == format(value, "f") and not format(value, "f").endswith("0")
    return not isinstance(value, int) or abs(value) <= MAX_SAFE_INTEGER


def _with_doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_doubles(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value
