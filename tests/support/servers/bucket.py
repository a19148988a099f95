"""A bucket on loopback, by moto's server."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import httpx
import obstore
from moto.server import ThreadedMotoServer
from obstore.store import from_url


@dataclass(frozen=True)
class Bucket:
    url: str
    options: dict[str, str]
    client_options: ClassVar[dict[str, bool]] = {"allow_http": True}

    def put(self, folder: str, files: Mapping[str, bytes]) -> None:
        store = from_url(self.url, config=self.options, client_options=self.client_options)
        for name, data in files.items():
            obstore.put(store, f"{folder}/{name}", data)

    @property
    def setting(self) -> str:
        """`model_buckets` that calls it `models`."""
        return json.dumps({"models": {"url": self.url, "options": self.options, "client_options": self.client_options}})


@contextmanager
def bucket_server() -> Iterator[Bucket]:
    """An empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    options = {
        "aws_access_key_id": "testing",
        "aws_secret_access_key": "testing",
        "aws_endpoint": endpoint,
        "aws_region": "us-east-1",
    }
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"}
    try:
        httpx.put(f"{endpoint}/bucket", headers=signed).raise_for_status()
        yield Bucket("s3://bucket", options)
    finally:
        server.stop()
