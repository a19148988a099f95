"""What a spec can reach on a model, step by step, before anything is scored."""
