"""Anomaly detection in many series at once: spikes, drops and new levels, each with an expectation and a band.

Pure NumPy, one set of fixed constants for every series. Floats are used here and in charts only; billed amounts stay
decimal elsewhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from usage_explore.detector.anomalies import KINDS, Anomaly, Detection, anomalies, classify
from usage_explore.detector.scoring import score

__all__ = ["KINDS", "Anomaly", "Detection", "detect"]


def detect(
    values: npt.NDArray[np.float64],
    season: int,
    groups: npt.NDArray[np.intp] | None = None,
    learned: npt.NDArray[np.float64] | None = None,
) -> Detection:
    """Judge every known point of every series.

    `values`: float64, (series, time), at even steps. NaN (a bucket that is incomplete or unknown) is neither judged nor
    learned from.
    `season`: the number of steps after which the pattern repeats: 7 for days, 168 for hours of a week.
    `groups`: intp, (series,), numbers from 0. Series with the same number belong together (a customer's metrics);
    where many of a group move at the same step (a holiday), they are one anomaly. Default: all series are one group.
    `learned`: float64, (series, time), the values that expectations are learned from. Default: `values` with silences
    filled, see `detector.breaks`.

    Silences of two weeks or more are not judged. For a series without negative values, no bound is below 0.
    Raises `ValueError` for other shapes, infinite values and a season below 1.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"values: shape (series, time) is needed, not {values.shape}")
    if season < 1:
        raise ValueError(f"season: at least 1 step, not {season}")
    if np.isinf(values).any():
        raise ValueError("values: infinite values cannot be judged")
    members = np.zeros(len(values), np.intp) if groups is None else np.asarray(groups, np.intp)
    if members.shape != (len(values),) or (members < 0).any():
        raise ValueError("groups: one number from 0 for each series is needed")
    if learned is not None and learned.shape != values.shape:
        raise ValueError("learned: the shape of values is needed")
    scores = score(values, season, learned)
    kind = classify(scores, season, members)
    lower_bound = np.where((values < 0).any(axis=1, keepdims=True), -np.inf, 0.0)
    expected, low, high = (np.maximum(bound, lower_bound) for bound in (scores.expected, scores.low, scores.high))
    return Detection(values, expected, low, high, scores.score, kind, anomalies(values, scores, kind, members, season))
