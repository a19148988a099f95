"""What every call needs: settings, database, artifacts, made once a process, and who calls. Handed to routes as a dependency."""

import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from service.caller import ANYBODY, Caller
from store.artifacts import Artifacts
from store.database import Database
from store.settings import Settings


@dataclass(frozen=True)
class Services:
    """Safe to share between threads."""

    settings: Settings
    database: Database
    artifacts: Artifacts
    waking: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one thread that publishes: a broker that does not answer costs no more than that one."""
    wake_wanted: threading.Event = field(default_factory=threading.Event)
    caller: Caller = ANYBODY
    """Of the request that these are handed to."""

    @classmethod
    def of(cls, settings: Settings) -> "Services":
        return cls(settings, Database(settings.database_url), Artifacts(settings.artifacts_url))

    @property
    def tenant(self) -> str:
        """Whose rows the request may reach."""
        return self.caller.tenant


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


With = Annotated[Services, Depends(_services)]
