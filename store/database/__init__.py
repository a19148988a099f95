"""The database: connection, tables, migrations, and what every query uses."""
