"""What a user asks for: model and data, pruning, recovery, limits."""
