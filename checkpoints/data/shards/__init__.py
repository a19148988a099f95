"""Parquet shards beside one another: columns, types, rows."""
