"""The extract: a columnar copy of one organization's events on the machine that asks, read by DuckDB in the process."""
