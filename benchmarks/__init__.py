"""Measurements that take longer than a test may. Each is a program: `python -m benchmarks.NAME --help`."""
