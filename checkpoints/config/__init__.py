"""config.json and a preprocessor's settings, checked field by field: only what is on a list is accepted."""
