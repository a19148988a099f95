"""The supervisor of the engine: claims a job, keeps its lease, runs the engine, publishes its steps."""
