"""Connections, DDL, the embedded server, and the kinds of server: PostgreSQL, TimescaleDB, Citus."""

from usage_explore.db.schema import DEFAULT_STORAGE, StorageOptions

__all__ = ["DEFAULT_STORAGE", "StorageOptions"]
