"""TOML as files of prices, bounds and presets have it: UTF-8 with or without a byte order mark, exact numbers."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import Any

from usage_explore.files.values import InvalidValue


def parsed_toml(content: bytes | str) -> dict[str, Any]:
    """The content of a TOML file, its decimals digit for digit. Raises `InvalidValue` with the reason."""
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content.removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise InvalidValue("is not UTF-8; save it so") from None
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidValue(f"is not TOML: {error}") from None
    except ValueError:  # of int, which converts at most 4,300 digits
        raise InvalidValue("has an integer of more than 4,300 digits; shorten it") from None
