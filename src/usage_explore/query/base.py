"""The base classes of queries: organization and filters, and for aggregates and billing periods a window of time.

A query is a frozen value, validated and canonical when it is created: tuples sorted, times in UTC, defaults filled in.
Equal queries are equal, hashable objects, so a query is its own cache key. Each parameter is declared once; its name,
bounds, help text and URL form follow from the declaration. Source: contract 2.1 to 2.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from usage_explore.decimals import plain
from usage_explore.errors import Fault, QueryError
from usage_explore.query import buckets, validators
from usage_explore.query.filters import (
    NOT,
    Exclusions,
    FilterFaults,
    Texts,
    dimension_filters,
    excess,
    exclusions,
    groups,
    in_python,
    texts,
    unfiltered,
    uuids,
)
from usage_explore.query.url_params import (
    START,
    START_PATHS,
    InPython,
    Params,
    check_path,
    explain,
    filter_values,
    from_pairs,
    page,
    pairs,
    query_string,
    to_pairs,
)

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # it has no public name

_optional_uuid = Annotated[UUID | None, BeforeValidator(validators.uuid)]
optional_instant = Annotated[datetime | None, BeforeValidator(validators.instant)]
optional_moment = Annotated[datetime | str | None, BeforeValidator(validators.moment)]
optional_decimal = Annotated[
    Decimal | None, BeforeValidator(validators.decimal), PlainSerializer(plain, when_used="json-unless-none")
]
_texts = Annotated[Texts, BeforeValidator(texts)]
_dimensions = Annotated[
    Exclusions,
    BeforeValidator(dimension_filters),
    InPython('Any of the values of each key, as text: {"model": ["atlas-large"], "region": "eu-west"}.'),
]
_exclusions = Annotated[
    Exclusions,
    BeforeValidator(exclusions),
    InPython(
        'Only events without these values, absent ones included: {"dim:model": ["atlas-mini"]}; '
        '{"missing": "dim:model"} excludes the absent ones.'
    ),
]
_PAGES = {"AggregateQuery": "Explore", "EventQuery": "Events", "Period": "Validate"}
"""The app's page for each class of query."""

_NOUNS = {"AggregateQuery": "aggregates", "EventQuery": "events", "Period": "billing periods"}
"""The classes of queries in words, for error messages that are read in Python and over HTTP."""

_EXAMPLE_ID = "0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11"
_Q = TypeVar("_Q", bound="Query")


class _OwnNamesFirst(ModelMetaclass):
    """Lists in `dir`, `help` and completion only a query's own names, without the forty of pydantic's BaseModel."""

    def __dir__(cls) -> list[str]:  # noqa: N805 - of a metaclass
        own = set(super().__dir__()) - set(dir(BaseModel))
        return sorted(name for name in own if not name.startswith("_"))


class Query(BaseModel, metaclass=_OwnNamesFirst):
    """Organization, filters and `as_of`, which all queries have. All filters AND together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    VIEW: ClassVar[tuple[str, ...]] = ()
    """Parameters of the app's links that only concern the display, such as the selected bar or the kind of chart."""

    organization_id: _optional_uuid = Field(
        None,
        description="The organization: checked against what the caller may see, never a grant.",
        examples=[_EXAMPLE_ID],
    )
    customer_id: _optional_uuid = Field(None, description="Only this customer's events.", examples=[_EXAMPLE_ID])
    product_id: _optional_uuid = Field(None, description="Only this product's events.", examples=[_EXAMPLE_ID])
    subscription_id: _optional_uuid = Field(
        None, description="Only this subscription's events.", examples=[_EXAMPLE_ID]
    )
    metric_key: Annotated[
        _texts, InPython('Any of these metric keys: "tokens_in", or a list; a comma is part of a key.')
    ] = Field(
        (),
        description="Any of these metric keys; repeatable or comma-separated, a literal comma is written \\, "
        "and a backslash \\\\.",
        examples=["tokens_in"],
    )
    price_key: _texts = Field((), description="Any of these price keys; repeatable.", examples=["tokens"])
    wallet_currency: _texts = Field((), description="Any of these wallet currencies; repeatable.", examples=["EUR"])
    external_cost_currency: _texts = Field(
        (), description="Any of these currencies of the cost, as exact text; repeatable.", examples=["USD"]
    )
    dimensions: _dimensions = Field(
        (),
        description="`dim:<key>=<value>`: any of the values given for a key, compared as text; repeatable.",
        examples=[{"dim:model": "large"}],
    )
    missing: Annotated[Texts, BeforeValidator(groups)] = Field(
        (),
        description="Only events where this column or `dim:<key>` is absent or null; repeatable.",
        examples=["dim:region"],
    )
    exclude: _exclusions = Field(
        (),
        description="`not:<parameter>=<value>`: only events without that value, absent ones included; the parameter is "
        "a column or dimension that can be grouped by, or, of single events, `id` or `idempotency_key`; "
        "`not:missing=<group>` excludes the absent ones; repeatable.",
        examples=[{"not:metric_key": "tokens_in", "not:missing": "dim:model"}],
    )
    as_of: optional_instant = Field(
        None,
        description="The answer as it was known then: only events with `ingested_at` at or before this time.",
        examples=["2026-10-01T00:05:00Z"],
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        explain(cls)

    def __init__(self, **given: object) -> None:
        known = type(self).model_fields
        faults = []
        for name in given:
            if name not in known:
                hint = validators.unknown_hint(name, known, in_python, self._owner_noun([name]))
                faults.append(Fault(validators.named(name), f"unknown parameter{hint}"))
        given = self._prepared({name: value for name, value in given.items() if name in known and value is not None})
        try:
            super().__init__(**given)
        except ValidationError as error:
            faults += [fault for detail in error.errors() for fault in _faults(detail)]
            valid = set(given) - {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
            # the valid parameters may contradict each other: report that in the same error
            super().__init__(**{name: given[name] for name in valid})
        faults += self._contradictions(set(given))
        if faults:
            raise QueryError(faults)

    @classmethod
    def from_params(cls, params: Params) -> Self:
        """The query of a link, a query string, a mapping, or (name, value) pairs. Raises `QueryError`.

        Display parameters are left out; a link with no parameter but `organization_id` is the page's start view.
        """
        given = [pair for pair in pairs(params) if pair[0] not in cls.VIEW]
        check_path(params, cls.__name__, [pair for pair in given if pair[0] != "organization_id"])
        if page(params) in START_PATHS.get(cls.__name__, ()) and not {name for name, _ in given} - {"organization_id"}:
            given += START[cls.__name__]
        foreign = cls._foreign(dict(given)) if isinstance(params, str) else []
        given = [pair for pair in given if pair[0] not in foreign]
        fields, faults = from_pairs(cls, given, lambda name: cls._owner_noun([name]))
        if foreign:
            owner = cls._owner(foreign)
            message = f"unknown parameter{'s' * (len(foreign) > 1)} of {cls.__name__}; this is a link of "
            message += f"{_PAGES[owner]}, use {owner}.from_params"
            faults.append(Fault(", ".join(foreign), message))
        try:
            query = cls(**fields)
        except QueryError as error:
            named = {fault.parameter for fault in faults}  # such as one given twice, which is then missing, too
            faults += [fault for fault in error.faults if fault.parameter not in named]
        if faults:
            raise QueryError(faults)
        return query

    @classmethod
    def _foreign(cls, names: Iterable[str]) -> list[str]:
        """The names of a link that another class of query has and this one has not.

        Empty if each of them has a synonym here, such as `since` for `occurred_after`.
        """
        foreign = [name for name in names if name not in cls.model_fields and cls._owner([name])]
        return foreign if any(validators.synonym(name, cls.model_fields) is None for name in foreign) else []

    @classmethod
    def _owner(cls, names: Iterable[str]) -> str:
        """The name of the other class of query that has most of the parameters, blank if none has any."""
        names = {*names} - {*cls.model_fields}
        heirs = (*EventFilters.__subclasses__(), *Windowed.__subclasses__())
        classes = {other.__name__: other for other in heirs if other.__name__ in _PAGES}.values()
        others = (other for other in classes if other is not cls)
        known = {other.__name__: len(names & {*other.model_fields, *other.VIEW}) for other in others}
        owner = max(known, key=known.__getitem__)
        return owner if known[owner] else ""

    @classmethod
    def _owner_noun(cls, names: Iterable[str]) -> str:
        """`_owner` in words: "aggregates (AggregateQuery)"."""
        owner = cls._owner(names)
        return f"{_NOUNS[owner]} ({owner})" if owner else ""

    def to_params(self) -> tuple[tuple[str, str], ...]:
        """The query as (name, value) pairs, in the order of declaration; defaults are left out."""
        return to_pairs(self)

    def query_string(self) -> str:
        """The parameters as a URL query string, without the leading `?`."""
        return query_string(self.to_params())

    def replace(self, **changes: object) -> Self:
        """A copy with some parameters changed; `None` restores a default. Raises `QueryError`."""
        return type(self)(**{**self.given(), **changes})

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The JSON of `model_dump_json`, which `model_validate_json` parses: defaults are left out."""
        given = self.given()
        return {name: value for name, value in dump(self).items() if name in given}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """`replace`, because pydantic's own `model_copy` does not validate."""
        return self.replace(**(update or {}))

    def __dir__(self) -> list[str]:
        return sorted({*type(self).model_fields, *dir(type(self))})

    def resolve(self, now: datetime) -> Self:
        """The query with absolute times at `now`, which must be aware. An `EventQuery` is absolute already."""
        parsed_instant("now", now)
        return self

    def is_open(self, now: datetime) -> bool:
        """Whether the answer changes with the time, even if no event arrives."""
        return self.as_of is None

    def pin(self, now: datetime, settle: timedelta, known: datetime | None = None) -> Self:
        """The query whose answer never changes: absolute times, `as_of` at least the settle time before `now`.

        `known` is the latest `ingested_at` by then: rows may still be written with a later one.
        """
        expect_instance("settle", settle, timedelta)
        limits = [parsed_instant("now", now) - settle, *(limit for limit in (self.as_of, known) if limit is not None)]
        return self.resolve(now).replace(as_of=min(limits))

    def given(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, by name."""
        fields = type(self).model_fields
        return {name: value for name, value in self if value != fields[name].default}

    def shared_with(self, model: type[BaseModel]) -> dict[str, Any]:
        """The parameters of `given` that another class of query has too, such as the filters."""
        given = {name: value for name, value in self.given().items() if name in model.model_fields}
        kept = tuple((name, values) for name, values in self.exclude if name not in unfiltered(model.model_fields))
        return given | {"exclude": kept} if given.get("exclude", kept) != kept else given

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in self.given().items():
            if isinstance(value, datetime):
                value = value.isoformat()
            elif isinstance(value, UUID):
                value = str(value)
            elif isinstance(value, Decimal):
                value = plain(value)
            elif value and isinstance(value, tuple) and isinstance(value[0], tuple):
                value = {key: list(values) for key, values in value}
            elif isinstance(value, tuple):
                value = list(value)
            yield name, value

    @classmethod
    def _prepared(cls, given: dict[str, object]) -> dict[str, object]:
        """The values before validation, with those converted that depend on another parameter."""
        return given

    def _contradictions(self, given: set[str]) -> list[Fault]:
        """The faults between parameters that are valid by themselves; `given` names the parameters that were passed."""
        unknown = sorted(unfiltered(type(self).model_fields) & dict(self.exclude).keys())
        owner = "unknown parameter; it belongs to"
        faults = [Fault(f"{NOT}{name}", f"{owner} {self._owner_noun([name])}") for name in unknown]
        return faults + excess(filter_values(self), *self._grouping())

    def _grouping(self) -> tuple[str, int]:
        """`group_by`, and the number of series that the query for the rows behind Other excludes."""
        return "none", 0


class EventFilters(Query):
    """Filters on what is single events' own. A billing period has none of them: it is validated whole."""

    id: Annotated[Texts, BeforeValidator(uuids)] = Field(
        (), description="Only the events with these ids; repeatable.", examples=[_EXAMPLE_ID]
    )
    idempotency_key: Annotated[
        _texts, InPython("Any of these idempotency keys: one key, or a list; a comma is part of a key.")
    ] = Field(
        (),
        description="Any of these idempotency keys, not split at commas; repeatable.",
        examples=["evt_2026-09-01_000042"],
    )
    ingested_after: optional_instant = Field(
        None,
        description="Only events with `ingested_at` at or after this RFC 3339 time.",
        examples=["2026-09-01T00:00:00Z"],
    )
    ingested_before: optional_instant = Field(
        None,
        description="Only events with `ingested_at` before this RFC 3339 time.",
        examples=["2026-10-01T00:00:00Z"],
    )
    quantity_min: optional_decimal = Field(
        None, description="Only events with at least this quantity, an exact decimal.", examples=["0.5"]
    )
    quantity_max: optional_decimal = Field(
        None, description="Only events with at most this quantity, an exact decimal.", examples=["1000"]
    )

    def _contradictions(self, given: set[str]) -> list[Fault]:
        faults = super()._contradictions(given)
        if self.ingested_after and self.ingested_before and self.ingested_after >= self.ingested_before:
            faults += _inverted("ingested_after", "ingested_before", "no event can match")
        least, most = self.quantity_min, self.quantity_max
        if least is not None and most is not None and least > most:
            faults += _inverted("quantity_min", "quantity_max", "no event can match", ("more than", "less than"))
        return faults


_TIME_HELP = (
    'an aware datetime, RFC 3339 text, a date (`date`, "2026-10-01", pandas\' Timestamp or Period: its midnight in '
    '`timezone`), or relative to now such as "-30d" (h, d, w); "-30d/d" is the start of that day in `timezone`.'
)


class Windowed(Query):
    """A query of a half-open window of time `[since, until)`, with a time zone."""

    since: Annotated[optional_moment, InPython(f"Window start, inclusive: {_TIME_HELP}")] = Field(
        "-30d",
        description="Window start, inclusive: RFC 3339, or relative to now such as -30d (h, d, w); "
        "-30d/d rounds down to the start of that day in `timezone`; /h, /w and /M to hour, week and month.",
        examples=["-30d", "2026-09-01T00:00:00Z"],
    )
    until: Annotated[optional_moment, InPython("Window end, exclusive: the same.")] = Field(
        "now", description="Window end, exclusive: RFC 3339, or relative to now.", examples=["now"]
    )
    window: Annotated[str | None, BeforeValidator(validators.calendar_window)] = Field(
        None,
        description="A calendar window in `timezone`, instead of `since` and `until`: a month such as 2026-09, "
        f"{', '.join(buckets.CALENDAR_WINDOWS[:-1])} or {buckets.CALENDAR_WINDOWS[-1]}. Weeks start on Monday.",
        examples=["2026-09", "last_month"],
    )
    timezone: Annotated[str, BeforeValidator(validators.zone_name)] = Field(
        "UTC",
        description="IANA time zone whose midnights and hours the buckets follow.",
        examples=["Europe/Berlin"],
    )

    @property
    def zone(self) -> ZoneInfo:
        """The time zone as an object."""
        return ZoneInfo(self.timezone)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The window `(since, until)` of a resolved query. Raises `ValueError` on a relative one."""
        if not isinstance(self.since, datetime) or not isinstance(self.until, datetime) or self.window:
            raise ValueError("the window is relative: call resolve(now) first")
        return self.since, self.until

    @property
    def is_relative(self) -> bool:
        """Whether the window depends on the current time."""
        if self.window is not None:
            return self.window in buckets.CALENDAR_WINDOWS
        return isinstance(self.since, str) or isinstance(self.until, str)

    @classmethod
    def _prepared(cls, given: dict[str, object]) -> dict[str, object]:
        """The values with dates, also of a pair to compare with, converted to their midnight in `timezone`."""
        try:
            zone = ZoneInfo(validators.zone_name(given.get("timezone", "UTC")))
        except ValueError:  # validation reports it
            zone = ZoneInfo("UTC")

        def midnight(value: object) -> object:
            day = validators.local_date(value)
            known = day and validators.EARLIEST.year <= day.year <= validators.LATEST.year
            return buckets.day_start(day, zone) if day and known else value

        result = given | {name: midnight(given[name]) for name in ("since", "until") if name in given}
        if isinstance(pair := given.get("compare"), tuple | list) and len(pair) == 2:
            result["compare"] = tuple(map(midnight, pair))
        return result

    def resolve(self, now: datetime) -> Self:
        """The query with an absolute window. Raises `QueryError` if it is empty or inverted, or begins before 1970."""
        now = parsed_instant("now", now)
        if self.window:
            since, until = buckets.calendar_window(self.window, now, self.zone)
            # the first and the last month reach beyond the accepted times in zones east and west of UTC
            since, until = max(since, validators.EARLIEST), min(until, validators.LATEST)
            return self.replace(window=None, since=since, until=until)
        if not self.is_relative:
            return self
        faults, absolute = [], {}
        for name in ("since", "until"):
            try:
                absolute[name] = validators.instant(buckets.absolute(getattr(self, name), now, self.zone))
            except (OverflowError, ValueError):
                faults.append(Fault(name, f"{getattr(self, name)} reaches before 1970-01-01; name a later time"))
        if faults:
            raise QueryError(faults)
        return self.replace(**absolute)

    def replace(self, **changes: object) -> Self:
        """A copy with some parameters changed; `window` and `since`/`until` replace each other. Raises `QueryError`."""
        given = self.given()
        if changes.get("window") is not None:
            given = {name: value for name, value in given.items() if name not in ("since", "until")}
        elif changes.get("since") is not None or changes.get("until") is not None:
            given.pop("window", None)
        return type(self)(**{**given, **changes})

    def _contradictions(self, given: set[str]) -> list[Fault]:
        faults = super()._contradictions(given)
        if "window" in given:
            ends = [name for name in ("since", "until") if name in given]
            faults += [Fault(name, "cannot be combined with window; give one or the other") for name in ends]
            if ends and self.window:
                faults.append(Fault("window", f"cannot be combined with {' and '.join(ends)}; give one or the other"))
            return faults
        if isinstance(self.since, datetime) and isinstance(self.until, datetime) and self.since >= self.until:
            faults += _inverted("since", "until", "the window is empty")
        return faults


def expect(model: type[_Q], value: object) -> _Q:
    """The value, which must be a query of that class. Raises `QueryError`."""
    if not isinstance(value, model):
        actual = type(value).__name__ if isinstance(value, Query) else validators.shorten(value)
        raise QueryError([Fault("query", f"needs {model.__name__}, not {actual}; make one with the same filters")])
    return value


def expect_instance(name: str, value: object, *kinds: type) -> None:
    """Raise `QueryError` that names the parameter unless the value is of one of the classes."""
    if not isinstance(value, kinds):
        needed = " or ".join(kind.__name__ for kind in kinds)
        raise QueryError([Fault(name, f"{validators.shorten(value)} is not a {needed}")])


def parsed_instant(name: str, value: object) -> datetime:
    """The value of a parameter as an aware datetime in UTC. Raises `QueryError` that names the parameter."""
    try:
        return validators.instant(value)
    except ValueError as error:
        raise QueryError([Fault(name, str(error))]) from None


def _inverted(first: str, second: str, effect: str, words: Iterable[str] = ("not before", "not after")) -> list[Fault]:
    """The faults of two bounds in the wrong order, one for each."""
    pairs = zip((first, second), words, (second, first), strict=True)
    return [Fault(name, f"is {word} {other}, so {effect}; swap or widen them") for name, word, other in pairs]


def _faults(detail: Any) -> Iterable[Fault]:
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, FilterFaults):
        return cause.faults
    return [Fault(str(detail["loc"][0]), str(cause) if cause else detail["msg"])]
