"""What each kind of server needs beyond the table itself: TimescaleDB, Citus, plain PostgreSQL."""

from usage_explore.db.storage_options import NONE_ASKED, Wishes

__all__ = ["NONE_ASKED", "Wishes"]
