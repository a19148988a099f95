"""The worker: Celery app, supervisor, maintenance; and the pruning engine, a program of its own."""
