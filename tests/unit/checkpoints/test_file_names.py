"""What a folder without weights is told: what lies there instead, and what to do with it."""

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.file_names import foreign, require_weights


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["config.json", "pytorch_model.bin"], "only pytorch_model.bin, a pickle file, which could run code"),
        (["config.json", "pytorch_model-00001-of-00002.bin"], "secateur convert FOLDER."),
        (["adapter_config.json", "adapter_model.safetensors"], "secateur convert FOLDER --base"),
        (["config.json", "model.bin", "shared_vocabulary.json"], "only a CTranslate2 model, which cannot be pruned"),
        (["config.json", "onnx"], "only an ONNX graph"),
        (["model-q8.gguf"], "only a GGUF file"),
        (["config.json", "tf_model.h5"], "only a TensorFlow model"),
        (["config.json", "flax_model.msgpack"], "only a Flax model"),
        (["checkpoint-500", "checkpoint-1000", "runs"], "checkpoint-1000 is the latest"),
        (["config.json"], "has no model.safetensors. Load the model"),
        ([], "no model.safetensors and no config.json"),
    ],
)
def test_a_folder_without_weights_is_told_what_it_has(names: list[str], said: str) -> None:
    with pytest.raises(SecateurError) as caught:
        require_weights(names, "The folder")
    assert caught.value.code is ErrorCode.FILE_MISSING
    assert said in caught.value.detail


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors"]
)
def test_a_folder_with_weights_may_hold_anything_beside(name: str) -> None:
    require_weights([name, "onnx", "pytorch_model.bin", "adapter_config.json", "checkpoint-500"], "The folder")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("model.gguf", "a GGUF file"),
        ("model.onnx", "an ONNX graph"),
        ("flax_model.msgpack", "a Flax model"),
        ("a.h5", None),
    ],
)
def test_other_formats_are_known_by_name(name: str, what: str | None) -> None:
    assert foreign(name) == what
