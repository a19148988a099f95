"""Stored bytes: the artifact store, the buckets that models are read from, and the removal of objects that no row references."""
