"""Stored bytes: the artifact store, the buckets that models are read from, and what is removed when."""
