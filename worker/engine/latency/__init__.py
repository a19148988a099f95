"""How long a model takes: forward passes timed in turn, and the table that latency targets look up."""
