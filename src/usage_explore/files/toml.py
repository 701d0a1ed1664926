"""TOML as files of prices, bounds and presets have it: UTF-8 with or without a byte order mark, exact numbers."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from usage_explore.files.values import InvalidValue

MAX_KEY_PARTS = 16
"""Parts of a dotted key, such as 2 of `price.tiers`: the memory of `tomllib` grows with their square."""

MAX_NESTED_TABLES = 10_000
"""Different tables and dotted keys, and parts of keys beyond the second: each takes 1 kB or more in `tomllib`.
`[[prices.tiers]]` is one however often it comes."""

_PART = r"""(?:"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|[A-Za-z0-9_-]++)"""
_TOKENS = re.compile(
    rf'''#[^\n]*+|"""(?:[^"\\]|\\.|"(?!""))*+(?:"{{3,5}}+)?|\'\'\'(?:[^']|'(?!''))*+(?:'{{3,5}}+)?'''
    rf"|(?P<key>{_PART}(?:[ \t]*+\.[ \t]*+{_PART})*+)",
    re.DOTALL,
)
"""Comments, texts of several lines, and keys or values, each read once, whatever the file has."""

_END_OF_HEADER, _END_OF_DOTTED = re.compile(r"[ \t]*+\]"), re.compile(r"[ \t]*+[=\]]")
"""What follows a key that makes a table; nothing of it follows a number but the last one of a list."""


def read_toml(path: Path, max_bytes: int, advice: str = "") -> dict[str, Any]:
    """The content of a TOML file.

    Raises `InvalidValue` for more than `max_bytes` bytes, followed by `advice`, and for what is not TOML; `OSError`.
    """
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)  # a pipe or device has no size
    if len(content) > max_bytes:
        raise InvalidValue(f"is larger than {max_bytes:,} bytes{advice}")
    return parsed_toml(content)


def parsed_toml(content: bytes | str, max_tables: int = MAX_NESTED_TABLES) -> dict[str, Any]:
    """The content of a TOML file, its decimals digit for digit. Raises `InvalidValue` with the reason."""
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content.removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise InvalidValue("is not UTF-8; save it so") from None
    _check_keys(text, max_tables)
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidValue(f"is not TOML: {error}") from None
    except ValueError:  # of int, which converts at most 4,300 digits
        raise InvalidValue("has an integer of more than 4,300 digits; shorten it") from None
    except ArithmeticError:  # of Decimal
        raise InvalidValue("has a number whose exponent no number here may have; correct it") from None


def _check_keys(text: str, max_tables: int) -> None:
    tables: set[str] = set()
    deep = 0
    for match in _TOKENS.finditer(text):
        key = match["key"]
        if not key:
            continue
        parts = len(re.findall(_PART, key)) if "." in key else 1
        deep += max(parts - 2, 0)
        if parts > MAX_KEY_PARTS:
            raise InvalidValue(f"has a key of more than {MAX_KEY_PARTS} parts; shorten it")
        if _END_OF_DOTTED.match(text, match.end()) if parts > 1 else _END_OF_HEADER.match(text, match.end()):
            tables.add(key)
        if deep + len(tables) > max_tables:
            raise InvalidValue(f"has more than {max_tables:,} tables within tables; use lists of tables")
