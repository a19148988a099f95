"""Jobs: accepted only if they can run, estimated, found again, and what is downloaded of them."""
