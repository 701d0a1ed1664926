"""The answer of a validation: each check's result, the findings of all of them, and both as a frame and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from usage_explore.decimals import plain, rfc3339
from usage_explore.formatting import counted
from usage_explore.names import NO_NAMES, Names, ids_in
from usage_explore.query.describe import describe, period_document
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import Period
from usage_explore.query.url_params import link
from usage_explore.results import frames
from usage_explore.sql.later_arrivals import Unexamined
from usage_explore.validation.bounds import NO_BOUNDS, Bounds, in_force
from usage_explore.validation.check import SEVERITIES, SUBJECTS, Check, Finding, Outcome, Severity, by_impact
from usage_explore.validation.periods import Totals

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One check of a validation. `outcome` is None where it judged nothing: `skipped` says what was not given
    (`is_not_given`) or what the events lack, `failed` what went wrong. `bounds` were in force.
    """

    check: Check
    outcome: Outcome | None
    took: timedelta = field(compare=False)
    skipped: str = ""
    failed: str = ""
    is_not_given: bool = False
    bounds: Bounds = NO_BOUNDS

    @property
    def parameters(self) -> Mapping[str, str]:
        """The check's parameters with the bounds that were in force."""
        with in_force(self.bounds):
            return dict(self.check.words)

    @property
    def is_clean(self) -> bool:
        """Whether it ran, had something to examine, and has no finding, nor one that another check reports."""
        outcome = self.outcome
        return outcome is not None and not (outcome.findings or outcome.reported_by) and outcome.looked_at > 0

    @property
    def is_partial(self) -> bool:
        """Whether it left usage unjudged, such as series of too few events; the note says how much and why."""
        return self.outcome is not None and self.outcome.is_partial


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The answer to `store.validate`: every check's result on one snapshot of one period.

    `period` is the question as it took effect: absolute, scoped, with the `as_of` up to which the data was looked at.
    `unexamined` counts the period's events that arrived after it, None where there are none. `names` has the names of
    the ids in filters, findings and sheets. `bounds` are those of the checks that differ from their defaults. `files`
    are the `name` and `sha256` of each file that was given, by argument of `Store.validate`, and `rows` the numbers of
    lines, prices, totals and currencies in what was given.
    """

    period: Period
    now: datetime = field(compare=False)
    totals: Totals
    results: tuple[Result, ...]
    app_url: str = field(compare=False)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict, compare=False)
    unexamined: Unexamined | None = None
    names: Names = field(default=NO_NAMES, compare=False, repr=False)
    bounds: Bounds = NO_BOUNDS
    rows: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all checks, by impact."""
        return by_impact(
            finding for result in self.results if result.outcome is not None for finding in result.outcome.findings
        )

    @property
    def is_empty(self) -> bool:
        """Whether it examined no event and has no finding, such as within the settle time of a load."""
        return not self.totals.events and not self.findings

    @property
    def examined_nothing(self) -> bool:
        """Whether no check had anything to examine: no event, or no file or price that the checks compare with."""
        return not self.findings and not any(result.outcome and result.outcome.looked_at for result in self.results)

    @property
    def failed(self) -> tuple[Result, ...]:
        """The checks that could not be run to their end: what they look for was not looked for."""
        return tuple(result for result in self.results if result.failed)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """What checks compare and could not: "amounts not checked: no price book was given"."""
        return tuple(result.outcome.unchecked for result in self.results if result.outcome and result.outcome.unchecked)

    def counts(self) -> Mapping[Severity, int]:
        """How many findings there are of each severity, the gravest first."""
        return {severity: sum(finding.severity == severity for finding in self.findings) for severity in SEVERITIES}

    def sheet(self, check: str) -> pd.DataFrame | None:
        """The table a check made, None where it makes none, did not run, or is not in this validation.

        After a column of ids of which one has a name is that of the names: `customer_name` after `customer_id`.
        """
        for result in self.results:
            if result.check.name == check and result.outcome is not None:
                sheet = result.outcome.sheet
                return None if sheet is None else frames.with_names(sheet, self.names)
        return None

    def ids(self) -> Iterator[tuple[str, str]]:
        """(column, id) of every id in filters, findings and sheets; those in sentences with each column."""
        yield "organization_id", str(self.period.organization_id)
        texts = (text for finding in self.findings for text in (finding.sentence, *chain(*finding.facts)))
        yield from ((column, id_) for id_ in sorted(ids_in(texts)) for column in ID_COLUMNS)
        for finding in self.findings:
            yield from ((column, str(id_)) for column in ID_COLUMNS if (id_ := getattr(finding, column)) is not None)
        for result in self.results:
            sheet = result.outcome.sheet if result.outcome else None
            if sheet is not None:
                for column in set(ID_COLUMNS).intersection(sheet.columns):
                    yield from ((column, str(id_)) for id_ in sheet[column].dropna().unique())

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per finding, by impact.

        Columns: `check`, `severity`, `sentence` (str), `since`, `until` (datetime64[us, zone]), `events` (int64),
        `quantity` (`Decimal` or None), `amounts` (dict of currency to `Decimal`), `share` (`Decimal`), `share_of` (str:
        what the share is of), the subjects `customer_id`, `product_id`, `subscription_id`, `metric_key`, `price_key`,
        `wallet_currency` (str), `url` (str). If an id has a name, `customer_name` (str) follows `customer_id`, likewise
        of products and subscriptions.
        """
        import pandas as pd

        def column(name: str, dtype: str) -> pd.Series[Any]:
            return pd.Series([getattr(finding, name) for finding in self.findings], dtype=dtype)

        instant, zone = "datetime64[us, UTC]", self.period.zone
        columns: dict[str, Any] = {
            "check": column("check", "str"),
            "severity": column("severity", "str"),
            "sentence": column("sentence", "str"),
            "since": column("since", instant).dt.tz_convert(zone),
            "until": column("until", instant).dt.tz_convert(zone),
            "events": column("events", "int64"),
            "quantity": column("quantity", "object"),
            "amounts": column("amounts", "object").map(dict),
            "share": column("share", "object"),
            "share_of": column("share_of", "str"),
        }
        for name in SUBJECTS:
            subjects = (getattr(finding, name) for finding in self.findings)
            columns[name] = pd.Series([None if subject is None else str(subject) for subject in subjects], dtype="str")
        columns["url"] = pd.Series([finding.url(self.app_url) for finding in self.findings], dtype="str")
        return frames.with_names(pd.DataFrame(columns), self.names)

    def url(self) -> str:
        """The link that opens this very period in the app."""
        return link(self.app_url, "validate", self.period)

    def to_dict(self) -> dict[str, Any]:
        """The validation as JSON carries it: decimals and times as text."""
        finalized = self.period.finalized_at
        return {
            **period_document(self.period, self.names.name("organization", self.period.organization_id)),
            "finalized_at": rfc3339(finalized) if finalized else None,
            "url": self.url(),
            "totals": {
                "events": self.totals.events,
                "quantities": {
                    metric: {"events": events, "quantity": plain(quantity)}
                    for metric, (events, quantity) in sorted(self.totals.metrics.items())
                },
                "costs": [
                    {"currency": currency, "amount": plain(amount)}
                    for currency, amount in sorted(self.totals.costs.items(), key=lambda item: item[0] or "")
                ],
            },
            "unexamined": self.unexamined.to_dict() if self.unexamined else None,
            "findings_by_severity": dict(self.counts()),
            "changed_bounds": dict(self.bounds.texts),
            "unchecked": list(self.unchecked),
            "checks": [
                {
                    "check": result.check.name,
                    "title": result.check.title,
                    "skipped": result.skipped or None,
                    "failed": result.failed or None,
                    "looked_at": result.outcome.looked_at if result.outcome else None,
                    "unit": result.check.unit,
                    "note": result.outcome.note if result.outcome else "",
                    "partial": result.is_partial,
                    "findings": len(result.outcome.findings) if result.outcome else None,
                    "reported_by": list(result.outcome.reported_by) if result.outcome else [],
                    "bounds": {
                        bound.key: {"value": bound.number(self.bounds.value(bound)), "unit": bound.unit}
                        for bound in result.check.bounds
                    },
                    "milliseconds": round(result.took.total_seconds() * 1000, 1),
                }
                for result in self.results
            ],
            "findings": [finding.to_dict(self.app_url, self.names) for finding in self.findings],
        }

    def __repr__(self) -> str:
        severities = ", ".join(f"{number:,} {severity}" for severity, number in self.counts().items())
        among = counted(self.totals.events, "event")
        if self.unexamined:
            among += f", {self.unexamined.events:,} more not examined"
        checks = counted(len(self.results), "check")
        if self.failed:
            checks += f", {len(self.failed):,} of which failed,"
        period = self.names.in_text(describe(self.period))
        return f"<Validation: {severities} findings of {checks} among {among}; {period}>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self)[1:-1])}</p>{self.frame.to_html(max_rows=30)}"
