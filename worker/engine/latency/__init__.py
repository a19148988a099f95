"""Latency: forward passes timed in turn, and the table used for latency targets."""
