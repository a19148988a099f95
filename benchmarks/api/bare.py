"""What the API is measured against: the same database and disk with nothing around them.

`uvicorn --factory benchmarks.api.bare:create_app`, with BARE_DATABASE (a URL) and BARE_FOLDER in the environment. A job is a row
with its JSON, written and read through SQLAlchemy's Core; a file is streamed to disk, hashed and flushed; it is read back as
Starlette reads files. No validation beyond JSON, no tenants, no states.
"""

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, HTTPException, Request, Response
from sqlalchemy import Column, MetaData, String, Table, Text, insert, select
from starlette.responses import FileResponse

from store.database.connection import Database

JOBS = Table("bare_jobs", MetaData(), Column("id", String(32), primary_key=True), Column("body", Text))


def create_app() -> FastAPI:
    """Made by uvicorn."""
    database = Database(os.environ["BARE_DATABASE"])
    folder = Path(os.environ["BARE_FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    with database.write() as session:
        JOBS.create(session.connection(), checkfirst=True)
    app = FastAPI()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/jobs", status_code=202)
    def create(body: dict[str, Any]) -> dict[str, Any]:
        made = {"id": secrets.token_hex(13), **body}
        with database.write() as session:
            session.execute(insert(JOBS).values(id=made["id"], body=json.dumps(made)))
        return made

    @app.get("/jobs/{job_id}")
    def read(job_id: str) -> Response:
        with database.read() as session:
            found = session.scalar(select(JOBS.c.body).where(JOBS.c.id == job_id))
        if found is None:
            raise HTTPException(404)
        return Response(found, media_type="application/json")

    @app.put("/files/{name}")
    async def put(name: str, request: Request) -> dict[str, str]:
        digest = hashlib.sha256()
        async with await anyio.open_file(folder / name, "wb") as file:
            async for chunk in request.stream():
                digest.update(chunk)
                await file.write(chunk)
            await file.flush()
            await anyio.to_thread.run_sync(os.fsync, file.wrapped.fileno())
        return {"sha256": digest.hexdigest()}

    @app.get("/files/{name}")
    def get(name: str) -> FileResponse:
        return FileResponse(folder / name)

    return app
