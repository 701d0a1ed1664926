"""Bring your own events: files as people export them, into the events table, exactly."""

from usage_explore.load.check import FileCheck, check_file
from usage_explore.load.identifiers import LOCAL_ORGANIZATION
from usage_explore.load.report import FileReport, Rejection, app_links
from usage_explore.load.run import FORMATS, LoadOptions, load_files

FOCUS_ORGANIZATION = LOCAL_ORGANIZATION
"""The organization of files that name none, by its former name."""

__all__ = [
    "FOCUS_ORGANIZATION",
    "FORMATS",
    "LOCAL_ORGANIZATION",
    "FileCheck",
    "FileReport",
    "LoadOptions",
    "Rejection",
    "app_links",
    "check_file",
    "load_files",
]
