"""What is made of a config and a header: the description where they fit, the code that names the trouble where not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.config.checkpoint_config import check_names
from checkpoints.describe import Checkpoint, describe_checkpoint, describe_folder
from checkpoints.files.safetensors_header import TensorInfo, parse_header
from checkpoints.sizes import accounting
from tests.support.uploads import LABELS, ast_config, ast_tensors, checkpoint_files

QUERY = "audio_spectrogram_transformer.layers.0.attention.q_proj.weight"


def header(arrays: dict[str, np.ndarray]) -> dict[str, TensorInfo]:
    data = save(arrays)
    return parse_header(data, len(data))


def describe(config: dict[str, Any], **kind: Any) -> Checkpoint:
    return describe_checkpoint(config, header(ast_tensors(config, **kind)))


def refusal(config: dict[str, Any], tensors: dict[str, TensorInfo] | None = None) -> SecateurError:
    with pytest.raises(SecateurError) as caught:
        describe_checkpoint(config, header(ast_tensors(ast_config())) if tensors is None else tensors)
    return caught.value


@pytest.mark.parametrize("naming", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_describes_every_way_of_naming_and_storing(naming: int, dtype: str) -> None:
    checkpoint = describe(ast_config(), naming=naming, dtype=dtype)

    assert (checkpoint.family.name, checkpoint.architecture.task) == ("ast", "audio-classification")
    assert checkpoint.labels == LABELS
    assert not checkpoint.multi_label
    assert checkpoint.widths.stock_shape == (4, 8)
    assert len(checkpoint.widths.layers) == 2
    shape = checkpoint.shape
    assert accounting.attention_parameters(shape, checkpoint.widths) == 2 * (4 * 32 * 32 + 4 * 32)
    assert accounting.feed_forward_parameters(shape, checkpoint.widths) == 2 * (2 * 32 * 64 + 64 + 32)
    arrays = ast_tensors(ast_config(), naming)
    assert accounting.total_parameters(shape, checkpoint.widths) == sum(array.size for array in arrays.values())
    assert shape.bytes_per_parameter == np.dtype(dtype).itemsize
    # 32 frames and 32 mel bins in patches of 16 with stride 10: two by two, and two special tokens.
    assert (shape.attention[0].queries, shape.attention[0].pairs, shape.feed_forward[0].tokens) == (6, 36, 6)


def test_a_uniformly_pruned_stock_checkpoint_says_its_head_width() -> None:
    checkpoint = describe(ast_config(num_attention_heads=3, head_dim=5))
    assert checkpoint.widths.stock_shape == (3, 5)
    assert checkpoint.widths.head_dim == 5
    assert accounting.attention_parameters(checkpoint.shape, checkpoint.widths) == 2 * (4 * 32 * 15 + 3 * 15 + 32)


def test_without_biases() -> None:
    checkpoint = describe(ast_config(qkv_bias=False))
    block = checkpoint.shape.attention[0]
    assert not any((block.q_bias, block.k_bias, block.v_bias))
    assert block.o_bias
    assert accounting.attention_parameters(checkpoint.shape, checkpoint.widths) == 2 * (4 * 32 * 32 + 32)


def test_labels_and_kind_of_task() -> None:
    unnamed = {key: value for key, value in ast_config().items() if key not in ("id2label", "label2id")}
    assert describe(unnamed).labels == ("LABEL_0", "LABEL_1")
    assert describe(ast_config(problem_type="multi_label_classification")).multi_label
    reordered = ast_config(id2label={"1": "b", "0": "a", "3": "d", "2": "c"})
    assert describe(reordered).labels == ("a", "b", "c", "d")
    assert not describe(ast_config(problem_type="")).multi_label


def test_labels_are_those_that_transformers_has() -> None:
    """Of as many as num_labels says, whatever is named; numbers by their digits."""
    names = {"0": "a", "1": "b", "2": "c"}
    three = header(ast_tensors(ast_config(id2label=names, label2id=None)))
    found = describe_checkpoint(ast_config(num_labels=3), three)
    assert found.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    (warning,) = found.warnings
    assert (warning.code, warning.pointer) == ("config_ignored", "/config.json/id2label")
    assert "id2label has 4 names, but num_labels is 3" in warning.detail
    numbers = describe(ast_config(id2label={"0": 7, "1": 3, "2": 0, "3": 1}, label2id=None))
    assert numbers.labels == ("7", "3", "0", "1")
    assert numbers.warnings == ()
    assert refusal(ast_config(num_labels=3)).code is ErrorCode.WEIGHTS_MISMATCH


@pytest.mark.parametrize(
    ("label2id", "said"),
    [
        ({"up": 0, "right": 1, "left": 2, "down": 3}, "it gives 'up' the id 0, but id2label calls this id 'down'"),
        ({"down": "3"}, "it gives 'down' the id 3, but id2label calls this id 'up'"),
        ({"sideways": 7}, "id2label has no such id"),
        ({"down": -1}, "which is not a number"),
        ({"down": "first"}, "which is not a number"),
        ({"LABEL_3": 2}, "calls this id 'right'"),
    ],
)
def test_label2id_that_contradicts_id2label(label2id: dict[str, Any], said: str) -> None:
    names = {"0": "down", "1": "left", "2": "right", "3": "up"}
    error = refusal(ast_config(id2label=names, label2id=label2id))
    assert error.code is ErrorCode.CONFIG_INVALID
    assert error.errors[0].pointer == "/config.json/label2id"
    assert said in error.detail


@pytest.mark.parametrize(
    "label2id",
    [None, {}, {"down": 0, "up": 3}, {"down": "0"}, {f"LABEL_{index}": index for index in range(4)}],
    ids=["null", "empty", "some", "as text", "as transformers leaves it"],
)
def test_label2id_that_says_the_same_or_nothing(label2id: dict[str, Any] | None) -> None:
    assert describe(ast_config(label2id=label2id)).labels == LABELS


def test_integer_buffers_are_no_weights() -> None:
    arrays = ast_tensors(ast_config()) | {"position_ids": np.arange(7)}
    assert describe_checkpoint(ast_config(), header(arrays)).shape == describe(ast_config()).shape


@pytest.mark.parametrize(
    "key",
    ["custom_pipelines", "trust_remote_code", "custom_generate", "transformers_weights", "use_kernels"],
)
@pytest.mark.parametrize("nested", [False, True])
def test_code_bearing_keys_are_refused_at_any_depth(key: str, nested: bool) -> None:
    value = {key: {"AutoConfig": "evil.Config"}}
    error = refusal(ast_config(**({"text_config": [{"inner": value}]} if nested else value)))
    assert error.code is ErrorCode.CODE_REFUSED
    assert key in error.errors[0].pointer


def test_attention_from_a_hub_repository_is_refused_and_a_built_in_one_is_not() -> None:
    assert refusal(ast_config(_attn_implementation="someone/kernel")).code is ErrorCode.CODE_REFUSED
    assert describe(ast_config(_attn_implementation="sdpa"))


@pytest.mark.parametrize(
    "changes",
    [
        {"quantization_config": {"load_in_8bit": True}},
        {"num_attention_heads": 0},
        {"num_attention_heads": 5},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 2000},
        {"hidden_size": "32"},
        {"hidden_size": 32.0},
        {"hidden_size": True},
        {"frequency_stride": 0},
        {"patch_size": 64},
        {"patch_size": [16]},
        {"qkv_bias": 1},
        {"head_dim": -8},
        {"problem_type": "regression"},
        {"id2label": {"0": "a", "2": "b"}},
        {"id2label": {"0": ""}},
        {"id2label": []},
        {"num_labels": "3"},
        {"problem_type": 0.5},
        {"id2label": {"0": True, "1": False}},
        {"hidden_act": "__import__"},
        {"hidden_act": ["gelu"]},
        {"layer_norm_eps": "1e-12"},
        {"layer_norm_eps": -1.0},
        {"hidden_dropout_prob": 1.5},
        {"attention_probs_dropout_prob": None},
    ],
)
def test_unusable_values_are_config_invalid(changes: dict[str, Any]) -> None:
    error = refusal(ast_config(**changes))
    assert error.code is ErrorCode.CONFIG_INVALID
    assert any(key in error.detail for key in changes) or "sequence" in error.detail


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"id2label": {"0": "LABEL_0"}}, "id2label"),
        ({"id2label": None, "num_labels": 1}, "num_labels"),
        ({"id2label": {"0": "LABEL_0"}, "problem_type": "single_label_classification"}, "id2label"),
    ],
)
def test_a_regression_head_is_refused(changes: dict[str, Any], key: str) -> None:
    error = refusal(ast_config(**changes))
    assert error.code is ErrorCode.CONFIG_INVALID
    assert "regression is not supported" in error.detail
    assert "cross-encoder" in error.detail
    assert error.errors[0].pointer == f"/config.json/{key}"


def test_one_label_of_several_is_a_class() -> None:
    config = ast_config(id2label={"0": "speech"}, problem_type="multi_label_classification")
    assert describe(config).labels == ("speech",)
    # A cross-encoder's settings of what it does with the number are no settings of the class.
    own = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}}
    found = describe(config | own | {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"})
    (warning,) = found.warnings
    assert (found.labels, warning.code) == (("speech",), "config_ignored")


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "bloom"},
        {"model_type": ["audio-spectrogram-transformer"]},
        {"architectures": ["ASTForVideoClassification"]},
        {"architectures": ["ASTForAudioClassification", "ASTModel"]},
        {"architectures": [{}]},
    ],
)
def test_unknown_architectures_are_refused_with_the_nearest(changes: dict[str, Any]) -> None:
    error = refusal(ast_config(**changes))
    assert error.code is ErrorCode.ARCHITECTURE_UNSUPPORTED
    assert "ASTForAudioClassification" in error.detail


@pytest.mark.parametrize(
    ("changes", "tensor", "found"),
    [
        ({"hidden_size": 64}, QUERY, "[32, 32]"),
        ({"num_hidden_layers": 1}, "layers.1.", "unexpected tensor of shape"),
        ({"num_hidden_layers": 3}, "layers.2.attention", "found no such tensor"),
        ({"num_attention_heads": 2, "head_dim": 8}, QUERY, "expected shape [16, 32], found [32, 32]"),
        ({"intermediate_size": 128}, "mlp.fc1.weight", "[64, 32]"),
        ({"max_length": 64}, "position_embeddings", "[1, 6, 32]"),
        ({"id2label": {"0": "a", "1": "b"}}, "classifier.dense.weight", "expected shape [2, 32], found [4, 32]"),
        ({"qkv_bias": False}, "q_proj.bias", "unexpected tensor of shape"),
    ],
)
def test_weights_that_disagree_are_named_with_both_shapes(changes: dict[str, Any], tensor: str, found: str) -> None:
    error = refusal(ast_config(**changes))
    assert error.code is ErrorCode.WEIGHTS_MISMATCH
    assert any(tensor in item.pointer and found in item.detail for item in error.errors)


def test_missing_foreign_and_oddly_stored_weights() -> None:
    arrays = ast_tensors(ast_config())
    without = {name: array for name, array in arrays.items() if name != "classifier.dense.bias"}
    assert "classifier.dense.bias" in refusal(ast_config(), header(without)).detail
    assert "attention" in refusal(ast_config(), header({"h.0.attn.weight": np.zeros((2, 2), "float32")})).detail
    inside = {"audio_spectrogram_transformer.x": np.zeros(2, "float32")}
    assert "unexpected tensor" in refusal(ast_config(), header(arrays | inside)).detail
    mixed = describe_checkpoint(ast_config(), header(arrays | {QUERY: arrays[QUERY].astype("float16")}))
    assert (mixed.dtype, set(mixed.other_dtypes.values()), len(mixed.other_dtypes)) == ("F32", {"F16"}, 1)
    doubles = {name: array.astype("float64") for name, array in arrays.items()}
    assert describe_checkpoint(ast_config(), header(doubles)).dtype == "F32"
    integers = arrays | {QUERY: np.zeros((32, 32), "int32")}
    assert "I32" in refusal(ast_config(), header(integers)).detail
    assert refusal(ast_config(), {}).code is ErrorCode.WEIGHTS_MISMATCH


def test_heads_of_other_classes_are_left_out_and_said() -> None:
    plain = describe(ast_config())
    others = {"cls.predictions.bias": np.zeros(9, "float64"), "quantizer.codevectors": np.zeros((1, 2), "float32")}
    found = describe_checkpoint(ast_config(), header(ast_tensors(ast_config()) | others))
    (warning,) = found.warnings
    assert (warning.code, warning.pointer) == ("tensors_ignored", "/model.safetensors")
    assert "cls.predictions.bias, quantizer.codevectors" in warning.detail
    assert (found.shape, plain.warnings) == (plain.shape, ())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_wrappers_put_before_every_name_is_taken_off(prefix: str) -> None:
    arrays = ast_tensors(ast_config(), naming=1)
    wrapped = {prefix + name: array for name, array in arrays.items()}
    assert describe_checkpoint(ast_config(), header(wrapped)) == describe(ast_config())
    half = dict(list(wrapped.items())[:9] + list(arrays.items())[9:])
    assert refusal(ast_config(), header(half)).code is ErrorCode.WEIGHTS_MISMATCH


def test_one_tensor_under_two_names_is_refused() -> None:
    arrays = ast_tensors(ast_config())
    twice = {"classifier.layernorm.gamma": arrays["classifier.layernorm.weight"]}
    error = refusal(ast_config(), header(arrays | twice))
    assert error.code is ErrorCode.WEIGHTS_MISMATCH
    assert "twice" in error.detail
    old = {name.replace("layernorm.weight", "layernorm.gamma"): array for name, array in arrays.items()}
    assert describe_checkpoint(ast_config(), header(old)) == describe(ast_config())


@pytest.mark.parametrize("absent", [("model_type",), ("architectures",), ("model_type", "architectures")])
def test_the_weights_say_which_class_it_is_where_the_config_does_not(absent: tuple[str, ...]) -> None:
    config = {key: value for key, value in ast_config().items() if key not in absent}
    found = describe_checkpoint(config, header(ast_tensors(ast_config(), naming=1)))
    assert (found.name, found.shape) == ("ASTForAudioClassification", describe(ast_config()).shape)
    assert [warning.code for warning in found.warnings] == ["architecture_assumed"]


def test_weights_of_no_known_class_do_not_say_it() -> None:
    config = ast_config(architectures=None)
    error = refusal(config, header({"h.0.attn.weight": np.zeros((2, 2), "float32")}))
    assert error.code is ErrorCode.ARCHITECTURE_UNSUPPORTED
    assert "do not show" in error.detail


def test_classes_may_share_a_name() -> None:
    names = {"0": "crane", "1": "heron", "2": "crane", "3": "maillot"}
    found = describe(ast_config(id2label=names))
    assert found.labels == ("crane", "heron", "crane", "maillot")
    assert [warning.code for warning in found.warnings] == ["labels_repeated"]
    check_names(found.labels, ["heron", "maillot"], "/dataset")
    with pytest.raises(SecateurError) as caught:
        check_names(found.labels, ["heron", "crane"], "/dataset")
    assert caught.value.code is ErrorCode.LABELS_MISMATCH
    assert "'crane' is the name of the classes 0, 2" in caught.value.detail


def test_code_that_a_stock_class_does_not_need_is_left_out() -> None:
    found = describe(ast_config(auto_map={"AutoModel": "evil.Model"}))
    assert [warning.code for warning in found.warnings] == ["code_ignored"]
    assert refusal(ast_config(auto_map={"AutoModel": "a.B"}, architectures=["B"])).code is ErrorCode.CODE_REFUSED
    assert refusal(ast_config(text_config={"auto_map": {"AutoModel": "a.B"}})).code is ErrorCode.CODE_REFUSED


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def sharded(config: dict[str, Any]) -> dict[str, bytes]:
    arrays = ast_tensors(config)
    names = sorted(arrays)
    halves = (names[::2], names[1::2])
    files = {
        f"model-0000{n}-of-00002.safetensors": save({name: arrays[name] for name in half})
        for n, half in enumerate(halves, 1)
    }
    weight_map = {name: file for file, half in zip(files, halves, strict=True) for name in half}
    return files | {"model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode()}


def test_folders_whole_and_sharded(tmp_path: Path) -> None:
    whole = describe_folder(write(tmp_path, checkpoint_files()))
    (tmp_path / "model.safetensors").unlink()
    assert describe_folder(write(tmp_path, sharded(ast_config()))) == whole


def test_shards_and_index_must_say_the_same(tmp_path: Path) -> None:
    files = checkpoint_files(weights=None) | sharded(ast_config())
    index = json.loads(files["model.safetensors.index.json"])
    spoilt = {
        "lies elsewhere": {**index["weight_map"], QUERY: "model-00002-of-00002.safetensors"},
        "is nowhere": {**index["weight_map"], "more": "model-00001-of-00002.safetensors"},
        "is outside": {**index["weight_map"], QUERY: "../model.safetensors"},
        "lacks a shard": dict.fromkeys(index["weight_map"], "model-00002-of-00002.safetensors"),
    }
    for weight_map in spoilt.values():
        files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
        with pytest.raises(SecateurError) as caught:
            describe_folder(write(tmp_path, files))
        assert caught.value.code is ErrorCode.CONFIG_INVALID


def test_a_folder_of_pickles_or_of_a_trainer_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-500").mkdir()
    with pytest.raises(SecateurError, match="checkpoint-500 is the latest"):
        describe_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SecateurError, match=r"only pytorch_model\.bin, a pickle file.*secateur convert"):
        describe_folder(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SecateurError, match=r"config\.json"):
        describe_folder(tmp_path)
    with pytest.raises(SecateurError) as caught:
        describe_folder(write(tmp_path, checkpoint_files(weights=None)))
    assert caught.value.code is ErrorCode.FILE_MISSING
