"""Classification: the loss against its formula and transformers' own."""

import pytest
import torch
from transformers import BertForSequenceClassification

from tests.unit.engine.tasks.models import bert
from worker.engine.tasks import Classification


def test_the_loss_is_one_value_a_sample() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2, 1, 1, 0])
    expected = torch.stack([logits[i].logsumexp(0) - logits[i, labels[i]] for i in range(5)])
    torch.testing.assert_close(Classification(several=False).loss(logits, labels), expected)

    several = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]])
    p = logits.sigmoid()
    expected = -(several * p.log() + (1 - several) * (1 - p).log()).mean(dim=1)
    torch.testing.assert_close(Classification(several=True).loss(logits, several), expected)


@pytest.mark.parametrize("several", [False, True])
def test_its_mean_is_the_models_own_loss(several: bool) -> None:
    model = bert(BertForSequenceClassification)
    model.config.problem_type = "multi_label_classification" if several else "single_label_classification"
    inputs = {"input_ids": torch.randint(20, (4, 7), generator=torch.Generator().manual_seed(1))}
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]]) if several else torch.tensor([0, 2, 1, 1])
    task = Classification(several=several)
    with torch.no_grad():
        expected = model(**inputs, labels=targets).loss
        torch.testing.assert_close(task.loss(task.outputs(model, inputs), targets).mean(), expected)
