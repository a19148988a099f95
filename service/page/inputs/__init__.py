"""Pages of what jobs are made of: models, datasets, and which checkpoint came from which."""
