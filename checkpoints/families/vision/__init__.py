"""Vision families."""
