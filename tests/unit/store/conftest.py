"""Databases on both servers."""

from tests.support.stack import (  # noqa: F401
    database,
    migrated_template,
    postgres_database,
    postgres_url,
    sqlite_database,
    valkey_url,
)
