"""README.md of a checkpoint: what it is, how to load it, what was measured, how it was cut, what to watch out for.

The front matter is what model hubs read, and contains no user text. In the body all user text is escaped.
"""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelCardData

from api_schemas.enums import ExportFormat, Head, Modality, Part, TargetKind
from api_schemas.formatting import file_size, markdown, milliseconds, percent
from api_schemas.results import display, parts, speed, step_rows
from api_schemas.results.metrics import DataSummary, ExportMetrics, JobResult, StepMetrics
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import SHARE_OF, Pruning
from checkpoints.families import Architecture, Family
from checkpoints.task_rules import GRAPHS
from worker.engine.report import descriptions

CARD_FILE = "README.md"
MINIMUM_TORCHAO = "0.18"
_SHOWN_LABELS = 60

_PREPARING = {
    Modality.AUDIO: ("feature extractor is", "AutoFeatureExtractor"),
    Modality.IMAGE: ("image processor is", "AutoImageProcessor"),
    Modality.TEXT: ("tokenizer is", "AutoTokenizer"),
}
"""What makes a model's inputs, and the class that loads it."""
_EXPORTS = {
    ExportFormat.ONNX: "ONNX, float32",
    ExportFormat.ONNX_INT8: "ONNX, linear layers in eight bits",
    ExportFormat.TORCHAO_INT8: "torchao, linear layers in eight bits",
    ExportFormat.TORCHAO_INT8_WEIGHTS: "torchao, weights of linear layers in eight bits",
}
_SENTENCES = """
The folder also loads with sentence-transformers, and its embedding is what was measured:

```python
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("path/to/this/folder"{flag})
```
"""
_EMBEDDING = """The embedding is `audio_embeds` or `text_embeds` if the model has such an output, otherwise the
mean of `last_hidden_state` over all tokens except padding. The measurements use it normalized to unit length.
"""

_HIDDEN_STATES = """The measurements compare the encoder's `last_hidden_state` of every token with the original's.
"""
_PART = """Only its encoder, `{encoder}`, was pruned. Everything else, the projection behind the encoder and {rest}, is the
original's, bit for bit. The measurements compare what the encoder and the projection make of every recording with the
original's; FLOPs and latency are those of these two, parameters and file size those of the whole model.
"""
_ANSWERS = """For every token, `start_logits` and `end_logits` say how likely the answer starts and ends there; those of the
class token, how likely there is no answer. Give question and context together, the question first; a context that
is too long is split into overlapping windows.
"""
_NEXT = """It predicts the next token, and so continues a text:

```python
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
print(tokenizer.decode(model.generate(**tokenizer("Once upon", return_tensors="pt"), max_new_tokens=20)[0]))
```

Accuracy and perplexity are measured on given texts, not on generated ones; each text has blocks of its own, and the first token
of a block is not predicted.
"""
_MEASURED_OF = {
    Head.EMBEDDING: _EMBEDDING,
    Head.HIDDEN_STATES: _HIDDEN_STATES,
    Head.QUESTION_ANSWERING: _ANSWERS,
    Head.CAUSAL_LM: _NEXT,
}


def _front_matter(family: Family, architecture: Architecture, metric_name: str, shown: Sequence[Part]) -> str:
    kinds = [f"{parts.NAMES[part]}-pruning" for part in shown]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=architecture.task,
        tags=[architecture.task, *family.model_types, "structured-pruning", *kinds, "secateur"],
        metrics=[metric_name],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _loading(family: Family, architecture: Architecture, stock: bool, *, sentences: bool) -> str:
    flag = "" if stock else ", trust_remote_code=True"
    why = (
        "The layout is stock: no custom code is needed."
        if stock
        else "Head widths differ, which a stock configuration cannot express, so the folder contains a small model class "
        "(`modeling_pruned.py`: readable, and needs only transformers). Without the flag, transformers does not load it."
    )
    auto = architecture.auto_class
    what, preparing = _PREPARING[family.modality]
    if architecture.head in (Head.CTC, Head.SEQUENCE_TO_SEQUENCE):
        what, preparing = "feature extractor and the tokenizer are", "AutoProcessor"
    measured = _MEASURED_OF.get(architecture.head, "")
    if family.part is not None:
        what, preparing = "feature extractor and the tokenizer are", "AutoProcessor"
        measured = _PART.format(encoder=family.part.encoder, rest=family.part.rest)
    if sentences and architecture.head is Head.EMBEDDING:
        measured = _SENTENCES.format(flag=flag)
    return f"""## Load

```python
from transformers import {auto}
model = {auto}.from_pretrained("path/to/this/folder"{flag})
```

Needs `transformers>={family.needs}`. {why}
The {what} in the same folder: `{preparing}.from_pretrained("path/to/this/folder")`.
{measured}"""


def _results(steps: Sequence[StepMetrics], shown: Sequence[Part], pruning: Pruning) -> str:
    dense, cut = steps[0], steps[-1]
    slower = speed.slower(cut, pruning)
    rows = step_rows.rows(dense, cut, shown)
    table = "\n".join(f"| {name} | {before} | {after} |" for name, before, after in rows)
    note = f"\n{slower}\n" if slower else ""
    return f"""## Results

| | original | this checkpoint |
|---|---:|---:|
{table}

Latency was measured on the machine that pruned the model; on yours it will differ. `report.html` shows every step.
{note}"""


def _cutting(steps: Sequence[StepMetrics], spec: EngineSpec, data: DataSummary) -> str:
    pruning, last = spec.pruning, steps[-1]
    lines = [f"step {last.step} towards the target: {parts.goals_in_words(pruning)}"]
    for part in parts.cut_by(pruning):
        wanted, gone = parts.asked(last, part, pruning), percent(parts.removed(last, part), 2)
        of_it = f"of the original {parts.NAMES[part]} parameters"
        lines.append(
            f"removed {gone} {of_it}"
            if wanted is None
            else f"target at this step {percent(wanted, 2)} {of_it}, removed {gone}"
        )
    if steps[0].search is not None:
        lines.append(parts.found_in_words(steps[0].search))
    if last.target is not None and last.target.kind not in (TargetKind.ATTENTION_SPARSITY, TargetKind.FFN_SPARSITY):
        asked, met = percent(last.target.requested, 2), speed.achieved_written(last)
        lines.append(f"of the original {SHARE_OF[last.target.kind]}: target at this step {asked}, saved {met}")
    for what, how in descriptions.method(spec, last):
        code = f" (`{pruning.granularity.value}`)" if what == "removed" else ""
        lines.append(f"{what}: {how}{code}")
    lines.append("data: " + ", ".join(f"{markdown(role)} {samples}" for role, samples in sorted(data.samples.items())))
    if data.held_out:
        lines.append("held out of train by seed: " + ", ".join(markdown(role) for role in data.held_out))
    if data.grouped_by:
        lines.append(f"held-out splits keep rows of one group together, grouped by: {markdown(data.grouped_by)}")
    if data.prompt:
        lines.append(f"prompt of the decoder before every text: {markdown(''.join(data.prompt))}")
    if data.windows:
        shares = ", ".join(f"{role} {data.windows[role]}" for role in sorted(data.windows))
        whats = ("questions with their contexts", "windows") if data.unanswerable else ("texts", "blocks")
        lines.append(f"{' divided into '.join(whats)}: {shares}")
    if any(data.unanswerable.values()):
        without = ", ".join(f"{role} {data.unanswerable[role]}" for role in sorted(data.unanswerable))
        lines.append(f"questions without an answer (so the model may give none): {without}")
    if data.text_normalizer is not None:
        lines.append(f"both texts are normalized before word errors are counted (`{data.text_normalizer.value}`)")
    lines += [f"warning: {markdown(found.detail)}" for found in data.warnings]
    if last.reload_max_abs_error is not None:
        lines.append(f"reloaded in a fresh process: largest difference in the outputs {last.reload_max_abs_error:.2g}")
    lines += [f"{markdown(key)}: {markdown(value)}" for key, value in sorted(spec.lineage.items())]
    return "## How it was cut\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def _limits(architecture: Architecture, labels: Sequence[str], data: DataSummary) -> str:
    names = ", ".join(markdown(label) for label in labels[:_SHOWN_LABELS])
    more = f" and {len(labels) - _SHOWN_LABELS} more in config.json" if len(labels) > _SHOWN_LABELS else ""
    kind = "several may apply to a sample" if data.multi_label else "one per sample"
    if architecture.head is Head.TOKEN_CLASSIFICATION:
        kind = "one per token"
    known = (
        f"- It knows {len(labels)} labels, {kind}: {names}{more}.\n" if descriptions.has_labels(architecture) else ""
    )
    return f"""## Limits

{known}- The numbers above hold for data like the data measured; on other data the model may have changed more.
- Pruning does not remove what the original had learned: its biases and its licence still apply.
- `pruning.json` records the spec, the width of every head, library versions and hashes.
"""


def write_model_card(
    folder: Path,
    steps: Sequence[StepMetrics],
    *,
    spec: EngineSpec,
    data: DataSummary,
    family: Family,
    architecture: Architecture,
    labels: Sequence[str],
    stock: bool,
    sentences: bool = False,
    result: JobResult | None = None,
) -> None:
    """Write README.md for the last of `steps` (the first is step 0, the original) into `folder`.

    `result` is the job's, where this step ends it; `labels` are the checkpoint's in order of id; `stock` says that the folder
    loads without custom code, `sentences` that it is one of sentence-transformers. ValueError without steps.
    """
    if not steps:
        raise ValueError("a model card needs at least step 0")
    metric_name, shown = display.metric_name(steps), parts.cut_by(spec.pruning)
    recovery = "the rest was trained to compensate" if spec.finetune else "the model was not trained afterwards"
    intro = f"""
# {descriptions.model(family, architecture)} with {parts.removed_in_words(steps[-1], spec.pruning)} removed

A transformer checkpoint made smaller by Secateur: {descriptions.cut_parts(spec.pruning)} were
removed, not masked, and {recovery}.
"""
    if result is not None and descriptions.beyond(steps, result):
        intro += f"\n**This step is beyond the job's bound.** {result.detail}\n"
    sections = (
        intro,
        _loading(family, architecture, stock, sentences=sentences),
        _results(steps, shown, spec.pruning),
        _graphs_section([row for row in steps[-1].exports if row.format in GRAPHS], metric_name),
        _quantized_section(
            [row for row in steps[-1].exports if row.format not in GRAPHS],
            metric_name,
            architecture.auto_class,
            family.needs,
            stock=stock,
        ),
        _cutting(steps, spec, data),
        _limits(architecture, labels, data),
    )
    front = _front_matter(family, architecture, metric_name, shown)
    card = front + "\n".join(section for section in sections if section)
    (folder / CARD_FILE).write_text(card, encoding="utf-8", newline="\n")


def _graphs_section(exports: Sequence[ExportMetrics], metric_name: str) -> str:
    """How to run the exported files without torch, and what was measured of each: Markdown, or nothing without such."""
    if not exports:
        return ""
    outputs, given = (
        exports[0].outputs or (exports[0].output,),
        ", ".join(f'"{name}": {name}' for name in exports[0].inputs),
    )
    names = ", ".join(f'"{name}"' for name in outputs)
    first = "[0]" if len(outputs) == 1 else ""
    return f"""## Run without torch

```python
import onnxruntime
session = onnxruntime.InferenceSession("path/to/this/folder/{exports[0].file}")
{", ".join(outputs)} = session.run([{names}], {{{given}}}){first}
```

Prepare the inputs with the preprocessing files of this folder; the first dimension is the number of samples.

{_exports_table(exports, metric_name, "onnxruntime")}"""


def _quantized_section(
    exports: Sequence[ExportMetrics], metric_name: str, auto: str, needs: str, *, stock: bool
) -> str:
    """How to load the folders in eight bits, and what was measured of each: Markdown, or nothing without such."""
    if not exports:
        return ""
    folder = exports[0].file.rpartition("/")[0]
    return f"""## Load in eight bits

```python
from transformers import {auto}
model = {auto}.from_pretrained("path/to/this/folder/{folder}"{"" if stock else ", trust_remote_code=True"})
```

Needs `transformers>={needs}` and `torchao>={MINIMUM_TORCHAO}`. The preprocessing files are
in that folder, too.

{_exports_table(exports, metric_name, "torchao")}"""


def _exports_table(exports: Sequence[ExportMetrics], metric_name: str, by: str) -> str:
    """What was measured of each; `by`: the library that ran them."""
    timed = [row.latency[0] for row in exports if row.latency]
    columns = ["file", "what", "size", "same answers", metric_name]
    columns += [f"latency at batch {timed[0].batch_size}, p50"] if timed else []
    lines = [f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * (len(columns) - 2)]
    for row in exports:
        cells = [f"`{row.file}`", _EXPORTS[row.format], file_size(row.file_bytes), percent(row.agreement)]
        cells.append(display.written(row.scores))
        cells += [f"{milliseconds(row.latency[0].p50_ms)}, {speed.speed(row.latency[0]).text}"] if row.latency else []
        lines.append(f"| {' | '.join(cells)} |")
    against = "; the speed-up is over this checkpoint in torch, timed alternately on the same CPU" if timed else ""
    table = "\n".join(lines)
    return f"""{table}

Checked with {by} on {exports[0].samples} validation samples against the answers of this checkpoint{against}.
"""
