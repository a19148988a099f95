"""Families that look at images."""
