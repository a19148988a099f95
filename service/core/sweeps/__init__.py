"""Sweeps: planned, submitted, controlled, and shown as a table."""
