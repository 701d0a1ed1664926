"""Columns and dimensions that can be filtered and grouped by, and the canonical form of filters with several values.

A *group* is a column or a dimension: `metric_key`, `customer_id`, …, `dim:<key>`. `group_by` and `missing` take the
same names, and exclusions take them after `not:`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import cast

from usage_explore.errors import Fault
from usage_explore.query import validators
from usage_explore.query.limits import MAX_DIMENSIONS, MAX_KEY_BYTES, MAX_VALUES

Texts = tuple[str, ...]
"""Distinct texts in code-point order."""

Exclusions = tuple[tuple[str, Texts], ...]
"""(name, values) pairs in code-point order of the names."""

ID_COLUMNS = ("customer_id", "product_id", "subscription_id")
"""UUID columns that can be filtered and grouped by."""

CURRENCY = "external_cost_currency"
"""The column with the currency of an event's cost, as exact text: `usd` and `USD` are two currencies."""

TEXT_COLUMNS = ("metric_key", "price_key", "wallet_currency", CURRENCY)
"""Text columns that can be filtered and grouped by."""

GROUPS = (*ID_COLUMNS, *TEXT_COLUMNS)
"""Columns that can be grouped by, beside `dim:<key>`."""

LOOKED_UP = ("id", "idempotency_key")
"""Columns that can be filtered by but not grouped by: each value has few events, found by an index of its own."""

DIMENSION = "dim:"
"""Prefix of a dimension's key as a group and as a parameter."""

NOT = "not:"
"""Prefix of a parameter that excludes its values."""

EMPTY = "empty"
"""Parameter for the empty text as a value of a text column."""

EMPTY_COLUMNS = (*TEXT_COLUMNS, "idempotency_key")
"""Columns that `empty` and `not:empty` take."""

EXCLUDABLE = (*GROUPS, *LOOKED_UP)
"""Columns whose values can be excluded, beside `dim:<key>`; a query without the filter `id` has no `LOOKED_UP`."""

_ABSENT = ("missing", f"{NOT}missing")


class FilterFaults(ValueError):
    """Faults of a field that holds several parameters: each fault names its own."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


def group(value: object, *, none: bool = False) -> str:
    """A column or `dim:<key>`; also `none` if allowed. Raises `ValueError`."""
    word = validators.text(value)
    if word.startswith(DIMENSION):
        if word == DIMENSION:
            raise ValueError("names no dimension; write dim:<key>, for example dim:model")
        size = len(word.removeprefix(DIMENSION).encode())
        if size > MAX_KEY_BYTES:
            raise ValueError(
                f"names a dimension of {size:,} bytes, more than the {MAX_KEY_BYTES:,} that a key may have"
            )
        return word
    allowed = ("none", *GROUPS) if none else GROUPS
    if word not in allowed:
        meant = validators.with_prefix(word)
        hint = f", did you mean {validators.named(meant)}?" if meant else validators.did_you_mean(word, allowed)
        hint = hint or f"; for a dimension write {validators.named(DIMENSION + word)}"
        raise ValueError(f"{validators.shorten(word)} is not one of {', '.join(allowed)} or dim:<key>{hint}")
    return word


def dimension_key(name: str) -> str:
    """The key of a dimension in a filter, from `dim:<key>` or the key alone: `model` for both.

    A key that itself begins with `dim:` keeps a second prefix: `dim:dim:model` is the key `dim:model`.
    """
    key = name.removeprefix(DIMENSION)
    return DIMENSION + key if key.startswith(DIMENSION) else key


def dimension_group(key: str) -> str:
    """The group `dim:<key>` of a `dimension_key`."""
    return key if key.startswith(DIMENSION) else DIMENSION + key


def in_python(parameter: str) -> str:
    """How `dim:<key>` or `not:<parameter>` is written as an argument: `dimensions={'model': …}`."""
    if parameter.startswith(NOT):
        return f"exclude={{{parameter.removeprefix(NOT)!r}: …}}"
    return f"dimensions={{{parameter.removeprefix(DIMENSION)!r}: …}}"


def texts(value: object) -> Texts:
    """One text or several; the empty text only in a list, such as `[""]`, where it cannot mean "any"."""
    if isinstance(value, str) and not value:
        raise ValueError('is blank; give a value, leave the parameter out, or write [""] for the empty text')
    return tuple(sorted({validators.text(item, blank=True) for item in _items(value)}))


def unfiltered(parameters: Iterable[str]) -> set[str]:
    """The columns of single events that a query with these parameters can neither filter by nor exclude."""
    return {*LOOKED_UP} - {*parameters}


def uuids(value: object) -> Texts:
    """One UUID or several, as canonical text."""
    return tuple(sorted(map(str, set(validators.every(validators.uuid, _items(value))))))


def groups(value: object) -> Texts:
    """One group or several."""
    return tuple(sorted(set(validators.every(group, _items(value)))))


def dimension_filters(value: object) -> Exclusions:
    """Dimension keys, with or without `dim:`, each with its texts; the empty text is a value."""
    faults: list[Fault] = []
    result: dict[str, Texts] = {}
    spelled: dict[str, str] = {}
    for given, values in _entries(value, "model"):
        key = dimension_key(given)
        name = dimension_group(key)
        try:
            group(name)
            if spelled.setdefault(key, given) != given:
                raise ValueError(f"is given twice, as {validators.named(spelled[key])} and with dim:; give it once")
            result[key] = _both(result.get(key), _dimension_texts(values, name))
        except ValueError as error:
            faults.append(Fault(validators.named(name), str(error)))
    return _canonical(result, faults)


def exclusions(value: object) -> Exclusions:
    """Parameters, with or without `not:`, each with the values to exclude; `missing` excludes absent values."""
    faults: list[Fault] = []
    result: dict[str, Texts] = {}
    for given, values in _entries(value, "dim:model"):
        name = given.removeprefix(NOT)
        try:
            result[name] = _both(result.get(name), _excluded(name, values))
        except ValueError as error:
            faults.append(Fault(validators.named(f"not:{name}"), str(error)))
    return _canonical(result, faults)


def excess(given: Iterable[tuple[str, str]], group_by: str, kept: int) -> list[Fault]:
    """The faults of filters, as (parameter, value) pairs, that exceed `MAX_VALUES` or `MAX_DIMENSIONS` together.

    `kept` series, at least one with a grouping, count as values and `group_by` as a dimension, so that the query for
    the rows behind a series, which has its value, or behind Other, which excludes the kept series, stays within the
    same bounds.
    """
    faults = []
    pairs = list(given)
    if len(pairs) + min(kept, 1) > MAX_VALUES:
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        most = f"{MAX_VALUES - 1:,} beside a grouping" if len(pairs) == MAX_VALUES else f"{MAX_VALUES:,}"
        message = f"makes it {len(pairs):,} values in all filters, more than {most}; give fewer values"
        faults.append(Fault(validators.named(name), message))
    elif len(pairs) + kept > MAX_VALUES:
        message = f"keeps {kept:,} series beside {len(pairs):,} filter values, together more than {MAX_VALUES:,}"
        faults.append(Fault("top", f"{message}; keep fewer"))
    named = {(value if name in _ABSENT else name.removeprefix(NOT)): name for name, value in reversed(pairs)}
    named.setdefault(group_by, "group_by")
    dimensions = [name for group, name in named.items() if group.startswith(DIMENSION)]
    if len(dimensions) > MAX_DIMENSIONS:
        message = f"makes it {len(dimensions):,} dimensions in one query, more than {MAX_DIMENSIONS:,}; name fewer"
        faults.append(Fault(validators.named(dimensions[-1]), message))
    return faults


def _excluded(name: str, values: object) -> Texts:
    if name == "missing":
        return groups(values)
    try:
        name in LOOKED_UP or group(name)
    except ValueError:
        known = ("missing", *EXCLUDABLE)
        meant = validators.with_prefix(name)
        hint = f", did you mean {validators.named(NOT + meant)}?" if meant else validators.did_you_mean(name, known)
        if not hint and name not in ("", DIMENSION):
            hint = f"; for a dimension write {validators.named(NOT + DIMENSION + name)}"
        raise ValueError(f"unknown parameter{hint}; not: takes {', '.join(known)} or dim:<key>") from None
    if name in (*ID_COLUMNS, "id"):
        return uuids(values)
    if name.startswith(DIMENSION):
        return _dimension_texts(values, name)
    return texts(values)


def _dimension_texts(values: object, name: str) -> Texts:
    items = [values] if values is None else _items(values)
    if any(item is None for item in items):
        raise ValueError(f"None is not a value; for events without it use missing={validators.named(name)}")
    return tuple(sorted({validators.text(item, blank=True) for item in items}))


def _items(value: object) -> list[object]:
    single = isinstance(value, str | bytes | Mapping) or hasattr(type(value), "_fields")  # a named tuple is one value
    if isinstance(value, Iterable) and not single:
        items = list(value)
        if not items:
            raise ValueError("has no values; leave the parameter out to mean any")
        return items
    return [value]


def _entries(value: object, example: str) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        value = list(value.items())
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise ValueError(f'is not a mapping such as {{"{example}": ["large"]}}')
    entries = list(value)
    if not all(isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], str) for entry in entries):
        raise ValueError(f'is not a mapping such as {{"{example}": ["large"]}}')
    return cast("list[tuple[str, object]]", entries)


def _both(some: Texts | None, more: Texts) -> Texts:
    return tuple(sorted({*some, *more})) if some else more


def _canonical(entries: dict[str, Texts], faults: list[Fault]) -> Exclusions:
    if faults:
        raise FilterFaults(faults)
    return tuple(sorted(entries.items()))
