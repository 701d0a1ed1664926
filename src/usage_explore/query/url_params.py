"""The URL form of queries: (name, value) pairs, query strings and links, parsed and written.

Names are the fields' own, except `dim:<key>=<value>` for `dimensions` and `not:<parameter>=<value>` for `exclude`.
`metric_key` may also have several values separated by commas. The empty text as a value of a text column is written
`empty=<column>`, or `not:empty=<column>` to exclude it: `price_key=` is an error.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from inspect import Parameter, Signature, cleandoc
from textwrap import fill
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from usage_explore.decimals import plain, rfc3339
from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.filters import DIMENSION, EMPTY, EMPTY_COLUMNS, dimension_group
from usage_explore.query.filters import NOT as NOT
from usage_explore.query.limits import MAX_PARAMETERS, MAX_QUERY_STRING_BYTES

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Pairs = list[tuple[str, str]]

Params = str | Mapping[str, str | Iterable[str]] | Iterable[tuple[str, str]]
"""A link or query string, a mapping, or (name, value) pairs."""

_PREFIXED = {"dimensions": DIMENSION, "exclude": NOT}
_EMPTY: dict[str, tuple[str, tuple[str, ...]]] = {EMPTY: ("", EMPTY_COLUMNS), f"{NOT}{EMPTY}": (NOT, EMPTY_COLUMNS)}
"""The parameters for empty texts: the prefix of the parameter that gets the value, and the columns that they take."""

_TEXTS = frozenset(prefix + name for prefix, columns in _EMPTY.values() for name in columns)
_COMMA_SEPARATED = frozenset({"metric_key", f"{NOT}metric_key"})
START = {
    "AggregateQuery": (("since", "-29d/d"), ("group_by", "metric_key")),
    "Period": (("window", "last_month"),),
}
"""Parameters of a page's start view, which opens for a link with no parameter but `organization_id`."""

START_PATHS = {"AggregateQuery": ("", "explore"), "Period": ("validate",)}
"""The last part of the path of the pages with a start view."""

_PATHS = {
    "AggregateQuery": (*START_PATHS["AggregateQuery"], "embed", "aggregate", "aggregate.png", "aggregate.svg"),
    "EventQuery": ("events", "usage-events", "export"),
    "LeaderboardQuery": ("leaderboards",),
    "Period": (*START_PATHS["Period"], "validations", "ratings"),
}
"""The last part of the path of links that may have no parameter: they mean all that the query means without any."""

_SHORT_LINK = re.compile(r"/s/[^/]+\Z", re.ASCII)

_PIECES = re.compile(r"\\[,\\]|[^,\\]+|,|\\")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|/", re.IGNORECASE | re.ASCII)
_HOST = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class InPython:
    """Help text of a parameter that is written differently in Python and in links, as metadata of its field."""

    text: str


def pairs(params: Params) -> Pairs:
    """Parameters in any form as pairs. Raises `QueryError` for malformed text, and for values that are not text."""
    if isinstance(params, str):
        return _split(params)
    if not isinstance(params, Mapping):
        try:
            return [(_plain(name), _plain(value)) for name, value in params]
        except (TypeError, ValueError):
            raise _malformed("is neither text nor a mapping nor (name, value) pairs of text") from None
    result: Pairs = []
    faults: list[Fault] = []
    for name, value in params.items():
        if value is None:
            continue
        single = isinstance(value, str | bytes) or hasattr(type(value), "_fields") or not isinstance(value, Iterable)
        values = [value] if single else value
        try:
            items = [(_plain(name), _plain(item)) for item in values if item is not None]
        except TypeError as error:
            faults.append(Fault(validators.shorten(name).strip("'"), str(error)))
            continue
        if not items:
            faults.append(Fault(validators.named(str(name)), "has no values; leave the parameter out to mean any"))
        result += items
    if faults:
        raise QueryError(faults)
    return result


def page(params: Params) -> str | None:
    """The last part of the path of a whole link, such as `validate`, blank for the root; None without a path."""
    address = re.split(r"[?#]", params, maxsplit=1)[0] if isinstance(params, str) else ""
    return _HOST.sub("", address, count=1).rpartition("/")[2] if _ADDRESS.match(address) else None


def check_path(params: Params, name: str, given: Pairs) -> None:
    """Raises `QueryError` for a link that holds no query of the class `name`: an unknown path is not everything."""
    last = page(params)
    if last is None:
        return
    if _SHORT_LINK.search(re.split(r"[?#]", str(params), maxsplit=1)[0]):
        message = "is a short link, whose query the server keeps: store.link(url).query has it, or open the link and"
        raise QueryError([Fault("link", f"{message} copy the address of the page")])
    if not given and last not in _PATHS.get(name, ()):
        message = f"has no parameter, and its path is none of {name}; copy the whole address of a page"
        raise QueryError([Fault("link", message)])


def _fixed_names(model: type[BaseModel]) -> tuple[str, ...]:
    """The parameter names without those that have a prefix."""
    return tuple(name for name in model.model_fields if name not in _PREFIXED)


def explain(model: type[BaseModel]) -> None:
    """Set a query class's signature and docstring, for `help` and tooltips, from its field declarations."""
    fields = model.model_fields.items()
    model.__signature__ = Signature(
        [Parameter(name, Parameter.KEYWORD_ONLY, default=field.default) for name, field in fields]
    )
    texts = [f"{name}: {_help_text(field)}" for name, field in fields]
    lines = "\n".join(fill(text, 110, initial_indent="    ", subsequent_indent="        ") for text in texts)
    model.__doc__ = f"{cleandoc(model.__doc__ or '')}\n\nParameters (several values are a list):\n{lines}"


def _help_text(field: FieldInfo) -> str:
    texts = (item.text for item in field.metadata if isinstance(item, InPython))
    return next(texts, (field.description or "").replace("; repeatable", ""))


def from_pairs(
    model: type[BaseModel], given: Pairs, owner: Callable[[str], str] = lambda _: ""
) -> tuple[dict[str, object], list[Fault]]:
    """The fields of a query from pairs, and the faults of the pairs themselves.

    `owner` gives the other queries that have a parameter, such as "aggregates (AggregateQuery)".
    """
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in given:
        values[name].append(value)
    fields: dict[str, object] = {}
    prefixed: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    faults: list[Fault] = []
    empty: set[str] = set()
    if "price_key" in model.model_fields:
        for name in sorted(_EMPTY.keys() & values):
            groups = values.pop(name)
            prefix, columns = _EMPTY[name]
            columns = tuple(column for column in columns if column in model.model_fields)
            empty |= {prefix + group for group in groups if group in columns}
            message = f"is not one of {', '.join(columns)}; for a dimension write dim:<key>="
            others = (group for group in groups if group not in columns)
            faults += [Fault(name, f"{validators.shorten(group)} {message}") for group in others]
    for name in (*values, *sorted(empty - values.keys())):
        try:
            items = [part for item in values.get(name, ()) for part in _items(name, item)]
            items += [""] * (name in empty)
            field = next((field for field, prefix in _PREFIXED.items() if name.startswith(prefix)), None)
            if field:
                prefixed[field][name] = items
            elif name not in _fixed_names(model):
                known = (*_fixed_names(model), "dim:<key>", "not:<parameter>")
                hint = validators.unknown_hint(name, known, "{}=…".format, owner(name))
                raise ValueError(f"unknown parameter{hint}")
            elif name in ("since", "until") and validators.is_date(items[0]):
                validators.instant(items[0])  # raises: only in Python is a date a midnight in `timezone`
            elif model.model_fields[name].default == ():
                fields[name] = items
            elif len(items) > 1:
                raise ValueError("is given more than once; give it once")
            else:
                fields[name] = items[0]
        except ValueError as error:
            faults.append(Fault(validators.named(name), str(error)))
    return {**fields, **prefixed}, faults


def to_pairs(query: BaseModel) -> tuple[tuple[str, str], ...]:
    """The query's parameters as pairs, in the order of declaration; defaults are left out."""
    return tuple((name, _escaped(name, text)) for name, text in values(query))


def values(query: BaseModel) -> Iterator[tuple[str, str]]:
    """`to_pairs` without escapes: each value as plain text."""
    for name, value in _named_values(query):
        column = name.removeprefix(NOT)
        empty = value == "" and name in _TEXTS
        yield (name.replace(column, EMPTY), column) if empty else (name, value)


def _named_values(query: BaseModel) -> Iterator[tuple[str, str]]:
    for name, value in query:
        if value == type(query).model_fields[name].default:
            continue
        if name in _PREFIXED:
            named = dimension_group if name == "dimensions" else NOT.__add__
            yield from ((named(key), item) for key, items in value for item in items)
        else:
            yield from ((name, _text(item)) for item in (value if isinstance(value, tuple) else [value]))


def filter_values(query: BaseModel) -> Iterator[tuple[str, str]]:
    """The pairs of parameters that may have several values."""
    fields = type(query).model_fields
    return (pair for pair in values(query) if pair[0] not in fields or fields[pair[0]].default == ())


def query_string(given: Iterable[tuple[str, str]]) -> str:
    """Pairs as a query string, with `:` and `,` unescaped for readability."""
    return urlencode(list(given), safe=":,")


def link(app_url: str, page: str, query: BaseModel) -> str:
    """The app's URL of a query; `page` is "" (Explore), "events" or "validate"."""
    return f"{app_url}/{page}?{query_string(to_pairs(query))}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return plain(value)
    return rfc3339(value) if isinstance(value, datetime) else str(value)


def _escaped(name: str, text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,") if name in _COMMA_SEPARATED else text


def _items(name: str, value: str) -> list[str]:
    if name in _TEXTS and not value:
        column = name.removeprefix(NOT)
        empty = f"{name.replace(column, EMPTY)}={column}"
        raise ValueError(f"is blank; give a value, leave the parameter out, or write {empty} for the empty text")
    if name not in _COMMA_SEPARATED:
        return [value]
    items: list[list[str]] = [[]]
    for piece in _PIECES.findall(value):
        if piece == "\\":
            raise ValueError(r"has a lone backslash; write \\ for a backslash and \, for a comma")
        if piece == ",":
            items.append([])
        else:
            items[-1].append(piece[1:] if piece.startswith("\\") else piece)
    if [] in items:
        raise ValueError(
            r"has an empty item between commas; write \, for a literal comma, empty=metric_key for the empty text"
        )
    return ["".join(pieces) for pieces in items]


def _split(params: str) -> Pairs:
    query = params.partition("#")[0]
    query = query.partition("?")[2] if _ADDRESS.match(query) else query.lstrip("?")
    size, number = len(query.encode(errors="surrogatepass")), query.count("&") + 1
    if size > MAX_QUERY_STRING_BYTES:
        raise _malformed(f"has {size:,} bytes, more than {MAX_QUERY_STRING_BYTES:,}; shorten it")
    if number > MAX_PARAMETERS:
        raise _malformed(f"has {number:,} parameters, more than {MAX_PARAMETERS:,}; name fewer")
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict")
    except ValueError:
        raise _malformed("is not valid percent-encoded UTF-8; encode it again") from None


def _plain(value: object) -> str:
    """A name or a value of a mapping or pair as text."""
    with suppress(Exception):  # text of any class may raise anything
        if value is not None and not isinstance(value, bytes | tuple):
            return _text(value)
    raise TypeError(f"{validators.shorten(value)} is not text")


def _malformed(message: str) -> QueryError:
    return QueryError([Fault("query string", message)])
