"""Holding a job: the heartbeat that renews its lease, and waiting for services that are temporarily down."""
