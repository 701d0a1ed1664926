"""JSON without loss of digits: every number is read as a `Decimal` and written as it was read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any
from uuid import UUID

from usage_explore.files.sources import MAX_COLUMNS
from usage_explore.files.values import InvalidValue, Unreadable, check_size, quoted


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        (repeated, _) = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InvalidValue(f"the key {quoted(repeated)} stands twice in one object")
    return value


def _number(text: str) -> Decimal | Unreadable:
    if len(text) <= 300 and "e" not in text and "E" not in text:
        return Decimal(text)
    try:
        return check_size(text)
    except InvalidValue as error:
        return Unreadable(str(error))  # raised by the reader of its column, whose name the error has


def _constant(text: str) -> Unreadable:
    return Unreadable(f"{text} is not finite; NaN and infinite numbers have no exact sum")


_DECODER = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_constant, object_pairs_hook=_object)


_LENIENT_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, strict=False)
"""Finds where a value ends of which `_DECODER` refuses a part."""


def decode_at(text: str, start: int, *, lenient: bool = False) -> tuple[Any, int]:
    """The JSON value at `start`, as `loads` gives it, and where it ends.

    Raises `json.JSONDecodeError`, `RecursionError`, and `InvalidValue` for what JSON text may not hold here: repeated
    keys. A `lenient` value allows that, and its numbers are text.
    """
    return (_LENIENT_DECODER if lenient else _DECODER).raw_decode(text, start)


def loads(text: str) -> Any:
    """The JSON value, numbers as `Decimal`, `Unreadable` if they have too many digits or are not finite.

    Raises `InvalidValue` for text that is not JSON, and for repeated keys.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidValue(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise InvalidValue("is nested too deeply") from None


def loads_object(raw: object) -> Mapping[str, Any]:
    """A JSON object from its text, or as it is. Raises `InvalidValue` for any other value, and for too many keys."""
    value = loads(raw) if isinstance(raw, str) else raw
    if isinstance(value, Unreadable):
        raise InvalidValue(value.reason)
    if not isinstance(value, Mapping):
        raise InvalidValue(f'{quoted(raw)} is not a JSON object; write it like {{"model": "small"}}')
    if len(value) > MAX_COLUMNS:
        raise InvalidValue(f"has {len(value):,} keys; an object has at most {MAX_COLUMNS:,}, as a file has columns")
    return value


def dumps(value: object, *, sort: bool = False) -> str:
    """JSON text that PostgreSQL's jsonb accepts, numbers digit for digit; `sort` sorts the keys of objects.

    Dates, times and UUIDs are written as text. Raises `InvalidValue` for other types, NUL characters and half
    surrogate pairs.
    """
    try:
        text = _dumps(value, sort=sort)
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:
        raise InvalidValue("has half a surrogate pair in it, which is not text") from None
    except RecursionError:
        raise InvalidValue("is nested too deeply") from None
    return text


def _string(value: str) -> str:
    if "\0" in value:
        raise InvalidValue("has a NUL character in it, which PostgreSQL cannot keep")
    return encode_basestring(value)


def _dumps(value: object, *, sort: bool) -> str:
    if type(value) is str:
        return _string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Decimal, int)):
        return str(value)
    if isinstance(value, float):
        return str(check_size(repr(value)))
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise InvalidValue("has a key that is not text")
        items = sorted(value.items()) if sort else value.items()
        return "{" + ",".join(f"{_string(k)}:{_dumps(v, sort=sort)}" for k, v in items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_dumps(item, sort=sort) for item in value) + "]"
    if isinstance(value, (datetime, date, time)):
        return _string(value.isoformat())
    if isinstance(value, (UUID, timedelta)):
        return _string(str(value))
    if isinstance(value, Unreadable):
        raise InvalidValue(value.reason)
    if isinstance(value, bytes):
        raise InvalidValue("has binary data in it, which JSON cannot hold; make it text")
    raise InvalidValue(f"{quoted(value)} cannot be written as JSON")
