"""The file's spelling of the columns and paths that a mapping names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from usage_explore.load.mapping import ColumnMapping


class ColumnNames:
    """The columns `names` of a file, or paths for nested JSON.

    `sampled`: the names are those of the first rows only, so later rows may have other columns. `joined` has the
    columns of each source of times that joins several: "Date+Time" -> ("Date", "Time").
    """

    def __init__(self, mapping: ColumnMapping, names: Sequence[str], *, sampled: bool) -> None:
        self.mapping = mapping
        self.names = names
        self.sampled = sampled
        self.joined: dict[str, tuple[str, ...]] = {}

    def resolve(self, source: str) -> str | None:
        """The file's spelling of a column or path: exact, else the only one that differs in case; None for none.

        A name that the first rows of a sampled file lack is taken as it is, as later rows may have it.
        """
        if source in self.names:
            return source
        same = [name for name in self.names if name.lower() == source.lower()]
        if len(same) == 1:
            return same[0]
        if "*" in source:
            mapped = {name for sources in self.mapping.columns.values() for name in sources}
            fits = [name for name in self.names if fnmatchcase(name, source) and name not in mapped]
            return fits[0] if len(fits) == 1 else None
        top, dot, _ = source.partition(".")
        return source if self.sampled or (dot and top in self.names) else None

    def resolved(self, sources: Iterable[str]) -> tuple[str, ...]:
        """The file's spelling of the sources that it has."""
        return tuple(spelled for source in sources if (spelled := self.resolve(source)) is not None)

    def join(self, source: str) -> str | None:
        """The file's spelling of a source that joins columns of the file, "Date+Time"; None for another source."""
        parts = [part.strip() for part in source.split("+")]
        columns = tuple(name for part in parts if (name := self.resolve(part)) and self.has(part))
        if source in self.names or len(parts) < 2 or len(columns) < len(parts):
            return None
        self.joined["+".join(columns)] = columns
        return "+".join(columns)

    def columns_of(self, sources: Iterable[str]) -> set[str]:
        """The columns and paths that give the sources."""
        return {column for source in sources for column in self.joined.get(source, (source,))}

    def has(self, source: str) -> bool:
        """Whether the file has the column or path; a sampled file, in its first rows."""
        if source in self.joined:
            return True
        spelled = self.resolve(source)
        return spelled is not None and (spelled in self.names or (not self.sampled and "." in spelled))
