"""A client of the service in this process, as one on the same machine: a service without keys answers to no other."""

from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient


def local_client(app: FastAPI, **options: Any) -> TestClient:
    """Options are TestClient's."""
    return TestClient(app, **{"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 50000)} | options)
