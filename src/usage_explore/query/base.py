"""What every question shares: whose events, which of them, and where it is asked of a window, since and until when.

A question is validated and canonical the moment it exists: tuples sorted, times in UTC, defaults filled. So
equal questions are equal objects, hashable, and the question is the cache key. Every parameter is declared
once; its name, bounds, help and URL form follow from the declaration. Source: contract 2.1 to 2.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from usage_explore.errors import Fault, QueryError
from usage_explore.query import buckets, relative_time, validators
from usage_explore.query.filters import (
    DIMENSION,
    Exclusions,
    FilterFaults,
    Texts,
    dimension_filters,
    excess,
    exclusions,
    groups,
    texts,
)
from usage_explore.query.url_params import (
    InPython,
    Params,
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
_moment = Annotated[datetime | str | None, BeforeValidator(validators.moment)]
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
"""The page of the app that asks each question."""
START = {
    "AggregateQuery": (("since", "-30d/d"), ("group_by", "metric_key")),
    "Period": (("window", "last_month"),),
}
"""Parameters of the app's start view, which a link opens that names an organization at most."""
_START_PATHS = {"AggregateQuery": ("", "explore"), "Period": ("validate",)}
"""The last part of the path of the pages that have it."""
_SOME_ID = "0a7f3c52-5f0e-4c57-9a35-8d1f2f0c6b11"

_Q = TypeVar("_Q", bound="Question")


class _Named(ModelMetaclass):
    """Lets `help` and completion list a question's own names and not pydantic's forty, which work all the same."""

    def __dir__(cls) -> list[str]:  # noqa: N805 - of a metaclass
        own = set(super().__dir__()) - set(dir(BaseModel))
        return sorted(name for name in own if not name.startswith("_"))


class Question(BaseModel, metaclass=_Named):
    """What both questions share: whose events, and which of them. All filters AND together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    VIEW: ClassVar[tuple[str, ...]] = ()
    """Parameters of the app's link that only concern the looking: which bar is picked, how it is drawn."""

    organization_id: _optional_uuid = Field(
        None, description="The organization asked about: a claim that is checked, never a grant.", examples=[_SOME_ID]
    )
    customer_id: _optional_uuid = Field(None, description="Only this customer's events.", examples=[_SOME_ID])
    product_id: _optional_uuid = Field(None, description="Only this product's events.", examples=[_SOME_ID])
    subscription_id: _optional_uuid = Field(None, description="Only this subscription's events.", examples=[_SOME_ID])
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
        description="`not:<parameter>=<value>`: only events without that value, absent ones included; "
        "`not:missing=<group>` excludes the absent ones; repeatable.",
        examples=[{"not:metric_key": "tokens_in", "not:missing": "dim:model"}],
    )
    as_of: optional_instant = Field(
        None,
        description="The answer as it was known then: only events ingested at or before this time.",
        examples=["2026-10-01T00:05:00Z"],
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        explain(cls)

    def __init__(self, **given: object) -> None:
        known = type(self).model_fields
        faults = [
            Fault(
                validators.named(name),
                f"unknown parameter{validators.instead(name, known, _as_dimension(name), elsewhere)}",
            )
            for name, elsewhere in ((name, self._elsewhere([name])) for name in given)
            if name not in known
        ]
        given = self._read({name: value for name, value in given.items() if name in known and value is not None})
        try:
            super().__init__(**given)
        except ValidationError as error:
            faults += [fault for detail in error.errors() for fault in _faults(detail)]
            sound = set(given) - {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
            # what is left may still contradict itself: say that in the same breath
            super().__init__(**{name: given[name] for name in sound})
        faults += self._contradictions(set(given))
        if faults:
            raise QueryError(faults)

    @classmethod
    def from_params(cls, params: Params) -> Self:
        """The question that URL parameters ask: a link into the app or a query string, a mapping, (name, value) pairs.

        View parameters are left out; a whole link to an organization alone is the start view. Raises `QueryError`.
        """
        given = [pair for pair in pairs(params) if pair[0] not in cls.VIEW]
        if page(params) in _START_PATHS.get(cls.__name__, ()) and not {name for name, _ in given} - {"organization_id"}:
            given += START[cls.__name__]
        foreign = cls._foreign(dict(given)) if isinstance(params, str) else []
        given = [pair for pair in given if pair[0] not in foreign]
        fields, faults = from_pairs(cls, given, lambda name: cls._elsewhere([name]))
        if foreign:
            other = cls._elsewhere(foreign)
            said = f"unknown parameter{'s' * (len(foreign) > 1)} of {cls.__name__}; this is a link of "
            said += f"{_PAGES[other]}, use {other}.from_params"
            faults.append(Fault(", ".join(foreign), said))
        try:
            question = cls(**fields)
        except QueryError as error:
            faults += error.faults
        if faults:
            raise QueryError(faults)
        return question

    @classmethod
    def _foreign(cls, names: Iterable[str]) -> list[str]:
        """Those of a link's names that another question has and this one not, where one of them has no other name."""
        found = [name for name in names if name not in cls.model_fields and cls._elsewhere([name])]
        return found if any(validators.synonym(name, cls.model_fields) is None for name in found) else []

    @classmethod
    def _elsewhere(cls, names: Iterable[str]) -> str:
        """The other question that has most of the parameters, and nothing where none has one."""
        names = {*names} - {*cls.model_fields}
        kinds = [kind for kind in (*Question.__subclasses__(), *Windowed.__subclasses__()) if kind.__name__ in _PAGES]
        has = {kind.__name__: len(names & {*kind.model_fields, *kind.VIEW}) for kind in kinds if kind is not cls}
        most = max(has, key=has.__getitem__)
        return most if has[most] else ""

    def to_params(self) -> tuple[tuple[str, str], ...]:
        """The parameters that ask this question, as (name, value) pairs; defaults are left out."""
        return to_pairs(self)

    def query_string(self) -> str:
        """The parameters as a URL query string, without the leading `?`."""
        return query_string(self.to_params())

    def replace(self, **changes: object) -> Self:
        """A copy with some parameters changed; `None` gives a parameter its default back."""
        return type(self)(**{**self.given(), **changes})

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What `model_dump_json` writes, which `model_validate_json` reads again: no value there means the default."""
        given = self.given()
        return {name: value for name, value in dump(self).items() if name in given}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As `replace`: pydantic's own would take values without looking at them."""
        return self.replace(**(update or {}))

    def __dir__(self) -> list[str]:
        return sorted({*type(self).model_fields, *dir(type(self))})

    def resolve(self, now: datetime) -> Self:
        """The same question with absolute times, as it is asked at `now`: only an aggregate's may be relative."""
        at("now", now)
        return self

    def pin(self, now: datetime, settle: timedelta, known: datetime | None = None) -> Self:
        """The question whose answer never changes: absolute times, `as_of` at least the settle time before `now`.

        `known` is the latest `ingested_at` there is by then, which `Store.pin` looks up: where nothing arrived since, a
        later `as_of` would promise the same of rows that may yet be written with the times in between.
        """
        if not isinstance(settle, timedelta):
            raise QueryError([Fault("settle", f"{validators.shorten(settle)} is not a timedelta")])
        limits = [at("now", now) - settle, *(limit for limit in (self.as_of, known) if limit is not None)]
        return self.resolve(now).replace(as_of=min(limits))

    def given(self) -> dict[str, Any]:
        """Every field that differs from its default, by field name."""
        fields = type(self).model_fields
        return {name: value for name, value in self if value != fields[name].default}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in self.given().items():
            if isinstance(value, datetime):
                value = value.isoformat()
            elif isinstance(value, UUID):
                value = str(value)
            elif value and isinstance(value, tuple) and isinstance(value[0], tuple):
                value = {key: list(values) for key, values in value}
            elif isinstance(value, tuple):
                value = list(value)
            yield name, value

    @classmethod
    def _read(cls, given: dict[str, object]) -> dict[str, object]:
        """The given values, with those made ready that depend on each other."""
        return given

    def _contradictions(self, given: set[str]) -> list[Fault]:
        """What is wrong between parameters that are each fine; `given` names those that were given."""
        return excess(filter_values(self), *self._kept())

    def _kept(self) -> tuple[str, int]:
        """The grouping, and how many series it keeps at least: what a drill into the answer adds to the filters."""
        return "none", 0


_IN_WINDOW = (
    'an aware datetime, RFC 3339 text, a date (`date`, "2026-10-01", pandas\' Timestamp or Period: its midnight in '
    '`timezone`), or relative to now such as "-30d" (h, d, w); "-30d/d" is the start of that day in `timezone`.'
)


class Windowed(Question):
    """What is asked of a half-open window of time: since when, until when, on which clock."""

    since: Annotated[_moment, InPython(f"Window start, inclusive: {_IN_WINDOW}")] = Field(
        "-30d",
        description="Window start, inclusive: RFC 3339, or relative to now such as -30d (h, d, w); "
        "-30d/d rounds down to the start of that day in `timezone`.",
        examples=["-30d", "2026-09-01T00:00:00Z"],
    )
    until: Annotated[_moment, InPython("Window end, exclusive: the same.")] = Field(
        "now", description="Window end, exclusive: RFC 3339, or relative to now.", examples=["now"]
    )
    window: Annotated[
        relative_time.CalendarWindow | None,
        BeforeValidator(partial(validators.choice, allowed=("this_month", "last_month"))),
    ] = Field(None, description="A calendar month in `timezone`, instead of `since` and `until`.")
    timezone: Annotated[str, BeforeValidator(validators.zone_name)] = Field(
        "UTC",
        description="IANA time zone whose midnights and hours the buckets follow.",
        examples=["Europe/Berlin"],
    )

    @property
    def zone(self) -> ZoneInfo:
        """The time zone the buckets follow."""
        return ZoneInfo(self.timezone)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The half-open window `[since, until)` of a resolved question. Raises `ValueError` on a relative one."""
        if not isinstance(self.since, datetime) or not isinstance(self.until, datetime) or self.window:
            raise ValueError("the window is relative: ask resolve(now) first")
        return self.since, self.until

    @property
    def is_relative(self) -> bool:
        """Whether the window moves with the clock."""
        return self.window is not None or isinstance(self.since, str) or isinstance(self.until, str)

    @classmethod
    def _read(cls, given: dict[str, object]) -> dict[str, object]:
        """With dates as the midnights that they are in the time zone."""
        try:
            zone = ZoneInfo(validators.zone_name(given.get("timezone", "UTC")))
        except ValueError:  # which is said of the time zone
            zone = ZoneInfo("UTC")
        dates = {name: validators.local_date(given.get(name)) for name in ("since", "until")}
        return given | {
            name: buckets.day_start(day, zone)
            for name, day in dates.items()
            if day and validators.EARLIEST.year <= day.year <= validators.LATEST.year
        }

    def resolve(self, now: datetime) -> Self:
        """The same question with an absolute window, as it is asked at `now`.

        Raises `QueryError` when the window then is empty or inverted, or reaches before 1970.
        """
        now = at("now", now)
        if not self.is_relative:
            return self
        if self.window:
            since, until = relative_time.month(self.window, now, self.zone)
            return self.replace(window=None, since=since, until=until)
        faults, found = [], {}
        for name in ("since", "until"):
            try:
                found[name] = validators.instant(relative_time.absolute(getattr(self, name), now, self.zone))
            except (OverflowError, ValueError):
                faults.append(Fault(name, f"{getattr(self, name)} reaches before 1970-01-01; name a later time"))
        if faults:
            raise QueryError(faults)
        return self.replace(**found)

    def replace(self, **changes: object) -> Self:
        """A copy with some parameters changed; a calendar window and `since`/`until` displace each other."""
        given = self.given()
        if changes.get("window") is not None:
            given = {name: value for name, value in given.items() if name not in ("since", "until")}
        elif changes.get("since") is not None or changes.get("until") is not None:
            given.pop("window", None)
        return type(self)(**{**given, **changes})

    def _contradictions(self, given: set[str]) -> list[Fault]:
        found = super()._contradictions(given)
        if "window" in given:
            return found + [
                Fault(name, "cannot be combined with window; give one or the other")
                for name in ("since", "until")
                if name in given
            ]
        if isinstance(self.since, datetime) and isinstance(self.until, datetime) and self.since >= self.until:
            found += [
                Fault("since", "is not before until, so the window is empty; swap or widen them"),
                Fault("until", "is not after since, so the window is empty; swap or widen them"),
            ]
        return found


def expect(kind: type[_Q], given: object) -> _Q:
    """The question given, when it is of that kind. Raises `QueryError` otherwise."""
    if not isinstance(given, kind):
        found = type(given).__name__ if isinstance(given, Question) else validators.shorten(given)
        raise QueryError([Fault("query", f"needs {kind.__name__}, not {found}; make one with the same filters")])
    return given


def _as_dimension(name: str) -> str:
    return f"dimensions={{{name.removeprefix(DIMENSION)!r}: …}}"


def at(name: str, given: object) -> datetime:
    """The instant given under a name. Raises `QueryError`."""
    try:
        return validators.instant(given)
    except ValueError as error:
        raise QueryError([Fault(name, str(error))]) from None


def _faults(detail: Any) -> Iterable[Fault]:
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, FilterFaults):
        return cause.faults
    return [Fault(str(detail["loc"][0]), str(cause) if cause else detail["msg"])]
