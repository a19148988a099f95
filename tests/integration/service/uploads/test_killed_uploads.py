"""An API that is killed while a file comes in pieces: at most LOST bytes of what it had taken have to be sent again."""

import socket
from pathlib import Path

from benchmarks.api.transfer import Weights
from store.settings import Settings
from tests.integration.service.uploads.test_resumable import NAME, TUS, begun, offset_of, send
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import service_process
from tests.support.uploads import checkpoint_files, declared

LOST = 4 * 2**20
"""As docs/howto/resumable-uploads.md promises."""
WEIGHTS = Weights(24 * 2**20)
CAME = 18 * 2**20 + 12_345


def test_what_has_come_is_kept_when_the_api_is_killed(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", broker_url="redis://127.0.0.1:1/0")
    data = b"".join(WEIGHTS.chunks())
    files = declared({name: content for name, content in checkpoint_files().items() if name != NAME})
    files.append({"name": NAME, "size": WEIGHTS.size, "sha256": WEIGHTS.sha256})
    with service_process(settings, tmp_path / "log") as client:
        address = client.post("/v1/models", json={"files": files}).headers["location"]
        place = begun(client, address, NAME, WEIGHTS.size)
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as connection:
            headers = TUS | {
                "Host": "127.0.0.1",
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": "0",
            }
            lines = [f"PATCH {place} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
            lines.append(f"Content-Length: {WEIGHTS.size}")
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + data[:CAME])
            # The request stays open, as one whose bytes are on their way.
            wait_for(lambda: offset_of(client, place) >= CAME - LOST, 60, "what came is kept")
            # Killed when the block ends.
    with service_process(settings, tmp_path / "log") as client:
        kept = offset_of(client, place)
        assert CAME - LOST <= kept <= CAME
        assert send(client, place, kept, data[kept:]).status_code == 204
        assert offset_of(client, place) == WEIGHTS.size
        assert [file for file in client.get(address).json()["files"] if file["uploaded"]] == [
            {**files[-1], "uploaded": True}
        ]
