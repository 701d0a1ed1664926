"""The detector's laws: what may never happen, whatever the series."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from usage_explore.detector import KINDS, Detection, detect

Floats = npt.NDArray[np.float64]


def weekly(series: int = 4, days: int = 120, seed: int = 0, noise: float = 0.05) -> Floats:
    chance = np.random.default_rng(seed)
    pattern = np.where(np.arange(days) % 7 >= 5, 0.4, 1.0)
    return 1000.5 * pattern * (1 + noise * chance.standard_normal((series, days)))


def same(one: Floats, other: Floats) -> bool:
    return bool(np.allclose(one, other, rtol=1e-9, atol=1e-9, equal_nan=True))


def test_shapes_and_types() -> None:
    found = detect(weekly(), 7)
    for array in (found.expected, found.low, found.high, found.score):
        assert array.shape == (4, 120)
        assert array.dtype == np.float64
    assert found.kind.shape == (4, 120)
    assert found.kind.dtype == np.uint8
    judged = ~np.isnan(found.score)
    assert (judged == ~np.isnan(found.expected)).all()
    assert (found.low[judged] <= found.high[judged]).all()


@pytest.mark.parametrize("shape", [(0, 30), (3, 0), (3, 1), (2, 10)])
def test_little_or_nothing_is_judged_as_nothing(shape: tuple[int, int]) -> None:
    found = detect(np.ones(shape), 7)
    assert found.score.shape == shape
    assert list(found) == []


@pytest.mark.parametrize(("values", "season"), [(np.ones(5), 7), (np.ones((2, 5)), 0), (np.full((2, 5), np.inf), 7)])
def test_what_cannot_be_judged_is_an_error(values: Floats, season: int) -> None:
    with pytest.raises(ValueError, match=r"^(values|season): "):
        detect(values, season)


@pytest.mark.parametrize("level", [0.0, 1.0, 38.0, 0.1, 1e12, -5.0])
def test_a_constant_series_yields_nothing(level: float) -> None:
    assert list(detect(np.full((3, 120), level), 7)) == []


@pytest.mark.each_value
@pytest.mark.parametrize("days", [28, 30, 31, 35])
@pytest.mark.parametrize(("times", "kind"), [(10.0, "spike"), (0.1, "drop")])
def test_every_day_of_a_month_without_history_is_judged(days: int, times: float, kind: str) -> None:
    values = 60.0 + np.random.default_rng(days).integers(-3, 4, (days, days))
    assert list(detect(values, 7, np.arange(days))) == []
    np.fill_diagonal(values, values.diagonal() * times)
    found = [(one.series, one.start, one.end, one.kind) for one in detect(values, 7, np.arange(days))]
    assert found == [(day, day, day + 1, kind) for day in range(days)]


@pytest.mark.parametrize("days", [5, 10, 14, 21])
def test_nothing_is_learnt_from_the_days_after_the_end_of_all_usage(days: int) -> None:
    values = np.zeros((days, 31))
    values[:, :days] = 60 + np.random.default_rng(days).integers(-3, 4, (days, days))
    np.fill_diagonal(values, values.diagonal() * 10)
    for learned in (None, values):
        assert list(detect(values, 7, np.arange(days), learned)) == []
        assert np.nanmin(detect(values, 1, np.arange(days), learned).expected[:, : days // 2], initial=50) >= 50


def test_a_spike_and_a_drop_are_found_and_explained() -> None:
    values = weekly()
    values[1, 60] *= 3
    values[2, 80] *= 0.1
    found = list(detect(values, 7))
    assert [(one.series, one.start, one.end, one.kind) for one in found] == [(1, 60, 61, "spike"), (2, 80, 81, "drop")]
    spike, drop = found
    assert spike.value > spike.high > spike.expected > spike.low
    assert drop.value < drop.low < drop.expected < drop.high
    assert spike.score > 1
    assert drop.score < -1
    assert spike.reason.startswith("above the band ")
    assert "same weekdays before and after" in spike.reason


def test_a_new_level_is_told_once_at_its_start() -> None:
    values = weekly()
    values[0, 70:] *= 2
    values[1, 50:] *= 0.4
    found = list(detect(values, 7))
    assert [(one.series, one.kind, one.end) for one in found] == [(0, "shift_up", 120), (1, "shift_down", 120)]
    assert abs(found[0].start - 70) <= 2
    assert abs(found[1].start - 50) <= 2


@pytest.mark.parametrize(("unknown", "start"), [(0, 0), (8, 8), (30, 30)])
def test_a_long_run_with_nothing_before_it_is_compared_with_what_came_after(unknown: int, start: int) -> None:
    values = weekly(series=1, noise=0.03)
    values[:, :unknown] = np.nan
    values[:, start : start + 6] *= 0.1
    (found,) = detect(values, 7)
    assert (found.kind, found.start, found.end) == ("shift_down", start, start + 6)
    assert found.value < found.low < found.expected < found.high
    assert found.score < -1
    assert found.reason.endswith("below what was learnt after, for 6 steps")


def test_a_long_run_that_comes_back_ends_there() -> None:
    values = weekly(series=1)
    values[0, 60:66] *= 5
    assert [(one.kind, one.start, one.end) for one in detect(values, 7)] == [("shift_up", 60, 66)]


def test_what_lies_out_on_either_side_of_a_new_level_is_found() -> None:
    values = weekly(series=3)
    values[:, 60:] *= np.array([[3.0], [0.4], [1.0]])
    values[:, [52, 70]] *= 0.3
    found = [(one.kind, one.start) for one in detect(values, 7, groups=np.arange(3))]
    assert found == [
        *(("drop", 52), ("shift_up", 60), ("drop", 70)),
        *(("drop", 52), ("shift_down", 60), ("drop", 70)),
        *(("drop", 52), ("drop", 70)),
    ]


def test_a_few_steps_idle_as_expected_do_not_hide_a_new_level() -> None:
    values = weekly(series=2)
    values[:, np.arange(120) % 7 >= 5] = 0
    values[0, 30:] *= 0.4
    values[1, 90:] *= 2
    assert [(one.series, one.kind) for one in detect(values, 7)] == [(0, "shift_down"), (1, "shift_up")]


def test_fat_tails_are_seldom_findings() -> None:
    noise = np.clip(np.random.default_rng(3).standard_t(4, (200, 120)) / np.sqrt(2), -4, 4)
    assert len(list(detect(1000 * (1 + 0.1 * noise), 7))) <= noise.size / 2000


def test_steady_growth_and_quiet_weekends_are_expected() -> None:
    values = weekly(series=20, noise=0.04)
    values[:, np.arange(120) % 7 >= 5] = 0
    assert list(detect(values * 1.01 ** np.arange(120), 7)) == []


def test_a_holiday_of_a_customer_is_told_once() -> None:
    values = weekly(series=30)
    values[10:20, 75] *= 0.1
    customers = np.arange(30) // 10
    found = list(detect(values, 7, groups=customers))
    assert [(one.kind, one.start) for one in found] == [("together_down", 75)]
    assert sorted((found[0].series, *found[0].others)) == list(range(10, 20))


def test_small_counts_are_held_to_their_own_noise() -> None:
    values = np.random.default_rng(5).poisson(4, (300, 120)).astype(np.float64)
    assert len(list(detect(values, 7))) <= 3


@pytest.mark.parametrize("factor", [1e-6, 0.37, 1e9])
def test_scale_changes_nothing_but_scale(factor: float) -> None:
    values = weekly(noise=0.2)
    values[0, 40] *= 4
    one, other = (detect(scaled, 7) for scaled in (values, values * factor))
    assert same(one.score, other.score)
    assert same(one.expected * factor, other.expected)
    assert (one.kind == other.kind).all()


def test_the_unknown_is_never_judged_and_never_learnt() -> None:
    values = weekly()
    known = detect(values, 7)
    values[:, 70] = np.nan
    found = detect(values, 7)
    assert np.isnan(found.score[:, 70]).all()
    assert (found.kind[:, 70] == 0).all()
    assert (np.isnan(found.score) == (np.isnan(known.score) | np.isnan(values))).all()


def test_series_do_not_learn_from_each_other() -> None:
    values = weekly(series=6, noise=0.3)
    together, alone = detect(values, 7), detect(values[3:4], 7)
    assert same(together.score[3:4], alone.score)


def test_kinds_have_names() -> None:
    found: Detection = detect(weekly(), 7)
    assert found.kind.max() < len(KINDS)
