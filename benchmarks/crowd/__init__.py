"""A database that a crowd has filled, and what every call and every periodic task asks of it: `python -m benchmarks.crowd`."""
