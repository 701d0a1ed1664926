"""Parameters of links that only concern the display of a page, such as `chart=lines`, and their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, cast, get_args
from uuid import UUID

from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.base import Query
from usage_explore.records.views import PAGES
from usage_explore.results.types import SeriesKind
from usage_explore.validation import SEVERITIES
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.review import STATES

ChartKind = Literal["bars", "lines", "area"]
Order = Literal["total", "change", "relative"]
"""What the ranking and the leaderboards are sorted by: the total, its change, or its relative change."""

Tab = Literal["events", "who", "why", "data", "code", "download", "ticket"]
"""What is shown under the chart."""

Span = tuple[datetime, datetime]

Reader = Callable[[str], Any]
"""The value of a parameter's text. Raises `ValueError`."""

_IDENTITY = re.compile(r"[0-9a-f]{12}", re.ASCII)


def _chart(value: str) -> str:
    return str(validators.choice(value, allowed=get_args(ChartKind)))


def _order(value: str) -> str:
    return str(validators.choice(value, allowed=get_args(Order)))


def _tab(value: str) -> str:
    return str(validators.choice(value, allowed=get_args(Tab)))


def _series(value: str) -> tuple[SeriesKind, str | None]:
    kind, colon, key = value.partition(":")
    if kind not in get_args(SeriesKind) or bool(colon) != (kind == "value"):
        raise ValueError("is not all, missing, other or value:<key>; click the bar again")
    return cast("SeriesKind", kind), key if colon else None


def _span(value: str) -> Span:
    since, slash, until = value.partition("/")
    if not slash:
        raise ValueError("is not two times with / between them; click the bar again")
    start, end = validators.instant(since), validators.instant(until)
    if start >= end:
        raise ValueError("does not start before it ends; click the bar again")
    return start, end


def _event(value: str) -> tuple[datetime, UUID]:
    moment, slash, identity = value.partition("/")
    if not slash:
        raise ValueError("is not a time and an id with / between them; select the event again")
    return validators.instant(moment).astimezone(UTC), validators.uuid(identity)


def _severity(value: str) -> str:
    return validators.choice(value, SEVERITIES)


def _state(value: str) -> str:
    return validators.choice(value, STATES)


def _check(value: str) -> str:
    if value not in CHECKS:
        raise ValueError(f"{validators.shorten(value)} is not a check{validators.did_you_mean(value, CHECKS)}")
    return value


def _customer(value: str) -> str:
    return str(validators.uuid(value))


def _metric(value: str) -> str:
    return validators.text(value, blank=True)


def _finding(value: str) -> str:
    if not _IDENTITY.fullmatch(value):
        raise ValueError(f"{validators.shorten(value)} does not name a finding; open it from the list again")
    return value


DISPLAY: Mapping[str, Mapping[str, Reader]] = {
    "explore": {"chart": _chart, "series": _series, "span": _span, "rank": _order, "tab": _tab},
    "events": {"timezone": validators.zone_name, "event": _event},
    "validate": {
        "severity": _severity,
        "check": _check,
        "about_customer": _customer,
        "about_metric": _metric,
        "state": _state,
        "finding": _finding,
    },
    "customer": {"currency": partial(validators.text, blank=True)},
}
"""The readers of each page's display parameters, by name."""

REPEATABLE = ("severity", "check", "about_customer", "about_metric", "state")
"""Those that may be given more than once: the filters of the list of findings."""


def checked(display: object, query: Query, page: str | None) -> tuple[tuple[str, str], ...]:
    """The display parameters of a link to `page`, None for the first one of the query's class.

    Raises `QueryError` for what are no pairs of texts, and for parameters that the page does not have or cannot show.
    """
    if not isinstance(display, tuple | list) or not all(map(_is_pair, display)):
        raise QueryError([Fault("display", 'is not a list of pairs of texts, such as ("chart", "lines")')])
    opened = page or next((name for name, model in PAGES.items() if type(query) is model), None)
    if opened is None or opened not in DISPLAY:
        return tuple(display)  # the page is refused, with the query, where the link is kept
    readers, seen, faults = DISPLAY[opened], set[str](), []
    for name, value in display:
        if name not in readers:
            faults.append(Fault(name, f"is no display parameter of {opened}; it has {', '.join(readers)}"))
        elif name in seen and name not in REPEATABLE:
            faults.append(Fault(name, "is given more than once; give it once"))
        else:
            try:
                readers[name](value)
            except ValueError as error:
                faults.append(Fault(name, str(error)))
        seen.add(name)
    if faults:
        raise QueryError(faults)
    return tuple(display)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
