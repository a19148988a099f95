"""Jobs: their state machine, and everything that is stored about them."""
