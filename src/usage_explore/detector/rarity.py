"""How rare a value is among all that came before it, whatever the season: the judgement of a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from usage_explore.detector.ordering import Floats
from usage_explore.detector.settings import Settings

USUAL = 0.05
"""The share of earlier values on either side that lies outside the usual range."""

_WARM = 100  # values that are needed before any can be called rare
_RENEWED, _GROWN = 12, 100  # the range is learnt anew every 12 steps, later when the past has grown by a hundredth
_MOST = 100.0  # nats, of a value after a past without any variation
_NOTHING = 1e-300  # instead of a division by zero
_LEAST_TAIL = 0.02  # of the usual range: a tail is never believed to be shorter


@dataclass(frozen=True, slots=True)
class Rarity:
    """Per point, (series, time), NaN where not judged.

    `middle`, `low`, `high`: the median, and the edges beyond which a value is as rare as `Settings.rare`.
    `nats`: signed; a value of `nats` x is as rare as `USUAL` · exp(-|x|) of all, 0 within the usual range.
    """

    middle: Floats
    low: Floats
    high: Floats
    nats: Floats


def rarity(values: Floats, settings: Settings, known: int = 0) -> Rarity:
    """Judge each value by the tails of all values before it, taken to be exponential beyond the usual range.

    Causal; judged once at least `known` values (and 100) are known. The tails' lengths are the mean excesses over the
    95 % and under the 5 % quantile.
    """
    found = Rarity(*(np.full_like(values, np.nan) for _ in range(4)))
    edge_at = reach(settings)
    for start, end in _spans(values.shape[1]):
        past = values[:, :start]
        rows = np.nonzero(np.count_nonzero(~np.isnan(past), axis=1) >= max(_WARM, known))[0]
        if not len(rows):
            continue
        past, now = past[rows], values[rows, start:end]
        lower, middle, upper = (edge[:, None] for edge in _quantiles(past, (USUAL, 0.5, 1 - USUAL)))
        least = np.maximum(_LEAST_TAIL * (upper - lower), settings.least_relative * np.abs(middle))
        above, below = _excess(past - upper, least), _excess(lower - past, least)
        with np.errstate(divide="ignore", invalid="ignore"):
            nats = np.where(now > upper, (now - upper) / above, np.where(now < lower, (now - lower) / below, 0.0))
        found.nats[rows, start:end] = np.where(np.isnan(now), np.nan, np.clip(nats, -_MOST, _MOST))
        for array, edge in (
            (found.low, lower - edge_at * below),
            (found.middle, middle),
            (found.high, upper + edge_at * above),
        ):
            array[rows, start:end] = np.where(np.isnan(now), np.nan, edge)
    return found


def reach(settings: Settings) -> float:
    """The nats of a value as rare as `settings.rare`."""
    return math.log(USUAL / settings.rare)


def _spans(time: int) -> list[tuple[int, int]]:
    spans, start = [], _WARM
    while start < time:
        end = start + max(_RENEWED, start // _GROWN)
        spans.append((start, min(end, time)))
        start = end
    return spans


def _quantiles(past: Floats, shares: tuple[float, ...]) -> Floats:
    found: Floats = np.nanquantile(past, shares, axis=1) if np.isnan(past).any() else np.quantile(past, shares, axis=1)
    return found


def _excess(over: Floats, least: Floats) -> Floats:
    """The mean of what lies beyond, at least `least`."""
    beyond = over > 0
    total = np.where(beyond, over, 0.0).sum(axis=1, keepdims=True)
    mean = total / np.maximum(np.count_nonzero(beyond, axis=1, keepdims=True), 1)
    found: Floats = np.maximum(mean, np.maximum(least, _NOTHING))
    return found
