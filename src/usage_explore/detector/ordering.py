"""Order statistics along the first axis that ignore unknown (NaN) values, and windows over time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

_MAX_NETWORK_VALUES = 64
"""Values up to which a sorting network over whole arrays is several times as fast as sorting each column."""


class Ordered:
    """Values sorted along the first axis, the unknown (NaN) ones at its end.

    `known` counts the known values; a quantile of none is NaN.
    """

    def __init__(self, values: Floats) -> None:
        """Sort `values` in place."""
        self.known = np.count_nonzero(~np.isnan(values), axis=0)
        values[np.isnan(values)] = np.inf
        if len(values) > _MAX_NETWORK_VALUES:
            values.sort(axis=0)
        else:
            for low, high in _network(len(values)):
                smaller = np.minimum(values[low], values[high])
                np.maximum(values[low], values[high], out=values[high])
                values[low] = smaller
        self.values = values

    def quantile(self, share: float, among: npt.NDArray[np.int_] | None = None) -> Floats:
        """The value below which `share` of the known values lie, the mean of the two around it.

        `among` limits each column to its smallest values, by number.
        """
        number = self.known if among is None else among
        place = np.maximum(number - 1, 0) * share
        lower, upper = np.floor(place + 1e-9).astype(np.intp), np.ceil(place - 1e-9).astype(np.intp)
        return np.where(number > 0, (self._at(lower) + self._at(upper)) / 2, np.nan)

    def median(self) -> Floats:
        """The middle value, or the mean of the two middle ones."""
        return self.quantile(0.5)

    def _at(self, place: Places) -> Floats:
        if place.size and (place == place.flat[0]).all():
            row: Floats = self.values[place.flat[0]]
            return row
        values: Floats = np.take_along_axis(self.values, place[None], axis=0)[0]
        return values


@lru_cache
def _network(size: int) -> tuple[tuple[int, int], ...]:
    """The comparisons of Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.2.2 M)."""
    return tuple(_comparisons(size))


def _comparisons(size: int) -> Iterator[tuple[int, int]]:
    top = 1 << max(0, (size - 1).bit_length() - 1)
    width = top
    while width > 0:
        reach, offset, step = top, 0, width
        while True:
            yield from ((low, low + step) for low in range(size - step) if low & width == offset)
            if reach == width:
                break
            step, reach, offset = reach - width, reach >> 1, width
        width >>= 1


def before(values: Floats, window: int, at: Places) -> Floats:
    """The `window` values before each place of `at`: shape (window, series, places), NaN before the first."""
    padded = np.pad(values, ((0, 0), (window, 0)), constant_values=np.nan)
    return np.stack([padded[:, at + back] for back in range(window)])


def earlier(values: Floats, steps: int) -> Floats:
    """Each place's value `steps` before, NaN where there is none."""
    moved = np.full_like(values, np.nan)
    if steps < values.shape[1]:
        moved[:, steps:] = values[:, :-steps]
    return moved


def runs(flags: npt.NDArray[np.bool_], least: int = 1) -> list[tuple[int, int, int]]:
    """Each maximal run of at least `least` true flags as (row, start, end), end excluded."""
    edges = np.diff(np.pad(flags, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    long = ends - starts >= least
    return list(zip(rows[long].tolist(), starts[long].tolist(), ends[long].tolist(), strict=True))
