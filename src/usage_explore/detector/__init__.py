"""Find spikes, drops and new levels in many series at once, each explained by a value, an expectation and a band.

Pure numpy, one set of fixed defaults. Floats live here and in drawings only: what is billed stays decimal elsewhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from usage_explore.detector.detection import KINDS, Anomaly, Detection
from usage_explore.detector.judging import judge
from usage_explore.detector.naming import name
from usage_explore.detector.settings import Settings
from usage_explore.detector.telling import tell

__all__ = ["KINDS", "Anomaly", "Detection", "Settings", "detect"]

_DEFAULTS = Settings()


def detect(
    values: npt.NDArray[np.float64],
    season: int,
    settings: Settings = _DEFAULTS,
    groups: npt.NDArray[np.intp] | None = None,
    learnt: npt.NDArray[np.float64] | None = None,
) -> Detection:
    """Judge every known point of every series.

    `values` is (series, time) at even steps; NaN (a bucket that is incomplete or unknown) is neither judged nor learnt.
    `season` is the number of steps after which the pattern repeats: 7 for days, 168 for hours of a week.
    `groups` numbers the series that belong together (a customer's), from 0; where much of a group moves at one step
    (a holiday) it is told once. Without it all series are one group. Raises `ValueError` on other shapes.
    What is usual is learnt from `learnt`, which is the values with silences filled unless it is given (see `silences`).
    Silences of two weeks or more are not judged. Of series without a negative value nothing negative is expected.
    """
    known = np.asarray(values, dtype=np.float64)
    if known.ndim != 2:
        raise ValueError(f"values: shape (series, time) is needed, not {known.shape}")
    if season < 1:
        raise ValueError(f"season: at least 1 step, not {season}")
    if np.isinf(known).any():
        raise ValueError("values: infinite values cannot be judged")
    members = np.zeros(len(known), np.intp) if groups is None else np.asarray(groups, np.intp)
    if members.shape != (len(known),) or (members < 0).any():
        raise ValueError("groups: one number from 0 for each series is needed")
    if learnt is not None and learnt.shape != known.shape:
        raise ValueError("learnt: one value for each of values is needed")
    judged = judge(known, season, settings, learnt)
    kind = name(judged, season, settings, members)
    least = np.where((known < 0).any(axis=1, keepdims=True), -np.inf, 0.0)
    found = tell(known, judged, kind, members, season, settings)
    expected, low, high = (np.maximum(each, least) for each in (judged.expected, judged.low, judged.high))
    return Detection(known, expected, low, high, judged.score, kind, found)
