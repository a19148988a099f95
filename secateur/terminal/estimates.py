"""What a job would come to, as a table."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table

from api_schemas.results.estimate import JobEstimate
from secateur.terminal.consoles import clean
from secateur.terminal.formatting import size
from secateur.terminal.job_bar import duration
from secateur.terminal.metrics import count, percent


def estimate_page(found: JobEstimate) -> Iterator[RenderableType]:
    """A row a step, then time and memory."""
    neurons = any(step.ffn_sparsity for step in found.steps)
    table = Table("step", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("attn. gone", *(["FFN gone"] if neurons else []), "params", "FLOPs", "bytes"):
        table.add_column(name, justify="right")
    for step in found.steps:
        table.add_row(
            str(step.step),
            percent(step.attention_sparsity),
            *([percent(step.ffn_sparsity)] if neurons else []),
            count(step.total_parameters),
            count(step.flops),
            size(step.file_bytes),
        )
    yield table
    needs = [f"about {duration(found.seconds)}"] if found.seconds is not None else []
    needs += [f"{size(found.host_memory_bytes)} of memory"] if found.host_memory_bytes is not None else []
    needs += [f"{size(found.device_memory_bytes)} on the GPU"] if found.device_memory_bytes is not None else []
    if needs:
        yield f"{', '.join(needs)} on {clean(found.device or 'such a worker')}, from {found.jobs_observed} finished jobs."
    for note in (*([found.reason] if found.reason else []), *found.notes):
        yield clean(note)
