"""From measured cells to tables, intervals and the picture."""
