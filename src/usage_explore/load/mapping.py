"""How the columns of a file become events: options of the command line, and presets, which are the same as TOML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from usage_explore.db.schema import COLUMNS
from usage_explore.errors import ConfigurationError
from usage_explore.files.toml import parsed_toml
from usage_explore.files.values import InvalidValue
from usage_explore.formatting import path_text
from usage_explore.query.validators import did_you_mean

ID_COLUMNS = ("organization_id", "customer_id", "product_id", "subscription_id")
"""Columns whose text becomes a UUID where it is none."""

_LISTS = (
    "key",
    "only_with",
    "ignore",
    "keep",
    "scope",
    "cost_factors",
    "cost_plus",
    "measure_members",
)
"""Fields that are lists of columns; a preset may have a single one as text."""

MAX_PATTERN_REPEATS, MAX_PATTERN_GROUPS = 3, 3
"""Repeats (* + ? and {) and groups of the pattern `measure_names`."""

_COMPOSED = {"c": "abdHMSY", "x": "mdy", "X": "HMS"}
"""The directives that some of `strptime`'s stand for."""

MAX_MATCHED_CHARACTERS = 200
"""Characters of a name that `measure_names` can match; longer ones are no measures."""

Chains = Mapping[str, tuple[str, ...]]
"""Documented column -> columns of the file, or dotted paths into their JSON; the first that has a value gives it."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number column that becomes an event of its own: the event's metric, and columns that are subtracted.

    It is measured only in rows that have no value in the column `without`, which measures the same.
    """

    metric_key: str
    minus: tuple[str, ...] = ()
    without: str = ""


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """How a file's columns become events.

    `columns` and `constants` give documented columns; `defaults` are for rows without a value. `measures` gives an
    event for each of the named number columns of a row that is not empty and, unless `keep_zero`, not zero.
    `measure_members` are JSON objects, of which each number whose name fits the pattern `measure_names` is an event
    with the metric "metric_key.member", or "member" without a metric_key; a total beside its parts is none. A row
    without such a number is one event of its metric_key with quantity 1, or, without a metric_key, is measured by
    `measures`. A file that has none of the measures has one event a row, of the columns quantity and metric_key.

    The first event of a row carries its cost, so that costs add up, and the key of each is the row's, a colon and the
    metric. `cost_factors` are number columns, or numbers, whose product is the cost; `cost_plus` are columns, or paths
    into lists of objects, whose sum is added to it, such as credits. A constant currency is left out without a cost.

    `key` are the columns that together identify a row, or several such lists, of which a file has one; with
    `last_line_wins` only the last row of a key is loaded. `names` are the columns with a readable name for an id.
    `explode` is a JSON list whose items are the rows. `only_with` are columns of which every row of usage has one;
    other rows are skipped.

    `tags` are JSON objects whose members become dimensions with a prefix, as do columns whose names begin with a key of
    `tag_columns`. Other columns become dimensions if `dimensions`, but for those in `ignore`; `keep` are the only ones
    that do, where it is given. `flatten` makes a dimension of each member of an object, by its path.

    `timezone` is that of times without an offset and of dates; `time_format` is Python's (`%d.%m.%Y %H:%M`);
    `day_first` says what 03/04/2026 is, where the file's rows do not decide. `decimal` is the decimal mark, "." or ",";
    None refuses thousands separators. `null` are words for no value in columns of numbers and ids,
    `null_text` in any column.
    `scope` are the columns that name source and period for `--replace`. `ids_by_column`: a UUID is made of the file's
    column and text, not of the kind of id and text. `stated` are the columns and measures that options name, which the
    file must have.
    """

    columns: Chains = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)
    measure_members: tuple[str, ...] = ()
    measure_names: str = ".*"
    keep_zero: bool = False
    key: tuple[tuple[str, ...], ...] = ()
    names: Chains = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    tag_columns: Mapping[str, str] = field(default_factory=dict)
    cost_factors: tuple[str, ...] = ()
    cost_plus: tuple[str, ...] = ()
    last_line_wins: bool = False
    explode: str = ""
    only_with: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    flatten: bool = False
    dimensions: bool = True
    timezone: str | None = None
    time_format: str | None = None
    day_first: bool | None = None
    decimal: str | None = None
    null: frozenset[str] = frozenset()
    null_text: frozenset[str] = frozenset()
    scope: tuple[str, ...] = ()
    ids_by_column: bool = False
    stated: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raise `ConfigurationError` for names and values that cannot be."""
        for option, given in (("map", self.columns), ("set", self.constants), ("defaults", self.defaults)):
            for column in given:
                if column not in COLUMNS:
                    raise ConfigurationError(
                        f"{option}: {column!r} is not a column of the events table{did_you_mean(column, COLUMNS)}; "
                        f"there are {', '.join(COLUMNS)}"
                    )
        for column in self.names:
            if column not in ID_COLUMNS:
                raise ConfigurationError(f"names: {column!r} is none of {', '.join(ID_COLUMNS)}")
        if both := self.columns.keys() & self.constants.keys():
            raise ConfigurationError(f"set: {min(both)} is given by --map too; keep one of them")
        _check_pattern("measure_names", self.measure_names)
        if self.decimal not in (None, ".", ","):
            raise ConfigurationError(f"decimal: {self.decimal!r} is neither . nor ,")
        if self.timezone is not None:
            zone(self.timezone)
        _check_time_format(self.time_format or "")

    def with_options(self, **given: Any) -> ColumnMapping:
        """The mapping with options of the command line, which take precedence over the preset's.

        A column that `columns`, `constants` or `measures` give replaces what the preset has for it.
        """
        columns, constants = dict(self.columns), dict(self.constants)
        chosen, fixed = {**given.pop("columns", {})}, {**given.pop("constants", {})}
        for column, text in fixed.items():
            columns.pop(column, None)
            constants[column] = text
            if column in chosen:
                raise ConfigurationError(f"set: {column} is given by --map too; keep one of them")
        for column, sources in chosen.items():
            constants.pop(column, None)
            columns[column] = sources
        measures = stated = given.pop("measures", {})
        members = self.measure_members
        if measures:
            members = ()
            if both := {"quantity", "metric_key"} & (chosen.keys() | fixed.keys()):
                raise ConfigurationError(
                    f"measure: each measure is a quantity with its own metric, so {max(both)} cannot be given too"
                )
            for column in ("quantity", "metric_key"):
                columns.pop(column, None)
                constants.pop(column, None)
        elif "quantity" in chosen or "quantity" in fixed:
            members = ()
        else:
            measures = self.measures
        return replace(
            self,
            columns=columns,
            constants=constants,
            measures=measures,
            stated=frozenset(chosen) | frozenset(stated),
            measure_members=members,
            null=self.null | frozenset(given.pop("null", ())),
            **{name: value for name, value in given.items() if value is not None},
        )


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A mapping for the files of one product; recognized by any of the sets of columns in `recognize`."""

    name: str
    title: str
    recognize: tuple[frozenset[str], ...]
    mapping: ColumnMapping

    def fit(self, names: Iterable[str]) -> int:
        """The number of columns by which the file is recognized; 0 where it is not."""
        present = {name.strip().lower() for name in names}
        return max((len(columns) for columns in self.recognize if columns <= present), default=0)


class NamePattern:
    """A pattern of `measure_names`, which no name of more than `MAX_MATCHED_CHARACTERS` matches."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def matches(self, name: str) -> bool:
        """Whether the whole name fits."""
        return len(name) <= MAX_MATCHED_CHARACTERS and self._pattern.fullmatch(name) is not None


def _check_time_format(form: str) -> None:
    """Raise `ConfigurationError` where strptime would read a part of each time and leave it out of account."""
    parts = re.findall("%(.)", form.replace("%%", ""))
    numbers = Counter("".join(_COMPOSED.get(part, part) for part in parts))
    ignored = ""
    if "p" in parts and "I" not in parts:
        ignored = "%p (AM or PM) counts only with %I; write %I in place of %H"
    elif "I" in parts and "p" not in parts:
        ignored = "%I is an hour of half a day; write %H, or %p where AM or PM stands"
    elif "Z" in parts[:-1] or ("Z" in parts and not form.endswith("%Z")):
        ignored = "%Z (the abbreviation of a zone) must be last"
    elif {"U", "W"} & {*parts}:
        ignored = "weeks (%U, %W) are not read; write the date"
    elif repeated := [part for part, number in numbers.items() if number > 1]:
        ignored = f"%{repeated[0]} may stand once"
    if ignored:
        raise ConfigurationError(f"time_format: {form!r}: {ignored}")


def _check_pattern(key: str, pattern: str) -> None:
    """Raise `ConfigurationError` for a pattern that is none, or that can take long: time grows with each repeat."""
    plain = re.sub(r"\\.|\[\^?\]?[^]]*\]", "x", pattern)
    if re.search(r"\)[*+?{]", plain):
        raise ConfigurationError(f"{key}: a group in it may not be repeated; write (a|b) without * + ? or {{")
    repeats = len(re.findall(r"(?<!\()[*+?{]", re.sub(r"([*+}])\?", r"\1", plain)))
    groups = plain.count("(") - len(re.findall(r"\(\?[aiLmsux-]+\)", plain))
    if repeats > MAX_PATTERN_REPEATS or groups > MAX_PATTERN_GROUPS:
        raise ConfigurationError(
            f"{key}: {pattern!r} can take long: it has {repeats} of * + ? or {{, at most {MAX_PATTERN_REPEATS} are"
            f" allowed, and {groups} groups, at most {MAX_PATTERN_GROUPS}"
        )
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigurationError(f"{key}: {pattern!r} is no pattern: {error}") from None


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises `ConfigurationError`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            f"timezone: {name!r} is not an IANA time zone; write one like UTC or Europe/Berlin"
        ) from None


@cache
def presets() -> tuple[Preset, ...]:
    """The presets of the package, by name."""
    folder = resources.files("usage_explore.load") / "presets"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return tuple(parse_preset(entry.read_text("utf-8"), entry.name.removesuffix(".toml")) for entry in files)


def preset_named(name: str) -> Preset:
    """The preset of a name, or of a TOML file (`./mine.toml`). Raises `ConfigurationError`."""
    for known in presets():
        if known.name == name:
            return known
    path = Path(name)
    if path.suffix != ".toml":
        names = [known.name for known in presets()]
        raise ConfigurationError(
            f"preset: there is no preset {name!r}{did_you_mean(name, names)}; there are {', '.join(names)}, or a file"
            " of your own such as ./mine.toml"
        )
    try:
        return parse_preset(path.read_text("utf-8"), path.stem)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"preset: {path_text(path)} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def recognized(names: Sequence[str]) -> Preset | None:
    """The preset whose columns a file has, that with most columns where several fit; None where none fits."""
    fits = [(known.fit(names), known) for known in presets()]
    best = max((fit for fit, _ in fits), default=0)
    return next(known for fit, known in fits if fit == best) if best else None


def parse_preset(text: str, name: str) -> Preset:
    """A preset from TOML. Raises `ConfigurationError` naming the key that is wrong."""
    try:
        given = parsed_toml(text)
    except InvalidValue as error:
        raise ConfigurationError(f"preset: {name} {error}") from error
    for key, value in given.items():
        accepted = _ACCEPTED.get(key)
        if accepted is not None and not accepted[0](value):
            raise ConfigurationError(f"preset: {name}: {key}: is not {accepted[1]}")
    title = given.pop("title", name)
    recognize = tuple(frozenset(column.lower() for column in columns) for columns in given.pop("recognize", []))
    known = {item.name: item for item in fields(ColumnMapping) if item.name in _ACCEPTED}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise ConfigurationError(f"preset: {name}: unknown key {key!r}{did_you_mean(key, known)}")
        values[key] = _value(key, value)
    try:
        mapping = ColumnMapping(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"preset: {name}: {error}") from None
    return Preset(name=name, title=title, recognize=recognize, mapping=mapping)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return _is_text(value) or (isinstance(value, list) and all(map(_is_text, value)))


def _is_lists(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, list) and all(map(_is_text, item)) for item in value)


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int, Decimal)) and not isinstance(value, bool)


def _is_measure(value: object) -> bool:
    if not isinstance(value, dict):
        return _is_text(value)
    kinds = {"metric_key": _is_text, "minus": _is_texts, "without": _is_text}
    return "metric_key" in value and all(key in kinds and kinds[key](item) for key, item in value.items())


def _table_of(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


_TEXT = (_is_text, "text")
_TRUTH = (lambda value: isinstance(value, bool), "true or false")
_TEXTS = (_is_texts, "a list of text, or one text")
_TABLE_OF_TEXTS = (_table_of(_is_texts), "a table of text, or of lists of text")
_TABLE_OF_SCALARS = (_table_of(_is_scalar), "a table of text or numbers")

_ACCEPTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("title", "explode", "measure_names", "timezone", "time_format", "decimal"), _TEXT),
    **dict.fromkeys(
        ("keep_zero", "last_line_wins", "flatten", "dimensions", "day_first", "ids_by_column"),
        _TRUTH,
    ),
    **dict.fromkeys((*_LISTS, "null", "null_text"), _TEXTS),
    **dict.fromkeys(("columns", "names"), _TABLE_OF_TEXTS),
    **dict.fromkeys(("constants", "defaults"), _TABLE_OF_SCALARS),
    **dict.fromkeys(("tags", "tag_columns"), (_table_of(_is_text), "a table of text")),
    "cost_factors": (
        lambda value: _is_scalar(value) or (isinstance(value, list) and all(map(_is_scalar, value))),
        "a list of columns or numbers",
    ),
    "key": (lambda value: _is_texts(value) or _is_lists(value), "a list of columns, or of such lists"),
    "recognize": (_is_lists, "a list of lists of columns"),
    "measures": (_table_of(_is_measure), "a table of metrics, or of tables with metric_key, minus and without"),
}
"""Key of a preset -> (whether it can have the value, which values it accepts)."""


def _value(key: str, value: Any) -> Any:
    """The value of a field of `ColumnMapping` from its TOML value."""
    if key in ("columns", "names"):
        return {column: _texts(sources) for column, sources in value.items()}
    if key == "measures":
        return {
            source: Measure(metric_key=metric)
            if isinstance(metric, str)
            else Measure(
                metric_key=metric["metric_key"],
                minus=_texts(metric.get("minus", ())),
                without=metric.get("without", ""),
            )
            for source, metric in value.items()
        }
    if key in ("constants", "defaults", "tags", "tag_columns"):
        return {column: str(text) for column, text in value.items()}
    if key == "key" and _is_lists(value):
        return tuple(map(tuple, value))
    if key in _LISTS:
        return (_texts(value),) if key == "key" else _texts(value)
    if key in ("null", "null_text"):
        return frozenset(_texts(value))
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else (str(value),)
