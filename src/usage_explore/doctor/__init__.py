"""Does this database fit? Looks only, and says what to do about what it finds."""

from usage_explore.doctor.examination import examine
from usage_explore.doctor.finding import Finding

__all__ = ["Finding", "examine"]
