"""Embeddings: what is taken from a model, how near it stays, and the Gauss-Newton matrix that draws estimate."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import BertModel

from api_schemas.enums import Split
from benchmarks.families.tiny_models import MODELS
from tests.unit.engine.tasks.models import bert, clap
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.evaluate import answers_of, evaluate
from worker.engine.tasks.embedding import Embedding

TASK, CPU = Embedding(), torch.device("cpu")


def sentences(count: int = 12) -> FeatureSplit:
    random = np.random.default_rng(0)
    ids = Ragged.of([random.integers(0, 20, 4 + row % 3) for row in range(count)])
    return FeatureSplit({"input_ids": ids}, torch.zeros(count, 0))


def test_a_sentence_is_the_mean_of_its_tokens() -> None:
    model, (inputs, _) = bert(BertModel), sentences().batch([1, 4])
    with torch.no_grad():
        mean = model(**inputs).last_hidden_state.sum(1) / 5
        torch.testing.assert_close(TASK.outputs(model, inputs), mean / mean.norm(dim=1, keepdim=True))


def test_a_projected_embedding_is_taken_as_it_is() -> None:
    model, features = clap(), torch.randn(2, 1, 64, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        projected = model(input_features=features).audio_embeds
        found = TASK.outputs(model, {"input_features": features})
    torch.testing.assert_close(found, projected / projected.norm(dim=1, keepdim=True))


def test_so_is_that_of_a_text() -> None:
    (tiny,) = (tiny for tiny in MODELS if tiny.name == "ClapTextModelWithProjection")
    model, inputs = tiny.stock(), tiny.inputs(2)
    with torch.no_grad():
        first = model.text_model(**inputs).last_hidden_state[:, 0]
        projected = model.text_projection(torch.tanh(model.text_model.pooler.dense(first)))
        found = TASK.outputs(model, inputs)
    torch.testing.assert_close(found, projected / projected.norm(dim=1, keepdim=True))


def test_scores_compare_with_the_original() -> None:
    model, split = bert(BertModel), sentences()

    def answers(some: FeatureSplit) -> torch.Tensor:
        return answers_of(model, some, TASK, batch_size=5, device=CPU)

    ready = TASK.ready({Split.VALIDATION: split, Split.TRAIN: split}, answers, {Split.VALIDATION})
    assert ready[Split.TRAIN] is split
    same = evaluate(model, ready[Split.VALIDATION], TASK, batch_size=3, device=CPU)
    assert same.cosine_similarity == pytest.approx(1.0)
    assert same.similarity_correlation == pytest.approx(1.0)
    assert same.cross_entropy is None
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    scores = evaluate(other, ready[Split.VALIDATION], TASK, batch_size=3, device=CPU)
    theirs, ours = (answers_of(m, split, TASK, batch_size=1, device=CPU).double().numpy() for m in (model, other))
    pairs = np.triu_indices(len(split), 1)
    assert scores.cosine_similarity == pytest.approx(float((ours * theirs).sum(1).mean()), abs=1e-6)
    expected = spearmanr((ours @ ours.T)[pairs], (theirs @ theirs.T)[pairs]).statistic
    assert scores.similarity_correlation == pytest.approx(expected, abs=1e-6)
    assert scores.metric == scores.cosine_similarity < 0.99
    inputs, targets = ready[Split.VALIDATION].batch([0, 3])
    loss = TASK.loss(TASK.outputs(other, inputs), targets)
    torch.testing.assert_close(
        loss.detach().double(), 1 - torch.from_numpy((ours * theirs).sum(1)[[0, 3]]), atol=1e-6, rtol=0
    )


def test_draws_estimate_the_gauss_newton_matrix() -> None:
    """E over draws of the gradient's square at a weight W of e = normalise(W x) is JᵀJ."""
    weight, x = (
        torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)).double().unbind(0)[0],
        torch.tensor([0.7, -1.1]),
    )

    def embedding(w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(w @ x.double(), dim=-1)

    jacobian = torch.autograd.functional.jacobian(embedding, weight).flatten(1)
    draws = 20_000
    answers = embedding(weight).repeat(draws, 1).requires_grad_()
    (gradients,) = torch.autograd.grad(TASK.sampled_label_loss(0)(answers, None).sum(), answers)
    at_weight = gradients @ jacobian
    expected = jacobian.T @ jacobian
    assert (at_weight.T @ at_weight / draws - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_directions_have_no_temperature(temperature: float) -> None:
    student, teacher = torch.nn.functional.normalize(
        torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    cosine = torch.nn.functional.cosine_similarity(student, teacher)
    # The objective multiplies by the temperature's square.
    torch.testing.assert_close(
        temperature**2 * TASK.divergence(student, teacher, temperature, teacher), (1 - cosine).mean()
    )
    torch.testing.assert_close(TASK.agreement(student, teacher), cosine.double().clamp_min(0))
