"""Resumable uploads, by the letter of tus 1.0.0: what is kept, what goes on, and what is refused with nothing left behind."""

import asyncio
import base64
import hashlib
import pickle
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import pairwise

import pytest
from httpx import Response
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from api_schemas.errors import SecateurError
from service.core.uploads import resumable
from service.services import Services
from store import retention
from store.files import orphans
from tests.integration.service.conftest import problem
from tests.integration.service.uploads.test_uploads import declare, stored
from tests.support.uploads import checkpoint_files, dataset_files, sentence_files

TUS = {"Tus-Resumable": "1.0.0"}
NAME = "model.safetensors"


@pytest.fixture
def files() -> dict[str, bytes]:
    return checkpoint_files()


def create(client: TestClient, address: str, name: str, size: int) -> Response:
    encoded = base64.b64encode(name.encode()).decode()
    headers = TUS | {"Upload-Length": str(size), "Upload-Metadata": f"filetype YQ==,filename {encoded}"}
    return client.post(f"{address}/uploads", headers=headers)


def begun(client: TestClient, address: str, name: str, size: int) -> str:
    answer = create(client, address, name, size)
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-offset"] == "0"
    return str(answer.headers["location"])


def send(client: TestClient, place: str, offset: int, data: bytes | Iterable[bytes], **headers: str) -> Response:
    kind = {"Content-Type": "application/offset+octet-stream"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.patch(place, headers=TUS | kind | {"Upload-Offset": str(offset)} | named, content=data)


def offset_of(client: TestClient, place: str) -> int:
    answer = client.head(place, headers=TUS)
    assert (answer.status_code, answer.headers["cache-control"], answer.content) == (200, "no-store", b"")
    assert answer.headers["tus-resumable"] == "1.0.0"
    return int(answer.headers["upload-offset"])


def checksum(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_an_upload_in_pieces_is_as_good_as_one_at_once(
    client: TestClient, services: Services, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "PIECE", 1000)
    files = checkpoint_files() if kind == "models" else dataset_files()
    address = declare(client, files, kind)
    for name, data in files.items():
        place = begun(client, address, name, len(data))
        cuts = sorted({0, min(3, len(data)), len(data) // 3, len(data) // 2 + 1, len(data)})
        for start, end in pairwise(cuts):
            answer = send(client, place, start, data[start:end])
            assert answer.headers["upload-expires"] == client.head(place, headers=TUS).headers["upload-expires"]
            assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end)), answer.text
            assert offset_of(client, place) == end
        seen = client.get(place).json()
        assert (seen["upload"], seen["name"]) == (address.rpartition("/")[2], name)
        assert seen["size"] == seen["offset"] == len(data)
    assert client.post(f"{address}/complete").json()["state"] == "ready"
    assert len(stored(services)) == len(files)  # The pieces are gone.


def test_the_protocol_says_what_it_can(client: TestClient, services: Services) -> None:
    answer = client.options("/v1/uploads")
    assert (answer.status_code, answer.headers["tus-version"]) == (204, "1.0.0")
    assert answer.headers["tus-extension"] == "creation,checksum,expiration,termination"
    assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"
    assert answer.headers["tus-max-size"] == str(services.settings.max_file_bytes)


def test_another_version_is_refused_before_anything_is_done(client: TestClient, files: dict[str, bytes]) -> None:
    address = declare(client, files)
    refused = client.post(f"{address}/uploads", headers={"Tus-Resumable": "0.2.2", "Upload-Length": "1"})
    problem(refused, 412, "tus_version")
    assert refused.headers["tus-version"] == "1.0.0"
    place = begun(client, address, NAME, len(files[NAME]))
    problem(client.patch(place, content=b"x"), 412, "tus_version")
    problem(client.delete(place), 412, "tus_version")
    assert client.head(place).status_code == 412
    assert offset_of(client, place) == 0


def test_a_file_in_a_folder_comes_in_pieces(client: TestClient) -> None:
    files, name = sentence_files(), "1_Pooling/config.json"
    address = declare(client, files)
    place = begun(client, address, name, len(files[name]))
    assert send(client, place, 0, files[name][:5]).status_code == 204
    assert [each["name"] for each in client.get(f"{address}/uploads").json()["items"]] == [name]
    assert send(client, place, 5, files[name][5:]).headers["upload-offset"] == str(len(files[name]))
    assert {file["name"] for file in client.get(address).json()["files"] if file["uploaded"]} == {name}
    problem(create(client, address, "1_Pooling/../config.json", 1), 422, "file_unexpected")


def test_what_cannot_be_begun(client: TestClient, files: dict[str, bytes]) -> None:
    address, size = declare(client, files), len(files[NAME])
    problem(create(client, address, "other.safetensors", 1), 422, "file_unexpected")
    problem(create(client, address, "../config.json", 1), 422, "file_unexpected")
    problem(create(client, address, NAME, size + 1), 422, "checksum_mismatch")
    problem(create(client, "/v1/models/mdl_" + "a" * 26, NAME, size), 404, "not_found")
    for metadata in ("", "filename", "filename ??", "name bW9kZWw="):
        headers = TUS | {"Upload-Length": str(size), "Upload-Metadata": metadata}
        problem(client.post(f"{address}/uploads", headers=headers), 422, "invalid_request")
    for length in ("-1", "many", str(10**30)):
        headers = TUS | {"Upload-Length": length, "Upload-Metadata": "filename YQ=="}
        answer = client.post(f"{address}/uploads", headers=headers)
        problem(answer, 422, "invalid_request")
        assert answer.headers["tus-resumable"] == "1.0.0"


def test_a_wrong_offset_says_the_right_one(client: TestClient, files: dict[str, bytes]) -> None:
    data = files[NAME]
    place = begun(client, declare(client, files), NAME, len(data))
    assert send(client, place, 0, data[:100]).status_code == 204
    for offset in (0, 99, 101, len(data)):
        assert "Continue at 100" in problem(send(client, place, offset, data[100:200]), 409, "upload_offset")["detail"]
    assert offset_of(client, place) == 100


def test_a_body_of_another_type_or_too_long_is_not_taken(client: TestClient, files: dict[str, bytes]) -> None:
    data = files[NAME]
    place = begun(client, declare(client, files), NAME, len(data))
    answer = client.patch(place, headers=TUS | {"Upload-Offset": "0", "Content-Type": "text/plain"}, content=data)
    problem(answer, 415, "media_type_refused")
    problem(send(client, place, 0, data + b"more"), 413, "request_too_large")

    def unannounced() -> Iterator[bytes]:
        yield data[:10]
        yield data[10:] + b"more"

    problem(send(client, place, 0, unannounced()), 413, "request_too_large")
    assert offset_of(client, place) in (0, 10)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_covers_a_piece(
    client: TestClient, services: Services, files: dict[str, bytes], algorithm: str
) -> None:
    data = files[NAME]
    place = begun(client, declare(client, files), NAME, len(data))
    wrong = send(client, place, 0, data[:500], upload_checksum=checksum(data[:499], algorithm))
    problem(wrong, 460, "piece_checksum_mismatch")
    assert (offset_of(client, place), stored(services)) == (0, [])
    assert send(client, place, 0, data[:500], upload_checksum=checksum(data[:500], algorithm)).status_code == 204
    rest = send(client, place, 500, data[500:], upload_checksum=checksum(data[500:], algorithm))
    assert (rest.status_code, offset_of(client, place)) == (204, len(data))
    for header in ("md5 AAAA", "sha256", "sha256 AAAA", "sha256 ???"):
        problem(send(client, place, len(data), b"", upload_checksum=header), 422, "invalid_request")


def test_a_piece_that_breaks_off_is_kept_as_far_as_it_came(
    client: TestClient, services: Services, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "PIECE", 700)
    data = files[NAME]
    place = begun(client, declare(client, files), NAME, len(data))

    async def breaks_off(*pieces: bytes) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        raise ClientDisconnect

    row = place.rpartition("/")[2]
    assert asyncio.run(resumable.receive(services, row, 0, None, None, breaks_off(data[:400], data[400:1100]))) == 1100
    assert offset_of(client, place) == 1100
    # With a checksum nobody can tell whether what came is right.
    with pytest.raises(SecateurError, match="broke off"):
        asyncio.run(resumable.receive(services, row, 1100, None, checksum(data[1100:]), breaks_off(data[1100:1500])))
    assert offset_of(client, place) == 1100
    assert send(client, place, 1100, data[1100:]).status_code == 204


@pytest.mark.parametrize("brought", [300, 0])
def test_who_goes_on_shuts_out_an_earlier_request(
    client: TestClient, services: Services, files: dict[str, bytes], brought: int
) -> None:
    """The server may notice minutes later that a connection is dead; its client need not wait for that, nor have sent anything
    yet."""
    data = files[NAME]
    place = begun(client, declare(client, files), NAME, len(data))

    async def stalls() -> AsyncIterator[bytes]:
        yield data[:400]
        # Its client has come back meanwhile.
        answer = await asyncio.to_thread(send, client, place, 0, data[:brought])
        assert answer.status_code == 204
        yield data[400:800]
        raise ClientDisconnect

    with pytest.raises(SecateurError, match="Another request is sending"):
        asyncio.run(resumable.receive(services, place.rpartition("/")[2], 0, None, None, stalls()))
    assert offset_of(client, place) == brought
    assert len(stored(services)) == (1 if brought else 0)
    assert send(client, place, brought, data[brought:]).status_code == 204


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        (NAME, pickle.dumps({"weights": [1.0] * 100}), "file_type_refused"),
        (NAME, (2**40).to_bytes(8, "little") + b" " * 100, "safetensors_invalid"),
        ("config.json", b'{"a": NaN' + b" " * 100 + b"}", "config_invalid"),
    ],
)
def test_a_bad_file_is_given_up_at_once(
    client: TestClient, services: Services, files: dict[str, bytes], name: str, data: bytes, code: str
) -> None:
    address = declare(client, files | {name: data})
    place = begun(client, address, name, len(data))
    first = send(client, place, 0, data[:60])
    answer = first if first.status_code == 422 else send(client, place, 60, data[60:])
    problem(answer, 422, code)
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert client.head(place, headers=TUS).status_code == 404
    assert stored(services) == []


def test_wrong_bytes_are_given_up_when_the_last_has_come(
    client: TestClient, services: Services, files: dict[str, bytes]
) -> None:
    data = files[NAME]
    spoilt = data[:-1] + bytes([data[-1] ^ 1])
    place = begun(client, declare(client, files), NAME, len(data))
    assert send(client, place, 0, spoilt[:1000]).status_code == 204
    problem(send(client, place, 1000, spoilt[1000:]), 422, "checksum_mismatch")
    assert client.head(place, headers=TUS).status_code == 404
    assert stored(services) == []


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_what_was_begun_can_be_found_again(client: TestClient, kind: str) -> None:
    files = checkpoint_files() if kind == "models" else dataset_files()
    address = declare(client, files, kind)
    name, data = max(files.items(), key=lambda item: len(item[1]))
    places = [begun(client, address, name, len(data)) for _ in range(2)]
    begun(client, declare(client, files, kind), name, len(data))  # Of another upload.
    assert send(client, places[0], 0, data[:100]).status_code == 204
    first = client.get(f"{address}/uploads?limit=1").json()
    [newest] = first["items"]
    assert (newest["id"], newest["offset"]) == (places[1].rpartition("/")[2], 0)
    [other] = client.get(f"{address}/uploads", params={"cursor": first["next_cursor"]}).json()["items"]
    assert (other["id"], other["name"], other["offset"]) == (places[0].rpartition("/")[2], name, 100)
    problem(client.get(f"{address[:-4]}aaaa/uploads"), 404, "not_found")


def test_termination_leaves_nothing(client: TestClient, services: Services, files: dict[str, bytes]) -> None:
    address = declare(client, files)
    place = begun(client, address, NAME, len(files[NAME]))
    assert send(client, place, 0, files[NAME][:100]).status_code == 204
    assert len(stored(services)) == 1
    assert client.delete(place, headers=TUS).status_code == 204
    assert (stored(services), client.head(place, headers=TUS).status_code) == ([], 404)
    problem(client.delete(place, headers=TUS), 404, "not_found")
    # The file can be begun again.
    assert send(client, begun(client, address, NAME, len(files[NAME])), 0, files[NAME]).status_code == 204


def test_a_piece_that_the_store_lost_is_said_to_be_lost(
    client: TestClient, services: Services, files: dict[str, bytes]
) -> None:
    address, data = declare(client, files), files[NAME]
    place = begun(client, address, NAME, len(data))
    assert send(client, place, 0, data[:100]).status_code == 204
    services.artifacts.delete(*stored(services))
    answer = problem(send(client, place, 100, data[100:]), 410, "artifact_lost")
    assert NAME in answer["detail"]
    assert stored(services) == []
    # As the answer says: the file is begun again.
    assert send(client, begun(client, address, NAME, len(data)), 0, data).status_code == 204
    assert client.get(address).json()["files"]


def test_pieces_expire_with_their_upload_and_are_nobodys_orphans_before(
    client: TestClient, services: Services, files: dict[str, bytes]
) -> None:
    place = begun(client, declare(client, files), NAME, len(files[NAME]))
    assert send(client, place, 0, files[NAME][:100]).status_code == 204
    assert orphans.collect(services.database, services.artifacts, 0) == 0
    settings = services.settings.model_copy(update={"open_upload_seconds": 0})
    assert retention.expire(services.database, settings).uploads == 1
    problem(client.get(place), 404, "not_found")
    assert orphans.collect(services.database, services.artifacts, 0) == 1
    assert stored(services) == []


def test_a_complete_upload_takes_no_more_pieces(client: TestClient, files: dict[str, bytes]) -> None:
    address = declare(client, files)
    for name, data in files.items():
        client.put(f"{address}/files/{name}", content=data)
    place = begun(client, address, NAME, len(files[NAME]))
    assert client.post(f"{address}/complete").status_code == 200
    problem(send(client, place, 0, files[NAME]), 409, "upload_closed")
    problem(create(client, address, NAME, len(files[NAME])), 409, "upload_closed")
