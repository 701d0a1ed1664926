"""The words of a column's name, and those that mean a customer or a metric."""

from __future__ import annotations

import re
import unicodedata

CUSTOMER_WORDS = (
    "customer", "client", "kunden", "kunde", "tenant", "subscriber", "mandant", "account", "distinct", "person",
    "user", "username", "email", "member", "subject", "owner", "team", "workspace", "namespace", "project",
)  # fmt: skip
METRIC_WORDS = (
    "metric", "meter", "sku", "event", "type", "product", "service", "leistung", "produkt", "artikel", "article",
    "item", "feature", "operation", "action", "kind", "category", "resource",
)  # fmt: skip
"""Words in a column's name, the first of which means most."""

_GENERIC = frozenset(("id", "uuid", "name", "total", "currency", "value", "unit"))
"""Last names in a path that mean something only with the one before: tenant.id, price.total."""

_COMPOUND = re.compile(
    r"([^\W\d_]{3,})(nr|nummer|number|uuid)|(post|zip|area|bar|error|status)(code)"
    rf"|({'|'.join((*CUSTOMER_WORDS, *METRIC_WORDS))}|order|invoice|contract|device)(ids?|no)"
)
"""Words that name a number, such as kundennr and accountid: two words in one."""

_CAMEL = re.compile(r"(?<=[^\W\d_A-ZÄÖÜ])(?=[A-ZÄÖÜ])|(?<=[A-ZÄÖÜ])(?=[A-ZÄÖÜ][^\W\d_A-ZÄÖÜ])")


def words(name: str) -> list[str]:
    """The words of a column's name in lower case: ["usage", "start", "date"] of lineItem/UsageStartDate's last part.

    A last part such as id has the words of the part before too: ["tenant", "id"] of tenant.id.
    """
    parts = [part for part in re.split(r"[./]", unicodedata.normalize("NFC", name)) if part] or [name]
    own = _words_of(parts[-1])
    return [*_words_of(parts[-2]), *own] if len(parts) > 1 and {*own} <= _GENERIC else own


def _words_of(part: str) -> list[str]:
    found = [word.lower() for word in re.findall(r"[^\W\d_]+", _CAMEL.sub(" ", part))]
    compounds = {word: match.groups() for word in found if (match := _COMPOUND.fullmatch(word))}
    return [part for word in found for part in compounds.get(word, (word,)) if part]
