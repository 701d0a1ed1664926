"""Random whole numbers that are the same on every machine.

Only the raw 64-bit words of PCG64 are used, with integer arithmetic: numpy guarantees their stream
(https://numpy.org/neps/nep-0019-rng-policy.html), while its distributions, `exp` and `log` may differ between versions
and processors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]
Knots = Sequence[tuple[int, int]]
"""A quantile table: (per mille, value), from 0 to 1000, rising in both; straight lines between."""

_STEPS_PER_MILLE = 1 << 10
"""Resolution of `Draws.spread`."""


class Draws:
    """A stream of random numbers that is determined by its key, of non-negative integers."""

    def __init__(self, *key: int) -> None:
        self._source = np.random.PCG64(np.random.SeedSequence(key))

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """`count` words of 64 random bits."""
        return np.asarray(self._source.random_raw(count), dtype=np.uint64)

    def below(self, bound: int | Whole, count: int) -> Whole:
        """`count` integers in [0, bound); `bound` is at most 2**32, one for all or one for each."""
        scaled = (self.words(count) >> np.uint64(32)) * np.asarray(bound, dtype=np.uint64)
        return (scaled >> np.uint64(32)).astype(np.int64)

    def chance(self, per_mille: int, count: int) -> npt.NDArray[np.bool_]:
        """`count` booleans, true with probability `per_mille` / 1000."""
        return self.below(1000, count) < per_mille

    def pick(self, weights: Sequence[int] | Whole, count: int) -> Whole:
        """`count` indexes of `weights`, drawn by weight; the sum of the weights is at most 2**32."""
        edges = np.cumsum(np.asarray(weights, dtype=np.int64))
        return np.searchsorted(edges, self.below(int(edges[-1]), count), side="right").astype(np.int64)

    def spread(self, knots: Knots, count: int) -> Whole:
        """`count` values whose quantiles are `knots`."""
        edges = np.array([per_mille * _STEPS_PER_MILLE for per_mille, _ in knots], dtype=np.int64)
        values = np.array([value for _, value in knots], dtype=np.int64)
        at = self.below(1000 * _STEPS_PER_MILLE, count)
        left = np.searchsorted(edges, at, side="right") - 1
        rise = (values[left + 1] - values[left]) * (at - edges[left]) // (edges[left + 1] - edges[left])
        return np.asarray(values[left] + rise, dtype=np.int64)
