"""Bring your own events: CSV, JSON Lines, Parquet and FOCUS exports into the events table, exactly."""

from usage_explore.load.focus import ORGANIZATION as FOCUS_ORGANIZATION
from usage_explore.load.report import FileReport, Rejection
from usage_explore.load.run import FORMATS, load_files

__all__ = ["FOCUS_ORGANIZATION", "FORMATS", "FileReport", "Rejection", "load_files"]
