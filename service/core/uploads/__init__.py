"""Uploads: announced, filled at once or in pieces, judged, and complete."""
