"""Pages of a job's inputs: models, datasets, and the lineage of checkpoints."""
