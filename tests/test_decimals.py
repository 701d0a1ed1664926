"""Numbers as text are plain and exact, whatever the decimal context."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from support.query_oracle import utc
from usage_explore.decimals import exact_sum, json_text, plain, rfc3339

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40)


@given(decimals)
def test_plain_text_is_exact_and_has_one_form(value: Decimal) -> None:
    text = plain(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert text != "-0"
    assert "." not in text or text[-1] not in "0."
    assert plain(Decimal(text)) == text


@given(st.integers())
def test_whole_numbers_of_any_size_are_exact(value: int) -> None:
    assert plain(value) == str(value)
    assert plain(123456789012345678901234567890) == "123456789012345678901234567890"


@given(st.lists(st.one_of(decimals, st.integers()), max_size=20))
def test_sums_keep_every_digit(values: list[int | Decimal]) -> None:
    with localcontext() as context:
        context.prec = 3
        total = exact_sum(values, 0)
    assert Fraction(total) == sum(map(Fraction, values))


def test_times_keep_microseconds_and_say_utc() -> None:
    assert rfc3339(utc(2026, 9, 1)) == "2026-09-01T00:00:00Z"
    assert rfc3339(utc(2026, 9, 1, 1, 2, 3, 4)) == "2026-09-01T01:02:03.000004Z"


def test_json_keeps_every_digit_and_takes_one_pass() -> None:
    value = {"a": [Decimal("1.50"), Decimal("1E-30"), "text"], "b": Decimal(7)}
    assert json_text(value) == '{"a": [1.50, 0.000000000000000000000000000001, "text"], "b": 7}'
    assert json_text([Decimal(1)] * 200_000) == f"[{', '.join(['1'] * 200_000)}]"
