"""config.json of classes that answer questions: they have two outputs, whatever these are called."""

from typing import Any

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.config.checkpoint_config import read_config

BERT = {"model_type": "bert", "architectures": ["BertForQuestionAnswering"]}


@pytest.mark.parametrize("said", [{}, {"num_labels": 2}, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}])
def test_two_outputs_are_no_labels(said: dict[str, Any]) -> None:
    assert read_config({**BERT, **said}).labels == ()


@pytest.mark.parametrize(("key", "value"), [("num_labels", 3), ("id2label", {"0": "a"})])
def test_another_number_is_refused(key: str, value: Any) -> None:
    with pytest.raises(SecateurError, match="has 2 outputs, the start and the end of the answer") as caught:
        read_config({**BERT, key: value})
    assert caught.value.code is ErrorCode.CONFIG_INVALID
