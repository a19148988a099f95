"""The calls of the client, grouped by resource: `client.jobs`, `client.models`, `client.keys` and so on."""
