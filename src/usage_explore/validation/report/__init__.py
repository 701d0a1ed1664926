"""Sign-off: a validation as a table on a terminal, as JSON, and as one HTML file that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usage_explore.validation.report.page import html
from usage_explore.validation.report.reconciled import Statement, statements
from usage_explore.validation.report.sheets import to_dict as sheets_to_dict
from usage_explore.validation.report.terminal import lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usage_explore.validation import Validation

__all__ = ["Statement", "document", "html", "lines", "statements"]


def document(validation: Validation, reconciled: Sequence[Statement]) -> dict[str, Any]:
    """The validation as JSON carries it, with what was `reconciled`, and each check's table under `sheets`."""
    return {
        **validation.to_dict(),
        "reconciled": [{"agrees": each.agrees, "sentence": each.sentence} for each in reconciled],
        "sheets": sheets_to_dict(validation),
    }
