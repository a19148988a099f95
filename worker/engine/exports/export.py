"""Exporting a finished step: write the files that were asked for, check each against torch, measure it."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from api_schemas.enums import ExportFormat
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import Warned
from api_schemas.results.metrics import ExportMetrics
from api_schemas.spec.job import Evaluate
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data import FeatureSplit
from worker.engine.data.split import Ragged
from worker.engine.exports.compare import check_samples, compare, latency_of_files
from worker.engine.exports.graph import float_graph, write_int8
from worker.engine.exports.runtime import OnnxFile
from worker.engine.runtime.progress import Reporter
from worker.engine.tasks import Task

FILES = {ExportFormat.ONNX: "model.onnx", ExportFormat.ONNX_INT8: "model.int8.onnx"}
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

    Raises EXPORT_FAILED where a graph cannot be made or run, or where model.onnx does not give torch's answers. Eight bits are
    reported, and warned of where they change more than a tenth of the answers.
    """
    if not formats:
        return ()
    model = loaded.model
    samples = check_samples(validation, accounting.total_flops(shape, loaded.widths))
    with TemporaryDirectory(prefix="secateur-export-") as scratch:
        paths = _write(folder, Path(scratch), loaded, task, formats, samples)
        files = {format: _opened(path) for format, path in paths.items()}
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            reporter.progress(done, len(samples))

        compared, largest = compare(model, files, samples, task, advance)
        error, bound = compared[ExportFormat.ONNX].error, TOLERANCE * max(1.0, largest)
        if not error <= bound:  # also where it is NaN
            raise SecateurError(
                ErrorCode.EXPORT_FAILED,
                f"model.onnx gives other {' and '.join(task.outputs_called)} than the checkpoint: error {error:.3g}, bound "
                f"{bound:.3g}.",
            )
        latencies = latency_of_files(model, [files[format] for format in formats], samples, settings)
    metrics = tuple(
        ExportMetrics(
            format=format,
            file=FILES[format],
            inputs=tuple(samples.inputs),
            output=task.outputs_called[0],
            outputs=task.outputs_called if len(task.outputs_called) > 1 else (),
            file_bytes=paths[format].stat().st_size,
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
            detail = (
                f"{row.file} answers like the checkpoint on only {row.agreement:.1%} of {row.samples} validation samples; "
                "prefer model.onnx."
            )
            reporter.emit(Warned(code="export_disagrees", detail=detail))
    return metrics


def _write(
    folder: Path, scratch: Path, loaded: LoadedModel, task: Task, formats: Sequence[ExportFormat], samples: FeatureSplit
) -> dict[ExportFormat, Path]:
    """The files by format. The float graph is always among them, since the other is made from it; unasked, in `scratch`."""
    import onnx

    paths = {
        format: (folder if format in formats else scratch) / FILES[format]
        for format in FILES
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
        raise SecateurError(ErrorCode.EXPORT_FAILED, f"The ONNX graph cannot be made: {_first_line(error)}") from error
    return paths


def _opened(path: Path) -> OnnxFile:
    try:
        return OnnxFile(path)
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise SecateurError(
            ErrorCode.EXPORT_FAILED, f"onnxruntime does not open {path.name}: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    """Of the first cause: the exporter wraps it in advice on several coloured lines. The engine's log has all of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
