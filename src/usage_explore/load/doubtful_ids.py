"""Warnings of texts that may be no id: words for no value, lines of totals, and names that look alike."""

from __future__ import annotations

import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.db.names import is_readable
from usage_explore.decimals import exact_sum
from usage_explore.files.values import quoted
from usage_explore.formatting import listed
from usage_explore.names import made_id
from usage_explore.sql.identifiers import identifier

if TYPE_CHECKING:
    from usage_explore.load.row_mapper import RowMapper

_NO_VALUES = frozenset(("NULL", "null", "(null)", "None", "N/A", "n/a", "#N/A", "-", "--", "\\N", "nan", "NaN"))
"""Words that exports have for no value. "Null" and "none" are names, too."""

_TOTALS = frozenset(("total", "totals", "grand total", "sum", "gesamt", "gesamtsumme", "summe"))
"""Words, in lower case, that a line of totals has in place of a customer."""

_MAX_METRICS = 100
"""Metrics with letters beyond ASCII whose other forms are searched for in the table."""

_SUMS = """
SELECT customer_id, metric_key, sum(quantity), (SELECT sum(quantity) FROM {stage} a WHERE a.metric_key = s.metric_key)
FROM {stage} s WHERE customer_id = ANY (%s) GROUP BY 1, 2
"""

_STORED = """
SELECT DISTINCT kind, id FROM {names} n
WHERE organization_id = ANY (%s) AND kind = ANY (%s) AND id = ANY (%s) AND EXISTS (
    SELECT FROM {events} t WHERE t.organization_id = n.organization_id AND n.id =
    CASE n.kind WHEN 'customer' THEN t.customer_id WHEN 'product' THEN t.product_id ELSE t.subscription_id END)
"""

_NAMED = """
SELECT DISTINCT kind, id, external_id FROM {names}
WHERE organization_id = ANY (%s) AND kind = ANY (%s) AND external_id ~ '[^\\x01-\\x7f]'::text
"""
"""Texts of ids that may look like those of a file that are ASCII."""

_METRICS = """
SELECT DISTINCT metric_key FROM {events} WHERE organization_id = ANY (%(organizations)s)
AND timestamp BETWEEN %(first)s AND %(last)s AND metric_key ~ '[^\\x01-\\x7f]'::text
"""

_STORED_METRIC = """
SELECT EXISTS (SELECT FROM {events} WHERE organization_id = ANY (%s::uuid[]) AND metric_key = %s::text)
"""


def doubtful_words(mapper: RowMapper) -> Iterator[str]:
    """The warnings of words for no value that became ids, and of ids in two forms, after the rows were read."""
    texts = _texts(mapper)
    words: dict[str, list[str]] = defaultdict(list)
    forms: dict[tuple[str, str], set[str]] = defaultdict(set)
    for kind, text in texts:
        if text in _NO_VALUES and kind != "metric":
            words[kind].append(text)
        if not text.isascii():
            forms[kind, _look(text)].add(text)
    for key in texts:
        if key in forms:  # "c1" beside "c1" with an invisible mark
            forms[key].add(key[1])
    for kind, ids in words.items():
        options = " ".join(f"--null {shlex.quote(text)}" for text in ids)
        be = "is an id" if len(ids) == 1 else "are ids"
        yield (
            f"warning: {listed([*map(quoted, ids)])} {be} of {kind}s; if it is a word for no value, load the file"
            f" with {options}"
        )
    yield from (_two_forms(kind, text) for (kind, text), same in forms.items() if len(same) > 1)


def _texts(mapper: RowMapper) -> list[tuple[str, str]]:
    """The kind and the text of each id and metric."""
    return [*((kind, text) for (kind, _), text in mapper.ids.texts.items()), *(("metric", m) for m in mapper.metrics)]


def _look(text: str) -> str:
    """The text as it looks: in NFC, without invisible marks such as U+200B and U+202E, spaces of any kind as one."""
    shown = (" " if letter.isspace() else letter for letter in text if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFC", "".join(shown)).strip()


def _other_forms(text: str) -> set[str]:
    look = _look(text)
    return {unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text), look} - {text, ""}


class TotalLines:
    """The quantities of customers that are named like a line of totals, by metric."""

    def __init__(self, mapper: RowMapper) -> None:
        self._texts = mapper.ids.texts
        self._sums: dict[tuple[str, str], Decimal] = {}

    def add(self, customer: str | None, metric: str | None, quantity: str | None) -> None:
        """Count an event."""
        text = self._texts.get(("customer", customer or ""), "")
        if text and _is_total(text):
            amounts = (self._sums.get((text, metric or ""), Decimal(0)), Decimal(quantity or 0))
            self._sums[text, metric or ""] = Decimal(exact_sum(amounts, Decimal(0)))

    def warnings(self, totals: Mapping[str | None, Decimal]) -> Iterator[str]:
        """The warnings, with the `totals` of all customers by metric."""
        for (text, metric), quantity in self._sums.items():
            yield from _total_warning(text, metric, quantity, totals.get(metric, Decimal(0)))


def staged_totals(connection: Connection, stage: sql.Identifier, mapper: RowMapper) -> list[str]:
    """The warnings of staged lines of totals."""
    texts = {id_: text for (kind, id_), text in mapper.ids.texts.items() if kind == "customer" and _is_total(text)}
    if not texts:
        return []
    rows = connection.execute(sql.SQL(_SUMS).format(stage=stage), [[*map(UUID, texts)]])
    return [warning for id_, *sums in rows for warning in _total_warning(texts[str(id_)], *sums)]


def _is_total(text: str) -> bool:
    return text.lower().strip(" :") in _TOTALS


def _total_warning(text: str, metric: str, quantity: Decimal, total: Decimal) -> Iterator[str]:
    if quantity and 2 * quantity == total:
        yield (
            f"warning: the customer {quoted(text)} has as much of {metric} as all others of the file together: a line"
            " of totals is counted beside them, so sums are doubled; leave it out of the file"
        )


def stored_in_another_form(
    connection: Connection, events: Table, names: Table, span: Mapping[str, Any], mapper: RowMapper
) -> list[str]:
    """The warnings of ids and metrics of which stored events have the other form, of another file; of ids, if the
    directory of names has it, too.

    `span` has the staged rows' `organizations`, and the `first` and `last` of their times.
    """
    organizations: Sequence[UUID] = span["organizations"]
    metrics = [text for text in mapper.metrics if not text.isascii()][:_MAX_METRICS]
    exists = sql.SQL(_STORED_METRIC).format(events=identifier(events))
    found = [
        _two_forms("metric", text)
        for text in metrics
        for form in _other_forms(text) - mapper.metrics.keys()
        if connection.execute(exists, [[*organizations], form]).fetchone() == (True,)
    ]
    for (stored,) in connection.execute(sql.SQL(_METRICS).format(events=identifier(events)), span):
        look = _look(stored)
        found += [_two_forms("metric", stored)] if look != stored and look.isascii() and look in mapper.metrics else []
    others: dict[tuple[str, UUID], str] = {}
    for (kind, id_), text in mapper.ids.texts.items():
        if not text.isascii() and made_id(kind, text) == UUID(id_):
            others |= {(kind, made_id(kind, form)): text for form in _other_forms(text)}
    plain = {(kind, text) for (kind, _), text in mapper.ids.texts.items() if text.isascii()}
    if not others and not plain:
        return found
    named = sql.SQL(_NAMED).format(names=identifier(names))
    statement = sql.SQL(_STORED).format(names=identifier(names), events=identifier(events))
    try:
        with connection.transaction():  # a refused statement leaves the transaction usable
            if not is_readable(connection, names):
                return found
            kinds = sorted({kind for kind, _ in plain})
            for kind, id_, text in connection.execute(named, [[*organizations], kinds]) if plain else ():
                others |= {(kind, id_): text} if (kind, _look(text)) in plain else {}
            others = {key: text for key, text in others.items() if (key[0], str(key[1])) not in mapper.ids.texts}
            if not others:
                return found
            of = [[*organizations], [kind for kind, _ in others], [id_ for _, id_ in others]]
            rows = connection.execute(statement, of).fetchall()
    except psycopg.Error:
        return found
    return found + [_two_forms(kind, others[kind, id_]) for kind, id_ in rows if (kind, id_) in others]


def _two_forms(kind: str, text: str) -> str:
    column = "customer_id" if kind == "metric" else "metric_key"
    return (
        f"warning: the {kind} {quoted(text)} is written in two ways that look alike (Unicode NFC and NFD, or with"
        f" invisible characters), which are two {kind}s; write one of them in all files. If both have the same usage,"
        f" it is counted twice: load the whole export again with --replace-by {column}, which replaces all events of"
        f" its {'customers' if kind == 'metric' else 'metrics'} in its months"
    )
