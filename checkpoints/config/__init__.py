"""config.json and a preprocessor's settings, judged key by key: only what is on a list is accepted."""
