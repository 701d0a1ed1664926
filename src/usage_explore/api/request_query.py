"""The question a request asks: the raw query string, read by the package's own `from_params` and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from pydantic import BaseModel, Field
from starlette.requests import Request

from usage_explore.api.problems import Kind, Problem
from usage_explore.errors import Fault, QueryError
from usage_explore.query import url_params, validators
from usage_explore.query.base import Question
from usage_explore.query.limits import MAX_QUERY_STRING
from usage_explore.results import formulas

_Q = TypeVar("_Q", bound=Question)
_F = TypeVar("_F", bound=BaseModel)


class View(BaseModel):
    """How a picture of an aggregate is drawn."""

    chart: Literal["bars", "lines", "area"] = Field("bars", description="The kind of chart.")
    theme: Literal["light", "dark"] = Field("light", description="Colours for a light or a dark page.")


class Csv(BaseModel):
    """How text is written where the answer is CSV."""

    escape_formulas: Literal["false", "true"] = Field("false", description=f"CSV only. {formulas.MEANING}")

    @property
    def escapes(self) -> bool:
        """Whether text is escaped."""
        return self.escape_formulas == "true"


def pairs(request: Request) -> url_params.Pairs:
    """The request's parameters. Raises `QueryError` for a query string that is none, `Problem` (414) for a long one."""
    raw = request.scope["query_string"]
    if len(raw) > MAX_QUERY_STRING:
        words = f"The query string has {len(raw):,} bytes, more than {MAX_QUERY_STRING:,}; ask for less."
        raise Problem(Kind.TOO_LONG, words)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise QueryError([Fault("query string", "is not valid percent-encoded UTF-8; encode it again")]) from None
    if "#" in text:  # what a fragment would hide must not widen the answer
        raise QueryError([Fault("query string", "contains a raw #; in a URL write %23 for it")])
    return url_params.pairs("?" + text)  # with the ? no part of it is taken for an address


def asked(model: type[_Q], given: Iterable[tuple[str, str]], *, without: tuple[str, ...] = ()) -> _Q:
    """The question that parameters ask; those in `without` are unknown here. Raises `QueryError` with every fault."""
    given = list(given)
    sent = dict.fromkeys(name for name, _ in given)
    faults = [Fault(name, "unknown parameter here; the answer has every page") for name in sent if name in without]
    faults += [Fault(name, "unknown parameter here; it is the app's") for name in sent if name in model.VIEW]
    try:
        question = model.from_params([pair for pair in given if pair[0] not in without])
    except QueryError as error:
        raise QueryError([*faults, *error.faults]) from None
    if faults:
        raise QueryError(faults)
    return question


def asked_with(
    model: type[_Q], form: type[_F], given: Iterable[tuple[str, str]], *, without: tuple[str, ...] = ()
) -> tuple[_Q, _F]:
    """The question, and how its answer is drawn or written. Raises `QueryError` with every fault of both."""
    given = list(given)
    names = tuple(form.model_fields)
    view, faults = _form(form, [pair for pair in given if pair[0] in names])
    try:
        question = asked(model, [pair for pair in given if pair[0] not in names], without=without)
    except QueryError as error:
        raise QueryError([*error.faults, *faults]) from None
    if faults:
        raise QueryError(faults)
    return question, view


def _form(form: type[_F], given: url_params.Pairs) -> tuple[_F, list[Fault]]:
    fields, faults = url_params.from_pairs(form, given)
    chosen: dict[str, str] = {}
    allowed = {name: schema["enum"] for name, schema in form.model_json_schema()["properties"].items()}
    for name, value in fields.items():
        try:
            chosen[name] = validators.choice(value, allowed[name])
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    return form.model_validate(chosen), faults
