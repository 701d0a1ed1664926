"""A validation as a message for a webhook: what was examined and what came of it, in a sentence and in numbers."""

from __future__ import annotations

from typing import Any, Literal
from uuid import uuid4

from usage_explore.errors import (
    DatabaseError,
    DatabaseUnavailable,
    QueryError,
    RecordError,
    ScopeError,
    StatementTimeout,
    UsageExploreError,
)
from usage_explore.formatting import span_in
from usage_explore.query.describe import period_document
from usage_explore.query.queries import Period
from usage_explore.validation.report import wording
from usage_explore.validation.result import Validation
from usage_explore.validation.review import Review

Result = Literal["passed", "findings", "incomplete", "failed"]

_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (KeyboardInterrupt, "it was interrupted"),
    (StatementTimeout, "a statement took longer than the statement timeout"),
    (DatabaseUnavailable, "the database did not answer"),
    (DatabaseError, "the database refused a statement"),
    (RecordError, "records of runs and decisions could not be read or written"),
    (ScopeError, "the organization is not visible, or has no events"),
    (QueryError, "the period or a file that was given cannot be used"),
    (UsageExploreError, "the period, a file or a setting cannot be used"),
)
"""Why a run failed, by the first class that fits; an error's own words may hold values of the data or addresses."""

_HARMLESS = str.maketrans("<>[]@", "‹›［］＠")
"""Signs in names by which chat services make links or call people, and what stands for them in a sentence."""


def notification(
    validation: Validation, review: Review | None, result: Result, *, signed_off: bool = False, linked: bool = False
) -> dict[str, Any]:
    """The message, as JSON carries it.

    `text` is a sentence, which chat services show, with other signs for those by which they make links and call people
    (<, >, [, ] and @), as in a name; `id` is that of the message, the same if it is delivered twice.
    Without a `review`, which says what was decided, every finding counts as open and there are no states. `url` opens
    the period in the app; null unless `linked`. Sentences of findings are not in it: they hold names and amounts.
    """
    period = validation.period
    name = validation.names.name("organization", period.organization_id)
    organization = wording.text(name or period.organization_id)
    url = validation.url() if linked else None
    headline = wording.verdict(validation, review)
    words = [f"{organization}, {span_in(*period.span, period.zone)}: {headline}."]
    if review is not None:
        words.append(review.sentence(period.zone))
    return {
        "event": "validation",
        "id": uuid4().hex,
        "text": " ".join([" ".join(words).translate(_HARMLESS), *([url] if url else [])]),
        "headline": headline,
        "result": result,
        "signed_off": signed_off,
        **period_document(period, name),
        "events": validation.totals.events,
        "findings_by_severity": dict(validation.counts()),
        "open_by_severity": dict(validation.counts() if review is None else review.open_counts()),
        "findings_by_state": None if review is None else dict(review.counts()),
        "gone": None if review is None else len(review.gone),
        "failed_checks": [check.check.name for check in validation.failed],
        "url": url,
    }


def failure_notification(period: Period, error: BaseException, *, signed_off: bool = False) -> dict[str, Any]:
    """The message of a run that ended with an error or was interrupted: the keys of `notification`, without numbers.

    `period` is resolved. `headline` is the reason as a sentence, without a value of the data. With `signed_off` only
    what followed the sign-off failed, the report.
    """
    reason = next((words for kind, words in _REASONS if isinstance(error, kind)), "an unexpected error")
    what = "The period is signed off, but its report was not written" if signed_off else "The validation failed"
    headline = f"{what}: {reason}"
    return {
        "event": "validation",
        "id": uuid4().hex,
        "text": f"{wording.text(period.organization_id)}, {span_in(*period.span, period.zone)}: {headline}.",
        "headline": headline,
        "result": "failed",
        "signed_off": signed_off,
        **period_document(period, None),
        **dict.fromkeys(("events", "findings_by_severity", "open_by_severity", "findings_by_state", "gone")),
        "failed_checks": [],
        "url": None,
    }
