"""Examines, without writing, whether a database fits, and says what to do where it does not."""

from usage_explore.doctor.examination import examine
from usage_explore.doctor.finding import Finding

__all__ = ["Finding", "examine"]
