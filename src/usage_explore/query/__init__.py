"""Queries as values: parameters, validation, buckets, time windows, cursors, and their words."""

from usage_explore.query.queries import AggregateQuery, EventQuery, Period

__all__ = ["AggregateQuery", "EventQuery", "Period"]
