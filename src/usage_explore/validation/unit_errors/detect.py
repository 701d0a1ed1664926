"""Which days of a customer's metric have every quantity multiplied: in plain numbers, without a connection.

A slip multiplies every quantity alike, so the quartiles of a day all move by the same factor; a few very large
quantities, or a change of what is used, move them differently. Each day is compared with the days before it, and with
how much those differ among themselves; days of a slip are not learned from.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from statistics import median, median_high

FACTORS = (60, 1_000, 1_024)
"""What a wrong unit multiplies or divides by: minutes and seconds, kilo, kibi."""

KNOWN = 5
"""Days that must be known before one is judged."""

REMEMBERED = 28
"""Days of usage that one is compared with: the latest before it that were no slip."""

NEAR = math.log(1.5)
"""How far from a factor each quartile may lie, as a logarithm: by half as much."""

UNLIKE = 5
"""How many times a day must differ from the history by more than the history differs in itself."""

_ALIKE = 2
"""How many times what the history differs by a quartile may lie off a factor, where that is more than `NEAR`."""

_LEAST = 0.05
"""The least a history is taken to differ in itself: many send the same quantity every day."""

_SAME = math.log(3)
"""How far the days of one slip may lie apart; 60 and 1,000 lie farther apart."""

_TARGETS = {sign * math.log(factor): (factor, sign) for factor in FACTORS for sign in (1, -1)}


@dataclass(frozen=True, slots=True)
class Day:
    """A day of one customer's metric: its number, its quartiles, and its first and last event."""

    number: int
    quartiles: Sequence[Decimal]
    events: int
    quantity: Decimal
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Slip:
    """Days, one judged after the other, whose quantities are `ratio` times as large as the `usual` median.

    `factor` is the nearest of `FACTORS`; `times` says whether it multiplies or, if not, divides.
    """

    days: tuple[Day, ...]
    factor: int
    times: bool
    ratio: float
    usual: Decimal

    def corrected(self, quantity: Decimal) -> Decimal:
        """What the quantity would be in the usual unit."""
        return quantity / self.factor if self.times else quantity * self.factor


def slips(days: Iterable[Day]) -> Iterator[Slip]:
    """The slips among the days of one customer's metric, given in order."""
    history: deque[tuple[float, ...]] = deque(maxlen=REMEMBERED)
    medians: deque[Decimal] = deque(maxlen=REMEMBERED)
    run: list[tuple[Day, float]] = []
    usual = Decimal(0)
    for day in days:
        logs = tuple(map(_log, day.quartiles))
        shift = _slipped(logs, history)
        if shift is None:
            history.append(logs)
            medians.append(day.quartiles[1])
        if run and (shift is None or abs(shift - run[0][1]) > _SAME):
            yield _slip(run, usual)
            run = []
        if shift is not None:
            usual = usual if run else median_high(medians)
            run.append((day, shift))
    if run:
        yield _slip(run, usual)


def _slipped(logs: tuple[float, ...], history: deque[tuple[float, ...]]) -> float | None:
    """By how much, as a logarithm, a day is shifted, None where that is no slip."""
    if len(history) < KNOWN:
        return None
    shifts, spreads = [], []
    for place, value in enumerate(logs):
        known = [each[place] for each in history]
        middle = median(known)
        shifts.append(value - middle)
        spreads.append(max(_LEAST, 1.4826 * median(abs(each - middle) for each in known)))
    shift = median(shifts)
    target = min(_TARGETS, key=lambda each: abs(each - shift))
    for each, spread in zip(shifts, spreads, strict=True):
        if abs(each) <= UNLIKE * spread or abs(each - target) > max(NEAR, _ALIKE * spread):
            return None
    return shift


def _slip(run: list[tuple[Day, float]], usual: Decimal) -> Slip:
    shift = median(shift for _, shift in run)
    factor, sign = _TARGETS[min(_TARGETS, key=lambda each: abs(each - shift))]
    return Slip(tuple(day for day, _ in run), factor, sign > 0, math.exp(shift), usual)


def _log(quantity: Decimal) -> float:
    """The logarithm of a positive quantity, however large or small."""
    number = float(quantity)
    return math.log(number) if 1e-300 < number < 1e300 else float(quantity.ln())
