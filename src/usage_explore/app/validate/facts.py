"""The facts of a finding as text: times on the zone's clock, numbers with thousands separated, checks by title."""

from __future__ import annotations

import re
from decimal import Decimal
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.decimals import Number
from usage_explore.query.validators import instant

_TIME = re.compile(r"[12]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_QUANTITY = re.compile(r"(?<=, quantity )-?\d+(\.\d+)?$", re.ASCII)
_NUMERIC = re.compile(
    r"actual|expected|low|high|excess|customers|tolerance|usual median|times .+|(usual )?cost (in|without) .+"
    r"|.*\bevents\b.*"
)
"""Names of facts that are numbers; others may be values of the data, which are shown as they are."""

_WITH_QUANTITY = re.compile(r"affected .+|arrived after finalization")
"""Names of facts such as `205 events, quantity 33518.84`."""


def shown(name: str, text: str, zone: ZoneInfo) -> str:
    """A fact as text; values of the data as they are."""
    if _TIME.fullmatch(text):
        return formatting.timestamp(instant(text), zone)
    if _WITH_QUANTITY.fullmatch(name):
        return _QUANTITY.sub(lambda number: exact(Decimal(number[0])), text)
    return exact(Decimal(text)) if _NUMERIC.fullmatch(name) and _NUMBER.fullmatch(text) else text


def exact(value: Number) -> str:
    """Every digit, with thousands separated and the sign − of a negative number."""
    return formatting.typographic(formatting.exact(value))
