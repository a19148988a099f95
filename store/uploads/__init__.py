"""Uploads of models and datasets, whole or in pieces, and their inspection."""
