"""Rows that are shown of a dataset: over HTTP, on its page, in quotas, and gone with it."""

import io

import pyarrow as pa
import pytest
import soundfile
from PIL import Image
from sqlalchemy import delete, select, update
from starlette.testclient import TestClient

from api_schemas.enums import UploadState
from service.services import Services
from store.database import stored_bytes
from store.database.tables import DatasetSample, StoredBytes, Upload
from store.jobs import deletion
from tests.integration.service.conftest import problem
from tests.integration.service.page.test_page_jobs import look
from tests.support.pages import BROWSER
from tests.support.uploads import EMBEDDED, LABELS, dataset_files, declared, picture, send, table

TEXT = pa.string()


def uploaded(client: TestClient, files: dict[str, bytes]) -> str:
    answer = send(client, "datasets", files)
    assert answer.is_success, answer.text
    return str(answer.json()["id"])


def test_recordings_are_listed_and_played(client: TestClient) -> None:
    dataset = uploaded(client, dataset_files())
    contents = client.get(f"/v1/datasets/{dataset}").json()["contents"]
    assert contents["label_counts"] == {split: dict.fromkeys(LABELS, 1) for split in ("train", "validation", "test")}
    items = client.get(f"/v1/datasets/{dataset}/samples").json()["items"]
    assert [item["number"] for item in items] == list(range(9))
    assert {item["split"] for item in items} == {"train", "validation", "test"}
    first = items[0]
    assert (first["kind"], first["label"], first["media"]["type"]) == ("audio", LABELS[first["row"]], "audio/wav")
    answer = client.get(first["media"]["url"])
    assert answer.status_code == 200
    assert len(soundfile.read(io.BytesIO(answer.content))[0]) == 1600
    assert len(answer.content) == first["media"]["size"]
    headers = answer.headers
    assert (headers["content-type"], headers["x-content-type-options"]) == ("audio/wav", "nosniff")
    assert "sandbox" in headers["content-security-policy"]
    # Players ask for ranges, browsers for what has changed.
    part = client.get(first["media"]["url"], headers={"Range": "bytes=4-9"})
    assert (part.status_code, part.content) == (206, answer.content[4:10])
    assert client.get(first["media"]["url"], headers={"If-None-Match": headers["etag"]}).status_code == 304
    problem(client.get(f"/v1/datasets/{dataset}/samples/9/media"), 404, "not_found")


def test_images_and_hostile_texts(client: TestClient) -> None:
    images = uploaded(
        client, {"train.parquet": table(image=(EMBEDDED, [picture(size=(300, 200))]), label=(TEXT, ["a"]))}
    )
    (item,) = client.get(f"/v1/datasets/{images}/samples").json()["items"]
    assert (item["media"]["width"], item["media"]["height"]) == (300, 200)
    answer = client.get(item["media"]["url"])
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (96, 64)
    assert look(client, f"/datasets/{images}").all("img", src=item["media"]["url"])
    said = ["<script>alert(1)</script>", "\u202eright to left"]
    texts = uploaded(client, {"train.parquet": table(text=(TEXT, said), label=(TEXT, ["<b>", "x"]))})
    items = client.get(f"/v1/datasets/{texts}/samples").json()["items"]
    assert [(item["text"], item["label"], item["media"]) for item in items] == [
        (said[0], "<b>", None),
        (said[1], "x", None),
    ]
    problem(client.get(f"/v1/datasets/{texts}/samples/0/media"), 404, "not_found")
    shown = client.get(f"/datasets/{texts}", headers=BROWSER).text
    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>alert" not in shown
    assert "\u202e" not in shown


def test_they_count_as_stored_bytes_and_go_with_the_dataset(client: TestClient, services: Services) -> None:
    files = dataset_files()
    dataset = uploaded(client, files)
    media = sum(item["media"]["size"] for item in client.get(f"/v1/datasets/{dataset}/samples").json()["items"])
    with services.database.read() as session:
        assert session.scalar(select(StoredBytes.size)) == sum(map(len, files.values())) + media
        assert stored_bytes.differing(session) == set()
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    with services.database.read() as session:
        assert session.scalar(select(StoredBytes.size)) == 0
        assert stored_bytes.differing(session) == set()
        assert session.scalars(select(DatasetSample)).all() == []
    problem(client.get(f"/v1/datasets/{dataset}/samples"), 410, "deleted")
    problem(client.get(f"/v1/datasets/{dataset}/samples/0/media"), 410, "deleted")
    other = uploaded(client, {"train.parquet": table(text=(TEXT, ["a"]), label=(TEXT, ["x"]))})
    with services.database.write() as session:
        deletion.give_up(session, {other}, UploadState.EXPIRED)
    problem(client.get(f"/v1/datasets/{other}/samples"), 410, "expired")
    # Its page says that it has expired, not that there never were samples.
    assert "earlier version" not in look(client, f"/datasets/{other}").text


def test_the_page_shows_classes_and_samples(client: TestClient, services: Services) -> None:
    dataset = uploaded(client, dataset_files())
    page = look(client, f"/datasets/{dataset}")
    (classes,) = page.all("table", class_="classes")
    assert classes
    assert len(page.all("audio")) == 9
    opened = client.post("/v1/datasets", json={"files": declared(dataset_files())}).json()["id"]
    assert client.get(f"/v1/datasets/{opened}/samples").json() == {"items": []}
    assert "Samples" not in look(client, f"/datasets/{opened}").text
    # As one that an earlier version has checked.
    with services.database.write() as session:
        session.execute(delete(DatasetSample))
        upload = session.get_one(Upload, dataset)
        said = {name: value for name, value in (upload.description or {}).items() if name != "label_counts"}
        session.execute(update(Upload).where(Upload.id == dataset).values(description=said))
    assert client.get(f"/v1/datasets/{dataset}/samples").json() == {"items": []}
    page = look(client, f"/datasets/{dataset}")
    assert "kept no samples and counted no classes" in page.text
    assert set(LABELS) <= set(page.words)


@pytest.mark.parametrize("number", ["-1", "x", "99999999999999999999"])
def test_numbers_that_are_none(client: TestClient, number: str) -> None:
    address = f"/v1/datasets/dst_{'a' * 26}/samples/{number}/media"
    assert client.get(address).status_code in (404, 422)
