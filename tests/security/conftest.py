"""A service with keys that holds everything of one tenant, and keys of that tenant and of another, good and bad."""

import shutil
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import inspect, select, update
from starlette.testclient import TestClient

from api_schemas.enums import KeyScope
from service.app import create_app
from service.services import Services
from store.access import api_keys
from store.database.tables import ApiKey, Base
from store.settings import Settings
from tests.integration.service.conftest import claim, commit
from tests.support.checks import datasets_are_checked as datasets_are_checked
from tests.support.local import local_client
from tests.support.uploads import checkpoint_files, dataset_files, declared, send

OWNER, STRANGER = "owner", "stranger"
NOBODY_LISTENS = "127.0.0.1:9"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class House:
    """A data folder, what is in it by the name of the path parameter that asks for it, and tokens."""

    folder: Path
    ids: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    """Open ones, by the same names."""
    tokens: dict[str, str] = field(default_factory=dict)

    def settings(self, folder: Path) -> Settings:
        return Settings(
            data_dir=folder,
            broker_url="redis://127.0.0.1:1/0",
            auth="keys",
            outbound_test_target=NOBODY_LISTENS,
            refused_keys_per_minute=None,
        )


def token_of(services: Services, tenant: str, *scopes: KeyScope) -> str:
    with services.database.write() as session:
        return api_keys.create(session, tenant, None, scopes or tuple(KeyScope))[1]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def rows_of(services: Services, *tenants: str) -> dict[str, list[dict[str, Any]]]:
    """Everything the database keeps of them, but when keys were used and what is in the audit log."""
    with services.database.read() as session:
        return {
            mapper.class_.__tablename__: [
                {
                    column.key: getattr(row, column.key)
                    for column in inspect(mapper.class_).columns
                    if column.key != "last_used_at"
                }
                for row in session.scalars(
                    select(mapper.class_)
                    .where(mapper.class_.tenant.in_(tenants))
                    .order_by(*inspect(mapper.class_).primary_key)
                )
            ]
            for mapper in Base.registry.mappers
            # What finished jobs took is of a device, and nobody's.
            if mapper.class_.__tablename__ != "audit" and hasattr(mapper.class_, "tenant")
        }


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Made once; tests that change something work on copies."""
    folder = tmp_path_factory.mktemp("house")
    house = House(folder)
    app = create_app(house.settings(folder))
    services: Services = app.state.services
    with local_client(app) as client:
        house.tokens = {
            "own": token_of(services, OWNER),
            "foreign": token_of(services, STRANGER),
            "revoked": token_of(services, OWNER),
            "expired": token_of(services, OWNER),
        }
        _spoil(services, house.tokens)
        client.headers.update(bearer(house.tokens["own"]))
        _fill(client, house, services, folder)
    services.database.close()
    return house


def _spoil(services: Services, tokens: dict[str, str]) -> None:
    with services.database.write() as session:
        for name, column in (("revoked", "revoked_at"), ("expired", "expires_at")):
            key_id = f"key_{tokens[name].split('_')[1]}"
            session.execute(update(ApiKey).where(ApiKey.id == key_id).values({column: LONG_AGO + timedelta(days=1)}))


def _fill(client: TestClient, house: House, services: Services, folder: Path) -> None:
    files = {"models": checkpoint_files(), "datasets": dataset_files()}
    for kind, content in files.items():
        name = f"{kind[:-1]}_id"
        house.ids[name] = send(client, kind, content).json()["id"]
        house.uploads[name] = client.post(f"/v1/{kind}", json={"files": declared(content)}).json()["id"]
    begun = {"Tus-Resumable": "1.0.0", "Upload-Metadata": f"filename {b64encode(b'model.safetensors').decode()}"}
    begun["Upload-Length"] = str(len(files["models"]["model.safetensors"]))
    made = client.post(f"/v1/models/{house.uploads['model_id']}/uploads", headers=begun)
    house.ids["upload_id"] = made.json()["id"]
    body = {
        "model": {"type": "upload", "id": house.ids["model_id"]},
        "dataset": {"type": "upload", "id": house.ids["dataset_id"]},
        "pruning": {"target": {"attention_sparsity": 0.5}},
    }
    house.ids["job_id"] = client.post("/v1/jobs", json=body).json()["id"]
    lease = claim(services)
    commit(services, lease, 0, {"pruning.json": b"{}"}, folder)
    commit(services, lease, 1, {"model.safetensors": b"weights", "report.html": b"<p>report"}, folder)
    swept = {"model": body["model"], "dataset": body["dataset"], "specs": [{"pruning": body["pruning"]}]}
    house.ids["sweep_id"] = client.post("/v1/sweeps", json=swept).json()["id"]
    house.ids["key_id"] = client.post("/v1/keys", json={"scopes": ["jobs:read"]}).json()["id"]
    webhook = client.post("/v1/webhooks", json={"url": f"http://{NOBODY_LISTENS}/hook"})
    house.ids["webhook_id"] = webhook.json()["id"]
    ping = client.post(f"/v1/webhooks/{house.ids['webhook_id']}/ping")
    house.ids["delivery_id"] = ping.json()["id"]
    house.ids |= {"step": "1", "name": "model.safetensors", "number": "0"}


def copy_database(source: Path, target: Path) -> None:
    """Over one that may be in use."""
    with sqlite3.connect(source / "secateur.db") as here, sqlite3.connect(target / "secateur.db") as there:
        here.backup(there)


@pytest.fixture(scope="session")
def _copied(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    folder = shutil.copytree(house.folder, tmp_path_factory.mktemp("copied") / "house")
    app: FastAPI = create_app(house.settings(folder))
    with local_client(app, raise_server_exceptions=False) as client:
        yield client, folder


@pytest.fixture
def copy(house: House, _copied: tuple[TestClient, Path]) -> TestClient:
    """A client of a service over a copy of the house, as it was whatever earlier tests did to it, with no key."""
    client, folder = _copied
    copy_database(house.folder, folder)
    shutil.rmtree(folder / "artifacts")
    shutil.copytree(house.folder / "artifacts", folder / "artifacts")
    client.cookies.clear()
    return client


@pytest.fixture(scope="session")
def untouched(house: House) -> Iterator[TestClient]:
    """A client of a service over the house itself: for calls that must change nothing."""
    with local_client(create_app(house.settings(house.folder)), raise_server_exceptions=False) as client:
        yield client
