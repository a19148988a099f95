"""config.json and a preprocessor's settings, checked field by field: what is on no list is left out, and code is refused."""
