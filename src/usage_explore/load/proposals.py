"""Options for a file of unknown columns, from the meaning of their names and from their values.

A proposal never rests on a similar spelling: a column whose values are times is the timestamp, one whose name has the
word "customer" names the customer, columns of numbers are quantities unless their name says cost, price or id.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations

from usage_explore.decimals import exact_sum
from usage_explore.files.values import uuid_text
from usage_explore.formatting import listed
from usage_explore.load.column_check import synonym
from usage_explore.load.column_names import (
    ANY_CLOCK_WORDS,
    CLOCK_WORDS,
    COMMON,
    COST_WORDS,
    CUSTOMER_WORDS,
    ID_WORDS,
    LATER_TIME_WORDS,
    METRIC_WORDS,
    NAME_WORDS,
    NO_COST_WORDS,
    NO_MEASURE_WORDS,
    NUMBER_WORDS,
    PRICED_COST_WORDS,
    QUANTITY_WORDS,
    SURE_CUSTOMER_WORDS,
    TIME_WORDS,
    codes_of_name,
    words,
)
from usage_explore.load.currency_columns import has_codes, is_named_currency, nearest
from usage_explore.load.mapping import ColumnMapping
from usage_explore.load.numbers import CODES_OF_SIGNS
from usage_explore.load.prepared import LoadOptions
from usage_explore.load.profiles import SHARE_OF_KIND, Profile
from usage_explore.load.times import reads

MAX_PROPOSED_MEASURES = 12
"""Columns of numbers that are proposed as measures."""

_MIN_ROWS_OF_SUM = 2
"""Rows with all parts above zero that show that a column is their sum."""

_EVENT_IDS = (["event", "id"], ["event", "uuid"])
"""The words of a name that means the id of an event."""

_COUNT_OF = (["number", "of"], ["no", "of"])
"""First words of a name that make it a count: "number of calls"."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Options with proposed ones, and for each proposed column or option the reason."""

    options: LoadOptions
    reasons: Mapping[str, str]
    notes: tuple[str, ...] = ()


def propose(
    options: LoadOptions, mapping: ColumnMapping, missing: Sequence[str], unnamed: Sequence[str],
    taken: Iterable[str], columns: Mapping[str, Profile], lists: Sequence[str] = (),
    browser_timezone: str | None = None,
) -> Proposal:  # fmt: skip
    """The options, with more for the `missing` columns, and for values that need a zone, mark or word.

    `unnamed` are the columns that would be missing without the options for columns: each of these replaces the proposal
    for its own column, and the others stay. `lists` are the paths to lists of objects in JSON, the likeliest list of
    events first.
    """
    found = _Finder(options, mapping, missing, unnamed, columns, frozenset(taken), lists)
    found.columns_of_events()
    found.values(browser_timezone)
    return Proposal(options=found.options, reasons=found.reasons, notes=tuple(found.notes))


class _Finder:
    def __init__(
        self,
        options: LoadOptions,
        mapping: ColumnMapping,
        missing: Sequence[str],
        unnamed: Sequence[str],
        columns: Mapping[str, Profile],
        taken: frozenset[str],
        lists: Sequence[str],
    ) -> None:
        self._lists = lists
        self.options = options
        self.reasons: dict[str, str] = {}
        self.notes: list[str] = []
        self._mapping = mapping
        self._missing = set(missing)
        self._unnamed = {*missing, *unnamed}
        self._columns = columns
        self._free = {name: one for name, one in columns.items() if name not in taken}

    def columns_of_events(self) -> None:
        """Propose columns for what is missing."""
        if "timestamp" in self._missing and self._lists and not any(one.is_time for one in self._free.values()):
            self._note_list("times and amounts may lie")
            return
        if "timestamp" in self._missing:
            self._timestamp()
        elif "timestamp" not in (*self._mapping.columns, *self._mapping.constants):
            self._time_of_day("timestamp")
        self._key()
        if "customer_id" in self._unnamed and not self._is_given("customer_id"):
            self._customer()
        if self._unnamed & {"quantity", "metric_key"} or not self._mapping.columns.keys() - self.options.mapping.keys():
            self._cost()
            self._cost_currency()
        if self._missing & {"quantity", "metric_key"}:
            self._amounts()
        metric = self._columns.get(self.options.mapping.get("metric_key", "metric_key"))
        totals = [text for text in metric.texts if re.match("(?i)total", text)] if metric else []
        if metric and totals and len(totals) < len(metric.texts):
            self.notes.append(
                f"rows of {metric.name} {listed(totals)} may be totals of others, whose amounts then count twice"
            )
        if "customer_id" in self._missing and not self.options.mapping and not self.options.measures:
            self._set("customer_id", "local", "the file names no customer")

    def _note_list(self, what: str) -> None:
        path = self._lists[0]
        self.notes.append(
            f"{what} in the list {path!r}: name it in a preset, ./mine.toml, with the line"
            f' explode = "{path}", and load with --preset ./mine.toml; each item becomes a row'
        )

    def _profile(self, name: str) -> Profile | None:
        """The column of a name, which an option may write in another case."""
        same = [one for one in self._columns.values() if one.name.lower() == name.strip().lower()]
        return self._columns.get(name.strip()) or (same[0] if len(same) == 1 else None)

    def _is_given(self, column: str) -> bool:
        """Whether the preset or an option names the column of the events, or the file has it."""
        return column in self._mapping.columns or column in self._mapping.constants or column in self._columns

    def _map(self, column: str, name: str, reason: str) -> None:
        self.options = replace(self.options, mapping={**self.options.mapping, column: name})
        self.reasons[column] = reason
        self._free.pop(name, None)

    def _set(self, column: str, text: str, reason: str) -> None:
        self.options = replace(self.options, constants={**self.options.constants, column: text})
        self.reasons[column] = reason

    def _by_words(self, meanings: Sequence[str], names: Iterable[str]) -> str | None:
        """The name with the first of the words that any has."""
        names = list(names)
        return next((name for word in meanings for name in names if word in words(name)), None)

    def _key(self) -> None:
        """A column `id` of texts that are no UUIDs, or else `event_id` whose values differ, identifies the row."""
        mapped = {"id", "idempotency_key"} & (self._mapping.columns.keys() | self._mapping.constants.keys())
        if mapped or self._mapping.key or "idempotency_key" in self._columns:
            return
        if profile := self._columns.get("id"):
            if not all(reads(uuid_text, text) for text in profile.texts):
                self._map("idempotency_key", "id", "its values are no UUIDs, so it is the key of the row")
            return
        if self._mapping.columns.keys() - self.options.mapping.keys():
            return  # a preset has its own
        rows = max((one.values for one in self._columns.values()), default=0)
        named = [one for one in self._free.values() if words(one.name) in _EVENT_IDS and one.values == rows]
        if len(named) == 1 and named[0].is_unique:
            self._map("idempotency_key", named[0].name, "its name means the id of an event, its values differ")

    def _timestamp(self) -> None:
        times = [one.name for one in self._free.values() if one.is_time]
        early = [name for name in times if not {*words(name)} & LATER_TIME_WORDS] or times
        if early:
            name = synonym("timestamp", early) or self._by_words(TIME_WORDS, early) or early[0]
            self._map("timestamp", name, "its values are times")
            self._time_of_day(name)

    def _time_of_day(self, name: str) -> None:
        """Join the column of dates with the only one that has their time of day."""
        profile, own = self._columns.get(name), {*words(name)}
        if profile is None or not profile.is_all(profile.dates):
            return
        clocks = [
            one.name
            for one in self._free.values()
            if one.is_all(one.clocks)
            and (means := {*words(one.name)}) & CLOCK_WORDS
            and means <= CLOCK_WORDS | ANY_CLOCK_WORDS | own
        ]
        if len(clocks) == 1:
            self._free.pop(name, None)
            self._map("timestamp", f"{name}+{clocks[0]}", "dates, and their times of day")
            self._free.pop(clocks[0])

    def _customer(self) -> None:
        names = [one.name for one in self._free.values() if not one.is_time]
        texts = [name for name in names if not self._free[name].is_number or self._names_a_customer(name)]
        rows = max((one.values for one in self._columns.values()), default=0)
        filled = [name for name in texts if self._free[name].values == rows]
        name = next((name for names in (filled, texts) if (name := self._customer_of(names))), None)
        if name is not None:
            self._map("customer_id", name, "its name means a customer")

    def _names_a_customer(self, name: str) -> bool:
        """Whether a column of numbers has those of customers by its name, such as customer, user_id or KundenNr.

        A user, project or owner is none with fractions or signs of currencies: it may be an amount.
        """
        own, column = {*words(name)}, self._free[name]
        if own & {*ID_WORDS, "account"}:
            return True
        is_sure = bool(own & SURE_CUSTOMER_WORDS) or not (column.fractions or column.signs)
        return own <= {*CUSTOMER_WORDS, *NAME_WORDS, "code", "ref"} - {"kunden"} and is_sure

    def _customer_of(self, names: Iterable[str]) -> str | None:
        """The column of customers: ids before names, names with no other word before those with more."""
        ordered = sorted(
            names, key=lambda name: 0 if (own := {*words(name)}) & ID_WORDS else 2 if own & NAME_WORDS else 1
        )
        plain = [
            (word, name) for word in CUSTOMER_WORDS for name in ordered if word in words(name)
            and {*words(name)} <= {word, *ID_WORDS, *NAME_WORDS}
        ]  # fmt: skip
        return plain[0][1] if plain else synonym("customer_id", ordered) or self._by_words(CUSTOMER_WORDS, ordered)

    def _cost(self) -> None:
        currencies = [one.name for one in self._columns.values() if is_named_currency(one.name, one.texts)]
        currencies += [one.name for one in self._free.values() if has_codes(one.texts)]
        costs: dict[str, tuple[bool, ...]] = {}
        for one in self._free.values():
            own = {*words(one.name)}
            has_currency = bool(codes_of_name(one.name) or one.signs)
            is_priced = own & PRICED_COST_WORDS and (has_currency or currencies) and self._is_cost(one, currencies)
            if one.is_number and not own & NO_COST_WORDS and (own & COST_WORDS or own & COMMON or is_priced):
                costs[one.name] = ("total" in own, bool(own & COST_WORDS), has_currency, one.fractions > 0)
        if costs and not self._is_given("external_cost_amount"):
            name = max(costs, key=lambda name: costs[name])
            self._map("external_cost_amount", name, "its name means a cost, its values are numbers")
        for other in costs:
            self._free.pop(other, None)

    def _cost_currency(self) -> None:
        """The currency of a cost: the column that says so, else that of its name, a column of codes, or its signs."""
        cost = self._profile(self.options.mapping.get("external_cost_amount", "external_cost_amount"))
        if cost is None or self._is_given("external_cost_currency"):
            return
        says = {one.name: one.texts for one in self._free.values() if is_named_currency(one.name, one.texts)}
        every = says | {one.name: one.texts for one in self._free.values() if has_codes(one.texts)}
        named = codes_of_name(cost.name)
        if name := nearest(cost.name, says):
            self._map("external_cost_currency", name, "its values are currencies")
            if len(named) == 1 and {text.strip().upper() for text in says[name]} - {"", *named}:
                self.notes.append(
                    f"warning: {name!r} has {listed(says[name])}, and the name {cost.name!r} has {named[0]}: if that is"
                    f" the currency of the costs, set it with --set external_cost_currency={named[0]}"
                )
        elif len(named) == 1:
            self._set("external_cost_currency", named[0], f"the name {cost.name} has the currency")
            self.notes += [
                f"warning: {cost.name!r} has the currency of the costs, and {name!r} has {listed(texts)}: if that is"
                f" theirs, choose it with --map external_cost_currency={shlex.quote(name)}"
                for name, texts in every.items()
                if {text.strip().upper() for text in texts} - {"", named[0]}
            ]
        elif name := nearest(cost.name, every):
            self._map("external_cost_currency", name, "its values are currencies")
        elif not every and len(cost.signs) == 1 and (code := CODES_OF_SIGNS.get(sign := next(iter(cost.signs)))):
            self._set("external_cost_currency", code, f"the values of {cost.name} have the sign {sign}")
        for name in every:
            self._free.pop(name, None)

    def _is_cost(self, one: Profile, currencies: Sequence[str]) -> bool:
        """Whether a price or amount is one of money: an amount with a sign or a currency, a price with a unit or total.

        A bare price may be one per unit. It is what was charged beside its own currency (Price, PriceUnit), and beside
        several amounts, none of which is the quantity that it could be multiplied by.
        """
        own = {*words(one.name)}
        if own & {"price", "preis"}:
            amounts = [name for name in self._measures() if not {*words(name)} & (COST_WORDS | COMMON)]
            is_of_row = len(amounts) > 1 and not any({*words(name)} & QUANTITY_WORDS for name in amounts)
            return "total" in own or is_of_row or any({"price", "unit"} <= {*words(name)} for name in currencies)
        return "value" not in own and bool(one.signs or codes_of_name(one.name) or currencies)

    def _measures(self) -> list[str]:
        """The columns of numbers that can be amounts; "number of calls" is one, a call's number is none."""
        means = {one.name: words(one.name) for one in self._free.values() if one.is_number}
        return [name for name, own in means.items() if not {*own[2 * (own[:2] in _COUNT_OF) :]} & NO_MEASURE_WORDS]

    def _amounts(self) -> None:
        numbers = self._measures()
        if "quantity" not in self._missing:
            self._metric("")
            return
        if len(numbers) > 1:
            numbers = [name for name in numbers if "total" not in words(name)] or numbers
        sums = {name: parts for name in numbers if (parts := self._sum_of(name, numbers))}
        numbers = [name for name in numbers if name not in sums]
        named = [name for name in numbers if {*words(name)} & QUANTITY_WORDS]
        quantity = synonym("quantity", numbers) or (named[0] if len(named) == 1 else None)
        rows = max((one.values for one in self._columns.values()), default=0)
        sparse = [name for name in numbers if self._columns[name].values < rows * SHARE_OF_KIND]
        if not numbers and self._lists:
            self._note_list("the amounts lie")
            return
        if "metric_key" not in self._missing:
            quantity = quantity or (numbers[0] if numbers else None)
            if quantity is None:
                self._set("quantity", "1", "the file has no column of amounts, so each row counts as 1")
            else:
                self._map("quantity", quantity, "its values are numbers")
            return
        metrics = [one.name for one in self._free.values() if one.can_be_metric]
        metric = synonym("metric_key", metrics) or self._metric_by_words(metrics)
        if metric is not None and numbers and len(sparse) == len(numbers) and self._free[metric].values == rows:
            filled = self._columns[numbers[0]].values
            reason = f"each row counts as 1: no column of amounts is in all rows ({numbers[0]}: {filled} of {rows})"
            self._set("quantity", "1", reason)
            self._metric(metric)
        elif metric is not None and (len(numbers) == 1 or quantity is not None):
            self._map("quantity", quantity or numbers[0], "its values are numbers")
            self._metric(metric)
        elif numbers:
            self.options = replace(self.options, measures=tuple(numbers[:MAX_PROPOSED_MEASURES]))
            self.reasons["measures"] = "columns of numbers"
            self.notes += [f"{name} is the sum of {listed(parts)}, so it is no measure" for name, parts in sums.items()]
        elif metric is not None:
            self._set("quantity", "1", "the file has no column of amounts, so each row counts as 1")
            self._metric(metric)

    def _sum_of(self, name: str, numbers: Sequence[str]) -> tuple[str, ...]:
        """The other columns whose exact sum the column is in every row: all of them, or two; none if there are none."""
        others = [other for other in numbers[:MAX_PROPOSED_MEASURES] if other != name]
        amounts = self._columns[name].amounts
        for parts in dict.fromkeys((*combinations(others, 2), tuple(others))):
            lists = [self._columns[part].amounts for part in parts]
            if len(parts) < 2 or sum(all(row) for row in zip(*lists, strict=True)) < _MIN_ROWS_OF_SUM:
                continue
            rows = zip(amounts, *lists, strict=True)
            if all(
                (total or 0) == exact_sum((amount or Decimal(0) for amount in row), Decimal(0)) for total, *row in rows
            ):
                return parts
        return ()

    def _metric_by_words(self, names: Sequence[str]) -> str | None:
        """The name that means a metric; the number of a meter (Zählernummer) says which meter, not what it counts."""
        return self._by_words(METRIC_WORDS, [name for name in names if not {*words(name)} & NUMBER_WORDS])

    def _metric(self, name: str) -> None:
        metrics = [one.name for one in self._free.values() if one.can_be_metric]
        name = name or synonym("metric_key", metrics) or self._metric_by_words(metrics) or ""
        repeated = [name for name in metrics if self._free[name].values > len(self._free[name].texts)]
        if name:
            self._map("metric_key", name, "its name means a metric, its values are a few texts")
        elif repeated:
            self._map("metric_key", repeated[0], "its values are a few texts that repeat")
        else:
            self._set("metric_key", "usage", "no column names what was metered")

    def values(self, browser_timezone: str | None) -> None:
        """Propose zone, decimal mark and words for no value, where the mapped columns need them."""
        options, mapping = self.options, self._mapping
        sources = {**{column: chain[0] for column, chain in mapping.columns.items() if chain}, **options.mapping}
        source = sources.get("timestamp", "timestamp")
        first, *clocks = [source] if self._profile(source) else source.split("+")
        is_local = all(one.local_clocks for name in clocks if (one := self._profile(name)))
        times = self._profile(first)
        if times and times.local_times and is_local and not (options.timezone or mapping.timezone):
            self.options = replace(self.options, timezone=browser_timezone or "UTC")
            guess = f"{browser_timezone}, the browser's zone," if browser_timezone else "UTC"
            self.reasons["timezone"] = f"times have no offset; {guess} is a guess, name the zone they are in"
        names = [sources.get(name, name) for name in ("quantity", "external_cost_amount")] + [
            text.partition("=")[0] for text in options.measures
        ]
        numbers = [one for name in names if (one := self._profile(name)) and one.is_number]
        if not (options.decimal or mapping.decimal):
            commas, points = sum(one.commas for one in numbers), sum(one.points for one in numbers)
            if (commas > 0) != (points > 0):
                self.options = replace(self.options, decimal="," if commas else ".")
                self.reasons["decimal"] = f"numbers have a decimal {'comma' if commas else 'point'}"
        optional = [one for one in numbers if one.name != sources.get("quantity", "quantity")]
        unread = [word.strip() for one in optional for word in one.other_words if not re.search(r"\d", word)]
        null = [word for word in unread if word not in mapping.null]
        if null := [word for word in dict.fromkeys(null) if word not in options.null]:
            self.options = replace(self.options, null=(*options.null, *null))
            self.reasons["null"] = "columns of numbers have these words"
