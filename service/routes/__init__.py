"""The calls, one file a resource: parse, call core, answer."""
