"""Several processes that compute one job together (docs/adr/0049-several-processes.md)."""
