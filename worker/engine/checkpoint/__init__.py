"""Checkpoints: reading inputs, cutting, writing results, and proving that they load."""
