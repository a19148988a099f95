"""The paper's grid: granularity × criterion × scope in the model's own basis, and a random control. The engine's own code."""

import itertools
from dataclasses import replace

from api_schemas.enums import Criterion, Granularity, Scope
from api_schemas.spec.pruning import Pruning
from benchmarks.race.arms.arm import Arm, Cut
from benchmarks.race.setup import Setup, Unreachable
from checkpoints.planning.feasibility import max_sparsity
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import attention_blocks
from worker.engine.pruning.selection import select, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.scoring import REQUIRED_STATISTICS, LayerScores, observe, score

VERSION = 1
BATCH = 8
PAPER_GRANULARITIES = (Granularity.ENTIRE_HEAD, Granularity.SAME_CHANNEL, Granularity.PER_HEAD)


def scores(setup: Setup, criterion: Criterion, seed: int) -> tuple[LayerScores, ...]:
    """Scores of the dense model's channels; gradients are taken once a seed for all arms of the grid."""
    dense = setup.dense
    blocks = attention_blocks(dense.model, dense.model_spec, dense.widths)
    observed = None
    if REQUIRED_STATISTICS[criterion]:
        batches = setup.batches(setup.calibration(seed), BATCH)
        observed = setup.once(
            ("paper", criterion, seed),
            lambda: observe(
                dense.model,
                blocks,
                batches,
                setup.scoring_loss(seed),
                REQUIRED_STATISTICS[criterion],
                outputs=setup.task.outputs,
            ),
        )
    return score(criterion, blocks, observed=observed, seed=seed)


def _cut(granularity: Granularity, criterion: Criterion, scope: Scope) -> Cut:
    def run(setup: Setup, seed: int, target: float) -> LoadedModel:
        dense, shape = setup.dense, setup.described.shape
        limit = max_sparsity(shape, dense.widths, granularity)
        if target > limit + 0.01:
            raise Unreachable(f"{granularity.value} removes at most {limit:.1%}")
        spec = Pruning.model_validate(
            {
                "preset": "paper",
                "target": {"attention_sparsity": target},
                "granularity": granularity,
                "criterion": criterion,
                "scope": scope,
            }
        )
        keep = select(scores(setup, criterion, seed), dense.widths, shape, spec, share=target)
        smaller = cut(dense.model, dense.model_spec, dense.widths, keep)
        return replace(dense, model=smaller, widths=widths_of(keep, dense.widths))

    return run


def arms() -> tuple[Arm, ...]:
    """The paper's twelve, then the control."""
    twelve = itertools.product(PAPER_GRANULARITIES, (Criterion.MAGNITUDE, Criterion.FISHER), tuple(Scope))
    control = ((granularity, Criterion.RANDOM, Scope.GLOBAL) for granularity in PAPER_GRANULARITIES)
    return tuple(
        Arm(
            name=f"{'random' if criterion is Criterion.RANDOM else 'paper'}/{granularity.value}/{criterion.value}/{scope.value}",
            family="control" if criterion is Criterion.RANDOM else "paper",
            cut=_cut(granularity, criterion, scope),
            version=VERSION,
            settings={"granularity": granularity.value, "criterion": criterion.value, "scope": scope.value},
            seeded=criterion is not Criterion.MAGNITUDE,
        )
        for granularity, criterion, scope in (*twelve, *control)
    )
