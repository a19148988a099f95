"""Programs beside the server, for its operator."""
