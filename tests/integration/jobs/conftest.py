"""A broker and databases for whole worker processes."""

from tests.support.stack import migrated_template, postgres_database, postgres_url  # noqa: F401
