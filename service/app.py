"""The application: `uvicorn --factory service.app:create_app`. Settings come from the environment (store/settings.py)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from service import docs_page, openapi, problems
from service.body_limit import BodyLimit
from service.core.views import V1
from service.head import HeadAsGet
from service.routes import checkpoints, datasets, health, jobs, models, webhooks
from service.services import Services
from store.settings import Settings, get_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service over the database, artifacts and broker of `settings`; brings the schema up to date when it starts."""
    settings = settings or get_settings()
    services = Services.of(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(services.database.migrate)
        yield
        await run_in_threadpool(services.database.close)

    app = FastAPI(
        title=openapi.TITLE,
        version=version("secateur"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.add_middleware(BodyLimit, max_bytes=settings.max_json_bytes)
    app.add_middleware(HeadAsGet)
    v1 = APIRouter(prefix=V1)
    for router in (
        models.router,
        datasets.router,
        jobs.router,
        checkpoints.router,
        webhooks.router,
        health.limits_router,
    ):
        v1.include_router(router)
    app.include_router(v1)
    app.include_router(health.router)
    app.add_api_route("/", _home, include_in_schema=False)
    webhooks.describe_calls(app)
    openapi.install(app)
    docs_page.install(app)
    problems.install(app)
    return app


def _home() -> RedirectResponse:
    return RedirectResponse("/docs")
