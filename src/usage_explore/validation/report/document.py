"""A validation as one JSON document, with the recounted totals and every sheet whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from usage_explore.decimals import plain, rfc3339
from usage_explore.validation.report import wording
from usage_explore.validation.report.recount import Statement

if TYPE_CHECKING:
    from usage_explore.validation import Validation


def document(validation: Validation, reconciled: Sequence[Statement]) -> dict[str, Any]:
    """`Validation.to_dict` with `reconciled` and `sheets`: check to list of rows; decimals, times and ids as text."""
    return {
        **validation.to_dict(),
        "reconciled": [{"agrees": statement.agrees, "sentence": statement.sentence} for statement in reconciled],
        "sheets": {
            result.check.name: [
                {name: _json(value) for name, value in zip(sheet.columns.astype(str), row, strict=True)}
                for row in sheet.itertuples(index=False, name=None)
            ]
            for result in validation.results
            if (sheet := validation.sheet(result.check.name)) is not None
        },
    }


def _json(value: Any) -> Any:
    if wording.is_missing(value):
        return None
    match value:
        case bool() | int() | str():
            return value
        case Decimal():
            return plain(value) if value.is_finite() else str(value)
        case datetime():
            return rfc3339(value)
        case dict():
            return {str(key): _json(member) for key, member in value.items()}
        case list() | tuple():
            return [_json(member) for member in value]
        case _:
            return str(value)
