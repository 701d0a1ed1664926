"""A period examined: what each check found, what it was clean of, and the totals it speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from usage_explore.decimals import plain, rfc3339
from usage_explore.names import NAME_COLUMNS, NO_NAMES, Names, ids_in, kind_of
from usage_explore.query.describe import describe
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import Period
from usage_explore.query.url_params import link
from usage_explore.validation.check import Check, Outcome
from usage_explore.validation.finding import SEVERITIES, SUBJECTS, Finding, Severity, by_impact
from usage_explore.validation.totals import Totals, Unexamined

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One check of a validation. `outcome` is None where it judged nothing: `skipped` says what was not given or what
    the events lack, `failed` what went wrong.
    """

    check: Check
    outcome: Outcome | None
    took: timedelta
    skipped: str = ""
    failed: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether it ran, had something to examine, and found nothing."""
        return self.outcome is not None and not self.outcome.findings and self.outcome.looked_at > 0

    @property
    def is_partial(self) -> bool:
        """Whether it left usage unjudged, such as series of too few events; the note says how much and why."""
        return self.outcome is not None and self.outcome.is_partial


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The answer to `store.validate`: every check's result on one snapshot of one period.

    `period` is the question as it took effect: absolute, scoped, with the `as_of` up to which the data was looked at.
    `unexamined` counts the period's events that arrived after it, None where there are none. `names` has the names of
    the ids in filters, findings and sheets.
    """

    period: Period
    now: datetime
    totals: Totals
    results: tuple[Result, ...]
    app_url: str
    unexamined: Unexamined | None = None
    names: Names = field(default=NO_NAMES, compare=False, repr=False)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What all checks found, by impact."""
        return by_impact(
            finding for result in self.results if result.outcome is not None for finding in result.outcome.findings
        )

    @property
    def failed(self) -> tuple[Result, ...]:
        """The checks that could not be run to their end: what they look for was not looked for."""
        return tuple(result for result in self.results if result.failed)

    def counts(self) -> Mapping[Severity, int]:
        """How many findings there are of each severity, the gravest first."""
        return {each: sum(finding.severity == each for finding in self.findings) for each in SEVERITIES}

    def sheet(self, check: str) -> pd.DataFrame | None:
        """The table a check made, None where it makes none, did not run, or is not in this validation.

        After a column of ids of which one has a name is that of the names: `customer_name` after `customer_id`.
        """
        for result in self.results:
            if result.check.name == check and result.outcome is not None:
                return self._with_names(result.outcome.sheet)
        return None

    def _with_names(self, sheet: pd.DataFrame | None) -> pd.DataFrame | None:
        import pandas as pd

        if sheet is None or not self.names:
            return sheet
        for heading, column in NAME_COLUMNS.items():
            if column not in sheet.columns or heading in sheet.columns:
                continue
            names = [None if pd.isna(id_) else self.names.name(column, id_) for id_ in sheet[column]]
            if any(names):
                columns = list(sheet.columns)
                position = columns.index(column) + 1
                sheet = sheet.assign(**{heading: pd.Series(names, dtype="str", index=sheet.index)})
                sheet = sheet[[*columns[:position], heading, *columns[position:]]]
        return sheet

    def ids(self) -> Iterator[tuple[str, str]]:
        """(column, id) of every id in the filters, findings and sheets; of an unknown kind in sentences: of all."""
        yield "organization_id", str(self.period.organization_id)
        for finding in self.findings:
            for column in ID_COLUMNS:
                if (value := getattr(finding, column)) is not None:
                    yield column, str(value)
        sentences = (
            text for finding in self.findings for text in (finding.sentence, *(text for _, text in finding.facts))
        )
        yield from ((column, id_) for id_ in sorted(ids_in(sentences)) for column in ID_COLUMNS)
        for result in self.results:
            sheet = result.outcome.sheet if result.outcome else None
            if sheet is not None:
                for column in set(ID_COLUMNS).intersection(sheet.columns):
                    yield from ((column, str(id_)) for id_ in sheet[column].dropna().unique())

    def named(self, names: Names) -> Validation:
        """The validation with names for its ids."""
        return replace(self, names=names)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per finding, by impact.

        Columns: `check`, `severity`, `sentence` (str), `since`, `until` (datetime64[us, zone]), `events` (int64),
        `quantity` (`Decimal` or None), `amounts` (dict of currency to `Decimal`), `share` (`Decimal`), `share_of` (str:
        what the share is of), the subjects `customer_id`, `product_id`, `subscription_id`, `metric_key`, `price_key`,
        `wallet_currency` (str), `url` (str). If an id has a name, `customer_name` (str) follows `customer_id`, likewise
        for products and subscriptions.
        """
        import pandas as pd

        zone = self.period.zone
        found = self.findings
        columns: dict[str, Any] = {
            "check": pd.Series([each.check for each in found], dtype="str"),
            "severity": pd.Series([each.severity for each in found], dtype="str"),
            "sentence": pd.Series([each.sentence for each in found], dtype="str"),
            "since": pd.Series([each.since for each in found], dtype="datetime64[us, UTC]").dt.tz_convert(zone),
            "until": pd.Series([each.until for each in found], dtype="datetime64[us, UTC]").dt.tz_convert(zone),
            "events": pd.Series([each.events for each in found], dtype="int64"),
            "quantity": pd.Series([each.quantity for each in found], dtype="object"),
            "amounts": pd.Series([dict(each.amounts) for each in found], dtype="object"),
            "share": pd.Series([each.share for each in found], dtype="object"),
            "share_of": pd.Series([each.share_of for each in found], dtype="str"),
        }
        for name in SUBJECTS:
            texts = [None if getattr(each, name) is None else str(getattr(each, name)) for each in found]
            columns[name] = pd.Series(texts, dtype="str")
            known = [text and self.names.name(name, text) for text in texts]
            if any(known):
                columns[f"{kind_of(name)}_name"] = pd.Series(known, dtype="str")
        columns["url"] = pd.Series([each.url(self.app_url) for each in found], dtype="str")
        return pd.DataFrame(columns)

    def url(self) -> str:
        """The link that opens this very period in the app."""
        return link(self.app_url, "validate", self.period)

    def to_dict(self) -> dict[str, Any]:
        """The validation as JSON carries it: decimals and times as text."""
        since, until = self.period.span
        as_of, finalized = self.period.as_of, self.period.finalized_at
        return {
            "organization_id": str(self.period.organization_id),
            "organization_name": self.names.name("organization", self.period.organization_id),
            "period": describe(self.period),
            "since": rfc3339(since),
            "until": rfc3339(until),
            "timezone": self.period.timezone,
            "as_of": rfc3339(as_of) if as_of else None,
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
            "unexamined": {
                "events": self.unexamined.events,
                "latest_ingested_at": rfc3339(self.unexamined.latest),
                "settled_at": rfc3339(self.unexamined.settled_at) if self.unexamined.settled_at else None,
            }
            if self.unexamined
            else None,
            "findings_by_severity": dict(self.counts()),
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
                    "milliseconds": round(result.took.total_seconds() * 1000, 1),
                }
                for result in self.results
            ],
            "findings": [finding.to_dict(self.app_url, self.names) for finding in self.findings],
        }

    def __repr__(self) -> str:
        counted = ", ".join(f"{number:,} {severity}" for severity, number in self.counts().items())
        among = f"{self.totals.events:,} events"
        if self.unexamined:
            among += f", {self.unexamined.events:,} more not examined"
        period = self.names.in_text(describe(self.period))
        return f"<Validation: {counted} findings of {len(self.results)} checks among {among}; {period}>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self)[1:-1])}</p>{self.frame.to_html(max_rows=30)}"
