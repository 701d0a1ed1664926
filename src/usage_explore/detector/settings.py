"""The fixed numbers of the detector: one set for every series."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """What the detector holds fixed. The defaults are meant for every series; they are not fitted to any.

    A point is judged from what came before and, by the same rules, from what came after, and only a value outside both
    bands is a spike or a drop.
    """

    seasons: int = 8
    """How many earlier points of the same phase ("the last 8 Mondays") make an expectation."""
    fewest: int = 3
    """How many of them must be known before a point is judged."""
    width: float = 5.2
    """Half of the band, in robust deviations of the residuals."""
    least_relative: float = 0.01
    """A robust deviation is never below this share of the expectation."""
    shift: float = 0.4
    """How far outside, as a share of the half band, the season after must lie by its median to be a new level."""
    shift_run: float = 0.5
    """A run outside of at least this share of a season (and 4 steps) is a new level, not a spike or drop."""
    together: float = 0.4
    """Where at least this share of a group's series move to the same side at one step, it is told once."""
    together_score: float = 0.5
    """How far a series must lie out, as a share of its half band, to be moving along."""
    together_least: int = 3
    """The fewest series that make such a group movement."""
