"""The search for the largest cut within a bound, beside every cut of a grid: where drops rise, do not, and where none holds."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from api_schemas.enums import Split
from api_schemas.errors import SecateurError
from api_schemas.results.metrics import DropSearch, Scores
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import Pruning
from checkpoints.describe import describe_folder
from checkpoints.planning.feasibility import max_share, smallest_cut
from checkpoints.sizes.cost_model import MOST_TRIALS
from checkpoints.sizes.cost_unit import CostUnit
from tests.support.checkpoints.tiny import some_data, tiny_model
from tests.unit.engine.pruning.selection.selecting import COUNTED, DENSE, SHAPE, drawn_scores
from worker.engine.checkpoint.load import load_original
from worker.engine.data import prepare
from worker.engine.pruning.cutting import Cutting
from worker.engine.pruning.drop_search import search
from worker.engine.pruning.selection import Selection
from worker.engine.pruning.targets import selection_for
from worker.engine.runtime.progress import Reporter
from worker.engine.tasks import Classification

DENSE_ACCURACY = 0.9
ORIGINAL = Scores(samples=1000, accuracy=DENSE_ACCURACY)


def spec(max_drop: float, of: str = "flops", **changes: Any) -> EngineSpec:
    pruning = {"preset": "paper", "granularity": "ragged", "target": {"max_drop": max_drop, "of": of}, **changes}
    return EngineSpec.model_validate({"pruning": pruning, "finetune": None})


@dataclass
class Drawn:
    """Models that are widths alone, which lose what `lost` says of the share that is gone."""

    of: str
    lost: Callable[[float], float]
    granularity: str = "ragged"
    shares: list[float] = field(default_factory=list)
    """Of the models that were scored."""

    def cut(self, share: float) -> Selection:
        return selection_for(drawn_scores(), DENSE, SHAPE, self.pruning(0.01), share=share)

    def pruning(self, max_drop: float) -> Pruning:
        return spec(max_drop, self.of, granularity=self.granularity).pruning

    def gone(self, widths: AttentionWidths) -> float:
        return CostUnit.of(SHAPE, self.pruning(0.01).target.kind).share(widths)

    def evaluate(self, loaded: Any) -> Scores:
        self.shares.append(self.gone(loaded.widths))
        return Scores(samples=1000, accuracy=DENSE_ACCURACY - self.lost(self.shares[-1]))

    def search(self, max_drop: float, progress: Callable[[int, int], None] = lambda *_: None) -> DropSearch:
        dense: Any = SimpleNamespace(widths=DENSE)
        return search(
            dense, ORIGINAL, SHAPE, self.pruning(max_drop), select=self.cut,
            cut=lambda kept: SimpleNamespace(widths=kept.widths(DENSE)), evaluate=self.evaluate, progress=progress,
        )  # fmt: skip


def held(found: DropSearch) -> float:
    """Share of the original that the largest cut within the bound removes; 0 without one."""
    return max((cut.achieved for cut in found.tried if cut.within), default=0.0)


def tolerance(of: str) -> float:
    pruning = spec(0.01, of).pruning
    structure = smallest_cut(SHAPE, DENSE, pruning, pruning.target.kind)
    return max_share(SHAPE, DENSE, pruning) / 2**MOST_TRIALS + structure


@pytest.mark.parametrize("of", COUNTED)
def test_where_drops_rise_it_is_the_largest_of_every_grid(of: str) -> None:
    """A drop of just the bound where `threshold` of all that can go has gone: beside all cuts of a grid of 100 shares."""
    reach = max_share(SHAPE, DENSE, spec(0.01, of).pruning)
    every = Drawn(of, lambda _: 0.0)
    grid = [every.gone(every.cut(reach * share / 100).widths(DENSE)) for share in range(101)]
    for threshold in (0.01, 0.25, 0.5, 0.618, 0.75, 0.99):
        drawn = Drawn(of, lambda gone, most=threshold * reach: 0.01 * gone / most)  # type: ignore[misc]
        found = drawn.search(0.01)
        best = max(gone for gone in grid if gone <= threshold * reach * (1 + 1e-7))
        assert best - tolerance(of) <= held(found) <= threshold * reach * (1 + 1e-7)
        assert len(drawn.shares) == len(found.tried) <= MOST_TRIALS
        assert len(set(drawn.shares)) == len(drawn.shares), "a cut is tried once"
        assert found.reach == pytest.approx(reach)


def test_a_drop_of_exactly_the_bound_is_within_it() -> None:
    """0.9 − 0.89 is above 0.01 in binary."""
    found = Drawn("flops", lambda _: 0.01).search(0.01)
    assert all(cut.within for cut in found.tried)
    assert found.tried[-1].achieved > 0.98 * found.reach
    assert not any(cut.within for cut in Drawn("flops", lambda _: 0.01 + 1e-6).search(0.01).tried)


def test_where_drops_rise_and_fall_what_is_found_has_held() -> None:
    """Halves of the reach lose too much although more loses nothing: what is beyond is not looked for, nothing lost is found."""

    def lost(gone: float) -> float:
        return 0.05 if 0.1 < gone < 0.3 else 0.0

    reach = max_share(SHAPE, DENSE, spec(0.01).pruning)
    assert 0.1 < reach / 2 < 0.3 < reach
    found = Drawn("flops", lost).search(0.01)
    assert 0.1 - tolerance("flops") <= held(found) <= 0.1
    assert [cut.within for cut in found.tried] == [lost(cut.achieved) == 0 for cut in found.tried]


def test_a_bound_that_nothing_meets_is_tried_down_to_the_smallest_cut() -> None:
    counted: list[tuple[int, int]] = []
    found = Drawn("attention_sparsity", lambda _: 0.5).search(0.01, lambda done, most: counted.append((done, most)))
    assert held(found) == 0
    requested = [cut.requested for cut in found.tried]
    assert requested == sorted(requested, reverse=True)
    assert min(requested) < 0.02 * found.reach
    assert [done for done, _ in counted[:-1]] == list(range(1, len(found.tried) + 1))
    assert {most for _, most in counted} == {MOST_TRIALS}


@pytest.mark.parametrize("bound", [0.0, 0.2, 0.6, 1.0])
def test_of_a_few_heads_each_number_is_tried_at_most_once(bound: float) -> None:
    """Two of three heads in each of three layers may go: halves of halves come to the same numbers, and to none."""
    reach = max_share(SHAPE, DENSE, spec(0.01, granularity="entire_head").pruning)
    drawn = Drawn("flops", lambda gone: 0.01 if gone <= bound * reach * 1.0001 else 0.5, "entire_head")
    found = drawn.search(0.01)
    heads = [round(6 * share / reach) for share in drawn.shares]
    assert len(set(heads)) == len(heads) == len(found.tried) < 6
    assert 0 not in heads
    assert round(6 * held(found) / reach) == int(6 * bound + 1e-9)


def test_a_model_of_which_no_share_comes_to_a_cut_is_refused() -> None:
    dense: Any = SimpleNamespace(widths=DENSE)
    latency: Any = SimpleNamespace(saved=lambda widths: 0.0 if widths == DENSE else -0.2)
    with pytest.raises(SecateurError) as caught:
        search(
            dense, ORIGINAL, SHAPE, spec(0.01, "latency").pruning, select=lambda _: Selection.all(DENSE),
            cut=lambda _: pytest.fail("there is no cut"), evaluate=lambda _: pytest.fail("nor a score"), latency=latency,
        )  # fmt: skip
    assert caught.value.errors[0].pointer == "/pruning/target/max_drop"


def test_of_a_trained_model_it_is_what_trying_every_cut_finds(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every cut there is, scored by the probability of the right label, which says more of 24 samples than whether it is the
    highest; at every bound that parts cuts that hold from larger ones that do not.
    """
    described = describe_folder(tiny_model())
    data = prepare(
        some_data(), tiny_model(), labels=described.labels, multi_label=False, columns=EngineSpec.model_fields["columns"].default,
        splits=EngineSpec.model_fields["splits"].default, seed=0, cache_dir=tmp_path_factory.mktemp("cache"),
        progress=lambda *_: None,
    )  # fmt: skip
    inputs, targets = data.splits[Split.VALIDATION].batch(range(len(data.splits[Split.VALIDATION])))
    asked = spec(0.01, granularity="per_head", criterion="magnitude")
    cutting = Cutting(
        asked, described, data, Classification(several=False), torch.device("cpu"), Reporter(lambda _: None, 1, {})
    )
    dense = load_original(tiny_model())
    scored = cutting.score(dense, 1)
    scores: dict[AttentionWidths, Scores] = {}
    made: dict[Selection, Any] = {}

    def cut(kept: Selection) -> Any:
        if kept not in made:
            made[kept] = cutting.cut_to(scored, kept)[0]
        return made[kept]

    def evaluate(loaded: Any) -> Scores:
        if loaded.widths not in scores:
            with torch.inference_mode():
                right = loaded.model(**inputs).logits.softmax(-1)[range(len(targets)), targets].mean()
            scores[loaded.widths] = Scores(samples=len(targets), accuracy=float(right))
        return scores[loaded.widths]

    shape, pruning = described.shape, asked.pruning
    original, unit = evaluate(dense), CostUnit.of(shape, pruning.target.kind)
    reach, structure = (
        max_share(shape, dense.widths, pruning),
        smallest_cut(shape, dense.widths, pruning, pruning.target.kind),
    )
    cuts = {}
    for number in range(1, 1 + round(reach / structure)):
        smaller = cut(cutting.select(scored, number * structure))
        cuts[unit.share(smaller.widths)] = original.metric - evaluate(smaller).metric  # type: ignore[operator]
    drops = sorted(set(cuts.values()))
    compared = 0
    for bound in ((low + high) / 2 for low, high in itertools.pairwise(drops) if high > 0):
        holds = [lost <= bound for _, lost in sorted(cuts.items())]
        if holds != sorted(holds, reverse=True):
            continue
        found = search(
            dense, original, shape, pruning.model_copy(update={"target": pruning.target.model_copy(update={"max_drop": bound})}),
            select=lambda share: cutting.select(scored, share), cut=cut, evaluate=evaluate,
        )  # fmt: skip
        best = max((gone for gone, lost in cuts.items() if lost <= bound), default=0.0)
        assert best - reach / 2**MOST_TRIALS - structure < held(found) <= best + 1e-9
        compared += 1
    assert compared >= 3, cuts
