"""Holding a job: the heartbeat that renews its lease, and waiting out what is away meanwhile."""
