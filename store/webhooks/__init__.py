"""Webhooks, and the deliveries on their way to them."""
