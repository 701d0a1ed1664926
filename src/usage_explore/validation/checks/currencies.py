"""Currencies of costs: an amount without one, one without an amount, and a currency where another is usual.

What decides on the currency is learned: the price or the dimension (a supplier, a region) that says most of it in a
sample, else the customer. Where neither does, mixed currencies are no finding. The weeks before the period say what is
usual, where they have events enough, so that a currency that changes for the whole period is found. A currency that the
organization never had before is found whatever is usual, unless wallets say it. Upper and lower case are one currency,
`usd` and `USD`, with a finding that names both spellings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import Select, Table, Text, and_, cast, func, null, or_, select

from usage_explore.formatting import counted, data_value, duration, listed, percent, span_in
from usage_explore.query.describe import group_name
from usage_explore.query.filters import DIMENSION, dimension_key
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions, expression
from usage_explore.validation import cost_drivers
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    MAX_FINDINGS_PER_CHECK,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited,
    limited_findings,
)
from usage_explore.validation.cost_drivers import SampledEvent, best_keys, sample, sampled
from usage_explore.validation.inputs import NO_PREFERENCES
from usage_explore.validation.periods import currency_code, currency_codes, organization_period, part, preceding
from usage_explore.validation.usage_sums import (
    UsageSum,
    add_row,
    customers_words,
    joined,
    sum_keys,
    sum_measures,
    sum_of_query,
    valid_filters,
)

NAME = "currencies"

CUSTOMER = "customer_id"

BOUNDS = CheckBounds(NAME)

# fmt: off
MIN_USUAL_SHARE = BOUNDS.add("min_usual_share", Decimal("0.95"), "share", 0.5, 1,
    "Share of the costs of a price, dimension value or customer in one currency, from which that currency is usual.")

MIN_USUAL_EVENTS = BOUNDS.add("min_usual_events", 100, "events", 1, 1000000,
    "Events with a cost, at least, that make a currency usual.")

MIN_KEY_GAIN = BOUNDS.add("min_key_gain", 0.5, "share", 0, 1,
    "Share of the events in other currencies than the most frequent one that a key explains, to be the deciding "
    "key.")

HISTORY = BOUNDS.add("history", timedelta(weeks=8), "weeks", 1, 52,
    "Time before the period whose costs say which currency is usual.")

MEDIUM_EVENTS = BOUNDS.add("medium_events", 10, "events", 1, 1000000,
    "Events from which a finding is medium.")

MEDIUM_SHARE = BOUNDS.add("medium_share", Decimal("0.01"), "share", 0, 1,
    "Share of the metric's events from which currencies without an amount are medium.")
# fmt: on

Fault = Literal["no currency", "no amount", "unusual"]

_NEW = "new"
"""The kind of findings on a currency that the organization never had."""


@dataclass(frozen=True, slots=True)
class Usual:
    """The currencies that the values of a key usually cost in: (currency, its share of events).

    `before` are the values of which the time before the period says so.
    """

    key: str
    of: Mapping[str | None, tuple[str, Decimal]]
    before: Set[str | None] = frozenset()

    def is_unusual(self, value: str | None, currency: str | None) -> bool:
        """Whether the value usually costs in another currency than this one."""
        return currency is not None and value in self.of and self.of[value][0] != currency


def statement(table: Table, period: Period, key: str | None = None) -> Select[Any]:
    """Events with an amount or a currency, by customer, value of the key and currency.

    Columns: `customer_id`, `value` (text), `currency`, `costed` (boolean, whether there is an amount), `events` bigint.
    """
    c = table.c
    either = or_(c.external_cost_amount.is_not(None), c.external_cost_currency.is_not(None))
    columns = (c.customer_id, *_faces(table, key))
    query = select(*columns, sum_measures(table)[0]).where(*conditions(table, period), either)
    return query.group_by(*columns)


def faulty_statement(table: Table, period: Period, usual: Usual) -> Select[Any]:
    """The events that are at fault, by the `sum_keys`, `value` and `costed`; further columns: the `sum_measures`."""
    c = table.c
    owner = _owner(table, usual.key)
    columns = (*sum_keys(table), *(column for column in _faces(table, usual.key) if column.name != "currency"))
    strays = [
        and_(owner.is_(None) if value is None else owner == value, currency_codes(c.external_cost_currency) != currency)
        for value, (currency, _) in usual.of.items()
    ]
    one_missing = c.external_cost_amount.is_(None) != c.external_cost_currency.is_(None)
    return (
        select(*columns, *sum_measures(table))
        .where(
            *conditions(table, period),
            or_(one_missing, and_(c.external_cost_amount.is_not(None), or_(*strays)) if strays else one_missing),
        )
        .group_by(*columns)
    )


def currencies_statement(table: Table, period: Period) -> Select[Any]:
    """The currencies of all the organization's costs before a resolved period.

    Columns: `currency`, `events` bigint.
    """
    c = table.c
    currency = currency_codes(c.external_cost_currency).label("currency")
    before = conditions(table, organization_period(period, until=period.span[0]))
    given = c.external_cost_amount.is_not(None), c.external_cost_currency.is_not(None)
    return select(currency, func.count().label("events")).where(*before, *given).group_by(currency)


def in_currencies_statement(table: Table, period: Period, key: str, currencies: Iterable[str]) -> Select[Any]:
    """The costs in these currencies, by the `sum_keys`, `value` of the key and `wallet`; and the `sum_measures`."""
    c = table.c
    columns = (*sum_keys(table), _faces(table, key)[0], c.wallet_currency.label("wallet"))
    of_currencies = currency_codes(c.external_cost_currency).in_(sorted(currencies))
    where = (*conditions(table, period), c.external_cost_amount.is_not(None), of_currencies)
    return select(*columns, *sum_measures(table)).where(*where).group_by(*columns)


def examine(examination: Examination) -> Outcome:
    """What is wrong with the currencies of the period's costs."""
    table, period = examination.table, examination.period
    drawn = sampled(examination.rows(sample(table, period, examination.totals.events)))
    key = next(iter(best_keys(drawn, _differing, MIN_KEY_GAIN(), 1)), None)
    rows = list(examination.extracted_rows(statement(table, period, key)))
    usual = _usual(rows, key)
    before = preceding(period, HISTORY())
    has_costs = any(row.costed and row.currency is not None for row in rows)
    history = list(examination.extracted_rows(statement(table, before, key))) if before and has_costs else []
    usual, changed = _with_history(usual, rows, history)
    strays = _strays(usual, rows)
    looked_at = sum(row.events for row in rows)
    faulty = any(row.costed == (row.currency is None) for row in rows)
    others = (*_new_findings(examination, usual, changed, rows, history), *_spelling_findings(examination))
    if not strays and not changed.of and not faulty:
        return Outcome(findings=others, looked_at=looked_at)
    ranked, note = limited(
        strays.most_common(),
        "values with unusual currencies",
        lambda rest: counted(sum(events for _, events in rest), "event"),
    )
    narrowed = Usual(usual.key, {value: usual.of[value] for value, _ in ranked}, usual.before)
    parts = _parts(examination.rows(faulty_statement(table, period, narrowed)), narrowed)
    findings: list[Finding] = []
    notes = [note]
    of_changed = _parts(examination.rows(faulty_statement(table, period, changed)), changed) if changed.of else {}
    for fault in ("no currency", "no amount", "unusual"):
        of_fault = [_finding(examination, narrowed, *at, held) for at, held in parts.items() if at[0] == fault]
        if fault == "unusual":
            of_fault += [_finding(examination, changed, *at, held) for at, held in of_changed.items() if at[0] == fault]
        some, note = limited_findings(of_fault, f"findings of {fault}")
        findings += some
        notes.append(note)
    return Outcome(findings=(*findings, *others), looked_at=looked_at, note="; ".join(filter(None, notes)))


def _strays(usual: Usual, rows: Iterable[Any]) -> Counter[str | None]:
    """The events of each value of the key that cost in an unusual currency."""
    strays: Counter[str | None] = Counter()
    for row in rows:
        if row.costed and usual.is_unusual(value := _value(usual.key, row), row.currency):
            strays[value] += row.events
    return strays


def _with_history(usual: Usual, rows: Sequence[Any], history: Sequence[Any]) -> tuple[Usual, Usual]:
    """What is usual by the time before the period, where known; and further customers whose currency has changed.

    A customer's currency has changed if one was usual before and another is in the period.
    """
    before = _settled(_shares((_value(usual.key, row), row) for row in history))
    known = Usual(usual.key, {**usual.of, **before}, before.keys())
    if usual.key == CUSTOMER:
        return known, Usual(CUSTOMER, {})
    reported = {
        str(row.customer_id) for row in rows if row.costed and known.is_unusual(_value(known.key, row), row.currency)
    }
    now = _shares((str(row.customer_id), row) for row in rows)
    changed = {
        customer: (currency, share)
        for customer, (currency, share) in _settled(_shares((str(row.customer_id), row) for row in history)).items()
        if customer in now
        and customer not in reported
        and now[customer][0] != currency
        and now[customer][1] >= MIN_USUAL_SHARE()
    }
    return known, Usual(CUSTOMER, changed, changed.keys())


def _new_findings(
    examination: Examination, usual: Usual, changed: Usual, rows: Iterable[Any], history: Iterable[Any]
) -> Iterator[Finding]:
    """One finding for each currency that no cost of the organization was in before the period.

    On the costs that no other finding has as unusual and that go to a wallet in another currency, or to none that is
    known.
    """

    def is_reported(row: Any) -> bool:
        return usual.is_unusual(_value(usual.key, row), row.currency) or changed.is_unusual(
            str(row.customer_id), row.currency
        )

    known = {row.currency for row in history if row.costed}
    unknown = {row.currency for row in rows if row.costed and not is_reported(row)} - known - {None}
    if not unknown:
        return
    table, period = examination.table, examination.period
    before = {row.currency: row.events for row in examination.extracted_rows(currencies_statement(table, period))}
    unknown -= before.keys()
    if not unknown or sum(before.values()) < MIN_USUAL_EVENTS():
        return
    preferences = examination.inputs.preferences or NO_PREFERENCES
    sums: dict[str, UsageSum] = {}
    for row in examination.rows(in_currencies_statement(table, period, usual.key, unknown)):
        wallet = currency_code(preferences.destination(row.customer_id, row.wallet))
        if wallet != row.currency and not is_reported(row):
            add_row(sums, row.currency, row)
    used = listed(sorted(before, key=lambda currency: (-before[currency], currency)))
    for currency, held in sorted(sums.items()):
        fields, span = held.fields(examination), span_in(held.since, held.until, period.zone)
        whose = fields["customer_id"]
        yield Finding(
            check=NAME,
            kind=_NEW,
            severity="medium" if held.events >= MEDIUM_EVENTS() else "low",
            sentence=f"{counted(held.events, 'event')} of {customers_words(held.customers)} cost {held.cost_words},"
            f" {span}, a currency in which the organization had no cost before the period (it had {used}), and"
            " no wallet says so.",
            question=examination.events_question(
                occurred_after=held.since,
                occurred_before=held.until,
                **valid_filters(
                    customer_id=whose,
                    metric_key=fields["metric_key"],
                    external_cost_currency=sorted(examination.totals.spellings[currency]),
                ),
            ),
            facts=(("fault", _NEW), *held.facts()),
            **fields,
        )


def _spelling_findings(examination: Examination) -> tuple[Finding, ...]:
    """One finding for each currency that is written in several ways, on the events with the less frequent ones."""
    findings = []
    for currency, spellings in sorted(examination.totals.spellings.items()):
        if len(spellings) < 2:
            continue
        main, *others = sorted(spellings, key=lambda spelling: (-spellings[spelling], spelling))
        column = examination.table.c.external_cost_currency
        held = sum_of_query(examination, examination.events_question(), column.in_(others))
        if held is None:
            continue
        ways = joined([f"{data_value(code)} ({counted(spellings[code], 'event')})" for code in (main, *others)])
        findings.append(
            Finding(
                check=NAME,
                kind="spelling",
                severity="low",
                sentence=f"The currency {data_value(currency)} is written in {counted(len(spellings), 'way')}: {ways},"
                f" {span_in(held.since, held.until, examination.period.zone)}; they are counted as one currency.",
                question=examination.events_question(occurred_after=held.since, occurred_before=held.until),
                facts=(("fault", "spelling"), *held.facts()),
                **held.fields(examination),
            )
        )
    some, _ = limited_findings(findings, "spellings")
    return tuple(some)


def _usual(rows: Sequence[Any], key: str | None) -> Usual:
    """What is usual for the key's values, else for all where most is in one currency, else for customers."""
    by_value = _shares((row.value, row) for row in rows)
    if key is not None or (by_value and all(share >= MIN_USUAL_SHARE() for _, share, _ in by_value.values())):
        return Usual(key or "", _settled(by_value))
    by_customer = _shares((str(row.customer_id), row) for row in rows)
    return Usual(CUSTOMER, _settled(by_customer))


def _value(key: str, row: Any) -> str | None:
    """Which of the key's values a row is of."""
    return str(row.customer_id) if key == CUSTOMER else row.value


def _shares(rows: Iterable[tuple[str | None, Any]]) -> dict[str | None, tuple[str, Decimal, int]]:
    """The most frequent currency of each value, its part and the number of events."""
    counts: dict[str | None, Counter[str]] = {}
    for value, row in rows:
        if row.costed and row.currency is not None:
            counts.setdefault(value, Counter())[row.currency] += row.events
    shares = {}
    for value, counter in counts.items():
        currency = min(counter, key=lambda code: (-counter[code], code))
        shares[value] = (currency, part(counter[currency], counter.total()), counter.total())
    return shares


def _settled(shares: Mapping[str | None, tuple[str, Decimal, int]]) -> dict[str | None, tuple[str, Decimal]]:
    return {
        value: (currency, share)
        for value, (currency, share, events) in shares.items()
        if share >= MIN_USUAL_SHARE() and events >= MIN_USUAL_EVENTS()
    }


def _differing(events: Sequence[SampledEvent]) -> float:
    """How many events are not in the most frequent currency."""
    return len(events) - max(Counter(event.currency for event in events).values())


def _parts(rows: Iterable[Any], usual: Usual) -> dict[tuple[Fault, str | None, str | None], UsageSum]:
    """The faulty events by what is wrong: by metric, and unusual currencies by the key's value and currency."""
    parts: dict[tuple[Fault, str | None, str | None], UsageSum] = {}
    for row in rows:
        at: tuple[Fault, str | None, str | None]
        if row.currency is None:
            at = "no currency", row.metric_key, None
        elif not row.costed:
            at = "no amount", row.metric_key, None
        else:
            at = "unusual", _value(usual.key, row), row.currency
        add_row(parts, at, row)
    return parts


def _finding(
    examination: Examination, usual: Usual, fault: Fault, subject: str | None, currency: str | None, held: UsageSum
) -> Finding:
    zone = examination.period.zone
    events, span = counted(held.events, "event"), span_in(held.since, held.until, zone)
    fields = held.fields(examination)
    customer = fields["customer_id"]
    whose = customers_words(held.customers)
    severity: Severity = "medium" if held.events >= MEDIUM_EVENTS() else "low"
    narrow: dict[str, Any] = valid_filters(customer_id=customer, metric_key=fields["metric_key"])
    if fault == "no currency":
        sentence = f"{events} of {data_value(subject or '')} by {whose} have a cost but no currency, {span}."
    elif fault == "no amount":
        whole = examination.totals.metrics[subject or ""][0]
        severity = severity if part(held.events, whole) >= MEDIUM_SHARE() else "low"
        sentence = f"{events} of {data_value(subject or '')} by {whose} have a currency but no cost, {span}."
    else:
        usually, share = usual.of[subject]
        sentence = (
            f"{events} of {whose} cost {held.cost_words}, while {_owner_words(usual.key, subject)} {percent(share)} of"
            f" costs {_since_when(examination, usual, subject)} in {data_value(usually)}, {span}."
        )
        narrow |= _narrowing(examination, usual.key, subject)
    question = examination.events_question(occurred_after=held.since, occurred_before=held.until, **narrow)
    return Finding(
        check=NAME,
        kind=fault,
        severity=severity,
        sentence=sentence,
        question=question,
        facts=(("fault", fault), *held.facts()),
        **fields,
    )


def _since_when(examination: Examination, usual: Usual, value: str | None) -> str:
    """`are`, or `in the 56 days before the period were`."""
    return f"in the {duration(HISTORY())} before the period were" if value in usual.before else "are"


def _owner_words(key: str, value: str | None) -> str:
    if not key:
        return "everywhere"
    if key == CUSTOMER:
        return "for this customer"
    return f"where {group_name(key)} is {'missing' if value is None else data_value(value)}"


def _narrowing(examination: Examination, key: str, value: str | None) -> dict[str, Any]:
    """The filters that keep a question to a value of the key, beside the period's own."""
    if not key or key == CUSTOMER:
        return {}
    if value is None:
        return {"missing": examination.missing(key)}
    if key.startswith(DIMENSION):
        given = dict(examination.period.dimensions)
        return {"dimensions": {**given, dimension_key(key): [value]}}
    return valid_filters(**{key: value})


def _owner(table: Table, key: str | None) -> Any:
    """The value that decides on the currency, as text; NULL where there is no such key."""
    return cast(expression(table, key) if key else null(), Text)


def _faces(table: Table, key: str | None) -> tuple[Any, ...]:
    c = table.c
    owner = _owner(table, None if key == CUSTOMER else key).label("value")
    return (
        owner,
        currency_codes(c.external_cost_currency).label("currency"),
        c.external_cost_amount.is_not(None).label("costed"),
    )


CHECK = Check(
    name=NAME,
    title="Currencies of costs",
    means="The cost of these events is unknown, or counted in the wrong currency. This alone makes no invoice wrong,"
    " so no finding is high.",
    parameters=lambda: {
        "incomplete": f"an amount without a currency, medium from {MEDIUM_EVENTS()} events of a metric on; a currency"
        f" without an amount, medium when it is also {percent(MEDIUM_SHARE())} of the metric's events; else low",
        "usual": f"a price, a dimension or a customer, whichever decides on the currency, has one where"
        f" {percent(MIN_USUAL_SHARE())} of its costs, of {MIN_USUAL_EVENTS()} events at least, are in it",
        "decides": f"the price or dimension that takes {percent(Decimal(str(MIN_KEY_GAIN())))} of what differs in a"
        " sample, else the customer",
        "before": f"the {duration(HISTORY())} before the period say what is usual, where they have as many events; else"
        " the period does",
        "spelling": "a currency that is written in upper and lower case is one currency, and a low finding",
        "unusual": f"a cost in another currency, medium from {MEDIUM_EVENTS()} events on, else low",
        "new": "a currency that no cost of the organization was in before the period, where neither the wallet of the"
        f" usage nor a preferred currency is the same, medium from {MEDIUM_EVENTS()} events on, else low; from"
        f" {MIN_USUAL_EVENTS()} events with a cost before on",
        "most": f"the {MAX_FINDINGS_PER_CHECK} of most events of each kind",
    },
    unit="events with a cost",
    one="event with a cost",
    bounds=(*BOUNDS, *cost_drivers.BOUNDS),
    statement=statement,
    examine=examine,
)
