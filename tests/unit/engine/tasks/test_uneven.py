"""What is measured of rows of several lengths: the same with and without padding, in fewer passes."""

import pytest
import torch

from tests.unit.engine.tasks.uneven import CASES, LENGTHS, uneven
from worker.engine.evaluate import answers_of, evaluate

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_without_padding(name: str) -> None:
    case = uneven(name)
    passes: list[int] = []
    called = case.model.get_encoder() if name == "written" else case.model.base_model
    called.register_forward_pre_hook(lambda _module, given: passes.append(len(given)))
    padded = evaluate(case.model, case.split, case.task, batch_size=6, device=CPU)
    with_padding = len(passes)
    case.task.padding = None
    plain = evaluate(case.model, case.split, case.task, batch_size=6, device=CPU)
    assert with_padding == 2 < len(set(LENGTHS)) <= len(passes) - with_padding
    for measure, value in plain.model_dump(exclude_none=True).items():
        assert getattr(padded, measure) == pytest.approx(value, abs=1e-5), measure
    if name == "written":
        # Its encoder hears the sound alone.
        assert set(passes) == {1}
    assert padded.cross_entropy is not None or padded.cosine_similarity is not None


@pytest.mark.parametrize("pooling", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_every_pooling_is_of_real_tokens(pooling: str) -> None:
    case = uneven("embeddings")
    case.task._pooling = (pooling,)  # type: ignore[attr-defined]
    padded = answers_of(case.model, case.split, case.task, batch_size=12, device=CPU)
    alone = answers_of(case.model, case.split, case.task, batch_size=1, device=CPU)
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)
