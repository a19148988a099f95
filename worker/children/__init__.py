"""Child processes of the worker in their sandboxes: the engine, and the reader of hub datasets."""
