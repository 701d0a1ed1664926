"""Texts in records: what people write, notes and who wrote them, and numbers."""

from __future__ import annotations

from decimal import Decimal

from usage_explore.query import validators

LOCAL_AUTHOR = "local"
"""The author of a record that was made without sign-in and without a name."""

MAX_NOTE_CHARACTERS = 2_000
MAX_AUTHOR_CHARACTERS = 320
"""Characters of a note and of an author; an e-mail address has at most 320."""

_MAX_DIGITS = 150_000
"""Digits of a number before its point, and after it: PostgreSQL's have up to 131,072, of a sum some more."""

_JOINERS = "\u200c\u200d"
"""Zero-width characters that scripts and emoji need; other invisible ones are refused."""


def note(value: str) -> str:
    """A note of several lines. Raises `ValueError` for one that is too long, or has control characters."""
    text = validators.text(value, blank=True).replace("\r\n", "\n").strip()
    if not is_printable(text, "\n\t"):
        raise ValueError("has a control character or an invisible one; write it in plain text")
    return bounded(text, MAX_NOTE_CHARACTERS)


def given_author(value: str) -> str:
    """An author as it was typed. Raises `ValueError` for a blank one, or one with control characters."""
    text = value.strip()
    if not text:
        raise ValueError("is blank; name a person or a team, or leave it out")
    if not is_printable(text):
        raise ValueError("has a line break, a control character or an invisible one; write it in plain text")
    return bounded(text, MAX_AUTHOR_CHARACTERS)


def author(value: str) -> str:
    """The author's name or address on one line; a sign-in's address is not refused for its form."""
    text = "".join(letter for letter in str(value) if letter.isprintable()).strip()
    return text[:MAX_AUTHOR_CHARACTERS] or LOCAL_AUTHOR


def is_printable(text: str, also: str = "") -> bool:
    """Whether a text has only visible characters, joiners and those of `also`."""
    return text.translate(dict.fromkeys(map(ord, _JOINERS + also))).isprintable()


def number(text: str) -> Decimal:
    """A number of a record. Raises `ValueError` for one whose digits would fill the memory, such as 1e999999999."""
    value = Decimal(text)
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and max(value.adjusted(), exponent, -exponent) > _MAX_DIGITS:
        raise ValueError(f"{validators.shorten(text)} has more than {_MAX_DIGITS:,} digits")
    return value


def bounded(text: str, most: int) -> str:
    """The text. Raises `ValueError` for one that is too long."""
    if len(text) > most:
        raise ValueError(f"has {len(text):,} characters, more than {most:,}; shorten it")
    return text
