"""API keys, sessions, quotas, idempotency keys, and the audit log."""
