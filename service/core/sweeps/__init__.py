"""Sweeps: planned, submitted, steered, and laid out as a table."""
