"""The runtime that every part of the engine uses: determinism, memory, progress."""
