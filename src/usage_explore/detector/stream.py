"""When a stream calls: one alarm for one event, from all that speaks for it, dearer the oftener it was called."""

from __future__ import annotations

import math

import numpy as np

from usage_explore.detector.ordering import Floats, earlier
from usage_explore.detector.rarity import USUAL, Rarity, rarity, reach
from usage_explore.detector.settings import Settings
from usage_explore.detector.shapes import strangeness

_BAND_WEIGHT, _BAND_CAP = 0.75, 3.0  # of the distance from the seasonal band, in half bands
_SEASON_WEIGHT = 0.5  # of the rarity of the change against a season before, in nats; so are the next
_STEP_WEIGHT, _STEP_CAP = 0.5, 3.0  # of the change against the step before
_SHAPE_WEIGHT, _SHAPE_CAP = 0.75, 2.0  # of the strangeness of the last steps' shape
_PROMISED = 0.001  # the share of steps that may stand out without making the next such step common
_DEARER = 0.1  # nats by which each further one raises the bar
_LOW = 1.0  # nats below which nothing is an alarm at any threshold


def alarms(values: Floats, score: Floats, season: int, settings: Settings) -> tuple[Rarity, Floats]:
    """How rare each value is, and how strong an alarm it gives: 1 or more is one, 0 is silence. Causal.

    The strength adds to the value's rarity its distance from the seasonal band, the rarity of its change against the
    season and the step before, and that of the shape of the last steps. Only the strongest within `settings.rest`
    steps counts. The unit is the rarity of `settings.rare`.
    """
    found = rarity(values, settings)
    strength = np.abs(np.nan_to_num(found.nats))
    strength += _BAND_WEIGHT * np.minimum(np.abs(np.nan_to_num(score)), _BAND_CAP)
    strength += _SEASON_WEIGHT * np.abs(_nats(values - earlier(values, season), settings, season))
    strength += _STEP_WEIGHT * np.minimum(np.abs(_nats(values - earlier(values, 1), settings)), _STEP_CAP)
    strength += _SHAPE_WEIGHT * np.clip(_nats(strangeness(values), settings), 0, _SHAPE_CAP)
    strength[np.isnan(values)] = 0.0
    strongest = np.where(strength > _recent(strength, settings.rest), strength, 0.0)
    return found, _rationed(strongest) / reach(settings)


def _nats(values: Floats, settings: Settings, known: int = 0) -> Floats:
    return np.nan_to_num(rarity(values, settings, known).nats)


def _recent(strength: Floats, rest: int) -> Floats:
    if not strength.size:
        return strength
    padded = np.pad(strength, ((0, 0), (rest, 0)))[:, :-1]
    found: Floats = np.lib.stride_tricks.sliding_window_view(padded, rest, axis=1).max(axis=-1)
    return found


def _rationed(strength: Floats) -> Floats:
    """Less for every earlier step that was stronger than one in a thousand, beyond one in a thousand of all steps."""
    found = np.zeros_like(strength)
    edge = math.log(USUAL / _PROMISED)
    for row in range(len(strength)):
        called = 0
        for step in np.nonzero(strength[row] > _LOW)[0].tolist():
            found[row, step] = max(0.0, strength[row, step] - _DEARER * max(0.0, called - _PROMISED * step))
            called += strength[row, step] > edge
    return found
