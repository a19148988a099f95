"""Programs for the operator, beside the server."""
