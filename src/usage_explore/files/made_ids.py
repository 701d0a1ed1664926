"""Ids in files of a validation or a price book, which may be any text, as in files of events.

`load` makes an id of a text, and keeps the text as an external id in the directory of names. A text in another file
stands for the id that has it there, else for the id that `load` makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

from usage_explore.files.values import MAX_KEY_BYTES, InvalidValue, plain_text, quoted, uuid
from usage_explore.names import Key, Names, made_id

_NEARLY_UUID = re.compile(r"[0-9a-fA-F-]{30,40}")
"""A text that is a UUID with a typing error: no id is made of it."""


class MadeId(UUID):
    """The id that is made of a text of a kind, such as "customer"; `directory_ids` may have another one for it."""

    __slots__ = ("kind", "text")
    kind: str
    text: str

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(int=made_id(kind, text).int)
        object.__setattr__(self, "kind", kind)  # a UUID refuses to be changed
        object.__setattr__(self, "text", text)

    def __reduce__(self) -> tuple[type[MadeId], tuple[str, str]]:
        return MadeId, (self.kind, self.text)


def id_reader(kind: str) -> Callable[[object], UUID]:
    """The function that reads an id of a kind: a UUID, with or without hyphens, or any other text."""

    def read(raw: object) -> UUID:
        try:
            return uuid(raw)
        except InvalidValue:
            text = plain_text(raw).strip()
            if not text or _NEARLY_UUID.fullmatch(text):
                raise
        if len(text.encode()) > MAX_KEY_BYTES:
            raise InvalidValue(f"{quoted(text)} has more than {MAX_KEY_BYTES:,} bytes; give the id")
        return MadeId(kind, text)

    return read


def made_ids(ids: Iterable[UUID | None]) -> dict[Key, MadeId]:
    """Those that are made of texts, by kind and text."""
    return {(id_.kind, id_.text): id_ for id_ in ids if isinstance(id_, MadeId)}


def directory_ids(made: Mapping[Key, MadeId], found: Mapping[Key, UUID]) -> dict[UUID, UUID]:
    """The id of each one that is made of a text: that which was `found` for the text, else the same as a plain one."""
    return {id_: found.get(key, UUID(int=id_.int)) for key, id_ in made.items()}


def names_of(made: Mapping[Key, MadeId], ids: Mapping[UUID, UUID]) -> Names:
    """The texts as the names of the ids that they stand for."""
    return Names({(kind, str(ids[id_])): text for (kind, text), id_ in made.items()})
