"""Uploads over connections that break, in one call and in a later one; and everything that can be uploaded."""

import builtins
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

from secateur import Progress, errors
from secateur.client.files import uploads
from secateur.client.files.model_files import left_out, model_files
from tests.integration.secateur.conftest import Connect, written
from tests.support.checkpoints.clips import word
from tests.support.gate import WHOLE
from tests.support.servers.cutting_proxy import cutting_proxy
from tests.support.uploads import (
    EMBEDDED,
    ast_config,
    ast_tensors,
    checkpoint_files,
    dataset_files,
    picture,
    pruned_ast_config,
    sentence_files,
    table,
)

MIB = 2**20
packing = pytest.mark.parametrize("connect", ["sync", *(("async",) if WHOLE else ())], indirect=True)
"""Datasets are packed by the same code for both clients, and each is read by a process of the service."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 12 MB."""
    config = ast_config(hidden_size=256, intermediate_size=1024, num_hidden_layers=4)
    return written(tmp_path_factory.mktemp("large"), checkpoint_files(config))


@pytest.fixture
def changed(large: Path, tmp_path: Path) -> Path:
    """The same with other bytes: files that the service has seen are not sent."""
    folder = written(tmp_path / "changed", {path.name: path.read_bytes() for path in large.iterdir()})
    weights = bytearray((folder / "model.safetensors").read_bytes())
    # The low bits of one weight: it stays a number.
    weights[-4:-2] = hashlib.sha256(str(tmp_path).encode()).digest()[:2]
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PIECE", MIB)


def test_an_upload_goes_on_where_it_broke_off(connect: Connect, url: str, changed: Path) -> None:
    naps: list[float] = []
    told: list[Progress] = []
    with cutting_proxy(port(url), after=5 * MIB, times=2) as proxy:
        client = connect(f"http://127.0.0.1:{proxy.port}", naps=naps)
        model = client.upload_model(changed, progress=told.append)
        assert proxy.cuts == 2
    assert model.state == "ready"
    assert naps
    assert {"hashing", "uploading", "checking"} == {each.phase for each in told}
    sent = [each.done for each in told if each.phase == "uploading"]
    assert sent == sorted(sent), "what had been kept was sent again"
    assert told[-1].fraction == 1.0


def test_a_later_call_goes_on_with_the_upload_that_an_earlier_one_left(
    connect: Connect, url: str, changed: Path
) -> None:
    with cutting_proxy(port(url), after=5 * MIB, times=1) as proxy, pytest.raises(errors.ConnectionFailed):
        connect(f"http://127.0.0.1:{proxy.port}", max_retries=0).upload_model(changed)
    client = connect(url)
    [left] = [model for model in client.models() if model.state == "open"]
    assert {file.name for file in left.files if file.uploaded} == {"config.json", "preprocessor_config.json"}
    told: list[Progress] = []
    model = client.upload_model(changed, progress=told.append)
    assert (model.id, model.state) == (left.id, "ready")
    # The file that was under way is not begun anew.
    sent = [each.done for each in told if each.phase == "uploading"]
    assert sent[1] - sent[0] > 2 * MIB


def test_files_that_the_service_has_are_not_sent(client: Any, large: Path) -> None:
    client.upload_model(large)
    told: list[Progress] = []
    again = client.upload_model(large, progress=told.append)
    assert again.state == "ready"
    assert [each.fraction for each in told if each.phase == "uploading"] == [1.0]


def test_a_file_that_changes_while_it_is_sent_is_refused(connect: Connect, url: str, changed: Path) -> None:
    weights = changed / "model.safetensors"

    def spoil(progress: Progress) -> None:
        if progress.phase == "uploading" and 0.2 < progress.fraction < 0.9:
            content = bytearray(weights.read_bytes())
            content[-4] ^= 1
            weights.write_bytes(content)

    with pytest.raises(errors.ChecksumMismatch):
        connect(url, naps=[]).upload_model(changed, progress=spoil)


def test_the_config_goes_first_and_what_is_no_checkpoints_stays(client: Any, tmp_path: Path) -> None:
    folder = written(
        tmp_path, checkpoint_files() | {"training_args.bin": b"x", "optimizer.pt": b"x", "README.md": b"hello"}
    )
    (folder / "checkpoint-500").mkdir()
    sent = model_files(folder)
    assert [file.name for file in sent] == ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert left_out(folder, sent) == ["README.md", "checkpoint-500", "optimizer.pt", "training_args.bin"]
    assert client.upload_model(folder).state == "ready"


def test_a_model_that_cannot_be_taken_is_refused_before_its_weights_are_sent(client: Any, tmp_path: Path) -> None:
    config = {"model_type": "bloom", "architectures": ["BloomForCausalLM"]}
    files = checkpoint_files()
    weights = files["model.safetensors"]
    # Weights that the service has from another test would not be sent at all.
    files["model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
    folder = written(tmp_path, files | {"config.json": json.dumps(config).encode()})
    told: list[Progress] = []
    with pytest.raises(errors.InvalidRequest, match=r"Of the language models that continue texts, .* can be pruned"):
        client.upload_model(folder, progress=told.append)
    assert max(each.done for each in told if each.phase == "uploading") < (folder / "model.safetensors").stat().st_size


def test_weights_that_do_not_fit_their_config_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    files = checkpoint_files(ast_config(intermediate_size=48), weights=save(ast_tensors(ast_config())))
    with pytest.raises(errors.InvalidRequest, match=r"The weights do not match config\.json: .*mlp") as caught:
        model_files(written(tmp_path, files))
    assert caught.value.code == "weights_mismatch"


def test_of_a_result_its_code_stays(tmp_path: Path) -> None:
    files = checkpoint_files(pruned_ast_config()) | {"modeling_pruned.py": b"", "pruning.json": b"{}"}
    folder = written(tmp_path, files)
    sent = model_files(folder)
    assert [file.name for file in sent] == ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert left_out(folder, sent) == ["modeling_pruned.py", "pruning.json"]


def test_a_folder_that_is_no_checkpoint(client: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a folder"):
        client.upload_model(tmp_path / "nowhere")
    with pytest.raises(errors.InvalidRequest, match=r"no config\.json"):
        client.upload_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(errors.InvalidRequest, match=r"only pytorch_model\.bin, a pickle.*secateur convert FOLDER"):
        client.upload_model(tmp_path)
    with pytest.raises(errors.InvalidRequest, match="int is not a model"):
        client.upload_model(3)


def test_a_checkpoint_that_cannot_be_pruned_names_the_file(client: Any, tmp_path: Path) -> None:
    files = checkpoint_files() | {"preprocessor_config.json": b'{"feature_extractor_type": "Other"}'}
    with pytest.raises(errors.InvalidRequest) as caught:
        client.upload_model(written(tmp_path, files))
    assert "preprocessor_config.json" in str(caught.value)


def test_a_live_model_with_its_processor(client: Any) -> None:
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    config = ASTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, max_length=32, num_mel_bins=32
    )
    extractor = ASTFeatureExtractor(max_length=32, num_mel_bins=32)
    model = client.upload_model(ASTForAudioClassification(config), processor=extractor)
    assert (model.state, model.name) == ("ready", "ASTForAudioClassification")
    assert len(model.layout.widths.layers) == 1
    with pytest.raises(errors.InvalidRequest, match="processor"):
        client.upload_model(".", processor=extractor)


@packing
def test_folders_of_recordings_images_and_texts_are_packed(client: Any, tmp_path: Path) -> None:
    clips = {f"train/{label}/{speaker}_1.wav": word(label) for label in ("low", "high") for speaker in "ab"}
    told: list[Progress] = []
    found = client.upload_dataset(written(tmp_path / "clips", clips), progress=told.append).contents
    assert (found.rows, found.labels, found.modality) == ({"train": 4}, ("high", "low"), "audio")
    assert [each for each in told if each.phase == "packing"][-1].fraction == 1.0

    images = {f"{label}/{n}.png": picture((n, 10, 10)) for label in ("cat", "dog") for n in (1, 2)}
    found = client.upload_dataset(written(tmp_path / "images", images)).contents
    assert (found.rows, found.labels, found.modality) == ({"train": 4}, ("cat", "dog"), "image")

    texts = {"train.csv": b"text,label\none,a\ntwo,b\n", "dev.csv": b"text,label\nthree,a\n"}
    found = client.upload_dataset(written(tmp_path / "texts", texts)).contents
    assert (found.rows, found.modality) == ({"train": 2, "dev": 1}, "text")


@packing
def test_recordings_with_a_table_of_what_was_said(client: Any, tmp_path: Path) -> None:
    table_of = b"file_name,transcription\na.wav,LOW\nb.wav,HIGH\n"
    folder = written(tmp_path / "said", {"a.wav": word("low"), "b.wav": word("high"), "metadata.csv": table_of})
    found = client.upload_dataset(folder).contents
    assert found.rows == {"train": 2}
    assert found.kinds["transcription"] == "text"
    (folder / "metadata.csv").write_bytes(b"file_name,transcription\n../secret.wav,LOW\n")
    (tmp_path / "secret.wav").write_bytes(word("low"))
    with pytest.raises(errors.InvalidRequest, match=r"secret\.wav"):
        client.upload_dataset(folder)


@packing
def test_datasets_of_the_datasets_library(client: Any, tmp_path: Path) -> None:
    import datasets

    clip = tmp_path / "a.wav"
    clip.write_bytes(word("low"))
    features = {
        "audio": {"_type": "Audio", "decode": False},
        "label": {"names": ["low", "high"], "_type": "ClassLabel"},
    }
    # A path alone: its bytes have to travel.
    rows = {"audio": [{"path": str(clip), "bytes": None}] * 2, "label": [0, 1]}
    schema = pa.schema([("audio", EMBEDDED), ("label", pa.int64())])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    one = datasets.Dataset(pa.table(rows, schema=schema))
    found = client.upload_dataset(one).contents
    assert (found.rows, found.labels, found.modality) == ({"train": 2}, ("low", "high"), "audio")
    both = datasets.DatasetDict({"train": one, "test": one.select([1])})
    assert client.upload_dataset(both).contents.rows == {"train": 2, "test": 1}
    with pytest.raises(errors.InvalidRequest, match="int is not data"):
        client.upload_dataset(3)


@packing
def test_shards_keep_their_names_or_get_those_of_their_folders(client: Any, tmp_path: Path) -> None:
    shards = dataset_files()
    nested = {"train/0000.parquet": shards["train.parquet"], "test/0000.parquet": shards["test.parquet"]}
    found = client.upload_dataset(written(tmp_path / "nested", nested))
    assert {file.name for file in found.files} == {"0000.parquet", "test-0000.parquet"}
    assert found.contents.rows == {"train": 4, "test": 4}
    alone = written(tmp_path / "alone", {"recordings.parquet": shards["train.parquet"]}) / "recordings.parquet"
    assert client.upload_dataset(alone).contents.rows == {"train": 4}


@packing
@pytest.mark.parametrize(
    ("name", "data", "split"),
    [
        ("reviews.csv", b"text,label\none,a\ntwo,b\n", "train"),
        ("dev.jsonl", b'{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}\n', "dev"),
        ("all.json", b'[{"text": "one", "label": "a"}, {"text": "two", "label": "b"}]', "train"),
    ],
)
def test_a_lone_file_of_rows_is_what_there_is_to_train_on(
    client: Any, tmp_path: Path, name: str, data: bytes, split: str
) -> None:
    """Whatever lies beside it is no part of it."""
    folder = written(tmp_path / "alone", {name: data, "other.csv": b"text,label\nthree,c\n"})
    found = client.upload_dataset(folder / name).contents
    assert (found.rows, found.labels) == ({split: 2}, ("a", "b"))


@packing
def test_columns_are_named_where_they_are_ambiguous(client: Any, tmp_path: Path) -> None:
    text = pa.string()
    shard = table(
        question=(text, ["a", "b"]), answer=(text, ["c", "d"]), kind=(text, ["x", "y"]), group=(text, ["1", "2"])
    )
    folder = written(tmp_path / "data", {"train.parquet": shard})
    with pytest.raises(errors.InvalidRequest, match="columns"):
        client.upload_dataset(folder)
    found = client.upload_dataset(folder, columns={"input": "question", "label": "kind"})
    assert (found.contents.input_column, found.contents.label_column) == ("question", "kind")


def test_what_packing_needs_is_named(client: Any, tmp_path: Path, without: Callable[[str], None]) -> None:
    folder = written(tmp_path / "clips", {"low/a.wav": word("low")})
    without("soundfile")
    with pytest.raises(errors.MissingDependency, match=r"soundfile: pip install 'secateur\[data\]'"):
        client.upload_dataset(folder)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a library look as if it were not installed."""
    original = builtins.__import__

    def hide(name: str) -> None:
        def importing(wanted: str, *rest: Any, **more: Any) -> Any:
            if wanted.partition(".")[0] == name:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return original(wanted, *rest, **more)

        monkeypatch.delitem(sys.modules, "secateur.client.files.packing", raising=False)
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(builtins, "__import__", importing)

    return hide


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    from secateur.client.files.packing import pack_folder

    folder = written(tmp_path / "clips", {f"low/{n}.wav": word("low") for n in range(3)})
    outs = [written(tmp_path / name, {}) for name in ("one", "two")]
    for out in outs:
        out.mkdir()
        pack_folder(folder, out)
    first, second = (next(out.glob("*.parquet")) for out in outs)
    assert first.read_bytes() == second.read_bytes()
    assert pq.read_metadata(first).num_rows == 3


def port(url: str) -> int:
    found = httpx.URL(url).port
    assert found is not None
    return found


def test_a_folder_of_sentence_transformers_goes_whole(connect: Connect, url: str, tmp_path: Path) -> None:
    files = sentence_files(pooling_mode="cls")
    beside = {
        "onnx/model.onnx": b"graph",
        "1_Pooling/notes.txt": b"x",
        "2_CNN/config.json": b"{}",
        "model_card.json": b"{}",
    }
    for name, data in {**files, **beside}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    model = connect(url).upload_model(tmp_path)
    assert model.layout is not None
    assert (model.state, model.layout.pooling, model.warnings) == ("ready", ("cls",), ())
    assert {file.name for file in model.files} == set(files)
    assert left_out(tmp_path, model_files(tmp_path)) == ["2_CNN", "model_card.json", "onnx"]
