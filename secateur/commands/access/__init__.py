"""Access and notifications: signing in, keys, webhooks, the audit log."""
