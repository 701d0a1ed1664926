"""UUIDs of organizations, customers, products and subscriptions that a file names by any text."""

from __future__ import annotations

from collections.abc import Callable

from usage_explore.files.values import InvalidValue, plain_text, uuid_text
from usage_explore.names import LOCAL_NAME, LOCAL_ORGANIZATION, kind_of, made_id

_MAX_CACHED_IDS = 100_000
"""Ids of a column whose UUID is remembered."""


class Identifiers:
    """Makes ids, and keeps the text of each that is no UUID: `texts[kind, id]`.

    A text becomes the UUIDv5 of `kind=text`, the same in every file; with `by_column`, of `column=text`, where the
    column is the file's, as FOCUS exports have had it since version 0.1.0.
    """

    def __init__(self, *, by_column: bool = False) -> None:
        self.texts: dict[tuple[str, str], str] = {}
        self._by_column = by_column

    def reader(self, column: str, source: str) -> Callable[[object], str]:
        """The function that gives the id for a value of the file's column `source`. It raises `InvalidValue`."""
        known: dict[str, str] = {}

        def read(raw: object) -> str:
            if type(raw) is str:
                made = known.get(raw)
                if made is None:
                    made = self.made(column, source, raw)
                    if len(known) < _MAX_CACHED_IDS:
                        known[raw] = made
                return made
            return self.made(column, source, raw)

        return read

    def made(self, column: str, source: str, raw: object) -> str:
        """The UUID itself, or that of the text. Raises `InvalidValue`."""
        try:
            return uuid_text(raw)
        except InvalidValue:
            text = plain_text(raw)
        if not text.strip():
            raise InvalidValue("is the empty text")
        if not self._by_column:
            text = text.strip()
        if column == "organization_id" and text == LOCAL_NAME:
            id_ = str(LOCAL_ORGANIZATION)
        else:
            is_of_column = self._by_column and source != column  # a constant is of no column of the file
            id_ = str(made_id(source if is_of_column else kind_of(column), text))
        self.texts[kind_of(column), id_] = text
        return id_
