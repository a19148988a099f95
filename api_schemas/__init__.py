"""The contract: pydantic models and enums of every request, response, event, spec and error.

Imports nothing local and nothing beyond pydantic and the standard library, so that the API (without torch), the worker,
the engine, the client and the command line can all share it.
"""
