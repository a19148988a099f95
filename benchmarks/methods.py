"""The paper's twelve methods and a random control, side by side: accuracy after one cut, before any recovery.

Granularity × criterion × scope, all from one dense model and one pass of gradients over the validation split. It says what
the choice of structures is worth by itself; what recovery adds is what a job measures.

    python -m benchmarks.methods --model CHECKPOINT --data DATA [--sparsity 0.25 0.5 0.75]
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from api_schemas.enums import Criterion, Granularity, Scope, Split
from api_schemas.spec.inputs import Columns, Splits
from api_schemas.spec.pruning import Pruning
from checkpoints.describe import describe_folder
from checkpoints.planning.feasibility import max_sparsity
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import load_original
from worker.engine.data import FeatureSplit, prepare
from worker.engine.data.split import Inputs
from worker.engine.evaluate import evaluate
from worker.engine.models.attention import attention_blocks
from worker.engine.pruning.selection import select, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.scoring import REQUIRED_STATISTICS, observe, score
from worker.engine.tasks import task_for

GRANULARITIES = (Granularity.ENTIRE_HEAD, Granularity.SAME_CHANNEL, Granularity.PER_HEAD)
CRITERIA = (Criterion.MAGNITUDE, Criterion.FISHER, Criterion.RANDOM)
SEEDS = 5
"""LabelGenerators of the random control; their mean is printed."""


def batches(split: FeatureSplit, size: int = 8) -> Iterator[tuple[Inputs, Tensor]]:
    """The split in order."""
    for numbers in split.batches(size):
        yield split.batch(numbers)


def main() -> None:
    """Print one row a method, one column a sparsity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.25, 0.5, 0.75])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    described, loaded = describe_folder(arguments.model), load_original(arguments.model)
    with tempfile.TemporaryDirectory(prefix="methods-") as cache:
        data = prepare(
            arguments.data, arguments.model, labels=described.labels, multi_label=described.multi_label,
            columns=Columns(), splits=Splits(), seed=0, cache_dir=Path(cache), progress=lambda _done, _total: None,
        )  # fmt: skip
        split = data.splits[Split.VALIDATION]
        task = task_for(described.architecture.head, loaded.model.config, multi_label=described.multi_label)
        blocks = attention_blocks(loaded.model, loaded.model_spec, loaded.widths)

        def quality(model: torch.nn.Module) -> float:
            return evaluate(model, split, task, batch_size=32, device=torch.device("cpu")).metric or 0.0

        print(f"validation, {len(split)} samples; dense: {quality(loaded.model):.1%}\n")
        print("| granularity | criterion | scope | " + " | ".join(f"{s:.1%}" for s in arguments.sparsity) + " |")
        print("|---|---|---|" + "---:|" * len(arguments.sparsity))
        wants = frozenset().union(*(REQUIRED_STATISTICS[criterion] for criterion in CRITERIA))
        observed = observe(loaded.model, blocks, batches(split), task.loss, wants)
        for granularity, criterion, scope in itertools.product(GRANULARITIES, CRITERIA, Scope):
            cells = []
            for sparsity in arguments.sparsity:
                if sparsity > max_sparsity(described.shape, loaded.widths, granularity) + 0.01:
                    cells.append("—")
                    continue
                target = {"attention_sparsity": sparsity}
                spec = Pruning.model_validate(
                    {
                        "preset": "paper", "target": target,
                        "granularity": granularity, "criterion": criterion, "scope": scope,
                    }
                )  # fmt: skip
                found = []
                for seed in range(SEEDS if criterion is Criterion.RANDOM else 1):
                    scores = score(criterion, blocks, observed=observed, seed=seed)
                    keep = select(scores, loaded.widths, described.shape, spec, share=sparsity)
                    found.append(quality(cut(loaded.model, loaded.model_spec, loaded.widths, keep)))
                widths = widths_of(keep, loaded.widths)
                achieved = accounting.attention_sparsity(described.shape, widths)
                off = f" ({achieved:.1%})" if abs(achieved - sparsity) > 0.005 else ""
                cells.append(f"{sum(found) / len(found):.1%}{off}")
            print(
                f"| {granularity.value} | {criterion.value} | {scope.value} | " + " | ".join(cells) + " |", flush=True
            )


if __name__ == "__main__":
    main()
