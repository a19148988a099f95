"""Checkpoints: reading what came, cutting it, writing what goes back, and proving that it loads."""
