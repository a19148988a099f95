"""What may be asked of a model that has no labels, or that writes its answer."""

import pytest

from api_schemas.enums import ExportFormat, Head
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.pruning import Pruning
from api_schemas.task_rules import check_exports, check_labels


def pruning(preset: str, **changes: object) -> Pruning:
    return Pruning.model_validate({"preset": preset, "target": {"attention_sparsity": 0.5}, **changes})


def test_embeddings_have_no_labels_of_the_data() -> None:
    with pytest.raises(SecateurError, match="labels to model") as caught:
        check_labels(Head.EMBEDDING, pruning("paper"))
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert [item.pointer for item in caught.value.errors] == ["/pruning/calibration/labels"]


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
    check_exports(Head.SEQUENCE_TO_SEQUENCE, ())
    check_exports(Head.CTC, [ExportFormat.ONNX])
    with pytest.raises(SecateurError, match="token by token") as caught:
        check_exports(Head.SEQUENCE_TO_SEQUENCE, [ExportFormat.ONNX])
    assert caught.value.code is ErrorCode.EXPORT_UNAVAILABLE
    assert [item.pointer for item in caught.value.errors] == ["/exports"]
