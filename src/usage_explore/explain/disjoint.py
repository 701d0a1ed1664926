"""Conjunctions made disjoint in a way that a question can tell: each keeps its values, without a few others.

The rows of a cell must be the rows of one question, whose filters know "is" and "is not" of one dimension each, but
no "not both". So an overlap is taken from the one of two conjunctions that lacks a single value of the other; where
neither does, the less important is not named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from usage_explore.explain.cuboids import Codes, Element, Mask

Pair = tuple[int, int]


@dataclass(slots=True)
class Region:
    """The leaves that have all values of `where` and none of `without`."""

    where: Element
    without: list[Pair] = field(default_factory=list)

    def mask(self, codes: Codes) -> Mask:
        """Which leaves lie in the region."""
        found: Mask = (codes[:, [dim for dim, _ in self.where]] == [code for _, code in self.where]).all(axis=1)
        for dim, code in self.without:
            found &= codes[:, dim] != code
        return found


def disjoint(elements: Iterable[Element]) -> list[Region]:
    """The elements, most important first, as regions without a common leaf."""
    found: list[Region] = []
    for element in elements:
        new = Region(element)
        cuts = [_cut(new, old) for old in found]
        if None in cuts:
            continue
        for cut in cuts:
            if cut and cut[1] is not None and cut[1] not in cut[0].without:
                cut[0].without.append(cut[1])
        found.append(new)
    return found


def _cut(new: Region, old: Region) -> tuple[Region, Pair | None] | None:
    """From which of the two to take what, nothing where they do not overlap; None where it cannot be told."""
    ours, theirs = dict(new.where), dict(old.where)
    if any(ours[dim] != theirs[dim] for dim in ours.keys() & theirs.keys()):
        return new, None
    only_theirs = [pair for pair in old.where if pair[0] not in ours]
    only_ours = [pair for pair in new.where if pair[0] not in theirs]
    if len(only_theirs) == 1:
        return new, only_theirs[0]
    if len(only_ours) == 1:
        return old, only_ours[0]
    return None
