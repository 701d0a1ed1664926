"""A validation as a message for a webhook: what was examined and what came of it, in a sentence and in numbers."""

from __future__ import annotations

from typing import Any, Literal
from uuid import uuid4

from usage_explore.formatting import span_in
from usage_explore.query.describe import period_document
from usage_explore.validation.check import SEVERITIES, Validation
from usage_explore.validation.report import wording
from usage_explore.validation.review import Review

Result = Literal["passed", "findings", "incomplete"]


def notification(
    validation: Validation, review: Review | None, result: Result, *, signed_off: bool = False, linked: bool = False
) -> dict[str, Any]:
    """The message, as JSON carries it.

    `text` is a sentence, which chat services show; `id` is that of the message, the same if it is delivered twice.
    Without a `review`, which says what was decided, every finding counts as open and there are no states. `url` opens
    the period in the app; null unless `linked`. Sentences of findings are not in it: they hold names and amounts.
    """
    period = validation.period
    name = validation.names.name("organization", period.organization_id)
    organization = wording.text(name or period.organization_id)
    url = validation.url() if linked else None
    headline = wording.verdict(validation)
    still_open = {
        severity: validation.counts()[severity] if review is None else len(review.open(severity))
        for severity in SEVERITIES
    }
    words = [f"{organization}, {span_in(*period.span, period.zone)}: {headline}."]
    if review is not None:
        words.append(review.sentence(period.zone))
    return {
        "event": "validation",
        "id": uuid4().hex,
        "text": " ".join([*words, *([url] if url else [])]),
        "headline": headline,
        "result": result,
        "signed_off": signed_off,
        **period_document(period, name),
        "events": validation.totals.events,
        "findings_by_severity": dict(validation.counts()),
        "open_by_severity": still_open,
        "findings_by_state": None if review is None else dict(review.counts()),
        "gone": None if review is None else len(review.gone),
        "failed_checks": [check.check.name for check in validation.failed],
        "url": url,
    }
