"""What the command line shows: consoles, tables, progress bars, numbers as people write them."""
