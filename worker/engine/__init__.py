"""The pruning engine: files in, files out. Pure torch; no HTTP, no database, no Celery."""
