"""Connections, DDL, the embedded server, and what each kind of server needs: TimescaleDB, Citus, plain PostgreSQL."""

from usage_explore.db.storage_options import NONE_ASKED, Wishes

__all__ = ["NONE_ASKED", "Wishes"]
