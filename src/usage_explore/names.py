"""Names of ids, and the text that stands for an id on screen: the one place that makes it.

A kind is "organization", "customer", "product" or "subscription"; its column in the events is `<kind>_id`. Names are
data: the code that shows one escapes it like any other value. They are never part of a query, a link or a cache key.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from uuid import UUID, uuid5

from usage_explore.formatting import short_ids, shortened

Key = tuple[str, str]
"""A kind, and an id as text."""

NAMESPACE = UUID("8b1f4f0e-2f5b-5d6c-9d0a-5f6f1c0f0c05")
"""Namespace of the UUIDv5s made from ids that are text. Stored ids and links depend on it: do not change it."""

LOCAL_ORGANIZATION = uuid5(NAMESPACE, "organization")
"""Organization of the events when none is given; its name is "local"."""

LOCAL_NAME = "local"
"""Name of that organization, and of the one customer of a file or table without a customer column."""

KINDS = ("customer", "product", "subscription", "organization")

METRIC = "metric"
"""Kind of a metric's row in the directory: it has no name but its key, its external id, and gives its unit."""

NAME_COLUMNS = {f"{kind}_name": f"{kind}_id" for kind in KINDS}
"""Column of names in events and downloads -> the column of ids that it names."""

MAX_LABEL_CHARACTERS = 60
"""Characters of a name in a label."""

_UUID = re.compile(r"(?<!--organization-id )[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""An id, but for that of a command, which has to run as it is written."""


def made_id(kind: str, text: str) -> UUID:
    """The id of a kind, or of a file's column, that is made from a text: the same in every file and table."""
    return uuid5(NAMESPACE, f"{kind}={text}")


def kind_of(column: str) -> str:
    """The kind of a column: "customer" of `customer_id`, and of `customer`."""
    return column.removesuffix("_id")


@dataclass(frozen=True)
class Names:
    """The names of some ids of one organization.

    `by_id` is name by (kind, id); `shared` has the ids whose name another id of their kind and organization has, too.
    In all methods a kind may be written as its column: `names.label("customer_id", event.customer_id)`.
    """

    by_id: Mapping[Key, str] = field(default_factory=dict)
    shared: frozenset[Key] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.by_id)

    def __or__(self, other: Names) -> Names:
        return Names({**self.by_id, **other.by_id}, self.shared | other.shared)

    def name(self, kind: str, id_: UUID | str | None) -> str | None:
        """The name as it is stored; None if unknown."""
        return None if id_ is None else self.by_id.get((kind_of(kind), str(id_)))

    def known(self, kind: str, id_: UUID | str) -> str | None:
        """The name on one printable line, "Acme", or "Acme (1a2b3c4d)" if another id has it, too; None if unknown."""
        return self._labels.get((kind_of(kind), str(id_)))

    def label(self, kind: str, id_: UUID | str) -> str:
        """`known`, else the id by its first eight digits: `5f0c2a91…`."""
        return self.known(kind, id_) or short_ids(str(id_))

    def full(self, kind: str, id_: UUID | str) -> str:
        """The name and the whole id, "Acme (1a2b3c4d-…-0c05)"; the id alone if it has no name."""
        name = self.name(kind, id_)
        return f"{shortened(name, MAX_LABEL_CHARACTERS)} ({id_})" if name else str(id_)

    def in_text(self, text: str, *, ids: bool = False) -> str:
        """The text with each id that has a name replaced by its label; with `ids`, by `full`; commands keep theirs.

        An id that is of two kinds with different names stays. The result holds names: escape it as data.
        """
        if not self.by_id:
            return text
        return _UUID.sub(lambda match: (self._full_texts if ids else self._texts).get(match[0], match[0]), text)

    @cached_property
    def _labels(self) -> dict[Key, str]:
        shown = {key: shortened(name, MAX_LABEL_CHARACTERS) for key, name in self.by_id.items()}
        number = Counter((kind, label) for (kind, _), label in shown.items())
        labels = {
            key: f"{label} ({key[1][:8]})" if key in self.shared or number[key[0], label] > 1 else label
            for key, label in shown.items()
        }
        number = Counter((kind, label) for (kind, _), label in labels.items())
        return {key: label if number[key[0], label] == 1 else self.full(*key) for key, label in labels.items()}

    @cached_property
    def _texts(self) -> dict[str, str]:
        return _by_id_alone(self._labels)

    @cached_property
    def _full_texts(self) -> dict[str, str]:
        return _by_id_alone({key: self.full(*key) for key in self.by_id})


def ids_in(texts: Iterable[str]) -> set[str]:
    """Every id that is written in one of the texts."""
    return {match[0] for text in texts for match in _UUID.finditer(text)}


def _by_id_alone(labels: Mapping[Key, str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    ambiguous: set[str] = set()
    for (_, id_), label in labels.items():
        if texts.setdefault(id_, label) != label:
            ambiguous.add(id_)
    return {id_: label for id_, label in texts.items() if id_ not in ambiguous}


NO_NAMES = Names()
"""Names without any: every label is an id."""
