"""The operations of the HTTP API: their addresses, and the parameters of those that no query of the package has.

The API is generated from these declarations, and the remote store writes its requests by them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault
from usage_explore.query import filters, validators
from usage_explore.query.base import EventFilters, Query, Windowed, optional_decimal, optional_instant, optional_moment
from usage_explore.query.filters import Texts
from usage_explore.query.limits import MAX_CHOICES, MAX_NAMES
from usage_explore.query.queries import AggregateQuery, LeaderboardQuery, Period

EVENTS = "/v1/usage-events"
PREVIOUS = f"{EVENTS}/previous"
COUNT = f"{EVENTS}/count"
EXTENT = f"{EVENTS}/extent"
EXPORT = f"{EVENTS}/export"
AGGREGATE = f"{EVENTS}/aggregate"
COMPARISON = f"{EVENTS}/comparison"
LEADERBOARDS = f"{EVENTS}/leaderboards"
EXPLANATION = f"{EVENTS}/explanation"
CHOICES = f"{EVENTS}/choices"
DIMENSIONS = f"{EVENTS}/dimensions"
CURRENCIES = f"{EVENTS}/currencies"
SEARCH = f"{EVENTS}/search"
NAMES = "/v1/names"
STATE = "/v1/state"
ORGANIZATIONS = "/v1/organizations"
VALIDATIONS = "/v1/validations"
RATINGS = "/v1/ratings"
VIEWS = "/v1/views"
PRICES = "/v1/prices"

REQUIRED = {"required": True}
"""Extra of a parameter without which there is no answer."""

BASELINES = ("week", "before")

_GROUP, _WORDS = "metric_key or dim:<key>", "what to search"
"""Examples of parameters without which there is no answer."""

NamedColumn = Literal["customer_id", "product_id", "subscription_id", "organization_id", "metric"]

_text = Annotated[str | None, BeforeValidator(validators.text)]


def _needed(check: Callable[[object], str], example: str) -> BeforeValidator:
    """The check of a parameter that cannot be left out."""

    def checked(value: object) -> str:
        if value == "":
            raise ValueError(f"is blank; give {example}")
        return check(value)

    return BeforeValidator(checked)


class OrganizationQuery(Query):
    """A question about the organization as a whole."""


class WithinQuery(Windowed, EventFilters):
    """The events to look for values in, by default all of the organization."""

    since: optional_moment = Field(
        validators.EARLIEST,
        description="Window start, inclusive: RFC 3339, or relative to now such as -30d; by default all time.",
        examples=["-30d", "2026-09-01T00:00:00Z"],
    )
    until: optional_moment = Field(
        validators.LATEST,
        description="Window end, exclusive: RFC 3339, or relative to now; by default all time.",
        examples=["now"],
    )

    @classmethod
    def of(cls, query: Query | None, **more: object) -> Any:
        """The same events as those of any query; its window is kept as it is, relative or not."""
        given = {} if query is None else query.shared_with(cls)
        if isinstance(query, Windowed) and query.window is None:
            given |= {"since": query.since, "until": query.until}
        elif query is not None:
            times = {"since": getattr(query, "occurred_after", None), "until": getattr(query, "occurred_before", None)}
            given |= {name: time for name, time in times.items() if time is not None}
        return cls(**given, **more)


class ChoiceQuery(WithinQuery):
    """The values of a column or dimension, those of most events first."""

    group: Annotated[str | None, _needed(filters.group, _GROUP)] = Field(
        None,
        description="The column or `dim:<key>` whose values are listed.",
        examples=["metric_key"],
        json_schema_extra={**REQUIRED},
    )
    most: Annotated[int, BeforeValidator(partial(validators.integer, low=1, high=MAX_CHOICES))] = Field(
        1_000, ge=1, le=MAX_CHOICES, description="Values to list: those of most events."
    )

    def _contradictions(self, given: set[str]) -> list[Fault]:
        return [*super()._contradictions(given), *_absent(given, "group", _GROUP)]


class SearchQuery(LeaderboardQuery):
    """Where a text occurs in the window: as an id, a key, in names and values."""

    text: Annotated[str | None, _needed(validators.text, _WORDS)] = Field(
        None, description="The text.", examples=["acme"], json_schema_extra={**REQUIRED}
    )

    def _contradictions(self, given: set[str]) -> list[Fault]:
        return [*super()._contradictions(given), *_absent(given, "text", _WORDS)]


class NamesQuery(Query):
    """Customers, products and subscriptions whose name, external id or id has a text, all without one."""

    text: _text = Field(None, description="The text, in any case; without it all are listed.", examples=["acme"])
    column: Annotated[
        NamedColumn | None, BeforeValidator(partial(validators.choice, allowed=get_args(NamedColumn)))
    ] = Field(None, description="Only names of this column's ids; `metric`: units.", examples=["customer_id"])
    most: Annotated[int, BeforeValidator(partial(validators.integer, low=1, high=MAX_NAMES))] = Field(
        50, ge=1, le=MAX_NAMES, description="Names to list."
    )


class ComparisonQuery(AggregateQuery):
    """An aggregate beside another period, as of the time that an answer has been read at."""

    read_at: optional_instant = Field(
        None,
        description="The time until which a period counts as over, by default now: that of an answer read before.",
        examples=["2026-09-01T00:00:00Z"],
    )


def _baseline(value: object) -> str:
    """`week`, `before`, or `<since>/<until>`, from text or a pair of times."""
    edges = value.split("/") if isinstance(value, str) and "/" in value else value
    if isinstance(edges, tuple | list):
        if len(edges) != 2:
            raise ValueError("is not a pair of times; write <since>/<until> in RFC 3339")
        return "/".join(map(rfc3339, validators.instants(edges)))
    try:
        return validators.choice(value, BASELINES)
    except ValueError as error:
        raise ValueError(f"{error}; or <since>/<until>, two times in RFC 3339") from None


class ExplanationQuery(AggregateQuery):
    """The change in a bucket, or in the whole window, and the values that account for it."""

    at: optional_instant = Field(
        None,
        description="A time in the bucket to explain; by default the whole window is explained.",
        examples=["2026-09-12T08:00:00Z"],
    )
    expected: optional_decimal = Field(
        None, description="The number to compare with, instead of another window.", examples=["1000"]
    )
    baseline: Annotated[str | None, BeforeValidator(_baseline)] = Field(
        None,
        description="The window to compare with: `week`, the same hours one week before, the default for a bucket of an"
        " hour or a day; `before`, the bucket, month, days or duration right before; or `<since>/<until>` in RFC 3339.",
        examples=["week", "2026-08-01T00:00:00Z/2026-09-01T00:00:00Z"],
    )


class ValidationQuery(Period):
    """A billing period to validate, and the checks to run."""

    checks: Annotated[Texts, BeforeValidator(filters.texts)] = Field(
        (), description="Only these checks, by name; repeatable.", examples=["duplicates"]
    )
    tolerance: optional_decimal = Field(
        None,
        description="The largest difference of invoiced and used quantity that still matches, by default 0; needs the"
        " file `invoices`.",
        examples=["0.01"],
    )


class RatingQuery(Period):
    """A billing period to rate by a price book."""


def _absent(given: set[str], name: str, example: str) -> list[Fault]:
    return [] if name in given else [Fault(name, f"is missing; give {example}")]
