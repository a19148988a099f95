"""The page of the spec, made of docs/reference/spec.schema.json."""

from schemas import Anchors, Schema, described, fields, heading

PAGE = "spec.md"
_HEAD = """# The spec

The request of a job: the body of `POST /v1/jobs`, or the same in a file. Every field but `model`, `dataset` and a target has a
default; if the presets differ, the field lists the default of each. The [method](../method.md) explains the choices.

[spec.schema.json](spec.schema.json) is this page as JSON Schema (draft 2020-12), for editors and other programs. `secateur prune
--spec` takes its fields `pruning`, `finetune`, `evaluate`, `exports`, `stop`, `speech`, `deterministic` and `seed`, and `columns`
and `splits` at the top level.

```json
{
  "model": {"type": "hf", "id": "MIT/ast-finetuned-speech-commands-v2", "revision": "0123456789abcdef0123456789abcdef01234567"},
  "dataset": {"type": "hf", "id": "owner/recordings", "revision": "0123456789abcdef0123456789abcdef01234567"},
  "pruning": {"target": {"attention_sparsity": 0.5}},
  "finetune": {"epochs": 1},
  "stop": {"max_drop": 0.01}
}
```
"""


def page(spec: Schema, anchors: Anchors) -> str:
    """The whole page."""
    parts = [_HEAD, heading("JobRequest", "##"), fields(spec, anchors, PAGE), "## Its parts"]
    parts += [described(name, schema, anchors, PAGE) for name, schema in sorted(spec["$defs"].items())]
    return "\n\n".join(parts) + "\n"
