"""What a job costs beside the engine's own work: `python -m benchmarks.overhead`."""
