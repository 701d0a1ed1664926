"""What goes wrong in a generated history: a function for each kind plants it and records who, what, when, how many.

Each incident has a customer of its own, or is everybody's (at most one of these in a history). Nothing is planted that
leaves fewer than the events that its kind says, all of them in the period:

- `duplicates`: all events of a customer's 2 hours to 3 days, at least 20, sent again with their keys, up to a day later
- `replay`: what everybody sent within 1 to 4 hours, at least 30 events, arrives a second time with the same keys
- `retries`: 30 to 100 % of a stream's events in 6 hours to 4 days, at least 20, sent again under new keys
- `one_event`: one quantity that makes a stream's month 20 to 1,000 times what the month before was
- `thin_quantities`: quantities of a stream of under 50 events a day times 20 to 1,000 for 3 to 30 days (at least 5)
- `thin_events`: a stream of under 50 events a day has 20 to 100 times its events for a day to a week (60 to 3,000 more)
- `unit`: quantities of a stream of 20 events a day or more times or by 60, 1,000, 1,024 or 3,600 for 1 to 14 days
- `unit_thin`: the same of a stream of 0.5 to 8 a day for 7 to 30 days, by 1,000, 1,024 or 3,600 (at least 6 events)
- `unit_half`: 40 to 60 % of a stream's events for 2 to 14 days are times or by 1,000 or 1,024 (at least 20 events)
- `lost_hours`: 3 to 30 hours without an event of anybody, at least 50 expected
- `outage`: 24 to 71 hours without any event of one steady customer, at least 50 expected
- `level`: a stream of 1 to 40 events a day has 2 to 4 times, or a half to a quarter of, its events from a day to the
  end, 10 days or more; the difference is at least 6 times the deviation that chance gives the larger number
- `late`: what a customer, or everybody, sent within 1 to 3 days arrives 3 to 12 days late (at least 20 events)
- `currency`: a stream's costs of 2 to 10 days in another currency (at least 20 events)
- `unit_cost`: exactly constant costs of a unit are 5 to 30 % higher or lower for everybody, for 3 days to the end
- `future`: the clock of a customer goes ahead by 1 to 10 days for 6 to 48 hours (at least 12 events)
- `negative`: a stream's quantities of 1 to 5 days have the wrong sign (at least 10)
- `not_a_number`: 1 to 9 quantities of a stream are NaN; in histories of its own, because nothing can be summed then
- `new_usage`: a customer begins to use another metric, without a subscription (2 to 30 events a day)
- `no_price`: a stream's events of 2 to 15 days have no price key (at least 10)

Unit slips and `one_event` leave the cost of their events unchanged; other multiplied quantities multiply it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.histories import (
    DAY,
    HOUR,
    METRICS,
    SCALE,
    SECOND,
    SINCE,
    UNTIL,
    Bools,
    History,
    Incident,
    Ints,
    Stream,
    instant,
    micros,
)

_SINCE, _UNTIL = micros(SINCE), micros(UNTIL)
_ATTEMPTS = 40
"""Places tried for an incident before its kind is given up in a history."""


def plant(history: History, kinds: list[str]) -> None:
    """Plant these kinds, in this order, where the history has a place for them."""
    planter = _Planter(history)
    for kind in kinds:
        for _ in range(_ATTEMPTS):
            if (incident := KINDS[kind](planter)) is not None:
                history.incidents.append(incident)
                break


class _Planter:
    """The history, its random numbers, and who has an incident already."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.draw = history.draw
        self.taken: set[int] = set()
        self.everybody: list[tuple[int, int]] = []

    def span(self, shortest: int, longest: int, step: int = HOUR) -> tuple[int, int]:
        """A span in the period, its length log-uniform."""
        length = round(self.log(shortest, longest) / step) * step
        since = _SINCE + int(self.draw.integers(0, (_UNTIL - _SINCE - length) // step + 1)) * step
        return since, since + length

    def log(self, least: float, most: float) -> float:
        """A log-uniform number."""
        return float(10 ** self.draw.uniform(np.log10(least), np.log10(most)))

    def stream(self, fits: Callable[[Stream], bool]) -> Stream | None:
        """A stream of a customer without an incident."""
        free = [one for one in self.history.streams if one.customer not in self.taken and fits(one)]
        return free[self.draw.integers(len(free))] if free else None

    def customer(self, fits: Callable[[tuple[Stream, ...]], bool]) -> tuple[Stream, ...] | None:
        """All streams of a customer without an incident."""
        every = [self.history.of(number) for number in range(self.history.customers) if number not in self.taken]
        free = [streams for streams in every if streams and fits(streams)]
        return free[self.draw.integers(len(free))] if free else None

    def all_rows(self, streams: tuple[Stream, ...], since: int, until: int) -> Ints:
        """The rows of several streams in a span."""
        return np.concatenate([self.history.rows(one, since, until) for one in streams])

    def in_span(self, since: int, until: int) -> Bools:
        """Everybody's rows in a span."""
        time = self.history.events.timestamp
        return (time >= since) & (time < until)

    def record(
        self, kind: str, streams: tuple[Stream, ...], rows: Ints, details: str = "", span: tuple[int, int] | None = None
    ) -> Incident:
        """The incident of one customer, around the rows unless a span is given."""
        self.taken.add(streams[0].customer)
        time = self.history.events.timestamp[rows]
        since, until = span or (int(time.min()), int(time.max()) + 1)
        return Incident(
            kind,
            (self.history.customer_id(streams[0].customer),),
            tuple(METRICS[one.metric] for one in streams),
            instant(since),
            instant(until),
            len(rows),
            details,
        )

    def record_all(self, kind: str, since: int, until: int, events: int, details: str = "") -> Incident:
        """The incident of everybody."""
        self.everybody.append((since, until))
        metrics = tuple(METRICS[number] for number in sorted({one.metric for one in self.history.streams}))
        return Incident(kind, None, metrics, instant(since), instant(until), events, details)

    def usual(self, stream: Stream) -> tuple[int, Ints]:
        """The quantity of the 30 days before the period, and the rows."""
        rows = self.history.rows(stream, _SINCE - 30 * DAY, _SINCE)
        return int(self.history.events.quantity[rows].sum()), rows


def _per_day(planter: _Planter, stream: Stream) -> float:
    """Events a day in the month before the period."""
    return len(planter.usual(stream)[1]) / 30


def _duplicates(planter: _Planter) -> Incident | None:
    streams = planter.customer(lambda every: True)
    since, until = planter.span(2 * HOUR, 3 * DAY)
    if streams is None or len(rows := planter.all_rows(streams, since, until)) < 20:
        return None
    _send_again(planter.history, rows, int(planter.draw.integers(60, 86_400)) * SECOND)
    return planter.record("duplicates", streams, rows)


def _send_again(history: History, rows: Ints, later: int, new_keys: bool = False) -> None:
    copies = history.events.take(rows)
    copies.ingested += later
    if new_keys:
        copies.key = history.new_keys(len(copies))
    history.events.add(copies)


def _replay(planter: _Planter) -> Incident | None:
    since, until = planter.span(HOUR, 4 * HOUR)
    rows = np.flatnonzero(planter.in_span(since, until))
    if planter.everybody or len(rows) < 30:
        return None
    _send_again(planter.history, rows, int(planter.draw.integers(300, 86_400)) * SECOND)
    return planter.record_all("replay", since, until, len(rows))


def _retries(planter: _Planter) -> Incident | None:
    stream = planter.stream(lambda one: METRICS[one.metric] != "storage_gb")
    since, until = planter.span(6 * HOUR, 4 * DAY)
    if stream is None:
        return None
    rows = planter.history.rows(stream, since, until)
    rows = rows[planter.draw.random(len(rows)) < planter.draw.uniform(0.3, 1)]
    if len(rows) < 20:
        return None
    _send_again(planter.history, rows, int(planter.draw.integers(5, 600)) * SECOND, new_keys=True)
    return planter.record("retries", (stream,), rows)


def _one_event(planter: _Planter) -> Incident | None:
    stream = planter.stream(lambda one: True)
    if stream is None:
        return None
    usual, before = planter.usual(stream)
    rows = planter.history.rows(stream, _SINCE, _UNTIL)
    if len(before) < 5 or not len(rows):
        return None
    row, factor = planter.draw.choice(rows, 1), planter.log(20, 1000)
    planter.history.events.quantity[row] = round((factor - 1) * usual / SCALE) * SCALE
    return planter.record("one_event", (stream,), row, f"month × {factor:.0f}")


def _thin(planter: _Planter) -> Stream | None:
    return planter.stream(lambda one: one.rate < 50 and _per_day(planter, one) >= 0.3)


def _thin_quantities(planter: _Planter) -> Incident | None:
    stream, (since, until) = _thin(planter), planter.span(3 * DAY, 30 * DAY)
    if stream is None or len(rows := planter.history.rows(stream, since, until)) < 5:
        return None
    factor, e = planter.log(20, 1000), planter.history.events
    e.quantity[rows] = np.round(e.quantity[rows] / 1000 * factor).astype(np.int64) * 1000
    e.costed[rows] = e.quantity[rows]
    return planter.record("thin_quantities", (stream,), rows, f"× {factor:.0f}, {_per_day(planter, stream):.1f} a day")


def _thin_events(planter: _Planter) -> Incident | None:
    stream, (since, until) = _thin(planter), planter.span(DAY, 7 * DAY)
    if stream is None or METRICS[stream.metric] == "storage_gb":
        return None
    factor, before = planter.log(20, 100), planter.usual(stream)[1]
    more = round(_per_day(planter, stream) * (until - since) / DAY * (factor - 1))
    if not 60 <= more <= 3000:
        return None
    copies = planter.history.events.take(planter.draw.choice(before, more))
    lag = copies.ingested - copies.timestamp
    copies.timestamp = since + planter.draw.integers(0, until - since, more)
    copies.ingested = copies.timestamp + lag
    copies.key = planter.history.new_keys(more)
    planter.history.events.add(copies)
    rows = planter.history.rows(stream, since, until)
    return planter.record("thin_events", (stream,), rows, f"× {factor:.0f}, {_per_day(planter, stream):.1f} a day")


def _slipped(
    planter: _Planter, kind: str, stream: Stream | None, rows: Ints, factors: tuple[int, ...], least: int
) -> Incident | None:
    if stream is None or len(rows) < least:
        return None
    factor, e = int(planter.draw.choice(factors)), planter.history.events
    up = planter.draw.random() < 0.5
    e.quantity[rows] = e.quantity[rows] * factor if up else np.round(e.quantity[rows] / factor).astype(np.int64)
    return planter.record(
        kind, (stream,), rows, f"{'×' if up else '÷'} {factor}, {_per_day(planter, stream):.1f} a day"
    )


def _unit(planter: _Planter) -> Incident | None:
    stream, span = planter.stream(lambda one: _per_day(planter, one) >= 20), planter.span(DAY, 14 * DAY)
    rows = planter.history.rows(stream, *span) if stream else np.zeros(0, np.int64)
    return _slipped(planter, "unit", stream, rows, (60, 1000, 1024, 3600), 10)


def _unit_thin(planter: _Planter) -> Incident | None:
    stream = planter.stream(lambda one: 0.5 <= _per_day(planter, one) <= 8)
    rows = planter.history.rows(stream, *planter.span(7 * DAY, 30 * DAY)) if stream else np.zeros(0, np.int64)
    return _slipped(planter, "unit_thin", stream, rows, (1000, 1024, 3600), 6)


def _unit_half(planter: _Planter) -> Incident | None:
    stream = planter.stream(lambda one: _per_day(planter, one) >= 4)
    rows = planter.history.rows(stream, *planter.span(2 * DAY, 14 * DAY)) if stream else np.zeros(0, np.int64)
    rows = rows[planter.draw.random(len(rows)) < planter.draw.uniform(0.4, 0.6)]
    return _slipped(planter, "unit_half", stream, rows, (1000, 1024), 20)


def _lost_hours(planter: _Planter) -> Incident | None:
    since, until = planter.span(3 * HOUR, 30 * HOUR)
    lost = planter.in_span(since, until)
    if planter.everybody or lost.sum() < 50:
        return None
    planter.history.events.keep(~lost)
    return planter.record_all("lost_hours", since, until, int(lost.sum()), f"{(until - since) / HOUR:.0f} h")


def _outage(planter: _Planter) -> Incident | None:
    streams = planter.customer(lambda every: every[0].pattern in ("steady", "growth"))
    since, until = planter.span(24 * HOUR, 71 * HOUR)
    if streams is None or len(rows := planter.all_rows(streams, since, until)) < 50:
        return None
    incident = planter.record("outage", streams, rows, f"{(until - since) / HOUR:.0f} h", (since, until))
    planter.history.events.keep(~np.isin(np.arange(len(planter.history.events)), rows))
    return incident


def _level(planter: _Planter) -> Incident | None:
    stream = planter.stream(
        lambda one: (
            one.pattern in ("steady", "office")
            and METRICS[one.metric] != "storage_gb"
            and 1 <= _per_day(planter, one) <= 40
        )
    )
    since = _SINCE + int(planter.draw.integers(0, 20)) * DAY
    if stream is None:
        return None
    draw, history, factor = planter.draw, planter.history, planter.log(2, 4)
    up = draw.random() < 0.5
    rows = history.rows(stream, since, _UNTIL + 4 * DAY)
    inside = history.rows(stream, since, _UNTIL)
    larger = len(inside) * (factor if up else 1)
    if larger * (1 - 1 / factor) < 6 * np.sqrt(max(larger, 1)):
        return None
    if up:
        copies = history.events.take(draw.choice(rows, round(len(rows) * (factor - 1))))
        shift = draw.integers(-HOUR // 2, HOUR // 2, len(copies))
        copies.timestamp, copies.ingested = copies.timestamp + shift, copies.ingested + shift
        copies.key = history.new_keys(len(copies))
        history.events.add(copies)
    incident = planter.record(
        "level",
        (stream,),
        history.rows(stream, since, _UNTIL),
        f"{'×' if up else '÷'} {factor:.1f}, {_per_day(planter, stream):.1f} a day",
        (since, _UNTIL),
    )
    if not up:
        gone = rows[draw.random(len(rows)) < 1 - 1 / factor]
        history.events.keep(~np.isin(np.arange(len(history.events)), gone))
    return incident


def _late(planter: _Planter) -> Incident | None:
    since, until = planter.span(DAY, 3 * DAY)
    later = int(planter.draw.integers(3 * 24, 12 * 24)) * HOUR
    e = planter.history.events
    if not planter.everybody and planter.draw.random() < 1 / 3:
        rows = np.flatnonzero(planter.in_span(since, until))
        if len(rows) < 20 or until + later > _UNTIL + 2 * DAY:
            return None
        e.ingested[rows] = np.maximum(e.ingested[rows], until + later + planter.draw.integers(0, HOUR, len(rows)))
        return planter.record_all("late", since, until, len(rows), f"{later / DAY:.0f} d")
    streams = planter.customer(lambda every: True)
    if streams is None or len(rows := planter.all_rows(streams, since, until)) < 20 or until + later > _UNTIL + 2 * DAY:
        return None
    e.ingested[rows] = np.maximum(e.ingested[rows], until + later + planter.draw.integers(0, HOUR, len(rows)))
    return planter.record("late", streams, rows, f"{later / DAY:.0f} d")


def _currency(planter: _Planter) -> Incident | None:
    stream = planter.stream(lambda one: METRICS[one.metric] in ("tokens", "minutes", "images"))
    since, until = planter.span(2 * DAY, 10 * DAY)
    if not planter.history.has_costs or stream is None:
        return None
    if len(rows := planter.history.rows(stream, since, until)) < 20:
        return None
    planter.history.events.currency[rows] = 1
    return planter.record("currency", (stream,), rows)


def _unit_cost(planter: _Planter) -> Incident | None:
    history = planter.history
    metrics = {one.metric for one in history.streams} & {METRICS.index("tokens"), METRICS.index("images")}
    if not history.has_costs or planter.everybody or not metrics:
        return None
    metric, (since, until) = int(planter.draw.choice(sorted(metrics))), planter.span(3 * DAY, 29 * DAY, DAY)
    rows = np.flatnonzero(planter.in_span(since, until) & (history.events.metric == metric))
    if len(rows) < 20:
        return None
    change = planter.log(0.05, 0.3) * (1 if planter.draw.random() < 0.5 else -1)
    history.events.rate[rows] = round(int(history.events.rate[rows[0]]) * (1 + change))
    planter.everybody.append((since, until))
    return Incident("unit_cost", None, (METRICS[metric],), instant(since), instant(until), len(rows), f"{change:+.1%}")


def _future(planter: _Planter) -> Incident | None:
    streams = planter.customer(lambda every: METRICS.index("storage_gb") not in [one.metric for one in every])
    since, until = planter.span(6 * HOUR, 48 * HOUR)
    ahead = int(planter.draw.integers(24, 240)) * HOUR
    if streams is None or until + ahead > _UNTIL or len(rows := planter.all_rows(streams, since, until)) < 12:
        return None
    planter.history.events.timestamp[rows] += ahead
    return replace(planter.record("future", streams, rows, f"{ahead / DAY:.1f} d"), left=instant(since))


def _negative(planter: _Planter) -> Incident | None:
    stream, (since, until) = planter.stream(lambda one: True), planter.span(DAY, 5 * DAY)
    if stream is None or len(rows := planter.history.rows(stream, since, until)) < 10:
        return None
    planter.history.events.quantity[rows] *= -1
    return planter.record("negative", (stream,), rows)


def _not_a_number(planter: _Planter) -> Incident | None:
    stream, (since, until) = planter.stream(lambda one: True), planter.span(HOUR, 3 * DAY)
    if stream is None or not len(rows := planter.history.rows(stream, since, until)):
        return None
    rows = rows[: int(planter.draw.integers(1, 10))]
    planter.history.events.number[rows] = False
    return planter.record("not_a_number", (stream,), rows)


def _new_usage(planter: _Planter) -> Incident | None:
    streams, history, draw = planter.customer(lambda every: len(every) < 3), planter.history, planter.draw
    if streams is None:
        return None
    metric = int(draw.choice([number for number in range(4) if number not in [one.metric for one in streams]]))
    others = np.flatnonzero((history.events.metric == metric) & (history.events.timestamp < _SINCE))
    since = _SINCE + int(draw.integers(0, 25)) * DAY
    size = round(planter.log(2, 30) * (_UNTIL - since) / DAY)
    if not len(others):
        return None
    fresh = history.events.take(draw.choice(others, size))
    lag = fresh.ingested - fresh.timestamp
    fresh.customer[:] = streams[0].customer
    fresh.timestamp = since + draw.integers(0, _UNTIL - since, size)
    fresh.ingested = fresh.timestamp + np.minimum(lag, HOUR)
    fresh.key, fresh.subscribed = history.new_keys(size), np.zeros(size, bool)
    history.events.add(fresh)
    stream = Stream(streams[0].customer, metric, size, "new", False)
    return planter.record("new_usage", (stream,), history.rows(stream, since, _UNTIL))


def _no_price(planter: _Planter) -> Incident | None:
    stream, (since, until) = planter.stream(lambda one: True), planter.span(2 * DAY, 15 * DAY)
    if stream is None or len(rows := planter.history.rows(stream, since, until)) < 10:
        return None
    planter.history.events.priced[rows] = False
    return planter.record("no_price", (stream,), rows)


KINDS: dict[str, Callable[[_Planter], Incident | None]] = {
    "duplicates": _duplicates,
    "replay": _replay,
    "retries": _retries,
    "one_event": _one_event,
    "thin_quantities": _thin_quantities,
    "thin_events": _thin_events,
    "unit": _unit,
    "unit_thin": _unit_thin,
    "unit_half": _unit_half,
    "lost_hours": _lost_hours,
    "outage": _outage,
    "level": _level,
    "late": _late,
    "currency": _currency,
    "unit_cost": _unit_cost,
    "future": _future,
    "negative": _negative,
    "not_a_number": _not_a_number,
    "new_usage": _new_usage,
    "no_price": _no_price,
}
"""What plants each kind; None where the place that was drawn does not suit it."""
