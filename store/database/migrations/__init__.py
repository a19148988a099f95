"""Alembic migrations, the same for SQLite and PostgreSQL; run by `Database.migrate`."""
