"""The state of the Validate page as a value: the period, the filters of its list of findings, and the open finding."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from usage_explore.app.page_state import Pairs, explicit, started
from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.base import START, Query
from usage_explore.query.queries import Period
from usage_explore.validation import SEVERITIES, Finding
from usage_explore.validation.finding import SUBJECTS
from usage_explore.validation.registry import CHECKS

_IDENTITY = re.compile(r"[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True)
class ValidateView:
    """The Validate page. An empty tuple does not filter the list of findings.

    `customers` are ids, `metrics` metric keys; `finding` is the `identity` of the open finding.
    """

    path: ClassVar[str] = "validate"
    query: Period
    severities: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    finding: str | None = None

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view of a link; last month if it has no parameter but `organization_id`. Raises `QueryError`."""
        faults: list[Fault] = []
        filters = {field: _read(name, read, pairs, faults) for field, (name, read) in _LISTS.items()}
        opened = _read("finding", _finding, pairs, faults)
        if len(opened) > 1:
            faults.append(Fault("finding", "is given more than once; give it once"))
        own = {"finding", *(name for name, _ in _LISTS.values())}
        query_pairs = started(tuple(pair for pair in pairs if pair[0] not in own), START["Period"])
        try:
            query = Period.from_params(query_pairs)
        except QueryError as error:
            raise QueryError([*error.faults, *faults]) from None
        if faults:
            raise QueryError(faults)
        return cls(query, **filters, finding=opened[0] if opened else None)

    def to_params(self) -> Pairs:
        """The view as URL parameters, without defaults."""
        own = [(name, value) for field, (name, _) in _LISTS.items() for value in getattr(self, field)]
        return (*explicit(self.query), *own, *((("finding", self.finding),) if self.finding else ()))

    @property
    def timezone(self) -> str:
        """The time zone of all times on the page."""
        return self.query.timezone

    def in_timezone(self, timezone: str) -> ValidateView:
        """The same view in another time zone."""
        return self.with_query(self.query.replace(timezone=timezone))

    def with_query(self, query: Query) -> ValidateView:
        """The view of another `Period`, without the open finding and the list's filters on customers and metrics."""
        return ValidateView(cast("Period", query), self.severities, self.checks)

    def replace(self, **changes: Any) -> ValidateView:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def listed(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """The findings that match the view's filters, in the given order."""
        wanted = (
            (self.severities, "severity"),
            (self.checks, "check"),
            (self.customers, "customer_id"),
            (self.metrics, "metric_key"),
        )
        return tuple(
            finding
            for finding in findings
            if all(not values or str(getattr(finding, field)) in values for values, field in wanted)
        )


def identity(finding: Finding) -> str:
    """Twelve hexadecimal digits that identify a finding in a link, the same in every later validation."""
    parts = [
        finding.check,
        rfc3339(finding.since),
        rfc3339(finding.until),
        *(str(getattr(finding, name)) for name in SUBJECTS),
        type(finding.question).__name__,
        finding.question.replace(as_of=None).query_string(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _read(name: str, read: Callable[[str], str], pairs: Pairs, faults: list[Fault]) -> tuple[str, ...]:
    values = []
    for value in (value for given, value in pairs if given == name):
        try:
            values.append(read(value))
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    return tuple(dict.fromkeys(values))


def _severity(value: str) -> str:
    return validators.choice(value, SEVERITIES)


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


_LISTS: dict[str, tuple[str, Callable[[str], str]]] = {
    "severities": ("severity", _severity),
    "checks": ("check", _check),
    "customers": ("about_customer", _customer),
    "metrics": ("about_metric", _metric),
}
"""The list's filters: the view's field, its URL parameter (repeatable), and the parser of a value."""
