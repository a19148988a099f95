"""What the service and the worker share: records and their state machine, artifacts, outbox, broker settings.

Imports `api_schemas` only; never torch, never the service or the worker.
"""
