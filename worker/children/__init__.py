"""Child processes of the worker, in their cages: the engine, and what reads datasets of the hub."""
