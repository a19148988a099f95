"""What several commands use: options, the session with a service, exit statuses, completion."""
