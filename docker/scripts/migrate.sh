#!/usr/bin/env bash
# Brings the database named by SECATEUR_DATABASE_URL to the newest schema. Safe to run twice, and at once.
set -euo pipefail

exec python -c '
from store.database.connection import Database
from store.settings import get_settings

database = Database(get_settings().database_url)
database.migrate()
database.close()
print("the database is at the newest schema")
'
