"""Check: control totals by day against the events: under-counting and over-counting that no event shows.

Events that never arrived leave no trace in the events; only a count made elsewhere shows them. Each control total (see
`totals`) is compared with the usage of its day, metric and customer, or with the cost of its currency, to the last
digit. Consecutive days of one metric with like shares are one finding, and so are many customers or metrics that lose
the same share on the same days.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from usage_explore.decimals import difference, plain, total
from usage_explore.formatting import counted, data_value, in_sentence, listed, percent, span_in
from usage_explore.pricing.currencies import exact_money
from usage_explore.query import buckets
from usage_explore.query.filters import CURRENCY
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    EXPLAINED_BY,
    MAX_FINDINGS_PER_CHECK,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited_findings,
)
from usage_explore.validation.control import compare, currencies, factors, swapped, zones
from usage_explore.validation.control.compare import (
    AGGREGATED,
    LIKE_RATIO,
    MAX_SINGLE_CUSTOMERS,
    MIN_SHIFTED_DAYS,
    NAME,
    STATUSES,
    TOLERANCE,
    Compared,
    Measure,
    Row,
    Run,
    in_order,
    runs,
    statement,
)
from usage_explore.validation.control.explained import EXPLANATIONS
from usage_explore.validation.control.explained import explained as explained_by_events
from usage_explore.validation.control.swapped import SWAPPED, swap_finding, swap_share, swaps
from usage_explore.validation.control.zones import (
    MIN_ZONE_SHARE,
    ByDays,
    both_ways,
    by_days_of_zone,
    compared_by_days,
    days_words,
    left_out,
    unfinished_days,
    were,
)
from usage_explore.validation.given_lines import filters_without_column, nothing_compared, passes_filters
from usage_explore.validation.periods import part
from usage_explore.validation.unknown_customers import unknown_customers, unknown_words
from usage_explore.validation.usage_sums import events_share, metric_filter, quantity_share, valid_filters

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.validation.control.totals import ControlTotals

BOUNDS = CheckBounds("control_totals")

# fmt: off
HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.01"), "share", 0, 1,
    "Share of the control totals from which a difference is high.")

MEDIUM_SHARE = BOUNDS.add("medium_share", Decimal("0.001"), "share", 0, 1,
    "Share of the control totals from which a difference is medium; below, it is low.")
# fmt: on

MAX_LISTED_DAYS = 62
"""Days in the facts of a finding."""

MAX_NAMED_METRICS = 3
"""Metrics in a sentence; more are counted."""

Unknown = Mapping[UUID, UUID | None]
"""The customers of whom nothing is known, with the one whose id is near, if there is one."""


def examine(examination: Examination) -> Outcome:
    """Compare every control total of the period's days.

    `sheet`: one row per total, differences first. Columns: `day` (date), `metric_key`, `customer_id`, `currency` (str,
    missing for a total of all), `status` (str), `control_events`, `events` (Int64, missing for a cost),
    `control_quantity`, `quantity`, `control_cost`, `cost` (`Decimal` or None), `difference` (`Decimal`, usage less
    control total, of the measure), `measure` (str: events, quantity or cost), `explained_by` (str, "" if nothing does).
    """
    period = examination.period
    control = cast("ControlTotals", examination.inputs.control)  # `needs` says that it is given
    named = ("customer_id", "metric_key")
    columns = [name for name in named if all(getattr(line, name) is not None for line in control.lines)]
    if filters := filters_without_column(period, columns):
        return _nothing_compared(
            examination, f"the period is filtered by {filters}, which the control totals do not tell apart"
        )
    lines = [line for line in control.lines if passes_filters(line, period)]
    own = compared_by_days(examination, lines)
    if days := unfinished_days(examination, own.placed):
        return Outcome(
            skipped=f"{days_words(days)} {'is' if len(days) == 1 else 'are'} not complete: control totals of a day are"
            " compared once it is over"
        )
    if not own.placed.controls:
        reason = " ".join(left_out(examination, own.placed))
        return _nothing_compared(examination, reason or "the filters exclude all lines")
    examination.progress(0.5)
    exact, exchanged = swapped.exchanged_columns(own.compared.rows)
    own = replace(own, compared=replace(own.compared, rows=exact))
    other, metrics = (None, frozenset()) if exchanged else by_days_of_zone(own, lines)
    own_rows = [row for row in own.compared.rows if row.subject.metric_key not in metrics]
    other_rows = [row for row in other.compared.rows if row.subject.metric_key in metrics] if other else []
    base = other if other is not None and other.late and not own_rows else own
    compared = replace(base.compared, rows=[*own_rows, *other_rows])
    explained: dict[int, str] = {}
    unknown = _unknown(examination, own.compared)
    findings = _findings(own, own_rows, explained, unknown)
    findings += [swapped.columns_finding(examination, Run(exchanged), _span)] if exchanged else []
    if other is not None:
        findings += [_zone_finding(own, other, metrics), *_findings(other, other_rows, explained, unknown)]
    shown, more = limited_findings(findings, "differences, see the sheet")
    return Outcome(
        findings=tuple(shown),
        looked_at=sum(row.control is not None for row in compared.rows),
        sheet=_sheet(compared.rows, explained),
        note=" ".join(
            (
                *_compared_notes(compared),
                *zones.not_compared(own, other, metrics),
                *([f"{more}."] if more else []),
                *([f"Ignored columns: {listed(control.ignored, most=20)}."] if control.ignored else []),
            )
        ),
        is_partial=bool(compared.uncounted or compared.unlisted_days),
        unchecked=control.left_out,
    )


def _unknown(examination: Examination, compared: Compared) -> Unknown:
    """The customers of control totals of whom nothing is known."""
    given = {row.subject.customer_id for row in compared.rows if row.control is not None} - {None}
    subjects = [*(row.subject for row in compared.rows if row.used.events), *compared.uncounted]
    used = {subject.customer_id for subject in subjects} - {None}
    return unknown_customers(examination, cast("set[UUID]", given), cast("set[UUID]", used))


def _findings(by_days: ByDays, rows: list[Row], explained: dict[int, str], unknown: Unknown) -> list[Finding]:
    """The findings of rows; `explained` gets the causes of rows by their `id`."""
    examination = by_days.examination
    multiplied, rows = factors.in_units(rows)
    left = {(row.day, row.subject) for row in rows if row.status != "matched"}
    in_other_unit = (row for one in multiplied for row in one.run.rows if (row.day, row.subject) not in left)
    explained |= {id(row): factors.FACTOR for row in in_other_unit}
    exchanged = swaps(rows, by_days.usage)
    in_swaps = {id(row) for swap in exchanged for row in swap.rows}
    others = currencies.in_other_currencies([row for row in rows if id(row) not in in_swaps], by_days.usage)
    single = explained_by_events((row for row in others.rest if id(row) not in others.causes), by_days)
    causes = {**others.causes, **single.beside}
    for cause, members in single.by_cause.items():
        causes |= {id(row): cause for row in members if row.status != "matched"}
    rest = in_order([*single.left, *(row for row in others.rest if id(row) in others.causes)])
    waves = both_ways(rest)
    in_waves = {id(row) for wave in waves for row in wave}
    found = [run for members in single.by_cause.values() for run in runs(members)]
    found += [*runs(row for row in rest if id(row) not in in_waves), *others.runs]
    explained |= {id(row): causes[id(row)] for run in found for row in run.rows if id(row) in causes}
    explained |= {id(row): SWAPPED for swap in exchanged for row in swap.rows if row.status != "matched"}
    findings = [_finding(examination, run, _cause(run, causes), unknown) for run in found]
    for one in multiplied:
        span, severity = _span(examination, one.run.days), _severity_of(one.run.share)
        findings.append(factors.factor_finding(examination, one, span, severity))
    for swap in exchanged:
        span = _span(examination, Run(swap.rows).days)
        findings.append(swap_finding(examination, swap, span, _severity_of(swap_share(swap))))
    return [*findings, *(_both_ways_finding(examination, wave, causes) for wave in waves)]


def _cause(run: Run, causes: Mapping[int, str]) -> str:
    """The cause of a run, the first of its rows that has one; "" without any."""
    return next((causes[id(row)] for row in run.rows if id(row) in causes), "")


def _is_explanation(cause: str) -> bool:
    """Whether the cause makes up all of a difference, rather than saying with, or without, which events it is."""
    return cause in EXPLANATIONS or currencies.is_explanation(cause)


def _why(cause: str) -> str:
    """The words of a cause in a sentence."""
    if currencies.is_explanation(cause):
        return f"; exactly as much is there {cause}: the currency of one of both is wrong"
    return EXPLANATIONS.get(cause) or (f", {cause}" if cause else "")


def _nothing_compared(examination: Examination, reason: str) -> Outcome:
    return nothing_compared(examination, NAME, "control total", reason.rstrip("."), kind="nothing compared")


def _compared_notes(compared: Compared) -> Iterator[str]:
    """How many totals match, and which usage has none."""
    controls = [row for row in compared.rows if row.control is not None]
    matched = sum(row.status == "matched" for row in controls)
    yield f"{matched:,} of {counted(len(controls), 'control total')} match, tolerance {percent(TOLERANCE())}."
    if several := sum(row.control is not None and row.control.lines > 1 for row in controls):
        yield f"{counted(several, 'total')} {'has' if several == 1 else 'have'} several lines, which were summed."
    if unknown := sum(row.status == "not comparable" for row in controls):
        yield f"{counted(unknown, 'total')} cannot be compared: the usage has NaN or infinite quantities."
    if compared.uncounted:
        events = counted(sum(compared.uncounted.values()), "event")
        yield f"No control total has {' or '.join(compared.uncounted_words())}: {events} not compared."
    if compared.unlisted_days:
        yield f"No control total is of {days_words(compared.unlisted_days)}: the usage of these days was not compared."


def _finding(examination: Examination, run: Run, cause: str, unknown: Unknown) -> Finding:
    first, currency = run.first, run.first.subject.currency
    since, until = _span(examination, run.days)
    events, quantity = _size(run)
    (customer,) = run.customers if len(run.customers) == 1 else (None,)
    metric = run.metrics[0] if len(run.metrics) == 1 else None
    amounts: tuple[tuple[str, Decimal], ...] = ()
    share: dict[str, Any] = events_share(examination, events, metric)
    if first.measure == "cost" and currency is not None:
        lacking = total(row.lacking for row in run.rows).copy_abs()
        amounts = ((currency, lacking),)
        share = {"share": examination.cost_share(currency, lacking), "share_of": f"cost in {data_value(currency)}"}
    elif first.measure == "quantity" and metric is not None and quantity is not None:
        share = quantity_share(examination, {metric: quantity})
    sentence = f"{_sentence(examination, run)}{_why(cause)}{unknown_words(customer, unknown)}"
    return Finding(
        check=NAME,
        kind=first.status if first.control is None else f"{first.status} {first.measure}",
        severity=_severity(run, cause),
        sentence=sentence if sentence.endswith("?") else f"{sentence}.",
        since=since,
        until=until,
        events=events,
        quantity=quantity,
        amounts=amounts,
        metric_key=metric,
        customer_id=customer,
        question=examination.aggregate_question(
            since=since,
            until=until,
            bucket="day",
            metric=AGGREGATED[first.measure],
            **metric_filter(run.metrics) if run.metrics and not examination.period.metric_key else {},
            **valid_filters(customer_id=customer),
            **_currency_filter(examination, currency),
        ),
        facts=((EXPLAINED_BY, cause), *_facts(run)) if cause else tuple(_facts(run)),
        **share,
    )


def _severity(run: Run, cause: str) -> Severity:
    shares = [run.share]
    if run.first.measure == "events":
        shares.append(part(run.gross("quantity"), run.sums("quantity")[0]))
    severity = "medium" if run.first.status == "no control total" else _severity_of(max(shares))
    return "medium" if severity == "high" and _is_explanation(cause) else severity


def _severity_of(share: Decimal) -> Severity:
    return "high" if share >= HIGH_SHARE() else "medium" if share >= MEDIUM_SHARE() else "low"


def _span(examination: Examination, days: list[date]) -> tuple[Any, Any]:
    zone = examination.period.zone
    return buckets.day_start(days[0], zone), buckets.day_start(days[-1] + timedelta(days=1), zone)


def _currency_filter(examination: Examination, currency: str | None) -> dict[str, Any]:
    """The filter by a currency, in all its spellings."""
    return {} if currency is None else {CURRENCY: sorted(examination.totals.spellings.get(currency, {currency: 0}))}


def _size(run: Run) -> tuple[int, Decimal | None]:
    """The number of events, missing, too many or concerned, and the quantity; None for several metrics and a cost."""
    first = run.first
    control, used = run.sums("events")
    if first.measure == "events" and first.status != "no control total":
        events = int(Decimal(difference(control, used)).copy_abs())
    else:
        events = 0 if first.measure == "cost" else int(used)
    if len(run.metrics) != 1 or first.measure == "cost":
        return events, None
    if first.status == "no control total":
        return events, run.sums("quantity")[1]
    return events, total(row.lacking_of("quantity") for row in run.rows).copy_abs() or None


def _sentence(examination: Examination, run: Run) -> str:
    """What differs, without its full stop."""
    first, (events, quantity) = run.first, _size(run)
    currency = first.subject.currency if first.measure == "cost" else None
    control, used = (exact_money(amount, currency) for amount in run.sums(first.measure))
    lacking = exact_money(total(row.lacking for row in run.rows).copy_abs(), currency)
    metrics = _named(run.metrics)
    what = metrics
    if first.measure == "quantity":
        what = f"the quantity of {metrics}"
    elif first.measure == "cost":
        what = f"the external cost in {data_value(currency)}{f' of {metrics}' if metrics else ''}"
    if len(run.customers) == 1:
        what += f" of customer {next(iter(run.customers))}"
    elif run.customers:
        what += f" of {counted(len(run.customers), 'customer')}"
    when = span_in(*_span(examination, run.days), examination.period.zone)
    if len(run.days) > 1:
        when += f", {counted(len(run.days), 'day')}"
    if first.status == "no control total":
        size = counted(events, "event") if first.measure != "cost" else used
        return f"There is no control total for {what}, {when}, where {size} {were(events)} ingested"
    is_missing = first.status == "missing"
    share = f"{percent(run.share)} of {what} {'is missing' if is_missing else 'is too much'}, {when}"
    side = "missing" if is_missing else "too many" if first.measure == "events" else "too much"
    size = counted(events, "event") if first.measure == "events" else lacking
    of_quantity = f", quantity {in_sentence(quantity)}" if first.measure == "events" and quantity else ""
    missing, surplus = run.sides("quantity")
    if first.measure == "events" and len(run.metrics) == 1 and missing and surplus:
        of_quantity = f", quantity {in_sentence(missing)} missing and {in_sentence(surplus)} too much"
    elif of_quantity and bool(missing) != is_missing:
        of_quantity = f", but{of_quantity[1:]} {'too much' if is_missing else 'missing'}"
    return f"{share}: {size} {side}{of_quantity}. The control totals are {control}, the ingested events come to {used}"


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """The numbers of each metric and customer on each day, and the sums."""
    measure: Measure = run.first.measure
    for metric in run.metrics if len(run.metrics) > 1 else []:
        control, used = Run([row for row in run.rows if row.subject.metric_key == metric]).sums(measure)
        yield f"affected {data_value(metric)}", f"{plain(used)} of {plain(control)}"
    if len(run.customers) > 1:
        yield "customers", listed(map(str, run.customers), most=20)
    for day in run.days[:MAX_LISTED_DAYS]:
        control, used = Run([row for row in run.rows if row.day == day]).sums(measure)
        lacking = Decimal(difference(control, used))
        side = "missing" if lacking > 0 else "too many"
        share = f" ({percent(lacking.copy_abs(), control)})" if control else ""
        yield day.isoformat(), f"{plain(used)} of {plain(control)} {measure}: {plain(lacking.copy_abs())} {side}{share}"
    if len(run.days) > MAX_LISTED_DAYS:
        yield "further days", f"{len(run.days) - MAX_LISTED_DAYS:,}"


def _zone_finding(own: ByDays, other: ByDays, metrics: frozenset[str | None]) -> Finding:
    """One finding on metrics whose totals are of another time zone's days, or have other dates."""
    examination, zone = own.examination, other.examination.period.timezone
    rows, before = (zones.rows_since(one, metrics, other.since) for one in (other, own))
    run = Run([row for row in before if row.status != "matched"])
    since, until = _span(examination, run.days)
    events = {(row.day, *row.subject[:2]): row.used.events or 0 for row in run.rows}  # once beside their cost
    affected, of_metrics = sum(events.values()), metric_filter(run.metrics) if run.metrics else {}
    return Finding(
        check=NAME,
        kind="other days",
        severity="medium",
        sentence=zones.other_days_words(own, other, _named(run.metrics) or "all usage", rows, before),
        since=since,
        until=until,
        events=affected,
        metric_key=run.metrics[0] if len(run.metrics) == 1 else None,
        question=examination.aggregate_question(since=since, until=until, bucket="day", **of_metrics),
        facts=(("dated", f"{other.late.days:+d} day") if other.late else ("time zone with the same days", zone),),
        **events_share(examination, affected),
    )


def _named(metrics: list[str]) -> str:
    return f"{len(metrics):,} metrics" if len(metrics) > MAX_NAMED_METRICS else listed(metrics)


def _both_ways_finding(examination: Examination, rows: list[Row], causes: Mapping[int, str]) -> Finding:
    """One finding on totals of one subject of which some days lack and others exceed, by no other time zone's days."""
    run = Run(rows)
    since, until = _span(examination, run.days)
    measure: Measure = "events" if any(row.measure == "events" for row in rows) else "quantity"
    gross, words = run.gross(measure), [_both_ways_words(run, measure)]
    if measure == "events" and run.gross("quantity"):
        words.append(_both_ways_words(run, "quantity"))
    share = max(part(run.gross(one), run.sums(one)[0]) for one in (measure, "quantity"))
    of_metric = listed(run.metrics) if measure == "events" else f"the quantity of {listed(run.metrics)}"
    customer = next(iter(run.customers), None)
    whose = "" if customer is None else f" of customer {customer}"
    affected = sum(row.used.events or 0 for row in rows)
    return Finding(
        check=NAME,
        kind=f"both ways {measure}",
        severity=_severity_of(share),
        sentence=f"The control totals of {of_metric}{whose} differ both ways on {counted(len(run.days), 'day')},"
        f" {span_in(since, until, examination.period.zone)}: {'; '.join(words)}{_why(_cause(run, causes))}; no other"
        " time zone's days explain that.",
        since=since,
        until=until,
        events=int(gross) if measure == "events" else affected,
        quantity=gross if measure == "quantity" else None,
        metric_key=run.metrics[0],
        customer_id=customer,
        question=examination.aggregate_question(
            since=since,
            until=until,
            bucket="day",
            metric=AGGREGATED[measure],
            **metric_filter(run.metrics),
            **valid_filters(customer_id=customer),
        ),
        facts=tuple(_facts(run)),
        **events_share(examination, affected, run.metrics[0]),
    )


def _both_ways_words(run: Run, measure: Measure) -> str:
    missing, surplus = run.sides(measure)
    share = percent(part(run.gross(measure), run.sums(measure)[0]))
    side = "many" if measure == "events" else "much"
    return f"{in_sentence(missing)} {measure} missing and {in_sentence(surplus)} too {side}, {share} in all"


def _sheet(rows: list[Row], causes: dict[int, str]) -> pd.DataFrame:
    import pandas as pd

    ordered = sorted(rows, key=lambda row: (STATUSES.index(row.status), *map(str, row.subject), row.day))

    def amount(name: Measure, *, control: bool) -> list[Any]:
        return [getattr(row.control if control else row.used, name, None) for row in ordered]

    def text(values: Iterable[object]) -> pd.Series[Any]:
        return pd.Series([None if value is None else str(value) for value in values], dtype="str")

    def exact(values: list[Any]) -> pd.Series[Any]:
        return pd.Series(values, dtype="object")

    return pd.DataFrame(
        {
            "day": exact([row.day for row in ordered]),
            "metric_key": text(row.subject.metric_key for row in ordered),
            "customer_id": text(row.subject.customer_id for row in ordered),
            "currency": text(row.subject.currency for row in ordered),
            "status": text(row.status for row in ordered),
            "control_events": pd.Series(amount("events", control=True), dtype="Int64"),
            "events": pd.Series(amount("events", control=False), dtype="Int64"),
            "control_quantity": exact(amount("quantity", control=True)),
            "quantity": exact(amount("quantity", control=False)),
            "control_cost": exact(amount("cost", control=True)),
            "cost": exact(amount("cost", control=False)),
            "difference": exact([row.lacking.copy_negate() for row in ordered]),
            "measure": text(row.measure for row in ordered),
            "explained_by": text(causes.get(id(row), "") for row in ordered),
        }
    )


CHECK = Check(
    name=NAME,
    title="Control totals",
    means="The gateway or the provider counted another amount than was ingested: what is missing is on no invoice, what"
    " is too much is billed.",
    parameters=lambda: {
        "compared": "events, quantity and cost by day of the period's time zone, and by metric, customer and currency"
        " where a control total names them; only days that lie wholly in the period and are over",
        "tolerance": f"a difference up to {percent(TOLERANCE())} of a control total matches; a cost, within one unit"
        " of the last decimal of each of its lines",
        "one finding": f"consecutive days of a metric whose shares are within the factor {plain(LIKE_RATIO())}, or"
        f" within chance; more than {MAX_SINGLE_CUSTOMERS()} customers of a metric at the same time; several metrics"
        " with like shares on the same days",
        "severity": f"high from {percent(HIGH_SHARE())} of the control totals, medium from {percent(MEDIUM_SHARE())},"
        " else low; medium if late events, duplicates or what arrived after finalization make up all of it, and for"
        " usage without a control total on a day that has others",
        "other days": f"metrics of which {percent(MIN_ZONE_SHARE())} of the totals match exactly by the days of another"
        f" time zone, {MIN_SHIFTED_DAYS()} more than by the period's, or by those of the day before or after, are"
        " compared by these; one finding says so",
        "both ways": f"a metric of which half of the totals differ, at least {MIN_SHIFTED_DAYS()}, some too high and"
        " some too low, and that no time zone's days explain, is one finding",
        "swapped": "customers of whom each has exactly the totals of another one are one finding",
        "most": f"the {MAX_FINDINGS_PER_CHECK} gravest; the sheet has all totals",
    },
    unit="control totals",
    one="control total",
    statement=statement,
    examine=examine,
    needs="control",
    bounds=(*compare.BOUNDS, *zones.BOUNDS, *factors.BOUNDS, *swapped.BOUNDS, *BOUNDS),
)
"""Control totals against the usage of their day, in exact numbers."""
