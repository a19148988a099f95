"""What every call needs: settings, database, artifacts, made once a process, and who calls. Handed to routes as a dependency."""

import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from service.caller import ANYBODY, Caller
from service.event_streams import EventStreams
from store.artifacts import Artifacts
from store.database import Database
from store.settings import Settings


@dataclass(frozen=True)
class Services:
    """Safe to share between threads."""

    settings: Settings
    database: Database
    artifacts: Artifacts
    streams: EventStreams
    """Of events; used on the event loop alone."""
    waking: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one thread that publishes: a broker that does not answer costs no more than that one."""
    wake_wanted: threading.Event = field(default_factory=threading.Event)
    caller: Caller = ANYBODY
    """Of the request that these are handed to."""

    @classmethod
    def of(cls, settings: Settings) -> "Services":
        database = Database(settings.database_url)
        return cls(settings, database, Artifacts(settings.artifacts_url), EventStreams(settings, database))

    @property
    def tenant(self) -> str:
        """Whose rows the request may reach."""
        return self.caller.tenant


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


With = Annotated[Services, Depends(_services)]
