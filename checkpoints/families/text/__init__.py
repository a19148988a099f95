"""Text encoder families."""
