"""Adds all routes of the page to the application."""

from fastapi import FastAPI

from service.page import compare, job, jobs, new, reach, signing_in, static_files, step, sweeps, workers
from service.page.admin import audit, keys, limits, webhooks
from service.page.inputs import datasets, lineage, models


def install(app: FastAPI) -> None:
    """Serve the page at `/` and below."""
    for router in (
        static_files.router,
        jobs.router,
        job.router,
        step.router,
        new.router,
        reach.router,
        models.router,
        datasets.router,
        lineage.router,
        workers.router,
        compare.router,
        sweeps.router,
        keys.router,
        webhooks.router,
        audit.router,
        limits.router,
        signing_in.router,
    ):
        app.include_router(router)
