"""Results of statements: data types, pandas frames, Arrow columns, CSV and Parquet."""
