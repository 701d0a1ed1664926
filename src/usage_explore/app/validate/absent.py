"""Why the finding of a link is not among those of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from usage_explore import formatting
from usage_explore.app.validate.files import GIVEN
from usage_explore.validation.file_kinds import FILES_OF_CHECKS, FileKind
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.review import Review
from usage_explore.validation.usage_sums import joined

_RESOLVED = "events that arrived since may have resolved it, or the period is another one"


def absent(review: Review, finding_id: str) -> str:
    """A sentence on a finding that the review has not: which file it compares, if that is not given here, else that it
    may be resolved.

    A run that had the finding says which file; without one, those that are not given may be the reason.
    """
    given = review.validation.files
    recorded = review.recorded(finding_id)
    if recorded:
        run, finding = recorded
        check = finding.identity.check
        lacking = [
            kind
            for kind in FILES_OF_CHECKS.get(check, ())
            if kind in run.files and run.files[kind]["sha256"] != given.get(kind, {}).get("sha256")
        ]
        if lacking:
            title = CHECKS[check].title if check in CHECKS else check
            drop = "this file" if len(lacking) == 1 else "these files"
            return (
                f"The finding of this link comes from the check {title}, which compares {_words(lacking, run.files)}. "
                f"Drop {drop} above to see it."
            )
    missing = [] if recorded else _not_given(review)
    if not missing:
        return f"The finding of this link is not among these; {_RESOLVED}."
    last = review.with_files.files if review.with_files else {}
    drop = "it" if len(missing) == 1 else "them"
    return (
        "The finding of this link is not among these. It may come from a check that compares a file that is not given "
        f"here: {_words(missing, last)}. Drop {drop} above to see. Else {_RESOLVED}."
    )


def _not_given(review: Review) -> list[FileKind]:
    """The kinds of files without which a check did not run, or that the last run with files was given."""
    given = review.validation.files
    last = review.with_files.files if review.with_files else {}
    skipped = {result.check.name for result in review.validation.results if not result.outcome}
    needed = {kinds[0] for check, kinds in FILES_OF_CHECKS.items() if check in skipped}
    return [kind for kind in GIVEN if kind not in given and (kind in needed or kind in last)]


def _words(kinds: Sequence[FileKind], files: Mapping[str, Mapping[str, str]]) -> str:
    """The files, with their names where they are known: `the invoice lines inv.csv and the price book`."""
    return joined(
        [
            f"the {GIVEN[kind].label.lower()}"
            + (f" {formatting.data_value(files[kind]['name'])}" if kind in files else "")
            for kind in kinds
        ]
    )
