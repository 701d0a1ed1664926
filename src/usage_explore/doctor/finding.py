"""What a check has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `ok`, a `warning` (works, but slower or less surely) or a `fault` (wrong or no answers).

    `cure` is what to do, SQL where SQL does it; empty when there is nothing to do.
    """

    name: str
    state: Literal["ok", "warning", "fault"]
    message: str
    cure: str = ""


def quoted(name: str, schema: str | None = None) -> str:
    """A name for SQL, quoted only where it must be."""
    words = [name] if schema is None else [schema, name]
    return ".".join(
        word
        if word.isascii() and word.isidentifier() and word.islower() and word not in _RESERVED
        else '"{}"'.format(word.replace('"', '""'))
        for word in words
    )


_RESERVED = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "column",
        "constraint",
        "create",
        "current_date",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "from",
        "grant",
        "group",
        "having",
        "in",
        "initially",
        "intersect",
        "into",
        "lateral",
        "leading",
        "limit",
        "localtime",
        "not",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "placing",
        "primary",
        "references",
        "returning",
        "select",
        "session_user",
        "some",
        "symmetric",
        "system_user",
        "table",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "variadic",
        "when",
        "where",
        "window",
        "with",
    ]
)
