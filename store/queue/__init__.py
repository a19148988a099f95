"""The broker, and the outbox that keeps messages until they are published."""
