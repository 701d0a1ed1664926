"""The names of a file's columns: their spelling of those that a mapping names, and the words that they are made of."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from usage_explore.load.mapping import ColumnMapping
from usage_explore.load.numbers import CODES_OF_SIGNS, SIGNS

CUSTOMER_WORDS = (
    "customer", "client", "kunden", "kunde", "klant", "cliente", "tenant", "subscriber", "abonne", "mandant",
    "account", "konto", "compte", "cuenta", "conto", "distinct", "person", "user", "username", "benutzer",
    "utilisateur", "usuario", "utente", "gebruiker", "email", "member", "subject", "owner", "team", "workspace",
    "namespace", "project",
)  # fmt: skip
METRIC_WORDS = (
    "metric", "metrik", "metrique", "metrica", "metriek", "meter", "zahler", "zaehler", "compteur", "contador",
    "medidor", "contatore", "misuratore", "sku", "event", "type", "product", "service", "leistung", "produkt",
    "produit", "producto", "prodotto", "servicio", "servizio", "dienst", "artikel", "article", "articulo",
    "articolo", "item", "feature", "operation", "action", "kind", "category", "resource",
)  # fmt: skip
"""Words in a column's name, without accents, the first of which means most."""

QUANTITY_WORDS = frozenset((
    "quantity", "qty", "usage", "units", "count", "amount", "value", "volume", "consumption", "menge", "anzahl",
    "verbrauch", "quantite", "consommation", "cantidad", "consumo", "quantita", "hoeveelheid", "aantal", "verbruik",
))  # fmt: skip
COST_WORDS = frozenset((
    "cost", "costs", "spend", "spent", "charge", "charges", "fee", "fees", "kosten", "gebuhr", "gebuhren",
    "gebuehr", "gebuehren", "betrag", "cout", "couts", "montant", "coste", "costo", "costes", "costos", "costi",
    "importe", "importo", "bedrag",
))  # fmt: skip
PRICED_COST_WORDS = frozenset(("amount", "price", "preis"))
"""Words that mean a cost only where the values have a currency."""

CURRENCY_WORDS = frozenset((
    "currency", "wahrung", "waehrung", "devise", "monnaie", "moneda", "divisa", "valuta", "munteenheid",
))  # fmt: skip

COMMON = frozenset(("usd", "eur", "gbp", "chf", "jpy", "cad", "aud", "sek", "nok", "dkk", "pln", "inr"))
"""Currency codes that are known in small letters, too: "try" and "all" are words."""

_CODES_OF_NAMES = {"euro": "EUR", "euros": "EUR", "sterling": "GBP"}
_DOLLARS = frozenset(("dollar", "dollars"))
_US_DOLLARS = re.compile(r"\bUS[ -]?(?:\$|dollar)", re.IGNORECASE)

_WORDS_BESIDE_COST = frozenset(("amount", "total", "in", "external"))

NO_COST_WORDS = frozenset((
    "unit", "rate", "per", "stuckpreis", "einzelpreis", "sec", "secs", "second", "seconds", "ms", "minutes", "hours",
    "bytes", "gb", "mb", "count", "currency",
))  # fmt: skip
NUMBER_WORDS = frozenset(("number", "no", "nr", "nummer", "numero"))
ID_WORDS = NUMBER_WORDS | {"id", "ids", "uuid", "sid", "key"}
SURE_CUSTOMER_WORDS = frozenset(("customer", "client", "kunde", "klant", "cliente", "tenant", "subscriber", "mandant"))
NAME_WORDS = frozenset(("name", "email", "label", "title"))
NO_MEASURE_WORDS = frozenset((
    "id", "year", "month", "week", "day", "hour", "jahr", "monat", "woche", "annee", "mois", "ano", "mes", "anno",
    "mese", "jaar", "maand", "code", "status", "version", "specversion", "port", "zip", "plz", "price", "preis",
    "stuckpreis", "einzelpreis", "rate", "per", "percent", "ratio", "multiplier", "factor", "quota", "limit",
    "latitude", "longitude", "index", "level", "priority", "discount", "rabatt", "tax", "vat", "mwst",
    "steuer", "tva", "iva", "btw", "cause", "reason", "sid", "uuid", "prix", "precio", "prezzo", "prijs",
)) | NUMBER_WORDS  # fmt: skip
LATER_TIME_WORDS = frozenset((
    "end", "ended", "ende", "fin", "fine", "einde", "finish", "finished", "until", "updated", "expires", "modified",
    "due", "ingested", "to",
))  # fmt: skip
TIME_WORDS = (
    "time", "timestamp", "date", "datetime", "datum", "zeitpunkt", "zeitstempel", "horodatage", "fecha", "tijdstip",
    "tijdstempel", "at", "when", "day", "tag", "start", "started", "created", "ts", "epoch",
)  # fmt: skip
"""Words in a column's name that mean a documented column, or that it is none; the first in a row means most."""

_ENGLISH = frozenset((
    "customer", "client", "tenant", "subscriber", "quantity", "qty", "usage", "units", "count", "amount", "value",
    "volume", "consumption",
))  # fmt: skip
_COUNTS = frozenset(("anzahl", "aantal"))
_EVENT_WORDS = frozenset(("events", "ereignisse", "evenements", "eventos", "eventi", "gebeurtenissen"))
_WORDS_BESIDE_EVENTS = NUMBER_WORDS | _COUNTS | {"count", "nombre", "nb", "num", "of", "de", "der", "d", "di", "van"}
_MEANINGS: Mapping[str, frozenset[str]] = {
    "customer_id": (SURE_CUSTOMER_WORDS | {"kunden"}) - _ENGLISH,
    "metric_key": frozenset(("metrik", "metrique", "metrica", "metriek")),
    "quantity": QUANTITY_WORDS - _ENGLISH,
    "events": _COUNTS | _EVENT_WORDS,
    "amount": frozenset(("betrag", "montant", "importe", "importo", "bedrag")),
    "currency": CURRENCY_WORDS - {"currency"},
    "day": frozenset(("datum", "tag", "fecha")),
}
"""Column of invoice lines, control totals or preferred currencies -> words that mean it in other languages."""

CLOCK_WORDS = frozenset(("time", "hour", "clock", "uhrzeit", "zeit", "uhr", "stunde", "heure", "hora", "ora", "tijd"))
ANY_CLOCK_WORDS = frozenset(("of", "day", "start", "started", "begin", "from", "local", "event"))
"""Words of a column's name that mean a time of day, and words that may be beside them; "talk time" is a duration."""

_GENERIC = frozenset(("id", "uuid", "name", "total", "currency", "value", "unit"))
"""Last names in a path that mean something only with the one before: tenant.id, price.total."""

_COMPOUND = re.compile(
    r"([^\W\d_]{3,})(nr|nummer|number|uuid)|(post|zip|area|bar|error|status)(code)"
    rf"|({'|'.join((*CUSTOMER_WORDS, *METRIC_WORDS))}|order|invoice|contract|device)(ids?|no)"
)
"""Words that name a number, such as kundennr and accountid: two words in one."""

_CAMEL = re.compile(r"(?<=[^\W\d_A-ZÄÖÜ])(?=[A-ZÄÖÜ])|(?<=[A-ZÄÖÜ])(?=[A-ZÄÖÜ][^\W\d_A-ZÄÖÜ])")


def words(name: str) -> list[str]:
    """The words of a column's name in lower case without accents.

    ["usage", "start", "date"] are those of lineItem/UsageStartDate's last part. A last part such as id has the words of
    the part before too: ["tenant", "id"] of tenant.id.
    """
    parts = [part for part in re.split(r"[./]", unicodedata.normalize("NFC", name)) if part] or [name]
    own = _words_of(parts[-1])
    return [*_words_of(parts[-2]), *own] if len(parts) > 1 and {*own} <= _GENERIC else own


def _words_of(part: str) -> list[str]:
    found = [_plain(word) for word in re.findall(r"[^\W\d_]+", _CAMEL.sub(" ", part.replace("MwSt", "Mwst")))]
    compounds = {word: match.groups() for word in found if (match := _COMPOUND.fullmatch(word))}
    return [part for word in found for part in compounds.get(word, (word,)) if part]


def _plain(word: str) -> str:
    """The word in lower case without accents, which exports often lack: "quantite" of Quantité."""
    return "".join(letter for letter in unicodedata.normalize("NFD", word.lower()) if letter.isalpha())


def meant_columns(names: Iterable[str], columns: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The columns of a file for a validation that a name, and no other of the file, means in another language.

    Several where a name does not say which: Anzahl is a number of events beside a quantity.

    >>> meant_columns(["Kunden-Nr.", "Menge", "Betrag (EUR)"], ["customer_id", "quantity", "amount"])
    {'Kunden-Nr.': ('customer_id',), 'Menge': ('quantity',)}
    >>> meant_columns(["Menge", "Anzahl"], ["events", "quantity"]), meant_columns(["Anzahl"], ["events", "quantity"])
    ({'Menge': ('quantity',), 'Anzahl': ('events',)}, {'Anzahl': ('events', 'quantity')})
    """
    columns = [column for column in columns if column in _MEANINGS]
    found = {name: [column for column in columns if _means(name, column)] for name in names}
    sure = {means[0] for means in found.values() if len(means) == 1}
    found = {
        name: means if len(means) == 1 else [one for one in means if one not in sure] for name, means in found.items()
    }
    taken = Counter(column for means in found.values() for column in means)
    return {name: tuple(means) for name, means in found.items() if means and all(taken[one] == 1 for one in means)}


def _means(name: str, column: str) -> bool:
    own, meaning = {*words(name)}, _MEANINGS[column]
    if column == "events" and own & _EVENT_WORDS:
        own -= _WORDS_BESIDE_EVENTS
    if column == "customer_id" and own & meaning:
        own -= ID_WORDS
    return bool(own) and own <= meaning


def codes_of_name(name: str) -> list[str]:
    """The currencies that a column's name has: of each code, name and sign that mean one, its code.

    >>> codes_of_name("Cost (€)"), codes_of_name("costUSD"), codes_of_name("Amount in Euros"), codes_of_name("Cost ($)")
    (['EUR'], ['USD'], ['EUR'], [])
    """
    found = [word.upper() if word in COMMON else _CODES_OF_NAMES.get(word, "") for word in words(name)]
    found += [CODES_OF_SIGNS.get(letter, "") for letter in name] + ["USD" * bool(_US_DOLLARS.search(name))]
    return [code for code in dict.fromkeys(found) if code]


def other_costs(costs: Iterable[str], names: Iterable[str]) -> list[str]:
    """Of the names, those of costs in another currency than one of the columns `costs`: Cost (USD) beside Cost (EUR).

    >>> other_costs(["Cost (EUR)"], ["Cost (USD)", "amount_chf", "Balance (USD)", "Cost"])
    ['Cost (USD)', 'amount_chf']
    """
    own = [_without_currency(cost) for cost in costs]
    return [
        name
        for name in names
        if (codes_of_name(name) or {*name} & {*SIGNS} or {*words(name)} & _DOLLARS)
        and ((base := _without_currency(name)) in own or (_is_cost(base) and any(map(_is_cost, own))))
    ]


def _without_currency(name: str) -> frozenset[str]:
    return frozenset(words(name)) - COMMON - _CODES_OF_NAMES.keys() - {"us"} - _DOLLARS


def is_cost(name: str) -> bool:
    """Whether a name has only words of a cost.

    >>> is_cost("Total cost (EUR)"), is_cost("unit_cost"), is_cost("amount")
    (True, False, False)
    """
    own = _without_currency(name)
    return bool(own & COST_WORDS) and _is_cost(own)


def _is_cost(own: frozenset[str]) -> bool:
    return bool(own) and own <= COST_WORDS | _WORDS_BESIDE_COST


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
