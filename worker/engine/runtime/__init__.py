"""What every part of the engine runs on: determinism, memory, progress."""
