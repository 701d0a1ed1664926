"""Numbers as people export them: decimal commas, thousands separators, currency signs, parentheses."""

from __future__ import annotations

import re
from collections.abc import Callable

from usage_explore.files.values import InvalidValue, number_text, quoted

CODES_BY_SIGN = {
    "$": ("USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "MXN", "ARS", "CLP", "COP"),
    "€": ("EUR",),
    "£": ("GBP",),
    "¥": ("JPY", "CNY"),
    "₹": ("INR",),
}
"""Currency signs that numbers may have, and the currencies that they mean."""

SIGNS = "".join(CODES_BY_SIGN)

CODES_OF_SIGNS = {sign: codes[0] for sign, codes in CODES_BY_SIGN.items() if len(codes) == 1}
"""Signs that mean one currency; $ and ¥ mean several."""

_CURRENCY_SIGN = re.compile(r"^([+-]?)\s*(?:[$€£¥₹]|US\$)\s*([+-]?)|(?<!\s)\s*[$€£¥₹]$")
_IN_PARENTHESES = re.compile(r"\(([^()]+)\)")
_SEPARATED = {
    ".": re.compile(r"[+-]?\d{1,3}(?:([, '’\u00a0\u202f])\d{3})(?:\1\d{3})*(?:\.\d+)?", re.ASCII),
    ",": re.compile(r"[+-]?\d{1,3}(?:([. '’\u00a0\u202f])\d{3})(?:\1\d{3})*(?:,\d+)?", re.ASCII),
}
"""Decimal mark -> a number with thousands separators."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+", re.ASCII)


def number_reader(decimal: str | None) -> Callable[[object], str]:
    """A reader of numbers with the decimal mark "." or ","; with None, the mark is a point and nothing else is set.

    A currency sign is left out, and a number in parentheses is negative. Thousands separators are left out where the
    decimal mark is given; without it 1,234 may be 1234 or 1.234 and is refused. Raises `InvalidValue`.
    """

    def with_mark(raw: str, mark: str) -> str:
        text = bare_number(raw)
        if match := _SEPARATED[mark].fullmatch(text):
            text = text.replace(match[1], "")
        if mark == ".":
            return text
        if "." in text:
            raise InvalidValue(f"{quoted(raw)} has a point where the decimal mark is a comma (--decimal ,)")
        return text.replace(",", ".")

    def number(raw: object) -> str:
        if type(raw) is not str:
            return number_text(raw)
        if decimal != ",":
            try:
                return number_text(raw)
            except InvalidValue:
                if decimal is None and _is_ambiguous(text := bare_number(raw)):
                    raise InvalidValue(
                        f"{quoted(raw)} has a comma or thousands separators; name the decimal mark: --decimal . or"
                        " --decimal ,"
                    ) from None
                text = with_mark(raw, ".")
                if text == raw.strip():
                    raise
        else:
            text = with_mark(raw, ",")
        try:
            return number_text(text)
        except InvalidValue:
            if decimal == "," and "," in raw:
                raise InvalidValue(f"{quoted(raw)} is not a number with a decimal comma (--decimal ,)") from None
            return number_text(raw)  # raises, with the text of the file

    return number


def of_one_currency(number: Callable[[object], str]) -> Callable[[object], str]:
    """A reader of amounts with `number` that refuses one with another currency sign than the first that has a sign."""
    first: list[tuple[str, str]] = []

    def amount(raw: object) -> str:
        text = number(raw)
        if text is not raw and type(raw) is str and (sign := re.search(f"[{SIGNS}]", raw)):
            first[:] = first or [(sign[0], raw)]
            if sign[0] != first[0][0]:
                raise InvalidValue(
                    f"{quoted(raw)} has another currency sign than {quoted(first[0][1])}: name the column of the"
                    " currencies with --map external_cost_currency=COLUMN, or load a file for each currency"
                )
        return text

    return amount


def bare_number(text: str) -> str:
    """The text without currency sign and parentheses, which make it negative: "($1.50)" is "-1.50"."""
    text = text.strip()
    if match := _IN_PARENTHESES.fullmatch(text):
        text = "-" + match[1].strip()
    return _CURRENCY_SIGN.sub(r"\1\2", text)


def _is_ambiguous(text: str) -> bool:
    return _DECIMAL_COMMA.fullmatch(text) is not None or any(mark.fullmatch(text) for mark in _SEPARATED.values())
