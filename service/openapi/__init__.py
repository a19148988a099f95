"""The OpenAPI document and its pages: texts, and examples of every request and response."""
