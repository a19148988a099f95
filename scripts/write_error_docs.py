"""Writes docs/errors.md from the error codes, their texts and their HTTP statuses: `python scripts/write_error_docs.py`."""

import re
from pathlib import Path

from api_schemas import errors
from api_schemas.api.error_titles import ERROR_TEXTS
from api_schemas.errors import ErrorCode
from service.problems import status_of

# Only the worker can find these out: they end a job and are never the status of a response.
_ONLY_OF_JOBS = {
    ErrorCode.DATASET_FETCH_FAILED,
    ErrorCode.ORIGINAL_MISMATCH,
    ErrorCode.RELOAD_MISMATCH,
    ErrorCode.EXPORT_UNAVAILABLE,
    ErrorCode.EXPORT_FAILED,
    ErrorCode.NUMERICAL,
    ErrorCode.OUT_OF_MEMORY,
    ErrorCode.SCRATCH_FULL,
    ErrorCode.ENGINE_CRASHED,
    ErrorCode.ENGINE_ERROR,
    ErrorCode.INPUT_LOST,
}
PAGE = Path(__file__).parents[1] / "docs" / "errors.md"

_HEAD = """# Errors

<!-- Written by scripts/write_error_docs.py from api_schemas/errors.py and api_schemas/api/error_titles.py. Do not edit. -->

Every error of the API is an `application/problem+json` document (RFC 9457):

```json
{
  "type": "about:blank",
  "title": "The target cannot be reached",
  "status": 422,
  "code": "sparsity_out_of_reach",
  "detail": "entire_head can remove at most 0.8323 of this model's attention parameters …; the target is 0.9000.",
  "instance": "/v1/jobs",
  "errors": [
    {"pointer": "/pruning/target/attention_sparsity", "code": "sparsity_out_of_reach", "detail": "maximum 0.8323"}
  ]
}
```

Branch on `code`: it is stable, and the same in a response, in `error` of a failed job and in the engine's `failed` event.
`title` is the same for every error with that code. `detail` says what was wrong this time and what to do. `errors` lists every
problem with a JSON pointer (RFC 6901) into the request's body (`/files/3/name`), to a parameter (`/query/limit`,
`/header/upload-offset`), or into the data that was read, starting with the file, tensor, column or row
(`/config.json/num_labels`, `/train[3]`; [why](adr/0024-pointers.md)).

The status is that of the HTTP response. `job` means that only the worker can find the error, which ends the job as `failed`.
Codes with a status can end a job, too, if the worker finds what the checks before it did not.
"""


def _sections() -> list[tuple[str, list[ErrorCode]]]:
    """The codes under the comments that group them in the enum's source."""
    source = Path(errors.__file__).read_text(encoding="utf-8")
    body = source.partition("class ErrorCode(StrEnum):\n")[2].partition("\n\n\n")[0]
    sections: list[tuple[str, list[ErrorCode]]] = []
    for line in body.splitlines():
        if heading := re.match(r" +# (.+)", line):
            sections.append((heading[1], []))
        elif member := re.match(r" +([A-Z_]+) = ", line):
            sections[-1][1].append(ErrorCode[member[1]])
    return sections


def _row(code: ErrorCode) -> str:
    status = "job" if code in _ONLY_OF_JOBS else status_of(code)
    return f"| `{code.value}` | {status} | {ERROR_TEXTS[code].title} | {ERROR_TEXTS[code].remedy} |"


def page() -> str:
    """The whole of docs/errors.md."""
    parts = [_HEAD]
    for heading, codes in _sections():
        rows = "\n".join(_row(code) for code in codes)
        parts.append(f"## {heading}\n\n| code | status | meaning | what to do |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE}")
