"""The API beside the least that could do the same work: submitting and polling, large files, many event streams; and one
tenant's requests beside another's forty datasets that take long to check.

    python -m benchmarks.api [--seconds 10] [--gib 2] [--streams 1000] [--out docs/results/api.md]

Loopback only. Ours and a bare FastAPI with the same kind of database, the same disk and one process each are asked in turn in one
run; the client shares the machine with both. The last line of output is JSON.
"""

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.api import neighbour
from benchmarks.api.connection import Answer, Connection
from benchmarks.api.fixtures import Fixtures
from benchmarks.api.load import Timed, in_turn
from benchmarks.api.page import page
from benchmarks.api.servers import BOUNDED, Server, serving
from benchmarks.api.streams import listen
from benchmarks.api.transfer import Weights, download, upload, upload_in_pieces
from tests.support.servers.databases import valkey_server

GOALS = {
    "polling": 0.5,
    "p99": 5.0,
    "transfer": 0.6,
    "growth_mib": 64.0,
    "streams": 1000,
    "neighbour": 2.0,
    "health_ms": 100.0,
}
ROUNDS = 3
TRANSFERS = 3
LIMIT_SECONDS = 60.0
"""An event has to have reached every stream by then."""


async def requests(ours: Server, bare: Server, fixtures: Fixtures, seconds: float) -> dict[str, Any]:
    """Jobs submitted and polled a second, and the slowest of a hundred."""
    body = json.dumps(fixtures.job).encode()
    made = {}
    for server, path in ((ours, "/v1/jobs"), (bare, "/jobs")):
        made[server.port] = f"{path}/{(await _ask(server, 'POST', path, fixtures.job)).json()['id']}"

    async def poll(connection: Connection, path: str) -> int:
        return (await connection.ask("GET", path)).status

    async def submit(connection: Connection, path: str) -> int:
        return (await connection.ask("POST", path, body, content_type="application/json")).status

    polled = await in_turn(
        {
            "ours": (ours.port, lambda connection: poll(connection, made[ours.port])),
            "bare": (bare.port, lambda connection: poll(connection, made[bare.port])),
        },
        200, ROUNDS, seconds,
    )  # fmt: skip
    submitted = await in_turn(
        {
            "ours": (ours.port, lambda connection: submit(connection, "/v1/jobs")),
            "bare": (bare.port, lambda connection: submit(connection, "/jobs")),
        },
        202, ROUNDS, seconds,
    )  # fmt: skip
    return {"poll": _beside(polled), "submit": _beside(submitted)}


def _beside(found: dict[str, Timed]) -> dict[str, Any]:
    rows = {
        name: {"per_second": timed.per_second, "p50_ms": timed.percentile(50), "p99_ms": timed.percentile(99)}
        for name, timed in found.items()
    }
    return {
        **rows,
        "throughput": rows["ours"]["per_second"] / rows["bare"]["per_second"],
        "p99": rows["ours"]["p99_ms"] / rows["bare"]["p99_ms"],
    }


async def _ask(server: Server, method: str, path: str, body: Any = None) -> Answer:
    """Over a connection of its own: between large files a kept one would be closed as idle."""
    connection = await Connection.open(server.port)
    data = b"" if body is None else json.dumps(body).encode()
    answer = await connection.ask(method, path, data, content_type="application/json")
    connection.close()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path} answered {answer.status}: {answer.body[:300]!r}")
    return answer


async def transfers(ours: Server, bare: Server, fixtures: Fixtures, size: int) -> dict[str, Any]:
    """Up and down, ours and bare in turn; the best time of each, since a disk has other things to do."""
    weights = Weights(size)
    up: dict[str, list[float]] = {"ours": [], "bare": []}
    down: dict[str, list[float]] = {"ours": [], "bare": []}
    pieces: dict[str, list[float]] = {"ours": [], "bare": up["bare"]}
    growth = {"up": 0.0, "pieces": 0.0, "down": 0.0}
    for _ in range(TRANSFERS):
        declared = fixtures.declaration(weights)
        made = await _ask(ours, "POST", "/v1/models", declared)
        place = f"/v1/models/{made.json()['id']}"
        found = await upload(ours, f"{place}/files/model.safetensors", weights)
        up["ours"].append(found.seconds)
        growth["up"] = max(growth["up"], found.growth_mib)
        up["bare"].append((await upload(bare, "/files/large", weights)).seconds)
        await _ask(ours, "DELETE", place)
        made = await _ask(ours, "POST", "/v1/models", declared)
        place = f"/v1/models/{made.json()['id']}"
        found = await upload_in_pieces(ours, f"{place}/uploads", weights)
        pieces["ours"].append(found.seconds)
        growth["pieces"] = max(growth["pieces"], found.growth_mib)
        await _ask(ours, "DELETE", place)
    path = await asyncio.to_thread(fixtures.large_step, weights)
    for _ in range(TRANSFERS):
        found = await download(ours, path, size)
        down["ours"].append(found.seconds)
        growth["down"] = max(growth["down"], found.growth_mib)
        down["bare"].append((await download(bare, "/files/large", size)).seconds)
    rate = {
        way: {name: size / min(seconds) / 2**20 for name, seconds in found.items()}
        for way, found in (("up", up), ("pieces", pieces), ("down", down))
    }
    return {
        way: {**rate[way], "share": rate[way]["ours"] / rate[way]["bare"], "growth_mib": growth[way]}
        for way in ("up", "pieces", "down")
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, as JSON."""
    began = time.monotonic()
    with ExitStack() as scope:
        folder = Path(scope.enter_context(tempfile.TemporaryDirectory(prefix="api-", dir=arguments.folder)))
        fixtures = Fixtures(folder, scope.enter_context(valkey_server()))
        ours = scope.enter_context(
            serving("service.app:create_app", fixtures.environment, folder / "ours.log", *BOUNDED)
        )
        bare_environment = {"BARE_DATABASE": f"sqlite:///{folder}/bare.db", "BARE_FOLDER": str(folder / "bare")}
        bare = scope.enter_context(serving("benchmarks.api.bare:create_app", bare_environment, folder / "bare.log"))
        fixtures.fill(ours.url)
        found = asyncio.run(requests(ours, bare, fixtures, arguments.seconds))
        found["transfer"] = asyncio.run(transfers(ours, bare, fixtures, 4 * int(arguments.gib * 2**28)))
        jobs = fixtures.queue(10)
        found["streams"] = vars(asyncio.run(listen(ours, jobs, arguments.streams, LIMIT_SECONDS)))
        found["neighbour"] = neighbour.measure(
            folder / "neighbour", scope.enter_context(valkey_server()), arguments.seconds
        )
    found["goals"] = {
        "polling": found["poll"]["throughput"] >= GOALS["polling"],
        "p99": found["poll"]["p99"] < GOALS["p99"],
        "transfer": min(found["transfer"][way]["share"] for way in ("up", "down")) >= GOALS["transfer"],
        "growth": max(found["transfer"][way]["growth_mib"] for way in ("up", "pieces", "down")) < GOALS["growth_mib"],
        "streams": found["streams"]["reached"] >= min(GOALS["streams"], arguments.streams),
        "neighbour": found["neighbour"]["ratio"] < GOALS["neighbour"],
        "health": found["neighbour"]["rows"]["/healthz"]["beside_p99_ms"] < GOALS["health_ms"],
    }
    return {**found, "gib": arguments.gib, "seconds": round(time.monotonic() - began)}


def main() -> int:
    """Prints a page and JSON; returns 1 where a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round of requests to one server")
    parser.add_argument("--gib", type=float, default=2.0, help="size of the large file")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where files are kept meanwhile (three times their size)")
    parser.add_argument("--out", type=Path, help="the page to write")
    arguments = parser.parse_args()
    found = measure(arguments)
    text = page(found)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
        arguments.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))
    return 0 if all(found["goals"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
