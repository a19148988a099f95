"""Uploads: declared, sent at once or in pieces, checked, and completed."""
