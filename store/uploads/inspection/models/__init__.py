"""Uploaded checkpoints: their files, their settings, their weights."""
