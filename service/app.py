"""The application: `uvicorn --factory service.app:create_app --http service.middleware.slow_clients:BoundedProtocol --ws none`.

Settings come from the environment (store/settings.py).
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool

from api_schemas.freed_memory import return_blocks
from service import dependencies, metrics, problems, server_logs
from service.middleware.authentication import Authenticate
from service.middleware.body_limit import BodyLimit
from service.middleware.head import HeadAsGet
from service.middleware.hosts import KnownHosts
from service.middleware.request_log import RequestLog
from service.middleware.request_shape import RequestShape
from service.openapi import docs_page, document
from service.page.answers import PageAnswers
from service.page.routers import install as install_page
from service.paths import V1
from service.routes import (
    api_keys,
    audit,
    checkpoints,
    datasets,
    events,
    health,
    jobs,
    models,
    resumable,
    samples,
    sweeps,
    webhooks,
    workers,
)
from service.services import Services
from service.shutdown import on_shutdown
from store import tracing
from store.settings import Settings, get_settings

SWITCH_SECONDS = 0.001
RETURNED = 1 << 20
"""Bytes from which on a block of memory goes back to the system once it is freed: pieces of uploads are larger."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service over the database, artifacts and broker of `settings`; brings the schema up to date when it starts."""
    settings = settings or get_settings()
    services = Services.of(settings)

    registry = CollectorRegistry()
    registry.register(metrics.QueueMetrics(services.database, settings))
    server_logs.configure(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # A request goes from the event loop to threads and back several times, and waits this long at each where others compute.
        sys.setswitchinterval(SWITCH_SECONDS)
        return_blocks(RETURNED)
        await run_in_threadpool(services.database.migrate)
        tracing.start("api")
        # A server waits for its answers before it ends, and a stream is one that lasts as long as its job.
        with metrics.served(settings, registry), on_shutdown(services.streams.close):
            yield
        await run_in_threadpool(services.database.close)
        await run_in_threadpool(tracing.stop)

    app = FastAPI(
        title=document.TITLE,
        version=version("secateur"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(dependencies.well_formed)],
    )
    app.state.services = services
    # The last one added is the first to see a request.
    app.add_middleware(BodyLimit, max_bytes=settings.max_json_bytes)
    app.add_middleware(RequestShape)
    app.add_middleware(Authenticate, services=services)
    app.add_middleware(KnownHosts, settings=settings)
    app.add_middleware(PageAnswers)
    app.add_middleware(RequestLog, application=app, metrics=metrics.HttpMetrics(registry))
    app.add_middleware(HeadAsGet)
    # Routes are looked through in turn, and jobs are asked for most.
    v1_routers = (
        *(jobs.router, events.router, checkpoints.router, models.router, datasets.router, resumable.router),
        samples.router,
        *(sweeps.router, webhooks.router, api_keys.router, audit.router, workers.router, health.limits_router),
    )
    # Each by itself: FastAPI works out every route again for each router that stands around it.
    for router in v1_routers:
        app.include_router(router, prefix=V1)
    app.include_router(health.router)
    install_page(app)
    webhooks.describe_calls(app)
    docs_page.install(app)
    problems.install(app)
    # Last, so that no route is added unseen.
    document.install(app, settings, tuple(dependencies.declared(app)))
    return app
