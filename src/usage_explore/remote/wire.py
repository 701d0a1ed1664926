"""Results as JSON that the same class is built from again, exactly: what the package sends to itself over HTTP.

`encoded` and `decoded` know the classes of `_MODULES` and no others, so that an answer can name no code to run. Fields
that hold a store are left out, and filled by the receiver with its own.

    Decimal("1.50")         {"d": "1.50"}
    (1, "a")                [1, "a"]
    Hit("id", "7", 1)       {"$": "Hit", "group": "id", "value": "7", "events": 1, "name": null}
    AggregateQuery(top=3)   {"$": "AggregateQuery", "params": [["top", "3"]]}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any
from uuid import UUID

from usage_explore.errors import ConfigurationError
from usage_explore.query.base import Query

MEDIA_TYPE = "application/vnd.usage-explore.result+json"
ARROW = "application/vnd.apache.arrow.stream"

_PACKAGE = "usage_explore."
_MODULES = {
    "answers": ("Aggregate", "Leaderboards"),
    "db.names": ("Entry",),
    "event_pages": ("EventPage",),
    "explain.result": ("Cell", "Explanation", "Part", "Peak"),
    "explain.spans": ("Span",),
    "names": ("Names",),
    "pricing.amounts": ("TierAmount",),
    "pricing.book": ("Price", "PriceBook", "Tier"),
    "pricing.rating": ("Margin", "RatedLine", "Rating", "UnpricedUsage"),
    "query.queries": ("AggregateQuery", "EventQuery", "LeaderboardQuery", "Period"),
    "records.views": ("SavedView",),
    "results.currencies": ("CurrencyCost",),
    "results.leaders": ("Leader", "Leaderboard"),
    "results.types": (
        *("Change", "Choice", "Comparison", "Event", "Hit", "Point", "PointChange", "Ratio"),
        *("Series", "SeriesChange", "Served"),
    ),
    "sql.later_arrivals": ("Unexamined",),
    "validation.bounds": ("Bounds",),
    "validation.check": ("Finding", "Outcome"),
    "validation.periods": ("Totals",),
    "validation.result": ("Result", "Validation"),
}
"""The modules of the classes that are sent."""

_STORE = "store"
"""The field of the sender's store."""

_MICROSECOND = timedelta(microseconds=1)


def dumps(result: object) -> bytes:
    """The result with the version of the package, as JSON. Raises `TypeError` for a class that is not sent."""
    body = {"version": version("usage-explore"), "result": encoded(result)}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def loads(content: bytes, store: object = None, read: Callable[[Any], Any] = lambda result: result) -> Any:
    """What `read` makes of the result that `dumps` wrote, its pages and answers with this store.

    Raises `ConfigurationError` if it is of a version of the package with other classes, a web page, or nothing that
    `read` can read.
    """
    if content.lstrip().startswith(b"<"):
        raise ConfigurationError(
            "url: a web page is at this address, not the API; give the address at which usage-explore opens, such as"
            " https://usage.example.com"
        )
    sender = "the server"
    try:
        body = json.loads(content)
        sender = f"the server's, {body['version']!s:.40}"
        return read(decoded(body["result"], store))
    except Exception as error:  # whatever a constructor says to arguments that it does not expect
        raise ConfigurationError(
            f"url: this version, {version('usage-explore')}, cannot read the answer of {sender}"
            f" ({type(error).__name__}); install the same version of usage-explore on both"
        ) from error


def one(*kinds: type[Any] | None) -> Callable[[Any], Any]:
    """The check that a result is of one of these types; None stands for no result."""
    types = tuple(type(None) if kind is None else kind for kind in kinds)

    def read(result: Any) -> Any:
        if not isinstance(result, types):
            raise TypeError(type(result).__name__)
        return result

    return read


def listed(kind: type[Any]) -> Callable[[Any], list[Any]]:
    """The check that a result has items of this type only."""
    return lambda result: [one(kind)(item) for item in one(list, tuple)(result)]


def encoded(value: Any) -> Any:
    """A value as JSON can hold it."""
    if value is None or isinstance(value, bool | int | str):
        return value if type(value) in (bool, int, str, type(None)) else _plain_scalar(value)
    for kind, tag, write in _SCALARS:
        if isinstance(value, kind):
            return {tag: write(value)}
    if isinstance(value, Mapping):
        return {"dict": [[encoded(key), encoded(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return {"list": [encoded(item) for item in value]}
    if isinstance(value, frozenset):
        return {"set": [encoded(item) for item in value]}
    return _object(value)


def decoded(value: Any, store: object = None) -> Any:
    """The value that `encoded` wrote. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
    if isinstance(value, list):
        return tuple(decoded(item, store) for item in value)
    if not isinstance(value, dict):
        return value
    if "$" in value:
        return _built(value, store)
    ((tag, content),) = value.items()
    if tag == "dict":
        return {decoded(key, store): decoded(item, store) for key, item in content}
    if tag == "list":
        return [decoded(item, store) for item in content]
    if tag == "set":
        return frozenset(decoded(item, store) for item in content)
    return _READERS[tag](content)


def _plain_scalar(value: Any) -> Any:
    """A subclass of a JSON type, such as a value of an enumeration, as that type."""
    return next(kind(value) for kind in (bool, int, str) if isinstance(value, kind))


_SCALARS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (Decimal, "d", str),
    (datetime, "t", lambda value: value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()),
    (date, "y", date.isoformat),  # a datetime is one, too
    (timedelta, "s", lambda value: value // _MICROSECOND),
    (UUID, "u", str),
    (float, "f", repr),
)
_READERS: dict[str, Callable[[Any], Any]] = {
    "d": Decimal,
    "t": datetime.fromisoformat,
    "y": date.fromisoformat,
    "s": lambda content: content * _MICROSECOND,
    "u": UUID,
    "f": float,
}


@cache
def _class(name: str) -> type:
    """The class of a name. Raises `KeyError` for one that is not sent."""
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise KeyError(name)
    return getattr(import_module(_PACKAGE + module), name)  # type: ignore[no-any-return]


def _object(value: Any) -> Any:
    kind: Any = type(value)
    name = kind.__name__
    if name == "Check":
        return {"$": name, "name": value.name}
    if name == "DataFrame":
        return {"$": name, "columns": [_column(value.iloc[:, index]) for index in range(value.shape[1])]}
    if any(name in names for names in _MODULES.values()):
        if isinstance(value, Query):
            return {"$": name, "params": [list(pair) for pair in value.to_params()]}
        return {"$": name, **{field: encoded(getattr(value, field)) for field in _fields(kind) if field != _STORE}}
    if isinstance(value, tuple) and not hasattr(kind, "_fields"):  # a named tuple would lose its names
        return [encoded(item) for item in value]
    raise TypeError(f"{kind.__qualname__} is not sent")


def _built(value: dict[str, Any], store: object) -> Any:
    name = value["$"]
    if name == "Check":
        from usage_explore.validation.registry import CHECKS

        return CHECKS[value["name"]]
    if name == "DataFrame":
        return _frame(value["columns"])
    kind: Any = _class(name)
    if issubclass(kind, Query):
        return kind.from_params([(parameter, text) for parameter, text in value["params"]])
    names = _fields(kind)
    given = {field: decoded(item, store) for field, item in value.items() if field in names}
    return kind(**given, **({_STORE: store} if _STORE in names else {}))


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    """The arguments of a dataclass or named tuple."""
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind) if field.init)
    named: tuple[str, ...] = kind._fields
    return (*named, "name") if kind.__name__ == "Choice" else named


def _column(column: Any) -> list[Any]:
    """Name, dtype and values of a frame's column."""
    import pandas as pd

    values = [None if present else item for item, present in zip(column.astype(object), pd.isna(column), strict=True)]
    values = [item.to_pydatetime() if isinstance(item, pd.Timestamp) else item for item in values]
    return [str(column.name), str(column.dtype), [encoded(item) for item in values]]


def _frame(columns: list[list[Any]]) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {name: pd.Series([decoded(item) for item in values], dtype=dtype) for name, dtype, values in columns}
    )
