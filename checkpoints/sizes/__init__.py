"""Parameters, FLOPs and bytes of a model from its widths, and the quantities that determine a job's time and memory."""
