"""Escaping of text that a spreadsheet would run as a formula, as OWASP advises for CSV.

An apostrophe is put before text that begins, after white space, with = + - @ or a full-width form of them, or with a
tab, a line break or an apostrophe. Numbers such as -60 are not escaped. To reverse it, remove one leading apostrophe.
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_DANGEROUS = re.compile(r"[\s\ufeff]*[=+\-@＝＋－＠]|[\t\r\n']")
_NUMBER = re.compile(r" *[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+|Infinity)([eE][+-]?[0-9]+)? *")

MEANING = (
    "Put an apostrophe before text that a spreadsheet would run as a formula: text, not a number, that begins with "
    "= + - @ a tab, a line break or an apostrophe. To read it back remove one leading apostrophe. Without it every "
    "text is exact."
)
"""Help text of `escape_formulas` in Python, over HTTP, in the app and in the command line."""


def escaped(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet would run it as a formula.

    >>> escaped("=1+1"), escaped("-60"), escaped("'tis"), escaped("plain")
    ("'=1+1", '-60', "''tis", 'plain')
    """
    return f"'{text}" if _DANGEROUS.match(text) and not _NUMBER.fullmatch(text) else text


def column(values: Iterable[object]) -> list[object]:
    """The values, with every text escaped."""
    return [escaped(value) if isinstance(value, str) else value for value in values]
