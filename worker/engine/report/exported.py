"""The model card's section on exported files: how to run them without torch, and what was measured of each."""

from collections.abc import Sequence

from api_schemas.enums import ExportFormat
from api_schemas.metrics import ExportMetrics
from worker.engine.report import reading
from worker.engine.report.text import file_size, milliseconds, percent

KINDS = {ExportFormat.ONNX: "ONNX, float32", ExportFormat.ONNX_INT8: "ONNX, linear layers in eight bits"}


def without_torch(exports: Sequence[ExportMetrics], multi_label: bool) -> str:
    """Markdown; nothing where nothing was exported."""
    if not exports:
        return ""
    timed = [row.latency[0] for row in exports if row.latency]
    columns = ["file", "what", "size", "same answers", reading.metric_name(multi_label)]
    columns += [f"latency at batch {timed[0].batch_size}, p50"] if timed else []
    lines = [f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * (len(columns) - 2)]
    for row in exports:
        metric = reading.metric(row.scores, multi_label)
        cells = [f"`{row.file}`", KINDS[row.format], file_size(row.file_bytes), percent(row.agreement)]
        cells.append("–" if metric is None else percent(metric))
        cells += [f"{milliseconds(row.latency[0].p50_ms)} ({row.latency[0].speedup:.2f}x)"] if row.latency else []
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines)
    against = "; the factor is against this checkpoint in torch, in turn on the same CPU" if timed else ""
    return f"""## Run without torch

```python
import onnxruntime
session = onnxruntime.InferenceSession("path/to/this/folder/{exports[0].file}")
logits = session.run(["logits"], {{"input_values": input_values}})[0]
```

`input_values` is what the feature extractor gives (float32, with any number of clips first).

{table}

Checked with onnxruntime on {exports[0].samples} validation samples against this checkpoint's own answers{against}.
"""
