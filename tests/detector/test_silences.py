"""A silence teaches nothing: what comes back is judged by what was usual before it stayed away."""

from __future__ import annotations

import numpy as np
import pytest

from usage_explore.detector import Detection, detect

LENGTH, BEGINS = 98, 50
WEEKS = {"every day": [1] * 7, "workdays": [1] * 5 + [0] * 2, "twice a week": [1, 0, 0, 1, 0, 0, 0]}


def usage(week: str = "every day", gap: int = 0, times: float = 1, lasting: int = LENGTH, step: int = 1) -> np.ndarray:
    """About 100 a step of used days, nothing for `gap` days, then `times` as much for the `lasting` days after."""
    chance = np.random.default_rng(gap)
    steps = np.arange(LENGTH * step)
    days = steps // step
    level = 100.0 * np.array(WEEKS[week])[days % 7]
    level[(days >= BEGINS) & (days < BEGINS + gap)] = 0
    level[(days >= BEGINS + gap) & (days < BEGINS + gap + lasting)] *= times
    return chance.poisson(level).astype(np.float64)[np.newaxis]


def told(found: Detection, direction: str) -> list[tuple[str, int, int]]:
    kinds = {"up": ("spike", "shift_up"), "down": ("drop", "shift_down")}[direction]
    return [(one.kind, one.start, one.end) for one in found if one.kind in kinds]


@pytest.mark.parametrize(
    ("week", "gap"),
    [
        (week, gap)
        for week in WEEKS
        for gap in (3, 5, 7, 10, 13, 14, 21, 35, 45)
        if gap >= 7 or week != "twice a week"  # which has four days without usage every week
    ],
)
def test_usage_that_comes_back_as_it_was_is_no_surprise(week: str, gap: int) -> None:
    found = detect(usage(week, gap), 7)
    assert not told(found, "up")
    assert not [one for one in found if one.start >= BEGINS + gap]


@pytest.mark.parametrize("gap", [4, 10, 20])
def test_by_the_hour_too(gap: int) -> None:
    assert not told(detect(usage("workdays", gap, step=24), 168), "up")


@pytest.mark.parametrize(("gap", "stopped"), [(3, True), (10, True), (13, True), (14, False), (40, False)])
def test_a_silence_of_less_than_two_weeks_is_judged(gap: int, stopped: bool) -> None:
    down = told(detect(usage(gap=gap), 7), "down")
    assert [(start, end) for _, start, end in down] == ([(BEGINS, BEGINS + gap)] if stopped else [])


@pytest.mark.parametrize("gap", [5, 10, 14, 25])
def test_usage_that_comes_back_tenfold_is_told_beside_what_was_usual(gap: int) -> None:
    back = BEGINS + gap
    (spike,) = [one for one in detect(usage(gap=gap, times=10, lasting=2), 7) if one.kind == "spike"]
    assert (spike.start, spike.end) == (back, back + 2)
    (level,) = [one for one in detect(usage(gap=gap, times=10), 7) if one.kind == "shift_up" and one.end == LENGTH]
    assert back <= level.start <= back + 3
    for one in (spike, level):
        assert one.expected == pytest.approx(100, rel=0.25)
        assert one.value == pytest.approx(1_000, rel=0.25)


@pytest.mark.parametrize("last", [1, 2, 5, 20])
def test_nothing_is_usual_before_the_first_usage(last: int) -> None:
    values = usage()
    values[:, :-last] = 0
    assert not list(detect(values, 7))


@pytest.mark.parametrize("step", [1, 24])
@pytest.mark.parametrize("times", [0.01, 0.2, 5])
def test_nothing_negative_is_expected_of_what_is_never_negative(step: int, times: float) -> None:
    chance = np.random.default_rng(5)
    values = np.concatenate([usage(gap=gap, times=times, step=step) for gap in range(20)])
    values = np.round(values * chance.lognormal(0, 1.5, values.shape))
    found = detect(values, 7 * step)
    for bound in (found.expected, found.low, found.high):
        assert np.nanmin(bound) >= 0
    assert all(min(one.expected, one.low, one.high) >= 0 for one in found)
    credited = detect(-values, 7 * step)
    assert np.nanmin(credited.low) < 0
