"""HTTP: connections, retries, answers and errors, each call of the API, events as they are streamed."""
