"""Exports a finished step: writes the requested formats, checks each against torch, measures it."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from api_schemas.enums import ExportFormat
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import Warned
from api_schemas.results.metrics import ExportMetrics
from api_schemas.spec.job import Evaluate
from checkpoints.files.shards import WEIGHTS_NAME
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape
from checkpoints.task_rules import GRAPHS
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data import FeatureSplit
from worker.engine.data.split import Ragged
from worker.engine.exports.compare import Runner, check_samples, compare, latency_of_exports
from worker.engine.exports.graph import float_graph, write_int8
from worker.engine.exports.quantized import CONFIGS, QuantizedModel, check_quantized, write_quantized
from worker.engine.exports.runtime import OnnxFile
from worker.engine.runtime.progress import Reporter
from worker.engine.tasks import Task

FILES = {
    ExportFormat.ONNX: "model.onnx",
    ExportFormat.ONNX_INT8: "model.int8.onnx",
    **{format: f"{format.value}/{WEIGHTS_NAME}" for format in CONFIGS},
}
TOLERANCE = 1e-4
"""Of model.onnx: largest absolute error, as a share of max(1, largest absolute answer). Measured: 5e-6 and less; other
processors fuse and sum in other ways."""
LOW_AGREEMENT = 0.9
"""Below it a user is warned that eight bits are too few for this model."""


def export(
    folder: Path,
    loaded: LoadedModel,
    formats: Sequence[ExportFormat],
    validation: FeatureSplit,
    *,
    settings: Evaluate,
    task: Task,
    shape: ModelShape,
    reporter: Reporter,
) -> tuple[ExportMetrics, ...]:
    """Write `formats` into a step's `folder` and return what was measured of each, in the order of `formats`.

    Args:
        loaded: as read back from `folder`: the file is the model. It is left on the CPU.
        validation: real samples; at most 256 are used (see check_samples).
        shape: the original's constants.

    Raises EXPORT_FAILED where an export cannot be made or run, where model.onnx does not give torch's answers, or where a fresh
    process does not load a folder of torchao's. Eight bits are reported, and warned of where they change more than a tenth of the
    answers.
    """
    if not formats:
        return ()
    model = loaded.model
    samples = check_samples(validation, accounting.total_flops(shape, loaded.widths))
    with TemporaryDirectory(prefix="secateur-export-") as scratch:
        runners: dict[ExportFormat, Runner] = {}
        if graphs := [format for format in formats if format in GRAPHS]:
            runners |= _graphs(folder, Path(scratch), loaded, task, graphs, samples)
        for format in formats:
            if format in CONFIGS:
                runners[format] = _quantized(folder, loaded, task, format, samples)
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            reporter.progress(done, len(samples))

        compared, largest = compare(model, runners, samples, task, advance)
        if ExportFormat.ONNX in compared:
            _check_graph(compared[ExportFormat.ONNX].error, TOLERANCE * max(1.0, largest), task)
        latencies = latency_of_exports(model, [runners[format] for format in formats], samples, settings)
    metrics = tuple(
        ExportMetrics(
            format=format,
            file=FILES[format],
            inputs=tuple(samples.inputs),
            output=task.outputs_called[0],
            outputs=task.outputs_called if len(task.outputs_called) > 1 else (),
            file_bytes=(folder / FILES[format]).stat().st_size,
            samples=len(samples),
            max_abs_error=compared[format].error,
            agreement=compared[format].agreed / len(samples),
            scores=compared[format].accumulator.scores(),
            latency=latency,
        )
        for format, latency in zip(formats, latencies, strict=True)
    )
    for row in metrics:
        if row.agreement < LOW_AGREEMENT:
            instead = "model.onnx" if row.format in GRAPHS else "the checkpoint itself"
            detail = (
                f"{row.file} gives the same answer as the checkpoint on only {row.agreement:.1%} of {row.samples} "
                f"validation samples; use {instead} instead."
            )
            reporter.emit(Warned(code="export_disagrees", detail=detail))
    return metrics


def _check_graph(error: float, bound: float, task: Task) -> None:
    if not error <= bound:  # also where it is NaN
        raise SecateurError(
            ErrorCode.EXPORT_FAILED,
            f"model.onnx gives different {' and '.join(task.outputs_called)} than the checkpoint: error {error:.3g}, "
            f"tolerance {bound:.3g}.",
        )


def _graphs(
    folder: Path, scratch: Path, loaded: LoadedModel, task: Task, formats: Sequence[ExportFormat], samples: FeatureSplit
) -> dict[ExportFormat, Runner]:
    """ONNX files by format, written and opened. The float graph is always among them, since the other is made from it; unasked,
    in `scratch`.
    """
    import onnx

    paths = {
        format: (folder if format in formats else scratch) / FILES[format]
        for format in (ExportFormat.ONNX, ExportFormat.ONNX_INT8)
        if format in formats or format is ExportFormat.ONNX
    }
    example, _ = samples.batch(samples.middle()[:1])
    lengths = [name for name, column in samples.inputs.items() if isinstance(column, Ragged)]
    try:
        proto = float_graph(loaded, task, example, lengths)
        onnx.save(proto, paths[ExportFormat.ONNX])
        if ExportFormat.ONNX_INT8 in paths:
            write_int8(proto, paths[ExportFormat.ONNX_INT8])
    except MemoryError:
        raise
    except Exception as error:  # whatever exporter or quantizer meets: a step like the others, but not exportable
        raise SecateurError(
            ErrorCode.EXPORT_FAILED, f"The ONNX graph cannot be created: {_first_line(error)}"
        ) from error
    return {format: _opened(path) for format, path in paths.items()}


def _quantized(folder: Path, loaded: LoadedModel, task: Task, format: ExportFormat, samples: FeatureSplit) -> Runner:
    """The step's model as torchao quantizes it, written below `folder` and loaded again by a fresh process."""
    example, _ = samples.batch(samples.middle()[:1])
    target = folder / format.value
    try:
        model = write_quantized(folder, target, loaded, format, example)
    except MemoryError:
        raise
    except Exception as error:  # whatever transformers or torchao meets
        detail = f"torchao cannot write {target.name}: {_first_line(error)}"
        raise SecateurError(ErrorCode.EXPORT_FAILED, detail) from error
    check_quantized(target, model, loaded, example)
    return QuantizedModel(model, task)


def _opened(path: Path) -> OnnxFile:
    try:
        return OnnxFile(path)
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise SecateurError(
            ErrorCode.EXPORT_FAILED, f"onnxruntime cannot open {path.name}: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    """Of the first cause: the exporter wraps it in advice on several coloured lines. The engine's log has all of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
