"""The Python client, written once as coroutines and run with or without an event loop (docs/adr/0017-one-client-twice.md)."""
