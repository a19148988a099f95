"""What may be asked of a model that has no labels, that writes its answer, or whose class reads no head width."""

import pytest

from api_schemas.enums import ExportFormat, Head
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.pruning import Pruning
from checkpoints.families import FAMILIES, Family
from checkpoints.task_rules import check_exports, check_labels, check_layout

FAMILIES_BY_NAME = {family.name: family for family in FAMILIES}


def pruning(preset: str, **changes: object) -> Pruning:
    return Pruning.model_validate({"preset": preset, "target": {"attention_sparsity": 0.5}, **changes})


def test_embeddings_have_no_labels_of_the_data() -> None:
    with pytest.raises(SecateurError, match="labels to model") as caught:
        check_labels(Head.EMBEDDING, pruning("paper"))
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert [item.pointer for item in caught.value.errors] == ["/pruning/calibration/labels"]


def test_taylor_is_not_sent_on_to_labels_that_it_cannot_use() -> None:
    with pytest.raises(SecateurError, match="Use fisher_gate and set pruning"):
        check_labels(Head.EMBEDDING, pruning("paper", criterion="taylor"))


@pytest.mark.parametrize(
    ("head", "spec"),
    [
        (Head.EMBEDDING, pruning("best")),
        (Head.EMBEDDING, pruning("paper", calibration={"labels": "model"})),
        (Head.EMBEDDING, pruning("paper", criterion="magnitude")),
        (Head.CTC, pruning("paper")),
    ],
)
def test_what_needs_none_or_has_some_is_accepted(head: Head, spec: Pruning) -> None:
    check_labels(head, spec)


def test_a_model_that_writes_is_no_single_graph() -> None:
    check_exports(FAMILIES_BY_NAME["ast"], Head.SEQUENCE_TO_SEQUENCE, ())
    check_exports(FAMILIES_BY_NAME["ast"], Head.CTC, [ExportFormat.ONNX])
    # No graph, and so of any length.
    check_exports(FAMILIES_BY_NAME["sew"], Head.CTC, [ExportFormat.TORCHAO_INT8])
    with pytest.raises(SecateurError, match="one fixed length") as squeezed:
        check_exports(FAMILIES_BY_NAME["sew"], Head.CTC, [ExportFormat.ONNX])
    assert squeezed.value.code == "export_unavailable"
    with pytest.raises(SecateurError, match="token by token"):
        check_exports(FAMILIES_BY_NAME["ast"], Head.SEQUENCE_TO_SEQUENCE, [ExportFormat.TORCHAO_INT8_WEIGHTS])
    with pytest.raises(SecateurError, match="token by token") as caught:
        check_exports(FAMILIES_BY_NAME["ast"], Head.SEQUENCE_TO_SEQUENCE, [ExportFormat.ONNX])
    assert caught.value.code is ErrorCode.EXPORT_UNAVAILABLE
    assert [item.pointer for item in caught.value.errors] == ["/exports"]


def test_a_gpt2_has_no_linear_maps_that_torchao_would_find() -> None:
    check_exports(FAMILIES_BY_NAME["gpt2"], Head.CAUSAL_LM, [ExportFormat.ONNX, ExportFormat.ONNX_INT8])
    check_exports(FAMILIES_BY_NAME["opt"], Head.CAUSAL_LM, list(ExportFormat))
    for formats in ([ExportFormat.TORCHAO_INT8], [ExportFormat.ONNX, ExportFormat.TORCHAO_INT8_WEIGHTS]):
        with pytest.raises(SecateurError, match="Use onnx_int8 for eight bits") as caught:
            check_exports(FAMILIES_BY_NAME["gpt2"], Head.CAUSAL_LM, formats)
        assert caught.value.code is ErrorCode.EXPORT_UNAVAILABLE
        assert [item.pointer for item in caught.value.errors] == ["/exports"]


BLOCKS = {"ffn_sparsity": 0.5}


@pytest.mark.parametrize("target", [{"attention_sparsity": 0.5}, BLOCKS, {"attention_sparsity": 0.5, **BLOCKS}])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_stock_layout_needs_a_class_that_reads_what_is_left(family: Family, target: dict[str, float]) -> None:
    check_layout(family, pruning("paper", target=target))
    if (family.head_dim_key or target == BLOCKS) and (family.neurons_key or "ffn_sparsity" not in target):
        check_layout(family, pruning("paper", target=target, layout="stock"))
        return
    able = "ast, vit, deit" if family.head_dim_key is None and target != BLOCKS else "ast, vit, deit, dinov3, wav2vec2"
    with pytest.raises(SecateurError, match=f"the stock layout is available for {able}") as caught:
        check_layout(family, pruning("paper", target=target, layout="stock"))
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert [item.pointer for item in caught.value.errors] == ["/pruning/layout"]
