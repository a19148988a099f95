"""HTTP: connections, retries, responses and errors, each call of the API, streamed events."""
