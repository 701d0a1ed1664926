"""A period examined by one check, and the question whether its findings show what they say."""

from __future__ import annotations

import re

from usage_explore import EventQuery, Store
from usage_explore.query.queries import Period
from usage_explore.validation import Finding, Result, Validation
from usage_explore.validation.review import identities


def examine(store: Store, check: str, period: Period, **given: object) -> Result:
    """What one check finds in the period."""
    (result,) = store.validate(period, checks=[check], **given).results  # type: ignore[arg-type]
    return result


def shown(store: Store, finding: Finding) -> int:
    """How many events the finding's question shows."""
    if isinstance(finding.question, EventQuery):
        return store.count(finding.question)
    return int(store.aggregate(finding.question.replace(metric="count")).total)


def found(validation: Validation, check: str) -> list[Finding]:
    """The findings of one check, by impact."""
    return [finding for finding in validation.findings if finding.check == check]


def identity(finding: Finding) -> str:
    """The id of a finding in links, if it is the only one on its subjects that day."""
    return identities([finding])[0].id


def stayed_away(finding: Finding) -> int:
    """The number of events that stayed away, as the sentence has it."""
    (number,) = re.findall(r"about ([\d,]+) events", finding.sentence)
    return int(number.replace(",", ""))
