"""Queries from requests: the raw query string, parsed by the package's own `from_params` alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from pydantic import BaseModel, Field
from starlette.requests import Request

from usage_explore.api.problems import Problem, ProblemType
from usage_explore.errors import Fault, QueryError
from usage_explore.query import url_params, validators
from usage_explore.query.base import Query
from usage_explore.query.limits import MAX_QUERY_STRING_BYTES
from usage_explore.results import formulas

_Q = TypeVar("_Q", bound=Query)
_P = TypeVar("_P", bound=BaseModel)


class View(BaseModel):
    """Presentation parameters of a picture."""

    chart: Literal["bars", "lines", "area"] = Field("bars", description="The kind of chart.")
    theme: Literal["light", "dark"] = Field("light", description="Colours for a light or a dark page.")


class Csv(BaseModel):
    """Presentation parameters of CSV."""

    escape_formulas: Literal["false", "true"] = Field("false", description=f"CSV only. {formulas.MEANING}")

    @property
    def escapes(self) -> bool:
        """Whether formulas are escaped."""
        return self.escape_formulas == "true"


def pairs(request: Request) -> url_params.Pairs:
    """The request's parameters as (name, value) pairs.

    Raises `QueryError` for a malformed query string, `Problem` (414) for one that is too long.
    """
    raw = request.scope["query_string"]
    if len(raw) > MAX_QUERY_STRING_BYTES:
        detail = f"The query string has {len(raw):,} bytes, more than {MAX_QUERY_STRING_BYTES:,}; shorten it."
        raise Problem(ProblemType.TOO_LONG, detail)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise QueryError([Fault("query string", "is not valid percent-encoded UTF-8; encode it again")]) from None
    if "#" in text:  # parameters after it would be dropped as a fragment, which widens the answer
        raise QueryError([Fault("query string", "contains a raw #; in a URL write %23 for it")])
    return url_params.pairs("?" + text)  # with "?", no part of it is parsed as scheme or path


def parse(
    model: type[_Q], presentation: type[_P], given: Iterable[tuple[str, str]], *, without: tuple[str, ...] = ()
) -> tuple[_Q, _P]:
    """The query, and the parameters for the presentation of its answer.

    Parameters in `without` are errors. Raises `QueryError` with every fault of both.
    """
    given = list(given)
    names = presentation.model_fields
    view, faults = _parse_presentation(presentation, [pair for pair in given if pair[0] in names])
    try:
        query = _parse_query(model, [pair for pair in given if pair[0] not in names], without)
    except QueryError as error:
        raise QueryError([*error.faults, *faults]) from None
    if faults:
        raise QueryError(faults)
    return query, view


def _parse_query(model: type[_Q], given: url_params.Pairs, without: tuple[str, ...]) -> _Q:
    names = dict.fromkeys(name for name, _ in given)
    faults = [Fault(name, "unknown parameter here; an export has all pages") for name in names if name in without]
    faults += [
        Fault(name, "unknown parameter; it is a display option of the app") for name in names if name in model.VIEW
    ]
    try:
        query = model.from_params([pair for pair in given if pair[0] not in without])
    except QueryError as error:
        raise QueryError([*faults, *error.faults]) from None
    if faults:
        raise QueryError(faults)
    return query


def _parse_presentation(model: type[_P], given: url_params.Pairs) -> tuple[_P, list[Fault]]:
    fields, faults = url_params.from_pairs(model, given)
    chosen: dict[str, str] = {}
    allowed = {name: schema["enum"] for name, schema in model.model_json_schema()["properties"].items()}
    for name, value in fields.items():
        try:
            chosen[name] = validators.choice(value, allowed[name])
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    return model.model_validate(chosen), faults
