"""The `secateur` command: the whole service on one machine (`up`), and the engine alone (`prune`)."""
