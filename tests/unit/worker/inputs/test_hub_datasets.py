"""Hub datasets: fetched from a hub on loopback, read with the real `datasets`."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, ClassLabel, Features, Image, Value

from store.settings import Settings
from tests.support.servers.hub import REVISION, hub_server
from tests.support.uploads import picture
from worker.inputs import read_dataset
from worker.inputs.hub import Away, Hub, Refused
from worker.inputs.hub_dataset import fetch_dataset
from worker.inputs.inputs import FetchFailure
from worker.inputs.kept_inputs import KeptInputs

FEATURES = Features(
    {"audio": Audio(sampling_rate=8000), "label": ClassLabel(names=["yes", "no"]), "speaker": Value("string")}
)


def wav(seed: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(seed).normal(0, 0.1, 800), 8000, format="WAV")
    return buffer.getvalue()


def parquet(rows: int, first: int = 0, audio: Mapping[str, Any] | None = None) -> bytes:
    table = pa.table(
        {
            "audio": [audio or {"bytes": wav(first + row), "path": f"{row}.wav"} for row in range(rows)],
            "label": [row % 2 for row in range(rows)],
            "speaker": [f"s{row}" for row in range(rows)],
        },
        schema=FEATURES.arrow_schema,
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def card(configs: Any) -> bytes:
    return f"---\nconfigs: {json.dumps(configs)}\n---\n# A dataset\n".encode()


@dataclass
class Outcome:
    files: list[str]
    out: Path
    failure: FetchFailure | None


def fetch(
    endpoint: str,
    folder: Path,
    *,
    repo: str = "some/words",
    revision: str = REVISION,
    config: str = "",
    most: int = 10**9,
) -> Outcome:
    """As a worker and its child do, in this process."""
    out = folder / "data"
    out.mkdir()
    failure = None
    settings = Settings(hub_url=endpoint, outbound_test_target=endpoint.removeprefix("http://"))
    try:
        fetch_dataset(Hub(settings, lambda: None, KeptInputs(folder, 0)), repo, revision, folder / "download", most)
        read_dataset.read(folder / "download", config or None, out)
    except Refused as error:
        failure = FetchFailure(detail=str(error), transient=False)
    except Away as error:
        failure = FetchFailure(detail=str(error), transient=True)
    except Exception as error:
        failure = read_dataset.failure(error)
    return Outcome(sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()), out, failure)


def test_parquet_comes_back_by_split_with_its_features(tmp_path: Path) -> None:
    files = {
        "data/train-00000-of-00002.parquet": parquet(5),
        "data/train-00001-of-00002.parquet": parquet(3, 5),
        "data/test-00000-of-00001.parquet": parquet(2, 8),
        "weights.bin": b"x",
    }
    with hub_server({"some/words": files}) as endpoint:
        outcome = fetch(endpoint, tmp_path)
    assert outcome.failure is None
    assert outcome.files == ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]
    table = pq.read_table(outcome.out / "train-00000-of-00001.parquet")
    assert [row["bytes"] for row in table["audio"].to_pylist()] == [wav(seed) for seed in range(8)]
    features = Features.from_arrow_schema(table.schema)
    assert features["label"] == FEATURES["label"]
    assert isinstance(features["audio"], Audio)


def test_a_configuration_of_the_card_is_followed(tmp_path: Path) -> None:
    configs = [
        {"config_name": "a", "data_files": [{"split": "train", "path": "a/*.parquet"}]},
        {"config_name": "b", "data_files": [{"split": "validation", "path": "b/one.parquet"}]},
    ]
    files = {"README.md": card(configs), "a/one.parquet": parquet(4), "b/one.parquet": parquet(3)}
    with hub_server({"some/words": files}) as endpoint:
        outcome = fetch(endpoint, tmp_path, config="b")
    assert outcome.failure is None
    assert outcome.files == ["validation-00000-of-00001.parquet"]
    assert pq.read_metadata(outcome.out / outcome.files[0]).num_rows == 3


def test_plain_audio_files_come_in_their_folders(tmp_path: Path) -> None:
    files = {"train/yes/a.wav": wav(1), "train/no/b.wav": wav(2), "README.md": b"# words", "run.py": b"import os"}
    with hub_server({"some/words": files}) as endpoint:
        outcome = fetch(endpoint, tmp_path)
    assert outcome.failure is None
    assert outcome.files == ["train/no/b.wav", "train/yes/a.wav"]
    assert (outcome.out / "train/yes/a.wav").read_bytes() == wav(1)


def test_plain_images_come_in_their_folders(tmp_path: Path) -> None:
    files = {"train/cat/a.png": picture(), "test/dog/b.JPG": picture(kind="JPEG"), "train/cat/notes.txt": b"cats"}
    with hub_server({"some/words": files}) as endpoint:
        outcome = fetch(endpoint, tmp_path)
    assert outcome.failure is None
    assert outcome.files == ["test/dog/b.JPG", "train/cat/a.png"]


def test_images_in_parquet_come_as_their_bytes(tmp_path: Path) -> None:
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    table = pa.table({"image": [{"bytes": picture(), "path": None}], "label": [1]}, schema=features.arrow_schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    with hub_server({"some/words": {"train.parquet": buffer.getvalue()}}) as endpoint:
        outcome = fetch(endpoint, tmp_path)
    assert outcome.failure is None
    rows = pq.read_table(outcome.out / outcome.files[0])
    assert rows["image"].to_pylist()[0]["bytes"] == picture()
    assert isinstance(Features.from_arrow_schema(rows.schema)["image"], Image)


def test_texts_in_parquet_come_as_they_are(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"], "tokens": [["a"], ["b", "c"]]}), buffer)
    with hub_server({"some/words": {"train.parquet": buffer.getvalue()}}) as endpoint:
        outcome = fetch(endpoint, tmp_path)
    assert outcome.failure is None
    rows = pq.read_table(outcome.out / outcome.files[0]).to_pylist()
    assert rows == [{"text": "a", "tokens": ["a"]}, {"text": "b", "tokens": ["b", "c"]}]


def test_an_image_that_is_a_path_is_refused(tmp_path: Path) -> None:
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    table = pa.table({"image": [{"bytes": None, "path": "/etc/passwd"}], "label": [1]}, schema=features.arrow_schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    with hub_server({"some/words": {"train.parquet": buffer.getvalue()}}) as endpoint:
        outcome = fetch(endpoint, tmp_path)
    assert outcome.failure is not None
    assert "without the bytes of a file" in outcome.failure.detail


OUTSIDE = [{"config_name": "default", "data_files": "http://169.254.169.254/secret.parquet"}]
ABOVE = [{"config_name": "default", "data_files": [{"split": "train", "path": ["../../etc/*.parquet"]}]}]
ABSOLUTE = [{"config_name": "default", "data_dir": "/etc"}]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"words.py": b"import os", "a.parquet": parquet(1)}, "scripts are never run"),
        ({"data.csv": b"a,b"}, "no parquet, audio (wav, flac, ogg, mp3) or image"),
        ({"README.md": card(OUTSIDE), "a.parquet": parquet(1)}, "outside the repository"),
        ({"README.md": card(ABOVE), "a.parquet": parquet(1)}, "outside the repository"),
        ({"README.md": card(ABSOLUTE), "a.parquet": parquet(1)}, "outside the repository"),
        ({"a.parquet": parquet(2, audio={"bytes": None, "path": "/etc/passwd"})}, "without the bytes of a file"),
        ({"a.parquet": b"no parquet at all"}, "could not be read"),
        ({"../a.parquet": parquet(1)}, "is not accepted"),
    ],
    ids=["script", "no data", "other host", "folder above", "other folder", "path for bytes", "not parquet", "name"],
)
def test_what_is_refused(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    with hub_server({"some/words": files}) as endpoint:
        outcome = fetch(endpoint, tmp_path)
    assert outcome.failure is not None
    assert says in outcome.failure.detail
    assert not outcome.failure.transient
    assert outcome.files == []


def test_what_is_not_there_and_what_is_too_large(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("repo", "revision", "size")]
    for folder in folders:
        folder.mkdir()
    with hub_server({"some/words": {"a.parquet": parquet(1)}}) as endpoint:
        outcomes = [
            fetch(endpoint, folders[0], repo="some/other"),
            fetch(endpoint, folders[1], revision="f" * 40),
            fetch(endpoint, folders[2], most=100),
        ]
    failures = [outcome.failure for outcome in outcomes]
    for failure, says in zip(
        failures, ("no repository of that name", "no such revision", "the maximum on this server is 100"), strict=True
    ):
        assert failure is not None
        assert says in failure.detail
        assert not failure.transient


def test_a_hub_that_does_not_answer_is_asked_again_later(tmp_path: Path) -> None:
    with hub_server({}, status=403) as endpoint:
        (tmp_path / "a").mkdir()
        refused = fetch(endpoint, tmp_path / "a").failure
    (tmp_path / "b").mkdir()
    unreachable = fetch("http://127.0.0.1:1", tmp_path / "b").failure
    assert refused is not None
    assert not refused.transient
    assert unreachable is not None
    assert unreachable.transient
