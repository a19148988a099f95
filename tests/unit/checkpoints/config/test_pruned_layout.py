"""A config in the layout of our own: recognised by its class, its widths read and held against the tensors, its code nobody's."""

import copy
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.pruning import Pruning
from checkpoints.describe import Checkpoint, describe_checkpoint
from checkpoints.files.safetensors_header import parse_header
from checkpoints.planning.estimates import estimated_steps
from checkpoints.planning.feasibility import check_feasible
from checkpoints.sizes import accounting
from tests.support.uploads import NARROW, ast_config, ast_tensors, pruned_ast_config

PROJECTION = "audio_spectrogram_transformer.layers.1.attention.{}_proj.weight"


def describe(config: dict[str, Any], tensors: dict[str, np.ndarray] | None = None) -> Checkpoint:
    data = save(ast_tensors(pruned_ast_config()) if tensors is None else tensors)
    return describe_checkpoint(config, parse_header(data, len(data)))


def refused(config: dict[str, Any], tensors: dict[str, np.ndarray] | None = None) -> SecateurError:
    with pytest.raises(SecateurError) as caught:
        describe(config, tensors)
    return caught.value


def test_it_counts_as_it_is() -> None:
    found = describe(pruned_ast_config())
    assert [(layer.qk, layer.vo, layer.numbers) for layer in found.widths.layers] == list(NARROW)
    assert found.widths.feed_forward == (7, 64)
    assert found.widths.head_dim == 8
    tensors = ast_tensors(pruned_ast_config())
    assert tensors[PROJECTION.format("q").replace("layers.1", "layers.0")].shape == (0, 32)
    assert accounting.total_parameters(found.shape, found.widths) == sum(array.size for array in tensors.values())
    assert accounting.attention_sparsity(found.shape, found.widths) == 0
    (warning,) = found.warnings
    assert warning.code == "pruned_before"
    # Of 2 · (4 · 32 · 32 + 4 · 32): eleven QK and seven VO channels of one layer are left, and both output biases.
    gone = 1 - (11 * 2 * 33 + 7 * (32 + 33) + 2 * 32) / (2 * (4 * 32 * 32 + 4 * 32))
    assert f"{gone:.1%} of its attention parameters and {1 - 71 / 128:.1%} of its feed-forward" in warning.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "pruned-audio-spectrogram-transformer"},
        {"auto_map": None},
        {"auto_map": {"AutoModel": "evil.Loader"}, "_attn_implementation": "sdpa"},
        {"_attn_implementation": None},
    ],
)
def test_of_every_age_and_as_transformers_saves_it_again(changes: dict[str, Any]) -> None:
    assert describe(pruned_ast_config(**changes)).widths == describe(pruned_ast_config()).widths


def test_without_feed_forward_widths_none_were_cut() -> None:
    config = pruned_ast_config(pruned_feed_forward=None)
    assert describe(config, ast_tensors(config)).widths.feed_forward == (64, 64)


@pytest.mark.parametrize(
    "changes",
    [
        {"_attn_implementation": "somebody/kernels"},
        {"trust_remote_code": True},
        {"architectures": ["PrunedByMe"]},
    ],
)
def test_other_code_is_refused_as_anybodys(changes: dict[str, Any]) -> None:
    assert refused(pruned_ast_config(**changes)).code == ErrorCode.CODE_REFUSED


def test_widths_that_a_stock_class_is_said_to_have_are_not_read() -> None:
    config = pruned_ast_config(architectures=["ASTForAudioClassification"], _attn_implementation=None)
    assert refused(config).code == ErrorCode.WEIGHTS_MISMATCH
    assert describe(config, ast_tensors(ast_config())).shape.pruned is None


def entry(**changes: Any) -> list[Any]:
    """The widths of attention, the second layer's changed."""
    entries = copy.deepcopy(pruned_ast_config()["pruned_attention"])
    return [entries[0], entries[1] | changes]


ATTENTION = pruned_ast_config()["pruned_attention"]
HOSTILE = [
    ("pruned_attention", "none"),
    ("pruned_attention", {"0": ATTENTION[0]}),
    ("pruned_attention", []),
    ("pruned_attention", ATTENTION[:1]),
    ("pruned_attention", ATTENTION * 2),
    ("pruned_attention", ATTENTION[::-1]),
    ("pruned_attention", [ATTENTION[0], None]),
    *(("pruned_attention", entry(qk=value)) for value in (None, 3, [3], [3, 9], [0, 11], [-3, 14])),
    *(("pruned_attention", entry(qk=value)) for value in ([3.0, 8], [True, 8], ["3", 8])),
    *(("pruned_attention", entry(vo=value)) for value in ([5], [7] * 2**16, [[5], 2], [2**70, 2])),
    *(("pruned_attention", entry(heads=value)) for value in (None, [0], [3, 1], [1, 1], [-1, 3], [1, 4])),
    ("pruned_attention", entry(qk=[2] * 5, vo=[2] * 5, heads=[0, 1, 2, 3, 4])),
    ("pruned_feed_forward", []),
    ("pruned_feed_forward", {}),
    ("pruned_feed_forward", [{"first": "elsewhere", "neurons": 7}] * 2),
    *(
        ("pruned_feed_forward", [each | {"neurons": count} for each in pruned_ast_config()["pruned_feed_forward"]])
        for count in (0, 65, -1, 2**70, True, 7.0, "7", None)
    ),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), HOSTILE)
def test_widths_that_are_none_are_refused(key: str, value: Any) -> None:
    error = refused(pruned_ast_config(**{key: value}))
    assert error.code == ErrorCode.CONFIG_INVALID
    assert [item.pointer for item in error.errors] == [f"/config.json/{key}"]


@pytest.mark.parametrize(
    ("key", "value", "tensor"),
    [
        ("pruned_attention", entry(qk=[3, 7]), "q_proj"),
        ("pruned_attention", entry(vo=[5, 3]), "v_proj"),
        ("pruned_attention", entry(qk=[], vo=[], heads=[]), "q_proj"),
        (
            "pruned_feed_forward",
            [each | {"neurons": 64} for each in pruned_ast_config()["pruned_feed_forward"]],
            "layers.0.mlp",
        ),
    ],
)
def test_widths_that_contradict_the_tensors_are_refused(key: str, value: Any, tensor: str) -> None:
    error = refused(pruned_ast_config(**{key: value}))
    assert error.code == ErrorCode.WEIGHTS_MISMATCH
    assert any(tensor in item.pointer for item in error.errors)


def pruning(share: float = 0.3, kind: str = "attention_sparsity", **changes: Any) -> Pruning:
    return Pruning.model_validate(
        {"preset": "paper", "target": {kind: share}, "granularity": "ragged", "align": 1, **changes}
    )


@pytest.mark.parametrize("granularity", ["ragged", "entire_head", "head_and_channel"])
def test_what_is_estimated_is_of_the_model_as_it_is(granularity: str) -> None:
    found = describe(pruned_ast_config())
    spec = pruning(granularity=granularity)
    check_feasible(found.shape, found.widths, spec)
    whole, *_, cut = estimated_steps(found.shape, spec, 10**6)
    assert (whole.attention_sparsity, whole.total_parameters) == (
        0,
        sum(array.size for array in ast_tensors(pruned_ast_config()).values()),
    )
    head = 1 if granularity == "ragged" else 8
    one = head * (66 + 65) / accounting.attention_parameters(found.shape, found.widths)
    assert abs(cut.attention_sparsity - 0.3) <= one


@pytest.mark.parametrize(
    ("changes", "pointer", "said"),
    [
        (
            {"granularity": "per_head"},
            "/pruning/granularity",
            "ragged, entire_head, head_and_channel or head_and_width",
        ),
        ({"layout": "stock", "granularity": "entire_head"}, "/pruning/layout", "cannot express"),
        ({"align": 8}, "/pruning/align", "smaller align"),
        ({"kind": "latency", "share": 0.02}, "/pruning/target/latency", "not all alike"),
        ({"exclude_layers": [0, 1]}, "/pruning/exclude_layers", "all 2 layers"),
        ({"exclude_layers": [1]}, "/pruning/parts", "no attention left"),
    ],
)
def test_what_cannot_be_asked_of_it(changes: dict[str, Any], pointer: str, said: str) -> None:
    found = describe(pruned_ast_config())
    with pytest.raises(SecateurError) as caught:
        check_feasible(found.shape, found.widths, pruning(**changes))
    assert [item.pointer for item in caught.value.errors] == [pointer]
    assert said in caught.value.detail


def test_neurons_alone_where_no_attention_is_left() -> None:
    config = pruned_ast_config()
    config["pruned_attention"] = [each | {"qk": [], "vo": [], "heads": []} for each in config["pruned_attention"]]
    found = describe(config, ast_tensors(config))
    check_feasible(found.shape, found.widths, pruning(0.5, "ffn_sparsity"))
    with pytest.raises(SecateurError, match="no attention left"):
        check_feasible(found.shape, found.widths, pruning())
