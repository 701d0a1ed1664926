"""Readers of file formats: CSV, JSON, Parquet, Excel workbooks, in gzip or ZIP too, as streams of records."""
