"""The job from its inputs to its last step. Reads top to bottom; each line's work is in its own file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from api_schemas.enums import DeviceKind, Head, Part, Phase, Split, TargetKind
from api_schemas.formatting import file_size, percent
from api_schemas.results.events import DataReady, Finished, Started, StepDone, Warned
from api_schemas.results.metrics import StepMetrics
from api_schemas.spec.job import EngineSpec
from checkpoints.data.role_rules import check_roles, uses_train
from checkpoints.describe import Checkpoint, describe_folder
from checkpoints.planning.feasibility import check_feasible
from checkpoints.planning.schedule import confirmation_targets, step_targets
from checkpoints.planning.settled import settled
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_model import analyses, evaluations, model_bytes, passes, tensor_bytes
from checkpoints.task_rules import check_exports, check_labels, check_layout
from worker.engine.checkpoint.gate import start_server
from worker.engine.checkpoint.load import LoadedModel, load_original, load_step
from worker.engine.data import FeatureSplit, PreparedData, prepare
from worker.engine.evaluate import answers_of
from worker.engine.evaluate.measure import Measure
from worker.engine.exports import check_installed
from worker.engine.job import Job
from worker.engine.kept_results import KeptResults
from worker.engine.latency.table import LatencyModel, read_latency_table
from worker.engine.latency.table_measurement import measure_latency_table
from worker.engine.latency.timing import inputs_of
from worker.engine.models.model_spec import move_model
from worker.engine.parallel.follow import Follower
from worker.engine.parallel.group import ALONE, Group
from worker.engine.pruning.cutting import Cutting, ScoredModel
from worker.engine.pruning.selection import Selection
from worker.engine.pruning.targets import check_latency, little_left
from worker.engine.records import read_step, versions
from worker.engine.recovery.recover import Recovery
from worker.engine.runtime.determinism import prepare_torch
from worker.engine.runtime.memory import capped_batch_size, peak_memory, return_freed_memory
from worker.engine.runtime.offload import is_too_small, offload_to
from worker.engine.runtime.progress import Emit, Reporter
from worker.engine.tasks import Task, task_for
from worker.engine.tasks.dense_layers import load_dense


@dataclass(frozen=True)
class Inputs:
    """Where the engine reads and writes. Local folders only."""

    model: Path
    data: Path
    out: Path
    cache: Path
    device: str = "auto"
    threads: int | None = None
    resume: int | None = None
    """Last committed step; its folder lies in `out`."""
    microbatch: int | None = None
    """The maximum number of samples per pass through the model, at least 1; see worker.engine.runtime.memory."""
    training: Path | None = None
    """What an earlier attempt saved of the recovery after `resume`, see TrainingSaved. Ignored if it belongs to another."""
    training_seconds: float = 60.0
    """Minimum time between two saves of a recovery; 0 saves after every epoch except the last."""


def choose_device(name: str, group: Group = ALONE) -> torch.device:
    """`auto` is CUDA if available, else the CPU. Each of several processes has its own GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda" or group.size == 1:
        return torch.device(name)
    if torch.cuda.device_count() < group.size:
        raise RuntimeError(f"{group.size} processes need as many GPUs, but there are {torch.cuda.device_count()}.")
    return torch.device("cuda", group.rank)


Plan = Callable[[Mapping[str, int]], Mapping[Phase, tuple[int, float]]]
"""From the sizes of the splits to a Reporter's plan."""
UNKNOWN_YET = 10_000
"""Assumed number of rows of all splits, until the first of them are read."""


def likely_splits(rows: int) -> dict[str, int]:
    """Assumed sizes of the splits, until it is known how the rows are divided."""
    held = rows // 5
    return {Split.TRAIN: rows - 2 * held, Split.VALIDATION: held, Split.TEST: held}


def _prepare(inputs: Inputs, spec: EngineSpec, described: Checkpoint, reporter: Reporter, plan: Plan) -> PreparedData:
    """Read the data and make inputs from it, reporting progress."""
    planned = UNKNOWN_YET

    def progress(done: int, total: int) -> None:
        nonlocal planned
        # Most later phases use a fixed number of samples, so their share of the time depends on the number of rows.
        if total != planned:
            planned = total
            reporter.replan(plan(likely_splits(total)))
        if done:
            reporter.progress(done, total)
        else:
            reporter.work_begins()

    reporter.phase(Phase.PREPARING, 0)
    data = prepare(
        inputs.data,
        inputs.model,
        modality=described.family.modality,
        head=described.architecture.head,
        labels=described.labels,
        multi_label=described.multi_label,
        columns=spec.columns,
        splits=spec.splits,
        speech=spec.speech,
        seed=spec.seed,
        cache_dir=inputs.cache,
        progress=progress,
    )
    reporter.close()
    summary = data.summary
    warnings = check_roles(
        {role: summary.samples[role] for role in Split},
        {Split(role): count for role, count in summary.classes.items()},
        [Split(role) for role in summary.held_out],
        trains=uses_train(spec),
    )
    warnings = (*described.warnings, *warnings, *summary.warnings)
    data = replace(data, summary=summary.model_copy(update={"warnings": warnings}))
    reporter.emit(DataReady(data=data.summary))
    return data


def _ready(
    inputs: Inputs, spec: EngineSpec, task: Task, dense: LoadedModel, data: PreparedData, device: torch.device
) -> PreparedData:
    """The data in the form that the task needs."""

    def answers(split: FeatureSplit) -> Tensor:
        size = capped_batch_size(spec.evaluate.batch_size, inputs.microbatch)
        return answers_of(dense.model, split, task, batch_size=size, device=device)

    judged = {Split.VALIDATION, Split.TEST} | ({Split.TRAIN} if spec.finetune else set())
    return replace(data, splits=task.ready(data.splits, answers, judged))


def _latency(
    inputs: Inputs,
    spec: EngineSpec,
    described: Checkpoint,
    dense: LoadedModel,
    data: PreparedData,
    device: torch.device,
    reporter: Reporter,
) -> LatencyModel | None:
    """The table for a latency target: measured here, or, when the job resumes, as it was committed.

    Warns if the machine is too busy to meet the target. Raises SPARSITY_OUT_OF_REACH if no cut is fast enough on this device.
    """
    if spec.pruning.target.kind is not TargetKind.LATENCY:
        return None
    if inputs.resume is not None:
        return LatencyModel(read_latency_table(inputs.out / f"step-{inputs.resume}"))
    model = move_model(dense.model, device)
    batch = inputs_of(data.splits[Split.VALIDATION], spec.evaluate.latency_batch_sizes[0], model, device)
    feed_forward = Part.FEED_FORWARD in spec.pruning.cuts
    small = little_left(dense, spec.pruning)
    move_model(small.model, device)
    latency = LatencyModel(
        measure_latency_table(model, dense.model_spec, dense.widths, batch, small, feed_forward=feed_forward)
    )
    if spec.pruning.target.max_drop is not None:
        return latency
    check_latency(latency, described.shape, spec.pruning)
    noise, share = latency.table.noise, spec.pruning.target.share
    if noise > share / 2:
        detail = (
            f"This worker is busy: two timings of the original differ by up to {percent(noise)}, but the target is a "
            f"latency lower by {percent(share)}. The result may miss the target by as much; a target in flops does "
            "not depend on the load."
        )
        reporter.emit(Warned(code="latency_noisy", detail=detail))
    return latency


def _too_small(device: torch.device, spec: EngineSpec, described: Checkpoint, inputs: Inputs) -> Warned | None:
    """Decides whether the models' layers stay in the host's memory, and says so if they do."""
    needed = model_bytes(spec, described.shape)
    too_small = is_too_small(device, needed, ran_out=inputs.microbatch is not None)
    # The table for a latency target times parts of a model, whose weights have to be there.
    too_small = too_small and spec.pruning.target.kind is not TargetKind.LATENCY
    offload_to(device if too_small else None)
    if not too_small:
        return None
    detail = (
        f"The GPU has less free memory than the {file_size(needed)} that the models of this job take. The weights of their "
        "layers stay in the host's memory, and each layer is copied to the GPU whenever it is called: the job takes longer, "
        "and so do the passes that are timed."
    )
    return Warned(code="device_too_small", detail=detail)


def run(inputs: Inputs, spec: EngineSpec, emit: Emit, group: Group = ALONE) -> None:
    """Prune as `spec` says. Every finished step is announced with StepDone once its folder is on disk.

    All processes of a `group` call this, but only the first writes and may report; see worker/engine/parallel.

    Raises SecateurError for everything that is wrong with the inputs.
    """
    return_freed_memory()
    prepare_torch(deterministic=spec.deterministic, threads=inputs.threads)
    check_installed(spec.exports)
    device = choose_device(inputs.device, group)
    described = describe_folder(inputs.model)
    check_labels(described.architecture.head, spec.pruning)
    check_exports(described.family, described.architecture.head, spec.exports)
    check_layout(described.family, spec.pruning)
    spec = settled(spec, described.shape, described.widths, described.architecture.head)
    check_feasible(described.shape, described.widths, spec.pruning)
    targets = step_targets(described.shape, described.widths, spec.pruning)
    too_small = _too_small(device, spec, described, inputs)
    emit(
        Started(
            device=str(device),
            threads=torch.get_num_threads(),
            processes=group.size,
            steps=len(targets),
            resumed_from=inputs.resume,
            versions=versions(spec),
            family=described.family.name,
            memory=peak_memory(device),
            # Nothing is to be learned of what others need from a job whose weights are elsewhere.
            tensor_bytes=None
            if too_small is not None
            else tensor_bytes(spec, described.shape, DeviceKind.CUDA if device.type == "cuda" else DeviceKind.CPU),
        )
    )
    if too_small is not None:
        emit(too_small)
    dense = load_original(inputs.model)
    # If no template process has done so, import what the first step's reload gate needs while the data is read.
    if group.first:
        start_server()
    layers = len(described.widths.layers)
    flops = accounting.total_flops(described.shape, described.widths)
    beside = described.architecture.head is Head.HIDDEN_STATES
    plan = partial(passes, spec, layers, len(targets), flops=flops, device=device.type, beside=beside)
    reporter = Reporter(emit, len(targets), plan(likely_splits(UNKNOWN_YET)))
    if group.first:
        data = _prepare(inputs, spec, described, reporter, plan)
    group.wait()
    if not group.first:
        # From the cache, where the first process has put it.
        data = _prepare(inputs, spec, described, reporter, plan)
    reporter.replan(plan(data.summary.windows or data.summary.samples))
    config = dense.model.config
    task = task_for(
        described.architecture.head,
        config,
        multi_label=described.multi_label,
        decode=data.decode,
        normalize=data.normalize,
        original=dense.model,
        pooling=described.pooling,
        dense=load_dense(inputs.model, described.dense),
        questions=data.questions,
    )
    task.padding = dense.model_spec.padding_of(dense.model)
    data = _ready(inputs, spec, task, dense, data, device)
    latency = group.first_does(lambda: _latency(inputs, spec, described, dense, data, device, reporter))
    # Results that need not be reproducible are not shared.
    size = capped_batch_size(spec.evaluate.batch_size, inputs.microbatch)
    results = KeptResults.of(inputs.cache, inputs.model, data.name, device, size, group) if spec.deterministic else None
    cutting = Cutting(spec, described, data, task, device, reporter, latency, inputs.microbatch, results, group)
    measure = Measure(
        spec.evaluate, described, data, dense, task, device, reporter, inputs.microbatch, results, group=group
    )
    # A saved recovery can only belong to the first step that is not committed.
    earlier = {(inputs.resume or 0) + 1: inputs.training} if inputs.training is not None else {}
    recovery = Recovery(
        spec,
        described,
        data,
        device,
        reporter,
        measure,
        inputs.out,
        inputs.training_seconds,
        earlier,
        inputs.microbatch,
        group,
    )
    job = Job(spec, inputs.model, inputs.out, described, data, device, reporter, cutting, measure, recovery, group)
    process = job if group.first else Follower(spec, group, cutting, measure, recovery)

    scored: ScoredModel | None = None
    if inputs.resume is None:
        metrics, kept, scored = process.baseline()
        history: tuple[StepMetrics, ...] = (metrics,)
        emit(StepDone(folder="step-0", metrics=metrics))
        done, result = 0, None
    else:
        done = inputs.resume
        committed = read_step(job.folder(done))
        history, kept, result = committed.metrics, committed.kept, committed.result
        of_step = {Phase.SCORING: 1, Phase.FINETUNING: 1, Phase.EVALUATING: evaluations(spec), Phase.PACKAGING: 2}
        for phase, pieces in of_step.items():
            reporter.skip(phase, pieces * done + (phase is Phase.EVALUATING))
        reporter.skip(Phase.ANALYSING, analyses(spec))

    search = history[0].search
    if search is not None:
        targets = confirmation_targets(described.shape, described.widths, spec.pruning, search)
    for number, target in enumerate(targets, start=1):
        if number <= done or result is not None:
            continue
        reporter.steps = max(reporter.steps, number)
        if search is not None:
            # Each attempt starts from the original again, because the one before cut too much.
            kept = Selection.all(described.widths)
        # Read back from the file even in an uninterrupted run, which must not differ from a resumed one. The original never
        # changes, and is loaded once.
        before = load_step(job.folder(number - 1)) if number > 1 and search is None else dense
        last = number == len(targets)
        metrics, kept, result = process.step(number, target, before, history, kept, last=last, scored=scored)
        scored = None
        history = (*history, metrics)
        emit(StepDone(folder=f"step-{number}", metrics=metrics))
    emit(Finished(steps=history[-1].step, result=result))
