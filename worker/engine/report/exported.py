"""The model card's section on exported files: how to run them without torch, and what was measured of each."""

from collections.abc import Sequence

from api_schemas.enums import ExportFormat
from api_schemas.formatting import file_size, milliseconds, percent
from api_schemas.results import display
from api_schemas.results.metrics import ExportMetrics

KINDS = {ExportFormat.ONNX: "ONNX, float32", ExportFormat.ONNX_INT8: "ONNX, linear layers in eight bits"}


def without_torch(exports: Sequence[ExportMetrics], metric_name: str) -> str:
    """Markdown; nothing where nothing was exported."""
    if not exports:
        return ""
    timed = [row.latency[0] for row in exports if row.latency]
    columns = ["file", "what", "size", "same answers", metric_name]
    columns += [f"latency at batch {timed[0].batch_size}, p50"] if timed else []
    lines = [f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * (len(columns) - 2)]
    for row in exports:
        cells = [f"`{row.file}`", KINDS[row.format], file_size(row.file_bytes), percent(row.agreement)]
        cells.append(display.written(row.scores))
        cells += [f"{milliseconds(row.latency[0].p50_ms)} ({row.latency[0].speedup:.2f}x)"] if row.latency else []
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines)
    output, given = exports[0].output, ", ".join(f'"{name}": {name}' for name in exports[0].inputs)
    against = "; the factor is against this checkpoint in torch, in turn on the same CPU" if timed else ""
    return f"""## Run without torch

```python
import onnxruntime
session = onnxruntime.InferenceSession("path/to/this/folder/{exports[0].file}")
{output} = session.run(["{output}"], {{{given}}})[0]
```

The inputs are what the files beside the weights make of a sample, with any number of samples first.

{table}

Checked with onnxruntime on {exports[0].samples} validation samples against this checkpoint's own answers{against}.
"""
