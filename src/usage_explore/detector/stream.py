"""When a stream calls: one alarm for one event, from all that speaks for it, dearer the oftener it was called."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from usage_explore.detector.ordering import Floats, earlier
from usage_explore.detector.rarity import USUAL, Rarity, rarity, reach
from usage_explore.detector.settings import Settings
from usage_explore.detector.shapes import strangeness

_PROMISED = 0.001  # the share of steps that may stand out without making the next such step common
_LOW = 1.0  # nats below which nothing is an alarm at any threshold


@dataclass(frozen=True, slots=True)
class Weights:
    """What each part counts, and up to how much of it."""

    band: float = 0.75
    band_cap: float = 3.0
    season: float = 0.5
    step: float = 0.5
    step_cap: float = 3.0
    shape: float = 0.75
    shape_cap: float = 2.0
    dearer: float = 0.1
    """Nats by which each further alarm raises the bar."""


_WEIGHTS = Weights()


@dataclass(frozen=True, slots=True)
class Parts:
    """What speaks for an alarm at each step, (series, time): all in nats and 0 or more, but `band` in half bands.

    `value`: the rarity of the value, NaN where that is unknown. `band`: the distance from the seasonal expectation.
    `season` and `step`: the rarity of the change against a season before, and against the step before. `shape`: that
    of the shape of the last steps.
    """

    value: Floats
    band: Floats
    season: Floats
    step: Floats
    shape: Floats


def alarms(values: Floats, score: Floats, season: int, settings: Settings) -> tuple[Rarity, Floats]:
    """How rare each value is, and how strong an alarm it gives: 1 or more is one, 0 is silence. Causal."""
    found = rarity(values, settings)
    return found, called(parts(values, found, score, season, settings), settings)


def parts(values: Floats, found: Rarity, score: Floats, season: int, settings: Settings) -> Parts:
    """What speaks for an alarm, from the values, their rarity and their distance from the seasonal expectation."""
    return Parts(
        np.where(np.isnan(values), np.nan, np.abs(np.nan_to_num(found.nats))),
        np.abs(np.nan_to_num(score)),
        np.abs(_nats(values - earlier(values, season), settings, season)),
        np.abs(_nats(values - earlier(values, 1), settings)),
        np.maximum(_nats(strangeness(values), settings), 0),
    )


def called(found: Parts, settings: Settings, weights: Weights = _WEIGHTS) -> Floats:
    """How strong an alarm each step gives, in the rarity of `settings.rare`.

    The parts are added up. Only the strongest within `settings.rest` steps counts.
    """
    strength = found.value + weights.band * np.minimum(found.band, weights.band_cap)
    strength += weights.season * found.season
    strength += weights.step * np.minimum(found.step, weights.step_cap)
    strength += weights.shape * np.minimum(found.shape, weights.shape_cap)
    strength = np.nan_to_num(strength)
    strongest = np.where(strength > _recent(strength, settings.rest), strength, 0.0)
    return _rationed(strongest, weights) / reach(settings)


def _nats(values: Floats, settings: Settings, known: int = 0) -> Floats:
    return np.nan_to_num(rarity(values, settings, known).nats)


def _recent(strength: Floats, rest: int) -> Floats:
    if not strength.size:
        return strength
    padded = np.pad(strength, ((0, 0), (rest, 0)))[:, :-1]
    found: Floats = np.lib.stride_tricks.sliding_window_view(padded, rest, axis=1).max(axis=-1)
    return found


def _rationed(strength: Floats, weights: Weights) -> Floats:
    """Less for every earlier step that was stronger than one in a thousand, beyond one in a thousand of all steps."""
    found = np.zeros_like(strength)
    edge = math.log(USUAL / _PROMISED)
    for row in range(len(strength)):
        so_far = 0
        for step in np.nonzero(strength[row] > _LOW)[0].tolist():
            found[row, step] = max(0.0, strength[row, step] - weights.dearer * max(0.0, so_far - _PROMISED * step))
            so_far += strength[row, step] > edge
    return found
