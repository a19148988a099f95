"""Parameters, FLOPs and bytes of a model by its widths, and what the work of a job is proportional to."""
