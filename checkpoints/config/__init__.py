"""config.json and preprocessor settings, checked field by field: unlisted fields are dropped, and code is refused."""
