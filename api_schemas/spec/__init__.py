"""The request of a job: model and data, pruning, recovery, limits."""
