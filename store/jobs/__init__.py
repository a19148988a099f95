"""Jobs: their state machine, and everything that is kept of them."""
