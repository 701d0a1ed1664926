"""Escaping of text that a spreadsheet would run as a formula, as OWASP advises for CSV.

An apostrophe is put before text that begins, after white space and quotation marks, with = + - @ or a full-width form
of them, or with a tab, a line break or an apostrophe. Numbers such as -60 are not escaped. To reverse it, remove one
leading apostrophe.
Where the semicolon separates lists, as in much of Europe, a spreadsheet splits CSV there, also in quoted text: what
follows a semicolon in a text is escaped like a text, and what follows a line break, where such a spreadsheet ends the
row; each has one more apostrophe to remove.
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_DANGEROUS = re.compile(r"[\s\ufeff\"]*[=+\-@＝＋－＠]|[\t\r\n']")
_SEPARATOR = re.compile(r"(\r\n|[;\r\n])")
_NUMBER = re.compile(r" *[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+|Infinity)([eE][+-]?[0-9]+)? *")

MEANING = (
    "Put an apostrophe before text that a spreadsheet would run as a formula: text, not a number, that begins with "
    "= + - @ a tab, a line break or an apostrophe, also after quotation marks, and within a text after a semicolon or "
    "a line break. To read it back remove one apostrophe at the beginning and after each of them. Without it every "
    "text is exact."
)
"""Help text of `escape_formulas` in Python, over HTTP, in the app and in the command line."""


def escaped(text: str) -> str:
    r"""The text, with an apostrophe where a cell or line may begin, if a spreadsheet would run what follows.

    >>> escaped("=1+1"), escaped("-60"), escaped("'tis"), escaped("plain"), escaped("a;=1;b"), escaped('a;"=1')
    ("'=1+1", '-60', "''tis", 'plain', "a;'=1;b", 'a;\'"=1')
    """
    parts = ["", *_SEPARATOR.split(text)]
    result: list[str] = []
    for before, part, after in zip(parts[::2], parts[1::2], [*parts[2::2], ""], strict=True):
        start = part or (after if before in ("", ";") else "")
        result.append(f"{before}{_apostrophe(start, start if result else text)}{part}")
    return "".join(result)


def original(text: str) -> str:
    r"""The text that was escaped.

    >>> original("'=1+1"), original("''tis"), original("a;'=1;b"), original("a\n'=1")
    ('=1+1', "'tis", 'a;=1;b', 'a\n=1')
    """
    return "".join(part.removeprefix("'") for part in _SEPARATOR.split(text))


def _apostrophe(start: str, whole: str) -> str:
    """An apostrophe if the text that begins so, which may go on beyond a separator, is dangerous and no number."""
    return "'" if _DANGEROUS.match(start) and not _NUMBER.fullmatch(whole) else ""


def column(values: Iterable[object]) -> list[object]:
    """The values, with every text escaped."""
    return [escaped(value) if isinstance(value, str) else value for value in values]
