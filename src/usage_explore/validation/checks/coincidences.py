"""Whether events of one customer and metric that agree in time and content are copies, or agree by chance.

Meters that report on a grid of times, with few different quantities, send equal events at one time without any being a
copy. Copies are distinguished by how often events of one time are equal: as often as events of neighbouring times where
they are not copies, far more often where they are. The bound is a chance of 1 in 1,000,000 by the Chernoff bound on the
binomial distribution. Where all quantities are equal, content says nothing: then times off the minute decide, which
independent events rarely share, and else nothing does: then they are undecided if there are more of them than before
the period, or if they arrive apart, as if sent again.

Judged by day, and for the period as a whole: each customer's metric by itself, and those with too few events, such as
one a day, together. Copies among many equal events show in that each content of a time has an even number of them.
Shares of pairs are floats: they decide only which events are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from math import log, sqrt
from typing import Any, Literal
from uuid import UUID

from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.checks.pair_counts import GRIDS_SECONDS, Series

BOUNDS = CheckBounds("look_alikes")

# fmt: off
MIN_EVIDENCE = BOUNDS.add("min_evidence", 14.0, "logarithm", 1, 200,
    "Negative natural logarithm of the chance that unrelated events agree as often: 1 in 1,000,000.")

MIN_TWIN_CELLS = BOUNDS.add("min_twin_cells", 20, "contents", 2, 100000,
    "Different contents of one time, at least, that can show that every event was sent twice.")

MIN_TWIN_SHARE = BOUNDS.add("min_twin_share", 0.9, "share", 0.5, 1,
    "Share of these contents that there are exactly two events of, from which every event was sent twice.")

MIN_JUDGED_TIMES = BOUNDS.add("min_judged_times", 4, "times", 2, 100000,
    "Different times of a customer's metric in the period, at least, that say what is chance; with fewer nothing "
    "does.")

MIN_IRREGULAR_SHARE = BOUNDS.add("min_irregular_share", 0.9, "share", 0, 1,
    "Share of times off the minute, or off the second, from which times are not on a grid.")

CHANCE_DEVIATIONS = BOUNDS.add("chance_deviations", 6, "deviations", 1, 100,
    "Square roots of the expected number by which a day's equal events exceed those of other days; and 3 events "
    "beside.")

MIN_SENT_AGAIN_SHARE = BOUNDS.add("min_sent_again_share", 0.4, "share", 0, 1,
    "Share of a day's events that are equal to another one, from which the day is unlike others, at least half of "
    "which have no such event.")

HISTORY = BOUNDS.add("history", timedelta(weeks=4), "weeks", 1, 52,
    "Time before the period that says how many events of a customer's metric are usually equal.")

MIN_HISTORY_EVENTS = BOUNDS.add("min_history_events", 20, "events", 1, 1000000,
    "Events of a customer's metric in that time, at least, that say how many are usually equal.")

MIN_HABIT_DAYS_SHARE = BOUNDS.add("min_habit_days_share", 0.5, "share", 0, 1,
    "Share of the days with events in that time with equal events, from which equal events are the meter's habit.")

PROMPT = BOUNDS.add("prompt", timedelta(minutes=5), "minutes", 0.1, 1440,
    "Time from an event to its arrival, or between the arrivals of equal events, up to which nothing was sent later.")

MIN_APART_EVIDENCE = BOUNDS.add("min_apart_evidence", 7.0, "logarithm", 1, 200,
    "Negative natural logarithm of the chance that so many equal events of one quantity arrive apart: 1 in 1,000.")

MIN_ONE_CONTENT_SHARE = BOUNDS.add("min_one_content_share", 0.9, "share", 0, 1,
    "Share of pairs of events of neighbouring times that are of one content, from which content says nothing.")
# fmt: on


Verdict = Literal["copies", "undecided", "usual"]
Key = tuple[UUID, str, datetime]
"""A customer, a metric and the start of a day."""

Days = Mapping[Series, Mapping[datetime, "Counts"]]
"""Counts by customer and metric, and by the start of a day."""


@dataclass(slots=True)
class Counts:
    """Counts of events, their times and their pairs at one time, of a day or several.

    `events`, `times`: numbers of events and of different times. `pairs`: pairs of events of one time, `equal` those of
    one content, `together`: events of times with several; half as many pairs are independent. `shared`: times with
    several events, `even` those with an even number of each content. `cells`: different contents by time, `twins` those
    of exactly two events. `neighbours`: pairs of events of neighbouring times, `partners` those of one content.
    `contents`: different contents, `commonest`: events of the most common one. `offsets`: different times within the
    minute. By the coarsest of `GRIDS_SECONDS` that times are on: the number of times, of pairs at one time, and of
    pairs that chance makes of as many times near each other.
    """

    events: int = 0
    times: int = 0
    pairs: int = 0
    equal: int = 0
    together: int = 0
    shared: int = 0
    even: int = 0
    cells: int = 0
    twins: int = 0
    neighbours: int = 0
    partners: int = 0
    contents: int = 0
    commonest: int = 0
    offsets: int = 0
    repeated: int = 0
    slow: int = 0
    apart: int = 0
    grid_times: Sequence[float] = (0,) * len(GRIDS_SECONDS)
    grid_pairs: Sequence[float] = (0,) * len(GRIDS_SECONDS)
    grid_chance: Sequence[float] = (0,) * len(GRIDS_SECONDS)

    @property
    def is_of_one_content(self) -> bool:
        """Whether content says nothing of what is a copy."""
        return self.partner_share >= MIN_ONE_CONTENT_SHARE()

    @property
    def arrive_apart_beyond_chance(self) -> bool:
        """Whether equal events arrive apart more often than they would by themselves, as if sent again.

        If a share p of all events is slow, the first of two is with p * p at least, and they arrive apart with at most
        2 * p * (1 - p).
        """
        slow = sqrt((self.slow + 1) / (self.cells + 2))
        if not self.repeated or slow >= 0.5:  # slow ones say nothing: loaded at several times, for example
            return False
        expected, share = 2 * slow * (1 - slow), self.apart / self.repeated
        return share > expected and self.repeated * _divergence(share, expected) > MIN_APART_EVIDENCE()

    @property
    def mostly_arrive_apart(self) -> bool:
        """Whether equal events arrive apart, more often than halfway between what slow ones do anyway and always.

        If a share p of all events is slow, n of them are so with p ** n, and arrive at once with that or (1 - p) ** n.
        """
        if not self.repeated:
            return False
        number = max(2.0, self.events / self.cells)
        all_slow = self.slow / self.cells
        at_once: float = all_slow + (1 - all_slow ** (1 / number)) ** number
        return 2 * self.apart > self.repeated * (2 - at_once)

    @property
    def superfluous(self) -> int:
        """Events that are equal to another one of their time, beyond the first."""
        return self.events - self.cells

    @property
    def any_pairs(self) -> float:
        """Pairs of events, whatever their times."""
        return self.events * (self.events - 1) / 2

    @property
    def is_irregular(self) -> bool:
        """Whether the times are on no grid of minutes, and vary within the minute."""
        off_minute = sum(self.grid_times[1:])
        return off_minute >= MIN_IRREGULAR_SHARE() * self.times and 2 * self.offsets >= min(self.times, 60)

    @property
    def partner_share(self) -> float:
        """The share of pairs of events of neighbouring times that are of one content."""
        return (self.partners + 1) / (self.neighbours + 2)

    @property
    def agree_beyond_chance(self) -> bool:
        """Whether events of one time are equal more often than those of neighbouring times, or all are twins."""
        if not self.equal:
            return False
        share, expected = self.equal / self.pairs, self.partner_share
        are_twins = self.cells >= MIN_TWIN_CELLS() and self.twins >= MIN_TWIN_SHARE() * self.cells
        return (share > expected and self.together / 2 * _divergence(share, expected) > MIN_EVIDENCE()) or (
            are_twins and (self.contents >= MIN_TWIN_CELLS() or self.is_irregular)
        )

    def is_even_beyond_chance(self, others: Counts) -> bool:
        """Whether an even number of each content is more frequent than on other days, as if all were sent twice.

        The last event of a time makes all numbers even with the chance of one content, at most the most common one.
        """
        if not self.shared:
            return False
        expected = max(
            self.commonest / self.events,
            (others.even + 1) / (others.shared + 2),
            (others.equal + 1) / (others.pairs + 2),
        )
        share = self.even / self.shared
        return share > expected and self.shared * _divergence(share, expected) > MIN_EVIDENCE()

    def share_times_beyond_chance(self, grid: int) -> bool:
        """Whether more pairs share a time of this one of the `GRIDS_SECONDS` than chance makes of the times near it.

        And than if all events lay in one hour. Those on a coarser grid, as of a source beside it, are no evidence.
        """
        pairs, in_hour = self.grid_pairs[grid], self.any_pairs * float(GRIDS_SECONDS[grid]) / 3600
        expected = max(self.grid_chance[grid], in_hour)
        if not self.is_irregular or pairs <= expected:
            return False
        return pairs * log(pairs / expected) - pairs + expected > MIN_EVIDENCE()


def _divergence(share: float, expected: float) -> float:
    """The Kullback-Leibler divergence of two binary distributions, in nats."""
    left = (1 - share) * log((1 - share) / (1 - expected)) if share < 1 else 0.0
    return share * log(share / expected) + left


def counted(rows: Iterable[Any]) -> Days:
    """The rows of `pair_counts.statement` by customer and metric, and by day."""
    series: dict[Series, dict[datetime, Counts]] = {}
    for row in rows:
        values: dict[str, Any] = {item.name: getattr(row, item.name) for item in fields(Counts)}
        for name, value in values.items():
            values[name] = list(map(float, value)) if isinstance(value, list) else int(value)
        counts = Counts(**values)
        series.setdefault((row.customer_id, row.metric_key), {})[row.day] = counts
    return series


def verdicts(series: Days, shared: Callable[[Sequence[datetime]], Iterable[Any]]) -> dict[Key, Verdict]:
    """The days of a customer's metric whose equal events are copies or undecided; those of others agree by chance.

    `shared` gives the rows of `shared_times` of days. Series with too few events to be judged alone are judged together
    by day, and for the period as a whole.
    """
    judged = {(*key, start): verdict for key, days in series.items() for start, verdict in _judged(days).items()}
    wholes = {key: _sum(days.values()) for key, days in series.items()}
    left = {
        (*key, start): (counts, wholes[key].partner_share)
        for key, days in series.items()
        for start, counts in days.items()
        if counts.pairs and judged.get((*key, start)) != "copies"
    }
    by_day: dict[datetime, _Pool] = {}
    for (customer, metric, start), (counts, expected) in left.items():
        by_day.setdefault(start, _Pool()).add((customer, metric, start), counts, expected)
    whole = _Pool()
    for pool in by_day.values():
        whole.include(pool)
    pools = [pool for pool in (*by_day.values(), whole) if pool.exceeds_chance]
    if not pools:
        return judged
    if whole in pools:
        for start in {start for days in series.values() for start in days}:
            by_day.setdefault(start, _Pool())
    known = dict.fromkeys(by_day, (0, 0))
    for days in series.values():
        for start, counts in days.items():
            if start in known:
                known[start] = known[start][0] + counts.pairs, known[start][1] + counts.together
    for row in shared(
        sorted(by_day) if whole in pools else sorted({start for pool in pools for *_, start in pool.keys})
    ):
        pairs, together = known[row.day]
        by_day[row.day].others = max(int(row.pairs) - pairs, 0), max(int(row.together or 0) - together, 0)
    whole.others = (
        sum(pool.others[0] for pool in by_day.values()),
        sum(pool.others[1] for pool in by_day.values()),
    )
    for pool in pools:
        if pool.exceeds_chance:
            judged |= dict.fromkeys(pool.keys, "copies")
    return judged


def with_history(
    verdicts: Mapping[Key, Verdict],
    series: Days,
    before: Days,
) -> dict[Key, Verdict]:
    """The verdicts, copies undecided that are of one content and as many as `HISTORY` before the period lets expect.

    A source that always sends three equal events for a job may mean it so.
    """
    usual = {key: _sum(days.values()) for key, days in before.items()}

    def is_usual(customer: UUID, metric: str, start: datetime) -> bool:
        history, counts = usual.get((customer, metric)), series[customer, metric][start]
        is_one = counts.contents <= 1 and _sum(series[customer, metric].values()).is_of_one_content
        if history is None or history.events < MIN_HISTORY_EVENTS() or not is_one:
            return False
        return not _exceeds(counts.superfluous, counts.events * history.superfluous / history.events)

    return {
        key: "undecided" if verdict == "copies" and is_usual(*key) else verdict for key, verdict in verdicts.items()
    }


def open_series(series: Days, verdicts: Mapping[Key, Verdict]) -> list[Series]:
    """The customers' metrics whose events all have one quantity, some of them the same time, and no verdict yet.

    Only the events before the period, or the times of arrival, can show whether these are copies.
    """
    return sorted(
        (customer, metric)
        for (customer, metric), days in series.items()
        if not any((customer, metric, start) in verdicts for start in days)
        and any(counts.superfluous for counts in days.values())
        and _sum(days.values()).is_of_one_content
    )


def sent_again(series: Days, before: Days, chosen: Iterable[Series]) -> dict[Key, Verdict]:
    """The days of such metrics with twice as many equal events as `HISTORY` before lets expect, as undecided.

    Where the history is too short, equal events must arrive apart.
    """
    result: dict[Key, Verdict] = {}
    for customer, metric in chosen:
        days, known = series[customer, metric], before.get((customer, metric), {})
        history = _sum(known.values())
        pairs = sum(counts.any_pairs for counts in known.values())
        is_known = history.events >= MIN_HISTORY_EVENTS()
        # of one event a day there are no pairs of neighbouring times
        rate = (history.superfluous + 1) / (pairs or 2 * history.events) if is_known else 0.0
        expected = {start: rate * (counts.any_pairs if pairs else counts.events) for start, counts in days.items()}
        whole, usual = _sum(days.values()), sum(expected.values())
        is_more = whole.superfluous > 2 * usual and _exceeds(whole.superfluous, usual)
        is_again = is_more if is_known else whole.arrive_apart_beyond_chance
        if is_again:
            alike = (start for start, counts in days.items() if counts.superfluous > expected[start])
            result |= dict.fromkeys(((customer, metric, start) for start in alike), "undecided")
    return result


def usual_days(series: Days, before: Days) -> list[Key]:
    """The days with equal events that are no more, for their different contents, than in `HISTORY` before the period.

    A source such as a fan-out sends equal events by habit: on `MIN_HABIT_DAYS_SHARE` of the days before, and together
    in the period as well no more often than there. Copies of such events are more for each content.
    """
    result: list[Key] = []
    for (customer, metric), days in series.items():
        known = before.get((customer, metric), {})
        history, used = _sum(known.values()), [counts for counts in known.values() if counts.events]
        if history.events < MIN_HISTORY_EVENTS() or not _is_habit(used):
            continue
        rate = history.superfluous / history.cells
        usual = {
            start: counts
            for start, counts in days.items()
            if counts.superfluous and not _exceeds(counts.superfluous, counts.cells * rate)
        }
        together = _sum(usual.values())
        if not _exceeds(together.superfluous, together.cells * rate):
            result += [(customer, metric, start) for start in usual]
    return result


def beyond_habit(series: Days, before: Days, copied: Collection[Key]) -> dict[Series, tuple[int, int]]:
    """Of each customer's metric the copies of these days, and all its events: where no habit accounts for the copies.

    They are more than twice as many, for their contents, as in `HISTORY` before the period, however little that has.
    And their contents agree beyond chance, or most arrive later than `PROMPT` after the first: a job that sends equal
    events sends them at once.
    """
    result: dict[Series, tuple[int, int]] = {}
    for (customer, metric), days in series.items():
        again = _sum(counts for start, counts in days.items() if (customer, metric, start) in copied)
        history = _sum(before.get((customer, metric), {}).values())
        is_more = again.superfluous * history.cells > 2 * history.superfluous * again.cells or not history.cells
        is_told = again.agree_beyond_chance and not again.is_of_one_content
        if again.superfluous and is_more and (is_told or again.mostly_arrive_apart):
            result[customer, metric] = again.superfluous, sum(counts.events for counts in days.values())
    return result


def _is_habit(days: Sequence[Counts]) -> bool:
    return sum(counts.superfluous > 0 for counts in days) >= MIN_HABIT_DAYS_SHARE() * len(days)


@dataclass(slots=True, eq=False)
class _Pool:
    """Series that are judged together: `keys` of those with more equal events than expected.

    `others` are the pairs and events at one time of all other series, which have no equal events.
    """

    keys: list[Key] = field(default_factory=list)
    pairs: int = 0
    equal: int = 0
    together: int = 0
    expected: float = 0.0
    others: tuple[int, int] = (0, 0)

    def add(self, key: Key, counts: Counts, expected: float) -> None:
        """Add a day of a series, whose pairs are equal with the `expected` probability."""
        if counts.equal > expected * counts.pairs:
            self.keys.append(key)
        self.pairs += counts.pairs
        self.equal += counts.equal
        self.together += counts.together
        self.expected += expected * counts.pairs

    def include(self, other: _Pool) -> None:
        """Add the series of another pool."""
        self.keys += other.keys
        self.pairs += other.pairs
        self.equal += other.equal
        self.together += other.together
        self.expected += other.expected

    @property
    def exceeds_chance(self) -> bool:
        """Whether pairs are equal more often than expected, other series taken to be like these."""
        if not self.pairs:
            return False
        expected, share = self.expected / self.pairs, self.equal / (self.pairs + self.others[0])
        independent = (self.together + self.others[1]) / 2
        return share > expected and independent * _divergence(share, expected) > MIN_EVIDENCE()


def _sum(days: Iterable[Counts]) -> Counts:
    days = tuple(days)
    whole = Counts()
    for name in (item.name for item in fields(Counts)):
        numbers: list[Any] = [getattr(counts, name) for counts in (whole, *days)]
        is_one = isinstance(numbers[0], int)
        setattr(whole, name, sum(numbers) if is_one else list(map(sum, zip(*numbers, strict=True))))
    whole.contents = max((counts.contents for counts in days), default=0)
    whole.offsets = max((counts.offsets for counts in days), default=0)
    return whole


def _judged(days: Mapping[datetime, Counts]) -> dict[datetime, Verdict]:
    whole = _sum(days.values())
    equal = {start: counts for start, counts in days.items() if counts.superfluous}
    uneven = {start for start in equal if whole.times < MIN_JUDGED_TIMES() or _is_uneven(start, days)}
    copies = {start for start, counts in equal.items() if _are_copies(counts, start in uneven)}
    copies |= {
        start
        for start, counts in equal.items()
        if start not in copies
        and counts.times >= MIN_JUDGED_TIMES()
        and counts.is_even_beyond_chance(_sum(other for day, other in days.items() if day != start))
    }
    if _are_copies(whole, False) and (not copies or 2 * whole.equal >= whole.pairs):
        copies = set(equal)
    return {
        start: "copies" if start in copies else "undecided" for start in equal if start in copies or start in uneven
    }


def _are_copies(counts: Counts, is_uneven: bool) -> bool:
    if counts.agree_beyond_chance:
        return True
    if counts.times < MIN_JUDGED_TIMES() or 2 * counts.equal < counts.pairs:
        return False
    if sum(counts.grid_times[2:]) >= MIN_IRREGULAR_SHARE() * counts.times:
        return any(map(counts.share_times_beyond_chance, range(2, len(GRIDS_SECONDS))))
    return is_uneven and counts.share_times_beyond_chance(1)


def _is_uneven(start: datetime, days: Mapping[datetime, Counts]) -> bool:
    """Whether a day has more equal events than the other days lead to expect; not if there are no others."""
    others = [counts for other, counts in days.items() if other != start]
    pairs = sum(counts.any_pairs for counts in others)
    if not pairs:
        return False
    counts = days[start]
    ordinary = sum(not other.superfluous for other in others)
    if 2 * ordinary >= len(others) and counts.superfluous >= MIN_SENT_AGAIN_SHARE() * counts.events:
        return counts.superfluous > CHANCE_DEVIATIONS() / 2  # several such days are no measure of one another
    return _exceeds(counts.superfluous, counts.any_pairs * sum(other.superfluous for other in others) / pairs)


def _exceeds(number: int, expected: float) -> bool:
    """Whether a number of equal events is more than chance makes of the expected one."""
    return number > expected + CHANCE_DEVIATIONS() * sqrt(expected) + CHANCE_DEVIATIONS() / 2
