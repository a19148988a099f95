"""What the command line shows: consoles, words, tables and bars."""
