"""Bring your own events: files as people export them, into the events table, exactly."""

from usage_explore.load.check import FileCheck, check_file
from usage_explore.load.prepared import FORMATS, LoadOptions
from usage_explore.load.report import FileReport, Rejection, app_links, loaded_queries
from usage_explore.load.run import load_files
from usage_explore.names import LOCAL_ORGANIZATION

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
    "loaded_queries",
]
