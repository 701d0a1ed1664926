"""The bounds of the checks: declared once with unit, meaning, default and range, and overridden by a TOML file.

A bound is a module constant that is called for the value in force: the default, or that of the validation that runs.

    >>> MIN_EVENTS = Bound("my_check", "min_events", 50, "events", 1, 10_000, "Events from which a customer is judged.")
    >>> MIN_EVENTS()
    50
    >>> with in_force(read_bounds({"my_check": {"min_events": 20}}, [MIN_EVENTS])):
    ...     MIN_EVENTS()
    20

A file has a table for each check; durations are numbers in the bound's unit:

    [my_check]
    min_events = 20
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from usage_explore.decimals import plain
from usage_explore.errors import Fault, QueryError
from usage_explore.files.toml import read_toml
from usage_explore.files.values import InvalidValue
from usage_explore.formatting import path_text
from usage_explore.query import validators

Value: TypeAlias = "int | float | Decimal | timedelta"
V = TypeVar("V", bound="int | float | Decimal | timedelta")

BoundsSource: TypeAlias = "Path | str | Mapping[str, Mapping[str, object]] | Bounds"
"""A `.toml` file, its tables as a mapping, or bounds that were read before."""

PARAMETER = "bounds"
"""The argument that faults name."""

MAX_BYTES = 1_000_000
"""Size of a file of bounds."""

_MAX_DECIMALS = 30
"""Decimals of a bound, at most."""

_WIDTH = 110
"""Characters of a comment line in a file of bounds."""

_RATIOS = ("share", "factor", "probability", "logarithm")
"""Units that are no things to count."""

_UNITS = {
    "weeks": timedelta(weeks=1),
    "days": timedelta(days=1),
    "hours": timedelta(hours=1),
    "minutes": timedelta(minutes=1),
    "seconds": timedelta(seconds=1),
}
"""The units of durations."""


@dataclass(frozen=True, slots=True, eq=False)
class Bound(Generic[V]):
    """One bound of a check: `check` and `name` are its table and key in a file.

    `unit` is that of the number in a file: `events`, `share` (0.1 is a tenth), `factor`; of a duration `weeks`, `days`,
    `hours`, `minutes` or `seconds`. `meaning` says what it bounds and its effect, in one sentence. A file may give
    `minimum` to `maximum`, both included, in the unit.
    """

    check: str
    name: str
    default: V
    unit: str
    minimum: float
    maximum: float
    meaning: str

    def __call__(self) -> V:
        """The value in force."""
        values = _IN_FORCE.get(None)
        return self.default if values is None else values.value(self)

    @property
    def key(self) -> str:
        """The name with its table: `silence.min_days`."""
        return f"{self.check}.{self.name}"

    def number(self, value: V) -> str:
        """A value in the unit, as a file has it: `0.1`, `36`."""
        if isinstance(value, timedelta):
            return plain(
                _decimal(value / timedelta(microseconds=1)) / _decimal(_UNITS[self.unit].total_seconds() * 1e6)
            )
        return plain(_decimal(value))

    def words(self, value: V) -> str:
        """A value with its unit: `36 hours`, `0.1 (share)`."""
        return self._with_unit(self.number(value))

    def parsed(self, raw: object) -> V:
        """The value of a number in a file. Raises `ValueError` with the reason, which follows the bound's key."""
        if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
            raise ValueError(f"is {validators.shorten(raw)}, no number; give one of {self.range}")
        try:
            number, kind = _decimal(raw), type(self.default)
        except ValueError:  # of int, which writes at most 4,300 digits
            raise ValueError(f"has more than 4,300 digits; give {self.range}") from None
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int) and exponent < -_MAX_DECIMALS:
            raise ValueError(f"is {validators.shorten(raw)}, of more than {_MAX_DECIMALS} decimals; give fewer")
        if not number.is_finite() or not _decimal(self.minimum) <= number <= _decimal(self.maximum):
            raise ValueError(f"is {validators.shorten(raw)}; give {self.range}")
        if isinstance(self.default, timedelta):
            return timedelta(microseconds=round(float(number) * _UNITS[self.unit].total_seconds() * 1e6))  # type: ignore[return-value]
        if isinstance(self.default, int) and number != int(number):
            raise ValueError(f"is {validators.shorten(raw)}; give a whole number of {self.unit}")
        return kind(number)  # type: ignore[arg-type]

    @property
    def range(self) -> str:
        """The values that a file may give: `0 to 1 (share)`, `1 to 400 days`."""
        return f"{plain(_decimal(self.minimum))} to {self._with_unit(plain(_decimal(self.maximum)))}"

    def _with_unit(self, number: str) -> str:
        return f"{number} ({self.unit})" if self.unit in _RATIOS else f"{number} {self.unit}"


class CheckBounds:
    """The bounds that a module declares in the table of `check`, in their order.

    >>> BOUNDS = CheckBounds("my_check")
    >>> MIN_EVENTS = BOUNDS.add("min_events", 50, "events", 1, 10_000, "Events from which a customer is judged.")
    >>> [bound.key for bound in BOUNDS]
    ['my_check.min_events']
    """

    def __init__(self, check: str) -> None:
        self._check = check
        self._declared: list[Bound[Any]] = []

    def add(self, name: str, default: V, unit: str, minimum: float, maximum: float, meaning: str) -> Bound[V]:
        """Declare a bound, see `Bound`."""
        bound = Bound(self._check, name, default, unit, minimum, maximum, meaning)
        self._declared.append(bound)
        return bound

    def __iter__(self) -> Iterator[Bound[Any]]:
        return iter(self._declared)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds that differ from their defaults, by key; `texts` has them in words: `5 days, by default 3`."""

    changed: tuple[tuple[str, Value], ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict, compare=False)
    _values: Mapping[str, Value] = field(default_factory=dict, compare=False, repr=False)

    def value(self, bound: Bound[V]) -> V:
        """The value of a bound in force."""
        return self._values.get(bound.key, bound.default) if self._values else bound.default  # type: ignore[return-value]


NO_BOUNDS = Bounds()
"""Every bound at its default."""

_IN_FORCE: ContextVar[Bounds | None] = ContextVar("bounds in force", default=None)


@contextmanager
def in_force(bounds: Bounds) -> Iterator[None]:
    """Within, in this thread, bounds that are called have these values."""
    token = _IN_FORCE.set(bounds)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def read_bounds(source: BoundsSource, known: Iterable[Bound[Any]]) -> Bounds:
    """The bounds in a file or mapping. Raises `QueryError` that names every unknown or invalid one, with a hint."""
    if isinstance(source, Bounds):
        return source
    tables = source if isinstance(source, Mapping) else _file(Path(source))
    by_key = {bound.key: bound for bound in known}
    checks = {bound.check for bound in by_key.values()}
    faults: list[Fault] = []
    values: dict[str, Value] = {}
    for check, table in tables.items():
        if check not in checks:
            hint = validators.did_you_mean(str(check), checks)
            faults.append(Fault(PARAMETER, f"[{validators.shorten(check)}] is no check with bounds{hint}"))
            continue
        if not isinstance(table, Mapping):
            faults.append(Fault(PARAMETER, f"{check} is a value; write a table [{check}] with a line for each bound"))
            continue
        for name, raw in table.items():
            bound = by_key.get(f"{check}.{name}")
            if bound is None:
                of_check = [each.name for each in by_key.values() if each.check == check]
                hint = validators.did_you_mean(str(name), of_check) or f"; it has {', '.join(sorted(of_check))}"
                faults.append(Fault(PARAMETER, f"[{check}] {validators.shorten(name)} is no bound{hint}"))
                continue
            try:
                values[bound.key] = bound.parsed(raw)
            except ValueError as error:
                faults.append(Fault(PARAMETER, f"[{check}] {name} {error}"))
    if faults:
        raise QueryError(faults)
    changed = {key: value for key, value in values.items() if value != by_key[key].default}
    texts = {
        key: f"{by_key[key].words(value)}, by default {by_key[key].number(by_key[key].default)}"
        for key, value in sorted(changed.items())
    }
    return Bounds(tuple(sorted(changed.items())), texts, changed)


def toml(known: Iterable[Bound[Any]]) -> str:
    """The file with every bound at its value in force: a table for each check, and each bound's meaning and range."""
    lines: list[str] = []
    last = None
    for bound in known:
        if bound.check != last:
            lines += ["", f"[{bound.check}]"]
            last = bound.check
        lines += textwrap.wrap(bound.meaning, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"{bound.name} = {bound.number(bound())}  # {bound.range}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _file(path: Path) -> Mapping[str, object]:
    named = path_text(path)
    try:
        return read_toml(path, MAX_BYTES)
    except OSError as error:
        raise QueryError([Fault(PARAMETER, f"{named}: cannot be read: {error.strerror or error}")]) from None
    except InvalidValue as error:
        raise QueryError([Fault(PARAMETER, f"{named}: {error}")]) from None


def _decimal(value: object) -> Decimal:
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(str(value))
