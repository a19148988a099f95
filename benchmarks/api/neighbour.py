"""One tenant's requests, while another has forty datasets checked that each take the better part of a minute to read.

A round lasts about as long as one of these checks, and begins with all forty being completed at once; its first second is also
given by itself.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx

from api_schemas.enums import KeyScope
from benchmarks.api.connection import Connection
from benchmarks.api.load import Timed
from service.services import Services
from store.access import api_keys
from store.settings import Settings
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import maintenance_worker, service_process
from tests.support.uploads import dataset_files, declared, repeated_rows

HOSTILE = 40
ROUNDS = 2
CHECK = 6.0
"""A round, in times of `seconds`."""
FIRST_SECONDS = 1.0
PAUSE_SECONDS = 0.01
"""Between a request and the next: somebody who polls, not another who wants all there is."""
START_SECONDS = 60
PATHS = ("/v1/datasets", "/healthz")


def measure(folder: Path, broker_url: str, seconds: float) -> dict[str, Any]:
    """Latencies in milliseconds of each of PATHS, idle and beside the forty, in turn, CHECK times `seconds` each."""
    folder.mkdir(exist_ok=True)
    settings = Settings(data_dir=folder, broker_url=broker_url, auth="keys")
    found = {state: {path: Timed() for path in PATHS} for state in ("idle", "beside", "first")}
    with (
        service_process(settings, folder / "service.log", maintained=True) as client,
        maintenance_worker(settings, folder / "maintenance.log") as maintenance,
    ):
        wait_for(lambda: maintenance.ready, START_SECONDS, "maintenance")
        services = Services.of(settings)
        own, hostile = (_headers(services, tenant) for tenant in ("neighbour", "hostile"))
        client.headers = hostile
        _send(client, "/v1/datasets", dataset_files())
        data = {"train.parquet": repeated_rows()}
        for turn in range(ROUNDS + 1):
            addresses = [_send(client, "/v1/datasets", data) for _ in range(HOSTILE)]
            for state, completed in (("idle", []), ("beside", addresses)):
                lasts = CHECK * seconds if turn else FIRST_SECONDS
                times = asyncio.run(_ask(client.base_url.port or 0, own, hostile, completed, lasts))
                if turn:  # The first round only warms up.
                    for path, latencies in times.items():
                        found[state][path].latencies += [latency for _, latency in latencies]
                        if completed:
                            found["first"][path].latencies += [each for at, each in latencies if at < FIRST_SECONDS]
            for address in addresses:
                client.delete(address).raise_for_status()
        services.database.close()
    rows = {
        path: {
            f"{state}_{name}": times[path].percentile(share)
            for state, times in found.items()
            for name, share in (("p50_ms", 50), ("p99_ms", 99), ("most_ms", 100))
        }
        for path in PATHS
    }
    return {"rows": rows, "ratio": rows[PATHS[0]]["beside_p99_ms"] / rows[PATHS[0]]["idle_p99_ms"], "hostile": HOSTILE}


def _headers(services: Services, tenant: str) -> dict[str, str]:
    with services.database.write() as session:
        return {"authorization": f"Bearer {api_keys.create(session, tenant, None, tuple(KeyScope))[1]}"}


def _send(client: httpx.Client, path: str, files: dict[str, bytes]) -> str:
    """A dataset with all its files, not complete; its address. Bytes that are there already are not taken again."""
    made = client.post(path, json={"files": declared(files)}).raise_for_status()
    address = httpx.URL(made.headers["location"]).path
    for name, data in files.items():
        client.put(f"{address}/files/{name}", content=data).raise_for_status()
    return address


async def _ask(
    port: int, own: dict[str, str], hostile: dict[str, str], complete: list[str], seconds: float
) -> dict[str, list[tuple[float, float]]]:
    """When each request was sent and how long it took, in seconds, by path. All of `complete` are completed as it begins."""
    completing = [asyncio.create_task(_complete(port, hostile, address)) for address in complete]
    until = time.monotonic() + seconds
    loops = await asyncio.gather(*(_poll(port, own, path, until) for path in PATHS))
    for status in await asyncio.gather(*completing):
        if status != 202:
            raise RuntimeError(f"complete was answered {status}, not 202")
    return dict(zip(PATHS, loops, strict=True))


async def _complete(port: int, headers: dict[str, str], address: str) -> int:
    connection = await Connection.open(port)
    status = (await connection.ask("POST", f"{address}/complete", b"", **headers)).status
    connection.close()
    return status


async def _poll(port: int, headers: dict[str, str], path: str, until: float) -> list[tuple[float, float]]:
    connection, latencies, start = await Connection.open(port), [], time.monotonic()
    while (began := time.monotonic()) < until:
        status = (await connection.ask("GET", path, b"", **headers)).status
        if status != 200:
            raise RuntimeError(f"{path} was answered {status}")
        latencies.append((began - start, time.monotonic() - began))
        await asyncio.sleep(PAUSE_SECONDS)
    connection.close()
    return latencies
