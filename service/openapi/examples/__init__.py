"""Examples of every request and answer for the OpenAPI document; tests hold them against the models."""
