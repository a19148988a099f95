"""What sentence-transformers puts around an encoder, read without trust: what is known is taken, and nothing else."""

import json
from typing import Any

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.config.dense_modules import check_dense
from checkpoints.config.sentences import MAX_BYTES, read_sentences
from checkpoints.files.preprocessor_files import ENCODERS, GENERAL, MODULES, NORMALIZE, POOLING

TYPES = ("Transformer", "Pooling", "Normalize", "Dense")
PLACES = ("", "1_Pooling", "2_Normalize", "2_Dense")


def module(place: int, **changes: Any) -> dict[str, Any]:
    name = f"sentence_transformers.models.{TYPES[place]}"
    return {"idx": place, "name": str(place), "path": PLACES[place], "type": name, **changes}


DENSE_MODULES = [module(3), module(3, path="3_Dense")]
DENSE = {"in_features": 32, "out_features": 24, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
GOOD: dict[str, Any] = {
    MODULES: [module(0), module(1), module(2)],
    POOLING: {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    ENCODERS[0]: {"max_seq_length": 128, "do_lower_case": False},
    GENERAL: {"__version__": {"pytorch": "2.0"}, "prompts": {"q": "to: "}, "default_prompt_name": "q"},
}


def read(**files: Any) -> Any:
    """GOOD with other files in the place of its own; bytes are taken as they are, and None stands for no file."""
    given = {**GOOD, **files}

    def one(name: str) -> bytes | None:
        value = given.get(name)
        return value if value is None or isinstance(value, bytes) else json.dumps(value).encode()

    return read_sentences(one)


def test_what_is_known_is_read_and_written_anew() -> None:
    found = read(**{GENERAL: {**GOOD[GENERAL], "custom": 1}})
    assert (found.pooling, found.longest, found.lower_case, found.prompt) == (("cls",), 128, False, "to: ")
    assert found.unread == (f"{GENERAL}: custom",)
    assert found.files[GENERAL] == GOOD[GENERAL]
    assert found.files[MODULES] == GOOD[MODULES]
    assert read(**{MODULES: None}) is None


@pytest.mark.parametrize("name", ENCODERS)
def test_older_names_of_the_encoders_settings(name: str) -> None:
    """An empty file says nothing, and the next is asked."""
    files = dict.fromkeys(ENCODERS) | {ENCODERS[0]: {}, name: {"max_seq_length": 64}}
    assert read(**files).longest == 64


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": False}, ("mean",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode": "max", "pooling_mode_cls_token": True}, ("max",)),
        ({"embedding_dimension": 32, "pooling_mode": ["mean", "cls"], "include_prompt": True}, ("mean", "cls")),
    ],
)
def test_ways_of_pooling(settings: dict[str, Any], pooling: tuple[str, ...]) -> None:
    assert read(**{POOLING: settings}).pooling == pooling


def dense(**changes: Any) -> Any:
    files = {MODULES: [module(0), module(1), module(3)], "2_Dense/config.json": {**DENSE, **changes}}
    return read(**files)


def test_dense_modules_are_read_by_name() -> None:
    found = dense(use_residual=False, module_output_name="sentence_embedding")
    (module_,) = found.dense
    assert (module_.width_in, module_.width_out, module_.bias, module_.activation) == (32, 24, True, "Tanh")
    assert found.files["2_Dense/config.json"] == DENSE
    assert dense(activation_function="torch.nn.modules.linear.Identity").dense[0].activation == "Identity"
    two = [module(0), module(1), *DENSE_MODULES, module(2, path="4_Normalize")]
    files = {f"{folder}/config.json": DENSE for folder in ("2_Dense", "3_Dense")}
    assert len(read(**{MODULES: two, **files}).dense) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation_function": "torch.nn.modules.module.Module"}, "one of torch.nn.Tanh"),
        ({"activation_function": "os.system"}, "one of torch.nn.Tanh"),
        ({"activation_function": ["torch.nn.Tanh"]}, "one of torch.nn.Tanh"),
        ({"in_features": 0}, "a whole number from 1"),
        ({"in_features": None}, "a whole number from 1"),
        ({"bias": 1}, "true or false"),
        ({"bias": None}, "true or false"),
        ({"use_residual": True}, "residual connection"),
        ({"module_input_name": "token_embeddings"}, "one of sentence_embedding"),
        ({"own": 1}, "not supported"),
    ],
)
def test_other_settings_of_a_dense_module_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SecateurError) as caught:
        dense(**changes)
    assert caught.value.code is ErrorCode.CONFIG_INVALID
    assert said in caught.value.detail
    assert "2_Dense/config.json" in caught.value.detail


def test_dense_modules_follow_from_the_poolings_width() -> None:
    modules = dense().dense
    with pytest.raises(SecateurError, match="`in_features`: must be 64"):
        check_dense(modules, 64, lambda _name: None)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (MODULES, {}, "not a JSON list"),
        (MODULES, [], "a Transformer, a Pooling"),
        (MODULES, [module(0)], "a Transformer, a Pooling"),
        (MODULES, [module(1), module(0)], "in this order"),
        (MODULES, [module(0), module(1), module(2), module(3)], "in this order"),
        (MODULES, [module(0), module(1), module(3), module(3)], "`path` must be '3_Dense'"),
        (MODULES, [module(0), module(1), module(2), module(3, path="3_Dense")], "in this order"),
        (MODULES, [module(0), module(1), *DENSE_MODULES, module(3, path="4_Dense")], "up to 2 Dense"),
        (MODULES, [module(0), module(1), module(3, type="sentence_transformers.models.CNN")], "the module CNN is not supported"),
        (MODULES, [module(0, path="../0"), module(1)], "`path` must be ''"),
        (MODULES, [module(0), module(1, path="/etc")], "`path` must be '1_Pooling'"),
        (MODULES, [module(0, kwargs=["trust"]), module(1)], "`kwargs` are not supported"),
        (MODULES, [0, module(1)], "must be an object"),
        (POOLING, {"pooling_mode": "evil"}, "one of cls, max"),
        (POOLING, {"pooling_mode": []}, "one of cls, max"),
        (POOLING, {"pooling_mode": [["cls"]]}, "one of cls, max"),
        (POOLING, {"pooling_mode_cls_token": 1}, "must be true or false"),
        (POOLING, {"include_prompt": False}, "include_prompt"),
        (POOLING, {"own": 1}, "this setting is not supported"),
        (POOLING, b"[" * 10**5, "1_Pooling/config.json"),
        (ENCODERS[0], {"max_seq_length": 0}, "a whole number from 1"),
        (ENCODERS[0], {"max_seq_length": True}, "a whole number from 1"),
        (ENCODERS[0], {"tokenizer_name_or_path": "/etc"}, "this setting is not supported"),
        (ENCODERS[0], {"model_args": {"backend": "onnx"}}, "this setting is not supported"),
        (ENCODERS[0], {"transformer_task": "fill-mask"}, "one of feature-extraction"),
        (ENCODERS[0], {"modality_config": {"image": {}}}, "this setting is not supported"),
        (ENCODERS[0], b'{"a": "' + b"x" * MAX_BYTES + b'"}', "is larger than"),
        (NORMALIZE, {"module_input_name": "token_embeddings"}, "one of sentence_embedding"),
        (GENERAL, {"default_prompt_name": "other"}, "`prompts` has no entry of this name"),
        (GENERAL, {"default_prompt_name": ["q"], "prompts": {"q": ""}}, "a text of at most"),
        (GENERAL, {"prompts": {"q": "x" * 5000}}, "at most 64 texts"),
        (GENERAL, {"prompts": ["q"]}, "at most 64 texts"),
        (GENERAL, {"__version__": {"pytorch": {"a": 1}}}, "an object of short texts"),
        (GENERAL, {"similarity_fn_name": "os.system"}, "one of cosine"),
        (GENERAL, {"model_type": "SparseEncoder"}, "one of SentenceTransformer"),
    ],
)  # fmt: skip
def test_everything_else_is_refused(name: str, value: Any, said: str) -> None:
    with pytest.raises(SecateurError) as caught:
        read(**{name: value})
    assert caught.value.code is ErrorCode.CONFIG_INVALID
    assert said in caught.value.detail
    assert name in caught.value.detail


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (ENCODERS[0], {"tokenizer_args": {"trust_remote_code": True}}),
        (MODULES, [module(0, auto_map={"AutoModel": "x.Y"}), module(1)]),
        (MODULES, [module(0, type="evil.Model"), module(1)]),
        (MODULES, [module(0, type="sentence_transformers.models.Transformer\n"), module(1)]),
        (MODULES, [module(0, type="sentence_transformers.x;y.Transformer"), module(1)]),
        (MODULES, [module(0, type=["sentence_transformers.models.Transformer"]), module(1)]),
    ],
)
def test_what_asks_for_code_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SecateurError) as caught:
        read(**{name: value})
    assert caught.value.code is ErrorCode.CODE_REFUSED


def test_a_pooling_that_is_named_has_to_be_there() -> None:
    with pytest.raises(SecateurError) as caught:
        read(**{POOLING: None})
    assert (caught.value.code, caught.value.errors[0].pointer) == (ErrorCode.FILE_MISSING, "/1_Pooling~1config.json")
