"""Names of columns in messages, and names in other systems that mean a documented column."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

MAX_LISTED_COLUMNS = 20
"""Columns of a file that an error names."""

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "customer_id": ("customer", "customeruuid", "customername", "account", "accountid", "client", "tenant", "user"),
    "metric_key": ("metric", "metricname", "meter", "metername", "sku", "eventname", "product", "service"),
    "quantity": ("qty", "usage", "usagequantity", "usageamount", "amount", "value", "count", "units"),
    "timestamp": ("time", "datetime", "eventtime", "occurredat", "date", "when", "createdat", "startdate", "starttime"),
}
"""Required column -> names in other systems that mean the same, in lower case without spaces and punctuation."""


def synonym(column: str, names: Iterable[str]) -> str | None:
    """The first of the names that means the column, by `SYNONYMS`; a similar spelling does not count."""
    meanings = {column.replace("_", ""), *SYNONYMS.get(column, ())}
    return next((name for name in names if re.sub(r"[\W_]", "", name).lower() in meanings), None)


def like(name: str, choices: Iterable[str]) -> str:
    """` (did you mean x?)` for the most similar choice, blank if none is."""
    spellings = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(name.lower(), spellings, n=1)
    return f" (did you mean {spellings[near[0]]}?)" if near else ""


def listed_columns(names: Iterable[str]) -> str:
    """The first `MAX_LISTED_COLUMNS` names, in quotes where they are not plain words."""
    quoted = [name if name.isidentifier() else repr(name) for name in names]
    more = len(quoted) - MAX_LISTED_COLUMNS
    return ", ".join(quoted[:MAX_LISTED_COLUMNS]) + (f" and {more} more" if more > 0 else "")
