"""Ours: the `best` settings, and the same with one thing taken away at a time. All through the engine's own cutting."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from api_schemas.spec.job import EngineSpec
from benchmarks.race.arms.arm import Arm
from benchmarks.race.setup import Setup, Unreachable
from checkpoints.planning.feasibility import max_share
from checkpoints.planning.settled import settled
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.pruning.cutting import Cutting, required_statistics
from worker.engine.runtime.progress import Reporter

VERSION = 3

ABLATIONS: dict[str, dict[str, Any]] = {
    "best": {},
    "best, native basis": {"basis": "native"},
    "best, no compensation": {"compensation": "none"},
    "best, bias alone": {"compensation": "bias"},
    "best, W_o alone refitted": {"compensation": "least_squares"},
    # What ranks are given out by: plain energy, energy times gradient energy, the gate by the data's labels.
    "best, energy": {"criterion": "energy"},
    "best, Fisher energy": {"criterion": "fisher_energy"},
    "best, labels of the data": {"calibration": {"labels": "data"}},
    # Heads of a layer differ in width, and widths are whatever they are.
    "best, uneven heads": {"granularity": "head_and_channel"},
    # Every head of every layer keeps a channel of each kind.
    "best, no head removed": {"granularity": "ragged", "min_heads": 1},
    # The same rank in every head of every layer, QK and VO alike: what a plain truncation would keep.
    "best, equal ranks": {"granularity": "per_head", "scope": "local", "balance": "equal"},
}
"""What each arm changes in the preset. Distillation is taken away in the stage of recovery."""


EQUAL = "best, equal shares of both parts"
WHOLE: dict[str, dict[str, Any]] = {"best": {}, "best, ranked neurons": {"neuron_selection": "ranked"}, EQUAL: {}}
"""The same where feed-forward blocks are cut as well. EQUAL: attention and neurons give up the same share."""
BOTH = ("attention", "feed_forward")
DECODERS: dict[str, dict[str, Any]] = {
    "best": {},
    "best, Fisher energy": ABLATIONS["best, Fisher energy"],
}
"""The same where attention and feed-forward blocks of a decoder are cut by their parameters."""


def _spec(changes: Mapping[str, Any], samples: int, seed: int, aim: Mapping[str, Any]) -> EngineSpec:
    """One cut by these settings to what is aimed at, on the samples that every arm gets, or as many as the settings say."""
    pruning = {"preset": "best", **changes, **aim, "schedule": {"steps": 1}}
    pruning["calibration"] = {"split": "train", "samples": samples, **changes.get("calibration", {})}
    return EngineSpec.model_validate({"pruning": pruning, "finetune": None, "seed": seed})


def _cut(changes: Mapping[str, Any], setup: Setup, seed: int, target: float) -> LoadedModel:
    spec = _spec(changes, setup.calibration_samples, seed, setup.aim(target))
    spec = settled(spec, setup.described.shape, setup.dense.widths, setup.described.architecture.head)
    pruning = spec.pruning
    limit, share = max_share(setup.described.shape, setup.dense.widths, pruning), pruning.target.share
    if share > limit + 0.01:
        raise Unreachable(f"{pruning.granularity.value} removes at most {limit:.1%}")
    cutting = Cutting(spec, setup.described, setup.data, setup.task, setup.device, Reporter(lambda _event: None, 1, {}))
    # What is observed and how it is scored does not depend on the target, nor on how ranks are given out.
    seen = tuple(sorted(required_statistics(pruning)))
    scoring = (
        pruning.basis,
        pruning.criterion,
        tuple(sorted(pruning.scored_parts)),
        seen,
        pruning.calibration.model_dump_json(),
        seed,
    )
    scored = setup.once(("ours", *scoring), lambda: cutting.score(setup.dense, 1))
    return cutting.prune(scored, share)[0]


def _cut_equally(setup: Setup, seed: int, target: float) -> LoadedModel:
    shape, dense = setup.described.shape, setup.dense.widths
    inside = accounting.attention_flops(shape, dense) + accounting.feed_forward_flops(shape, dense)
    share = target * accounting.total_flops(shape, dense) / inside
    if share > 1:
        raise Unreachable("attention and feed-forward blocks are less than that")
    spec = _spec({}, setup.calibration_samples, seed, setup.aim(target)).model_dump(mode="json")
    spec["pruning"] |= {"target": {"attention_sparsity": share, "ffn_sparsity": share}, "parts": None}
    asked = settled(EngineSpec.model_validate(spec), shape, dense, setup.described.architecture.head)
    cutting = Cutting(
        asked, setup.described, setup.data, setup.task, setup.device, Reporter(lambda _event: None, 1, {})
    )
    scored = setup.once(("ours", EQUAL, seed), lambda: cutting.score(setup.dense, 1))
    return cutting.prune(scored, asked.pruning.target.share)[0]


def arm(name: str, family: str, changes: Mapping[str, Any], *, whole: bool = False) -> Arm:
    """One cut by the `best` settings with these changes; `whole`: for a setup that is."""
    # Of both, what the target is a share of is left out of what the arm is known by.
    aim = {"target": {"flops": 0.5}, "parts": BOTH} if whole else {"target": {"attention_sparsity": 0.5}}
    return Arm(
        name=name,
        family=family,
        cut=partial(_cut, changes),
        version=VERSION,
        settings=_spec(changes, 1, 0, aim).pruning.model_dump(mode="json", exclude={"preset", "target"}),
    )


def arms(*, whole: bool = False) -> tuple[Arm, ...]:
    """`best` first, then what it is without each of its parts."""
    changed = WHOLE if whole else ABLATIONS
    made = (arm(f"ours/{name}", "ours", changes, whole=whole) for name, changes in changed.items())
    return tuple(replace(each, cut=_cut_equally) if each.name == f"ours/{EQUAL}" else each for each in made)


def decoder_arms() -> tuple[Arm, ...]:
    """`best` first, and what is asked of it in the race of decoders."""
    return tuple(arm(f"ours/{name}", "ours", changes, whole=True) for name, changes in DECODERS.items())
