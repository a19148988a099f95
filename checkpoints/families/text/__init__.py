"""Families that read texts."""
