"""A broker and databases for whole worker processes."""

from tests.support.servers.databases import migrated_template, postgres_database, postgres_url  # noqa: F401
