"""Examples of every request and response for the OpenAPI document; tests validate them against the models."""
