"""One incident, one finding: findings that another check's more specific finding explains are folded into it.

Ten quantities times 1,000 are outsized, have a wrong unit and cost a thousandth of the usual: one incident, which
`unit_slips` describes best. `RULES` lists which check explains which. The finding that is kept has the graver severity,
the names of the other checks (`also_seen_by`; their titles end the sentence), and their sentences, with their exact
numbers, among its facts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from usage_explore.formatting import counted, listed
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    AFTER_SIGN_OFF,
    BILLED_SINCE_SIGN_OFF,
    DAYS_FACT,
    EXPLAINED_BY,
    FINALIZED,
    LATE_EVENTS_FACT,
    SEVERITIES,
    SIGNED_AS_OF,
    Finding,
)
from usage_explore.validation.periods import part
from usage_explore.validation.result import Result

_log = logging.getLogger(__name__)

BOUNDS = CheckBounds("common")

# fmt: off
MIN_EXPLAINED_SHARE = BOUNDS.add("min_explained_share", Decimal("0.5"), "share", 0, 1,
    "Share of a spike, drop or new level that other events account for, from which they explain it: over half.")
# fmt: on

Findings = Sequence[Finding]

_DAY = timedelta(days=1)
ALSO_SEEN_BY = "also seen by"
"""The facts on a folded finding begin with this; the name of its check follows."""


def _same_events(specific: Findings, other: Finding) -> Findings:
    """The findings, if together they have as many events as the other, with the same first and last one."""
    is_same = (
        sum(finding.events for finding in specific) == other.events > 0
        and min(finding.since for finding in specific) == other.since
        and max(finding.until for finding in specific) == other.until
    )
    return specific if is_same else ()


def _same_subscriptions(specific: Findings, other: Finding) -> Findings:
    return _same_events(specific, other) if dict(other.facts).get("missing") == "subscription" else ()


def _same_currencies(specific: Findings, other: Finding) -> Findings:
    unusual = [finding for finding in specific if dict(finding.facts).get("fault") in ("unusual", "new")]
    return _same_events(unusual, other) if other.wallet_currency is not None else ()


def _same_wallets(specific: Findings, other: Finding) -> Findings:
    """The findings on costs in another currency, if all the customer's wallets but one have such a finding."""
    foreign = [finding for finding in specific if finding.wallet_currency is not None]
    wallets = dict(other.facts).get("wallets")
    if wallets is None or other.customer_id is None:
        return ()
    return foreign if len({finding.wallet_currency for finding in foreign}) >= int(wallets) - 1 else ()


def _in_wrong_unit(specific: Findings, other: Finding) -> Findings:
    """The findings whose events include the other's, if that moved in the direction of their wrong unit."""
    if other.check == "unit_costs":
        multiplies = Decimal(dict(other.facts)["times the usual cost"]) < 1
    else:
        multiplies = other.quantity is not None and other.quantity > 0  # far too large, neither zero nor negative
    alike = [finding for finding in specific if _multiplies(finding) == multiplies]
    if other.customer_id is None:  # of several customers: only if all of their events have a wrong unit
        return _same_events(alike, other)
    within = [finding for finding in alike if finding.since <= other.since and other.until <= finding.until]
    return within if other.events <= sum(finding.events for finding in within) else ()


def _shifts_in_wrong_unit(specific: Findings, other: Finding) -> Findings:
    """The findings on the days on which the quantity left its band, to the side of their wrong unit, or whose wrong
    part is most of what all those days differ by.
    """
    facts = dict(other.facts)
    if facts["measure"] != "quantity":
        return ()
    excess = Decimal(facts["excess"])
    alike = [finding for finding in specific if _multiplies(finding) == (excess > 0)]
    within = [finding for finding in alike if finding.since - _DAY < other.since and other.until < finding.until + _DAY]
    if within and other.customer_id is not None:
        return within
    wrong = sum((_wrong(finding) * _overlap(finding, other) for finding in alike), Decimal(0))
    return alike if wrong >= MIN_EXPLAINED_SHARE() * abs(excess) else ()


def _wrong(finding: Finding) -> Decimal:
    """The quantity that a wrong unit adds or takes."""
    corrected = Decimal(dict(finding.facts)["quantity in the usual unit, about"].split(" or ")[0])
    return abs((finding.quantity or Decimal(0)) - corrected)


def _multiplies(finding: Finding) -> bool:
    return dict(finding.facts)["unit wrong by"].startswith("×")


def _costs_of_outsized(specific: Findings, other: Finding) -> Findings:
    """The findings on quantities far too large, if the other is on events in their time that cost too little for them.

    Else those on the same events.
    """
    if Decimal(dict(other.facts)["times the usual cost"]) < 1 and other.customer_id is not None:
        around = [
            finding
            for finding in specific
            if (finding.quantity or 0) > 0 and _overlap(other, finding) >= MIN_EXPLAINED_SHARE()
        ]
        if around:
            return around
    return _same_events(specific, other)


def _of_quantities(specific: Findings, other: Finding) -> Findings:
    """The findings on quantities that account for a shift: far too large ones, or for a drop negative ones in its time.

    A negative quantity takes twice its amount from what would be billed. Where outsized ones are on most days of the
    period, those without are as far below what seems usual.
    """
    facts = dict(other.facts)
    excess = Decimal(facts["excess"])
    beside = [finding for finding in specific if _shares_time(finding, other)]
    if excess >= 0 or facts["measure"] != "quantity" or other.metric_key is None:
        return _accounts_for(beside, other) if beside else ()
    negative = [finding for finding in beside if (finding.quantity or Decimal(0)) < 0]
    taken = sum((-2 * (finding.quantity or Decimal(0)) * _common(finding, other) for finding in negative), Decimal(0))
    if negative and taken >= MIN_EXPLAINED_SHARE() * -excess:
        return negative
    large = [finding for finding in specific if (finding.quantity or Decimal(0)) > 0 and _days(finding)]
    length = Decimal((other.until - other.since) // _DAY)
    missing = sum((length * (finding.quantity or 0) / _days(finding) for finding in large), Decimal(0))
    return large if missing >= MIN_EXPLAINED_SHARE() * -excess else ()


def _moved(specific: Findings, other: Finding) -> Findings:
    """The findings on events with impossible times that are the excess of a spike, or are missing when they arrived."""
    facts = dict(other.facts)
    if other.check != "silence" and Decimal(facts["excess"]) > 0:
        return _accounts_for([finding for finding in specific if _shares_time(finding, other)], other)
    return [
        finding
        for finding in specific
        if finding.customer_id is not None
        and datetime.fromisoformat(dict(finding.facts)["first arrival"]) < other.until
        and other.since < datetime.fromisoformat(dict(finding.facts)["last arrival"])
    ]


def _shares_time(finding: Finding, other: Finding) -> bool:
    return finding.since < other.until and other.since < finding.until


def _same_drop(specific: Findings, other: Finding) -> Findings:
    """The drop of all customers in several metrics, or in its metric, that a customer's drop is a part of.

    A time without events of a customer is a part of that of all customers up to a day earlier and later, too: it begins
    with the customer's own last event, which may be the evening before.
    """
    if other.customer_id is None or not _is_drop(other):
        return ()
    return [
        finding
        for finding in specific
        if finding.customer_id is None
        and _is_drop(finding)
        and (
            (finding.since <= other.since and other.until <= finding.until)
            or (_has_none(finding) and _has_none(other) and _same_outage([finding], other))
        )
    ]


def _has_none(finding: Finding) -> bool:
    """Whether it is on a time without events."""
    facts = dict(finding.facts)
    return facts["measure"] == "events" and facts["actual"] == "0"


def _is_drop(finding: Finding) -> bool:
    return Decimal(dict(finding.facts)["excess"]) < 0


def _new(specific: Findings, other: Finding) -> Findings:
    """The findings on usage that is new, if the other rises."""
    return specific if not _is_drop(other) else ()


def _same_silence(specific: Findings, other: Finding) -> Findings:
    """The findings on a customer's silence in which most of its drop, or of its days without events, lies."""
    if other.customer_id is None or not _is_drop(other):
        return ()
    return [
        finding
        for finding in specific
        if finding.customer_id == other.customer_id and _overlap(other, finding) >= MIN_EXPLAINED_SHARE()
    ]


def _accounts_for(specific: Findings, other: Finding) -> Findings:
    """The findings on superfluous events, if these are `MIN_EXPLAINED_SHARE` of the excess of a shift.

    Of a finding that lasts longer than the shift, the same part counts as of its time, or of its days with such events.
    """
    facts = dict(other.facts)
    excess = Decimal(facts["excess"])
    if excess <= 0:
        return ()
    if other.metric_key is not None and all(finding.metric_key is not None for finding in specific):
        by_quantity = facts["measure"] == "quantity"
        sizes = [finding.quantity if by_quantity else Decimal(finding.events) for finding in specific]
    else:  # several metrics: their units differ, so shares of the events are compared
        actual = Decimal(0 if facts["actual"] == "not a number" else facts["actual"])
        excess = other.events * part(actual - Decimal(facts["expected"]), actual)
        sizes = [Decimal(finding.events) for finding in specific]
    explained = [(size or Decimal(0)) * _common(finding, other) for size, finding in zip(sizes, specific, strict=True)]
    return specific if sum(explained) >= MIN_EXPLAINED_SHARE() * excess else ()


def _common(finding: Finding, other: Finding) -> Decimal:
    """The part of the finding that lies in the other's time: of its days with such quantities, where it has a number of
    these, else of its time.
    """
    days = _days(finding)
    return part(min(days, -(-_shared(finding, other) // _DAY)), days) if days else _overlap(finding, other)


def _days(finding: Finding) -> int:
    """The number of days with such quantities; 0 for a finding without it."""
    return int(dict(finding.facts).get(DAYS_FACT, 0))


def _overlap(finding: Finding, other: Finding) -> Decimal:
    """The part of the finding's time that lies in the other's."""
    length = finding.until - finding.since
    return part(_shared(finding, other) // timedelta.resolution, length // timedelta.resolution)


def _shared(finding: Finding, other: Finding) -> timedelta:
    """The time that both findings have in common."""
    return max(min(finding.until, other.until) - max(finding.since, other.since), timedelta(0))


def _same_outage(specific: Findings, other: Finding) -> Findings:
    """The finding on days without events of all customers, if a customer's silence lasts no longer."""
    return [
        finding
        for finding in specific
        if finding.is_general and finding.since - _DAY < other.since and other.until < finding.until + _DAY
    ]


def _arrived_after(specific: Findings, other: Finding) -> Findings:
    """The finding on all that arrived after the sign-off, if all events of the other did, or all lines lack these, or
    right lines have all of them.
    """
    signed = [finding for finding in specific if finding.kind == AFTER_SIGN_OFF]
    if other.kind == BILLED_SINCE_SIGN_OFF:
        return [finding for finding in signed if dict(other.facts)[LATE_EVENTS_FACT] == str(finding.events)]
    first = dict(other.facts).get("first arrival")
    if other.kind == AFTER_SIGN_OFF:
        return signed
    return [
        finding
        for finding in signed
        if first and datetime.fromisoformat(dict(finding.facts)[SIGNED_AS_OF]) < datetime.fromisoformat(first)
    ]


def _counted_before(specific: Findings, other: Finding) -> Findings:
    """The findings on what arrived after finalization, if as much is more than the control totals."""
    return specific if dict(other.facts).get(EXPLAINED_BY) == FINALIZED else ()


def _too_old(specific: Findings, other: Finding) -> Findings:
    """As `_arrived_after`, of events that are too old; not of those with a time to come."""
    return _arrived_after(specific, other) if other.kind == "past" else ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Findings of the check `specific` may explain one of the check `other`.

    `explaining` is given one or more findings that share a customer and a metric with the other and overlap its time,
    and returns those that explain it, none if it is an incident of its own. With `any_time` they need not overlap.
    """

    specific: str
    other: str
    explaining: Callable[[Findings, Finding], Findings]
    any_time: bool = False


RULES = (
    Rule("unit_slips", "quantities", _in_wrong_unit),
    Rule("unit_slips", "unit_costs", _in_wrong_unit),
    Rule("unit_slips", "shifts", _shifts_in_wrong_unit),
    Rule("quantities", "unit_costs", _costs_of_outsized),
    Rule("quantities", "shifts", _of_quantities, any_time=True),
    Rule("impossible_times", "shifts", _moved, any_time=True),
    Rule("impossible_times", "silence", _moved, any_time=True),
    Rule("new_usage", "shifts", _new),
    Rule("shifts", "shifts", _same_drop),
    Rule("duplicates", "shifts", _accounts_for),
    Rule("look_alikes", "shifts", _accounts_for),
    Rule("shifts", "silence", _same_outage),
    Rule("silence", "shifts", _same_silence),
    Rule("after_finalization", "late_arrivals", _arrived_after),
    Rule("after_finalization", "impossible_times", _too_old),
    Rule("after_finalization", "reconciliation", _arrived_after),
    Rule("after_finalization", "late_arrivals", _same_events),
    Rule("after_finalization", "control_totals", _counted_before),
    Rule("new_usage", "unrated", _same_subscriptions),
    Rule("currencies", "wallets", _same_currencies),
    Rule("wallets", "wallets", _same_wallets),
)
"""The checks whose findings explain others', in the order in which they are folded."""


def folded(results: Sequence[Result]) -> tuple[Result, ...]:
    """The results, with each finding that others explain folded into the first of these; the exact numbers stay.

    After an unexpected error, which is logged, every finding stands by itself.
    """
    try:
        return _folded(results)
    except Exception:
        _log.exception("Findings on one incident could not be folded")
        return tuple(results)


def _folded(results: Sequence[Result]) -> tuple[Result, ...]:
    findings = {result.check.name: list(result.outcome.findings) for result in results if result.outcome is not None}
    titles = {result.check.name: result.check.title for result in results}
    reported_by: dict[str, list[str]] = {}
    for rule in RULES:
        kept = findings.get(rule.specific, [])
        for other in findings.get(rule.other, ())[:]:
            specific = [
                finding
                for finding in kept
                if finding is not other
                and _concerns(finding, other)
                and (rule.any_time or _shares_time(finding, other))
            ]
            explaining = rule.explaining(specific, other) if specific else ()
            for finding in explaining:
                kept[kept.index(finding)] = _with(finding, other, titles)
            if explaining:
                findings[rule.other].remove(other)
                reported_by.setdefault(rule.other, []).append(rule.specific)
    return tuple(
        _result(result, findings[name], reported_by.get(name, ()))
        if (name := result.check.name) in findings
        else result
        for result in results
    )


def _concerns(finding: Finding, other: Finding) -> bool:
    """Whether a finding may be on the events of the other."""
    return (finding.is_general or other.customer_id in (None, finding.customer_id)) and (
        other.metric_key is None or finding.metric_key in (None, other.metric_key)
    )


def _with(finding: Finding, other: Finding, titles: Mapping[str, str]) -> Finding:
    """The finding with the other folded into it."""
    names = dict.fromkeys((*finding.also_seen_by, other.check, *other.also_seen_by))
    seen_by = tuple(name for name in names if name != finding.check)
    number = sum(name.startswith(f"{ALSO_SEEN_BY} {other.check}") for name, _ in finding.facts)
    is_of_lines = other.kind in (AFTER_SIGN_OFF, BILLED_SINCE_SIGN_OFF)
    is_same = (other.check, other.customer_id) == (finding.check, finding.customer_id) or is_of_lines
    of_lines = finding if other.too_high is None else other
    same_check = f" {other.sentence}" if is_same else ""
    sentence = finding.sentence.removesuffix(_also(finding.also_seen_by, titles)) + same_check
    sentence += _also(seen_by, titles)
    return replace(
        finding,
        severity=other.severity
        if other.kind == BILLED_SINCE_SIGN_OFF  # none of the events is left out
        else min(finding.severity, other.severity, key=list(SEVERITIES).index),
        sentence=sentence,
        also_seen_by=seen_by,
        amounts=of_lines.amounts,
        too_high=of_lines.too_high,
        folded=(*finding.folded, replace(other, folded=()), *other.folded),
        facts=(*finding.facts, (f"{ALSO_SEEN_BY} {other.check}{f' ({number + 1})' if number else ''}", other.sentence)),
    )


def _also(checks: Iterable[str], titles: Mapping[str, str]) -> str:
    """The end of the sentence; titles have commas of their own."""
    names = "; ".join(titles[check] for check in checks)
    return f" Also seen by: {names}." if names else ""


def _result(result: Result, findings: Sequence[Finding], reported_by: Sequence[str]) -> Result:
    """The result with these findings; `reported_by` names the check of each finding that it no longer has."""
    if result.outcome is None:
        return result
    checks, note = sorted({*reported_by} - {result.check.name}), ""
    if checks:
        number = counted(sum(name != result.check.name for name in reported_by), "finding")
        note = f"{number} on the same events as those of {listed(checks)}, reported there"
    own = result.outcome.note.removesuffix(".") if note else result.outcome.note
    return replace(
        result,
        outcome=replace(
            result.outcome,
            findings=tuple(findings),
            note="; ".join(filter(None, (own, note))),
            reported_by=tuple(checks),
        ),
    )
