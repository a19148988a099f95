"""Jobs: accepted only if they can run, estimated, read, and their downloads."""
