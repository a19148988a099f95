"""The API under load, beside the least that could do the same work (`python -m benchmarks.api`)."""
