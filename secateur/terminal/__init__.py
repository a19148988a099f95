"""Terminal output: consoles, tables, progress bars, human-readable numbers."""
