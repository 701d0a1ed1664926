"""Every parameter of every question, from the declarations; and the package's own answer to (name, value) pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from usage_explore import AggregateQuery, EventQuery, QueryError, Store
from usage_explore.errors import Fault, ScopeError
from usage_explore.query.base import Query
from usage_explore.query.filters import GROUPS

_Q = TypeVar("_Q", bound=Query)
Pairs = list[tuple[str, str]]

MODELS: tuple[type[Query], ...] = (EventQuery, AggregateQuery)
_SPREAD = {
    "dimensions": ("dim:model",),
    "exclude": ("not:missing", "not:dim:model", *(f"not:{group}" for group in GROUPS)),
}
LONGEST = 2_000
"""Letters that an error may have."""


def names(model: type[Any]) -> tuple[str, ...]:
    """The names a link may have, dimensions and exclusions by one example of each kind."""
    return tuple(name for field in model.model_fields for name in _SPREAD.get(field, (field,)))


def faults_of(model: type[Query], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What the package finds wrong with the parameters themselves."""
    try:
        model.from_params(list(pairs))
    except QueryError as error:
        return told(error)
    return {}


def answered(store: Store, model: type[Query], pairs: Pairs) -> Any:
    """What the package answers: as a dictionary as JSON carries it, as faults, or None for a refusal."""
    try:
        question = model.from_params(pairs)
        if isinstance(question, EventQuery):
            return store.events(question).to_dict()
        return store.aggregate(question).to_dict()  # type: ignore[arg-type]
    except QueryError as error:
        return told(error)
    except ScopeError:
        return None


def told(error: QueryError) -> dict[str, str]:
    """The faults by parameter, each fit to be printed anywhere."""
    assert error.faults
    for fault in error.faults:
        assert_fit(fault)
    return {fault.parameter: fault.message for fault in error.faults}


def assert_fit(fault: Fault) -> None:
    assert fit_to_print(fault.parameter), fault
    assert fit_to_print(fault.message), fault
    assert fault.message


def fit_to_print(text: str) -> bool:
    """Short, and nothing in it that moves a terminal's cursor, starts a line of a log or turns the writing round."""
    return text.isprintable() and len(text) < LONGEST
