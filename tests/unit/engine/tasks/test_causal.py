"""Next tokens: against transformers' own loss, and a perplexity summed token by token."""

import math

import numpy as np
import pytest
import torch

from checkpoints.families.base import Padding
from tests.unit.engine.tasks.models import gpt2
from worker.engine.data.featurizers.blocks import following
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.evaluate import evaluate
from worker.engine.tasks.causal import CausalLm

TASK, CPU = CausalLm(), torch.device("cpu")
PADDING = Padding({"input_ids": 0.0}, "attention_mask", 8)


def blocks(lengths: list[int], seed: int = 0) -> FeatureSplit:
    random = np.random.default_rng(seed)
    ids = [random.integers(0, 20, length) for length in lengths]
    return FeatureSplit({"input_ids": Ragged.of(ids)}, Ragged.of(list(map(following, ids))))


def test_a_samples_loss_is_the_models_own_for_it_alone() -> None:
    """transformers shifts labels by itself."""
    model, split = gpt2(), blocks([7, 5, 1, 9])
    inputs, targets = split.padded(PADDING).batch([0, 1, 2, 3])
    answers = TASK.outputs(model, inputs).requires_grad_()
    losses = TASK.loss(answers, targets)
    for row in (0, 1, 3):
        alone, _ = split.batch([row])
        torch.testing.assert_close(losses[row], model(**alone, labels=alone["input_ids"]).loss)
    assert losses[2] == 0.0, "nothing follows a single token"
    (gradient,) = torch.autograd.grad(losses.sum(), answers)
    assert not gradient[targets == -100].any()
    assert gradient[targets != -100].any(-1).all()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_perplexity_is_that_of_all_tokens_one_by_one(batch_size: int) -> None:
    model, split = gpt2(), blocks([6, 4, 6, 9, 2, 4, 6, 9])
    nats, hits, means = [], [], []
    for row in range(len(split)):
        ids = split.batch([row])[0]["input_ids"][0].tolist()
        own = []
        for place in range(1, len(ids)):
            with torch.no_grad():
                told = model(input_ids=torch.tensor([ids[:place]])).logits[0, -1].double().log_softmax(-1)
            own.append(-told[ids[place]].item())
            hits.append(int(told.argmax()) == ids[place])
        nats += own
        means.append(sum(own) / len(own))
    scores = evaluate(model, split.padded(PADDING), TASK, batch_size=batch_size, device=CPU)
    assert scores.samples == len(split)
    assert scores.perplexity == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-5)
    assert scores.next_token_accuracy == scores.metric == pytest.approx(sum(hits) / len(hits))
    assert scores.cross_entropy == pytest.approx(sum(means) / len(means), rel=1e-5)
    assert scores.token_accuracy is None
    assert scores.headline is not None
    assert scores.headline.name == "next token accuracy"


def test_nothing_asked_is_no_accuracy_and_a_hopeless_model_no_perplexity() -> None:
    accumulator = TASK.accumulator()
    accumulator.add(torch.tensor([0]), torch.zeros(1, 3, 4), torch.full((1, 3), -100))
    scores = accumulator.scores()
    assert (scores.next_token_accuracy, scores.perplexity, scores.metric) == (None, None, None)
    accumulator = TASK.accumulator()
    accumulator.add(torch.tensor([0]), torch.tensor([[[2000.0, 0.0]]]), torch.tensor([[1]]))
    assert accumulator.scores().perplexity is None
    assert accumulator.scores().cross_entropy == pytest.approx(2000.0)
