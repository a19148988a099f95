"""What the service and the worker share: tables and the job state machine, artifacts, outbox, broker settings.

Never imports torch, the service or the worker.
"""
