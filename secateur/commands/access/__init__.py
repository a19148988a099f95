"""Who may do what, and who is told: signing in, keys, webhooks, the audit log."""
