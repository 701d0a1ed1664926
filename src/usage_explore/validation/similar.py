"""Similar findings as one: a check's findings of one severity, each on one customer, such as 25 customers' silences.

Only for lists that people read: links, files and reports by machine keep every finding.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from usage_explore.decimals import total
from usage_explore.formatting import MAX_LISTED, counted, cut_at_word, listed, short, short_ids
from usage_explore.names import Names
from usage_explore.pricing.currencies import rounded_in_sentence
from usage_explore.validation.check import Finding, Severity, added_amounts

MIN_SIMILAR = 3
"""Findings from which a list shows them as one."""

_ALSO_SEEN = re.compile(r" Also seen by: [^.]*\.$")
_SHARE = re.compile(r"[;,] (?:< )?[\d,.]+ % of (?:the customer's|all) (?!that\b)[^;:,]*?(?=\.$)")
_AMOUNT = re.compile(r"(?P<about>\babout )?(?<![\d.,])(?P<amount>\d[\d,]*\.\d{3,})(?= (?P<currency>[A-Z]{3})\b)")
_CENT = Decimal("0.01")
_METRICS = re.compile(r"(?P<before>, |; |\buses )(?P<keys>(?:[^\s,:;]+, )*[^\s,:;]+) and (?P<more>\d[\d,]*) more")
_VERB = re.compile(
    r"\b(is|are|was|were|has|have|had|never|spiked|dropped|fell|rose|doubled|cost|occurred|arrived|repeats?|stopped|began"
    r"|ended|uses?|differs?)\b"
)
"""Words by one of which a clause is a sentence of its own."""

_BAND = re.compile(r", in a band from [^;:]*(?=\.$)")
_ADDED = re.compile(r", (?=(?:where|though|while|so that)\b|\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d to )")
"""Before the reason of a clause, or the span of what it says."""

_HOURS = re.compile(r"(?<=\b\d{4}) \d\d:\d\d–\d\d:\d\d")
_NUMBER_OF_METRICS = re.compile(r", \d[\d,]* metrics(?=, )")
_SAME_DAY = re.compile(r"\b(\d{1,2} [A-Z][a-z]{2} \d{4}) (\d\d:\d\d) to \1 (\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Similar:
    """Two or more findings of one check and severity, or a single one; in the order of the list."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The finding of most impact."""
        return self.findings[0]

    @property
    def check(self) -> str:
        """The check of all of them."""
        return self.first.check

    @property
    def severity(self) -> Severity:
        """The severity of all of them."""
        return self.first.severity

    @property
    def is_one(self) -> bool:
        """Whether it is a single finding."""
        return len(self.findings) == 1

    @property
    def are_apart(self) -> bool:
        """Whether no event is in two of them, so that their sizes can be added: each has a customer of its own."""
        customers = {finding.customer_id for finding in self.findings}
        return self.is_one or (len(customers) == len(self.findings) and None not in customers)

    @property
    def events(self) -> int | None:
        """Their events; None if they may share some."""
        return sum(finding.events for finding in self.findings) if self.are_apart else None

    @property
    def quantity(self) -> Decimal | None:
        """Their exact quantity; None of several metrics, and if they may share events."""
        quantities = [finding.quantity for finding in self.findings if finding.quantity is not None]
        is_summable = len({finding.metric_key for finding in self.findings}) == 1 and self.are_apart
        return total(quantities) if is_summable and len(quantities) == len(self.findings) else None

    @property
    def amounts(self) -> dict[str, Decimal]:
        """Their exact cost by currency; none if they may share events, and of amounts that are too high or too low."""
        if not self.are_apart:
            return {}
        return added_amounts(finding.amounts if finding.too_high is None else () for finding in self.findings)

    @property
    def too_high(self) -> dict[str, Decimal]:
        """By how much their invoice lines are too high, by currency: no line is in two of them."""
        return added_amounts(finding.too_high or () for finding in self.findings)

    @property
    def too_low(self) -> dict[str, Decimal]:
        """By how much their invoice lines are too low, by currency: no line is in two of them."""
        return added_amounts(finding.too_low or () for finding in self.findings)

    def sentence(self, title: str, names: Names, *, ids: bool = False) -> str:
        """The finding's sentence; of several "Silence: 14 findings on 12 customers: Acme, Birch and 10 more.".

        With `ids` every customer is named, with its whole id.
        """
        if self.is_one:
            return names.in_text(self.first.sentence, ids=ids)
        shown = names.full if ids else names.label
        customers = list(dict.fromkeys(str(finding.customer_id) for finding in self.findings))
        labels = [shown("customer", customer) for customer in customers]
        metrics = {finding.metric_key for finding in self.findings}
        of = "" if None in metrics else f", of {listed(filter(None, metrics))}"
        who = ", ".join(labels) if ids or len(labels) <= MAX_LISTED else _more(labels)
        number = counted(len(self.findings), "finding")
        return f"{title}: {number} on {counted(len(customers), 'customer')}{of}: {who}."


def brief(sentence: str) -> str:
    """A finding's sentence for a list that has columns of its share and check: without the final clause of the share
    and the other checks that saw it, a span within one day with one date, and amounts of money to the cent.

    >>> brief("9 events, 1 Oct 2026 08:00 to 1 Oct 2026 20:00: sent twice; 4.8 % of all events. Also seen by: Silence.")
    '9 events, 1 Oct 2026 08:00–20:00: sent twice.'
    >>> brief("3 events cost us 57.2715830446 USD.")
    '3 events cost us 57.27 USD.'
    >>> brief("2 events cost us 0.0004 USD, line 3 charges about 0.003412345 USD.")
    '2 events cost us less than 0.01 USD, line 3 charges about 0.003412 USD.'
    """
    text = _ALSO_SEEN.sub("", sentence)
    text = _SAME_DAY.sub(r"\1 \2–\3", _SHARE.sub("", text))
    return _AMOUNT.sub(_rounded, text)


def _rounded(match: re.Match[str]) -> str:
    """An amount to the cent; an approximate one below a cent, such as a unit price, with four digits."""
    amount = Decimal(match["amount"].replace(",", ""))
    if match["about"] and amount and abs(amount) < _CENT:
        return f"{match['about']}{short(amount)}"
    return f"{match['about'] or ''}{rounded_in_sentence(amount, match['currency'])}"


def fitting(sentence: str, max_characters: int, names: Names, metrics: Collection[str] = ()) -> str:
    """`brief` with names; if that is too long, shorter but still a whole sentence, if one fits, else cut at a word.

    Lists of `metrics` become their number, then the last clauses are left out, then hours and that number: before names
    are put in, so that none is cut. The opened finding has the whole text.
    """
    shown = ""
    for text in _shorter(brief(sentence), metrics):
        shown = short_ids(names.in_text(text))
        if len(shown) <= max_characters:
            return shown
    return cut_at_word(shown, max_characters)


def _shorter(text: str, metrics: Collection[str]) -> Iterator[str]:
    """The sentence, then shorter ones."""

    def number(match: re.Match[str]) -> str:
        listed_keys = match["keys"].split(", ")
        if not all(key in metrics for key in listed_keys):
            return match[0]
        return f"{match['before']}{counted(len(listed_keys) + int(match['more'].replace(',', '')), 'metric')}"

    yield text
    text = _METRICS.sub(number, text)
    yield text
    for end in ("; ", ": "):
        while (place := text.rfind(end)) > 0 and _VERB.search(text, 0, place):
            text = f"{text[:place]}."
            yield _BAND.sub("", text)
    # "596 events of customer A, 1 Oct 2026: ..." says nothing without the rest
    while added := [*_ADDED.finditer(text)]:
        place = added[-1].start()
        if not _VERB.search(text, max(text.rfind(": ", 0, place), 0), place):
            break
        text = f"{text[:place]}."
        yield text
    for detail in (_HOURS, _NUMBER_OF_METRICS):
        text = detail.sub("", text)
        yield text


def _more(labels: Sequence[str]) -> str:
    return f"{', '.join(labels[:MAX_LISTED])} and {len(labels) - MAX_LISTED:,} more"


def similar(findings: Sequence[Finding], apart: Iterable[Finding] = ()) -> tuple[Similar, ...]:
    """The findings with `MIN_SIMILAR` or more of one kind as one, in the place of the first; never those in `apart`.

    Findings are of one kind if check and severity are the same, and each is on one customer.
    """
    alone = {id(finding) for finding in apart}
    kinds: dict[object, list[Finding]] = {}
    for finding in findings:
        is_alone = id(finding) in alone or finding.customer_id is None or finding.is_general
        key: object = id(finding) if is_alone else (finding.check, finding.severity)
        kinds.setdefault(key, []).append(finding)
    place = {id(finding): index for index, finding in enumerate(findings)}
    result = []
    for members in kinds.values():
        result += [Similar(tuple(members))] if len(members) >= MIN_SIMILAR else [Similar((one,)) for one in members]
    return tuple(sorted(result, key=lambda item: place[id(item.first)]))
