"""Several processes that do one job's work together (docs/adr/0049-several-processes.md)."""
