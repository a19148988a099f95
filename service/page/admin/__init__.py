"""Pages for administrators: keys, webhooks, the audit log and quotas. Some of them are open to every key."""
