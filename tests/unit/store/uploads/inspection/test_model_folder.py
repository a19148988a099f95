"""A checkpoint's files judged together."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from safetensors.numpy import save

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.file_names import is_of_checkpoint
from store.uploads.inspection.models.folder import check_names, describe_model
from tests.support.uploads import ast_config, ast_tensors, checkpoint_files, preprocessor_config

NEEDED = ["config.json", "preprocessor_config.json", "model.safetensors"]


@dataclass
class InMemory:
    """Files as `describe_model` reads them; remembers how many bytes it was asked for."""

    files: Mapping[str, bytes]
    asked: int = field(default=0, init=False)

    @property
    def sizes(self) -> Mapping[str, int]:
        return {name: len(data) for name, data in self.files.items()}

    def read(self, name: str, start: int, end: int) -> bytes:
        self.asked += end - start
        return self.files[name][start:end]


def refusal(files: Mapping[str, bytes]) -> SecateurError:
    with pytest.raises(SecateurError) as caught:
        describe_model(InMemory(files))
    return caught.value


def refused_names(names: list[str]) -> ErrorCode:
    with pytest.raises(SecateurError) as caught:
        check_names(names)
    return caught.value.code


def test_a_whole_checkpoint_is_described_from_its_headers_alone() -> None:
    config = ast_config(hidden_size=256, num_attention_heads=8, intermediate_size=1024)
    files = InMemory(checkpoint_files(config))
    checkpoint = describe_model(files)
    assert checkpoint.widths.stock_shape == (8, 32)
    assert files.asked < 20_000 < len(files.files["model.safetensors"])


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "model.PTH", "weights.pkl", "model.ckpt", "modeling_ast.py", "a.zip", "a.h5"],
)
def test_pickles_code_and_archives_are_refused_by_name_where_weights_are_missing(name: str) -> None:
    assert refused_names([*NEEDED[:2], name]) is ErrorCode.FILE_TYPE_REFUSED
    # Beside weights they are not needed, and so not kept.
    check_names([*NEEDED, name])
    assert not is_of_checkpoint(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "notes.txt",
            "other.safetensors",
            ".gitattributes",
            "onnx/model.onnx",
            "optimizer.pt",
            "checkpoint-500/config.json",
        ),
        *(
            "checkpoint-500/model.safetensors",
            "1_Pooling/model.safetensors",
            "1_pooling/config.json",
            "2_CNN/config.json",
        ),
        *(
            "1_Pooling/../config.json",
            "./config.json",
            "/config.json",
            "1_Pooling//config.json",
            "1_Pooling\\config.json",
        ),
        *("model.safetensors ", "Config.json", "1_Pooling/config.json/config.json"),
    ],
)
def test_only_known_names_are_kept(name: str) -> None:
    check_names([*NEEDED, name])
    assert not is_of_checkpoint(name)


def test_names_that_do_not_belong() -> None:
    check_names([*NEEDED, "README.md", "modules.json", "1_Pooling/config.json"])
    assert refused_names([*NEEDED, "a/b", "a/b"]) is ErrorCode.FILE_UNEXPECTED
    assert refused_names([*NEEDED, "a", "a/b/c"]) is ErrorCode.FILE_UNEXPECTED
    assert refused_names([*NEEDED, "config.json/a"]) is ErrorCode.FILE_UNEXPECTED
    assert refused_names([*NEEDED, "a/CON.json"]) is ErrorCode.FILE_NAME_REFUSED
    assert refused_names([*NEEDED, "config.json"]) is ErrorCode.FILE_UNEXPECTED
    assert refused_names([*NEEDED, "model-00001-of-00001.safetensors"]) is ErrorCode.FILE_UNEXPECTED
    assert refused_names(["config.json"]) is ErrorCode.FILE_MISSING
    assert refused_names(["model.safetensors"]) is ErrorCode.FILE_MISSING
    assert refused_names(["config.json", "model-00001-of-00001.safetensors"]) is ErrorCode.FILE_MISSING


def test_the_family_says_what_else_is_needed() -> None:
    error = refusal(checkpoint_files(preprocessor=None))
    assert (error.code, error.errors[0].pointer) == (ErrorCode.FILE_MISSING, "/preprocessor_config.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"feature_extractor_type": "Wav2Vec2FeatureExtractor"},
        {"max_length": 64},
        {"num_mel_bins": "32"},
        {"sampling_rate": 10},
        {"sampling_rate": True},
        {"std": 0},
        {"mean": "x"},
        {"padding_value": 1e30},
    ],
)
def test_a_feature_extractor_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    error = refusal(checkpoint_files(preprocessor=json.dumps(preprocessor_config(**changes)).encode()))
    assert error.code is ErrorCode.CONFIG_INVALID
    assert next(iter(changes)) in error.detail


def test_codes_of_spoilt_files() -> None:
    config = ast_config()
    spoilt = json.dumps(preprocessor_config(auto_map={"AutoFeatureExtractor": "evil.E"})).encode()
    assert refusal(checkpoint_files(preprocessor=spoilt)).code is ErrorCode.CODE_REFUSED
    assert refusal(checkpoint_files(preprocessor=b"[]")).code is ErrorCode.CONFIG_INVALID
    assert refusal(checkpoint_files(weights=b"PK\x03\x04" + bytes(50))).code is ErrorCode.FILE_TYPE_REFUSED
    assert "model.safetensors" in refusal(checkpoint_files(weights=b"\1" + bytes(20))).detail
    other = save(ast_tensors(ast_config(hidden_size=64)))
    assert refusal(checkpoint_files(config, weights=other)).code is ErrorCode.WEIGHTS_MISMATCH


def test_shards_that_the_index_does_not_name_are_unexpected() -> None:
    arrays = ast_tensors(ast_config())
    shard = "model-00001-of-00001.safetensors"
    index = json.dumps({"weight_map": dict.fromkeys(arrays, shard)}).encode()
    files = checkpoint_files(weights=None) | {shard: save(arrays), "model.safetensors.index.json": index}
    assert describe_model(InMemory(files)) == describe_model(InMemory(checkpoint_files()))
    more = files | {"model-00002-of-00002.safetensors": save(arrays)}
    assert refusal(more).code is ErrorCode.FILE_UNEXPECTED
    assert refusal({name: data for name, data in files.items() if name != shard}).code is ErrorCode.FILE_MISSING


def test_files_of_other_families_are_not_used() -> None:
    """Who publishes a model of sound may leave the tokenizer of another beside it."""
    (warning,) = describe_model(InMemory(checkpoint_files() | {"vocab.txt": b"a\nb\n", "modules.json": b"[]"})).warnings
    assert (warning.code, warning.pointer) == ("files_ignored", "/files")
    assert "vocab.txt, modules.json" in warning.detail
