"""Hidden states: which of a model's, how near they stay to the original's, and the Gauss-Newton matrix that draws estimate."""

import copy

import peft
import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn
from transformers import BertModel, Wav2Vec2Config, Wav2Vec2ForPreTraining

from tests.unit.engine.tasks.models import bert, seeded
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.evaluate import evaluate
from worker.engine.tasks.hidden_states import HiddenStates

CPU = torch.device("cpu")


def other_than(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return other


def test_scores_are_those_of_every_token_beside_the_originals() -> None:
    model = bert(BertModel)
    other, task = other_than(model), HiddenStates(model)
    random = torch.Generator().manual_seed(0)
    ids = [torch.randint(0, 20, (length,), generator=random).numpy() for length in (4, 6, 4, 5, 6)]
    split = FeatureSplit({"input_ids": Ragged.of(ids)}, torch.zeros(len(ids), 0))
    same = evaluate(model, split, task, batch_size=3, device=CPU)
    assert same.cosine_similarity == same.metric == pytest.approx(1.0)
    assert same.explained_variance == pytest.approx(1.0)
    ours, theirs, by_sample = [], [], []
    for row in range(len(split)):
        inputs, _ = split.batch([row])
        with torch.no_grad():
            pair = [each(**inputs).last_hidden_state[0].double() for each in (other, model)]
        ours.append(pair[0])
        theirs.append(pair[1])
        by_sample.append(float(torch.cosine_similarity(*pair, dim=-1).mean()))
        loss = task.loss(task.outputs(other, inputs), task.asked(inputs, split.targets))  # type: ignore[arg-type]
        assert loss.item() == pytest.approx(1 - by_sample[-1], abs=1e-6)
    expected = r2_score(torch.cat(theirs), torch.cat(ours), multioutput="variance_weighted")
    for size in (1, 3):
        scores = evaluate(other, split, task, batch_size=size, device=CPU)
        assert scores.cosine_similarity == pytest.approx(sum(by_sample) / len(by_sample), abs=1e-6)
        assert scores.explained_variance == pytest.approx(expected, abs=1e-6)
        assert scores.cross_entropy is None
        assert scores.metric is not None
        assert scores.metric < 0.99


def test_what_pretraining_put_on_the_encoder_is_not_looked_at_with_adapters_or_without() -> None:
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, conv_dim=(8,), conv_kernel=(5,),
        conv_stride=(5,), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, num_codevectors_per_group=4,
        codevector_dim=8, proj_codevector_dim=6,
    )  # fmt: skip
    model, inputs = seeded(Wav2Vec2ForPreTraining, config), {"input_values": torch.randn(2, 60)}
    task = HiddenStates(model)
    with torch.no_grad():
        expected = model.wav2vec2(**inputs).last_hidden_state
        torch.testing.assert_close(task.outputs(model, inputs), expected)
        torch.testing.assert_close(task.asked(inputs, torch.zeros(2, 0)), expected)
        adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(target_modules=["q_proj"])).eval()
        torch.testing.assert_close(task.outputs(adapted, inputs), expected)
    assert not task.asked(inputs, torch.zeros(2, 0)).requires_grad


def test_draws_estimate_the_gauss_newton_matrix() -> None:
    """E over draws of the gradient's outer product at the states is JᵀJ of the tokens' directions, each of T by 1 / T²."""
    states = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    jacobian = torch.autograd.functional.jacobian(lambda s: torch.nn.functional.normalize(s, dim=-1), states).view(6, 6)
    expected, draws = jacobian.T @ jacobian / 4, 20_000
    answers = states.repeat(draws, 1, 1).requires_grad_()
    task = HiddenStates(nn.Identity())
    (gradients,) = torch.autograd.grad(task.sampled_label_loss(0)(answers, None).sum(), answers)
    flat = gradients.flatten(1)
    assert (flat.T @ flat / draws - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_directions_have_no_temperature(temperature: float) -> None:
    student, teacher = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(0))
    cosine = torch.cosine_similarity(student, teacher, dim=-1).mean(1)
    task = HiddenStates(nn.Identity())
    # The objective multiplies by the temperature's square.
    found = temperature**2 * task.divergence(student, teacher, temperature, teacher)
    torch.testing.assert_close(found, (1 - cosine).mean())
    torch.testing.assert_close(task.agreement(student, teacher), cosine.double().clamp_min(0))


def test_the_length_of_states_counts_in_what_is_explained() -> None:
    """States twice as long point the same way and are wrong by as much as they are long."""
    task = HiddenStates(nn.Identity())
    theirs = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    accumulator = task.accumulator()
    accumulator.add(torch.tensor([0]), 2 * theirs, theirs)
    scores = accumulator.scores()
    assert scores.cosine_similarity == pytest.approx(1.0)
    assert scores.explained_variance == pytest.approx(0.0)
