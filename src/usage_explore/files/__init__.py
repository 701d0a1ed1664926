"""Readers of file formats: CSV, JSON Lines, Parquet, as streams of records."""
