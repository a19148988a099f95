"""Arguments and options that several commands have, and how an identifier given as one is resolved."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from secateur.commands.shared import completion
from secateur.errors import InvalidRequest

Job = Annotated[str, typer.Argument(metavar="JOB", help="job_…", autocompletion=completion.jobs)]
Jobs = Annotated[
    list[str], typer.Argument(metavar="JOB…", help="job_…, one or several.", autocompletion=completion.jobs)
]
Anything = Annotated[
    str, typer.Argument(metavar="ID", help="job_…, swp_…, mdl_… or dst_….", autocompletion=completion.uploads_and_jobs)
]
Things = Annotated[
    list[str],
    typer.Argument(metavar="ID…", help="job_…, swp_…, mdl_… or dst_….", autocompletion=completion.uploads_and_jobs),
]
Steered = Annotated[
    list[str],
    typer.Argument(metavar="JOB…", help="job_… or swp_…, one or several.", autocompletion=completion.jobs_and_sweeps),
]
Limit = Annotated[int, typer.Option(min=1, help="How many to list, newest first.")]

Model = Annotated[
    str | None,
    typer.Option(
        help="mdl_…, a local folder (uploaded first), job_…/3, hf:owner/name@commit or s3:bucket/folder.",
        autocompletion=completion.models,
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="dst_…, a local folder or file (parquet, csv, jsonl; uploaded first), or hf:owner/name@commit.",
        autocompletion=completion.datasets,
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set one field of the spec: --set pruning.granularity=ragged. May be repeated; overrides everything else.",
        show_default=False,
    ),
]
SpecFile = Path | None
Spec = Annotated[
    SpecFile,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="A spec as YAML or JSON (`secateur schema`); options override it.",
        show_default=False,
    ),
]
JobName = Annotated[str | None, typer.Option(help="Display name.", show_default=False)]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="Label to find the job by; may be repeated.", show_default=False),
]
Priority = Annotated[
    int | None,
    typer.Option(min=-10, max=10, help="Jobs with a higher priority run first. Default: 0.", show_default=False),
]
IdempotencyKey = Annotated[
    str | None, typer.Option(help="The same key and request within a day create no second job.", show_default=False)
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the job has ended; Ctrl-C stops waiting, not the job.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="Stop waiting after this time; the job continues.", show_default=False),
]

Kind = Literal["job", "sweep", "model", "dataset"]
_KINDS: dict[str, Kind] = {"job": "job", "swp": "sweep", "mdl": "model", "dst": "dataset"}
PREFIXES = tuple(_KINDS)


def kind_of(identifier: str) -> Kind:
    """By its prefix. Raises InvalidRequest."""
    prefix = identifier.partition("_")[0]
    if prefix not in _KINDS or prefix == identifier:
        raise InvalidRequest(f"{identifier!r} is not an id: ids begin with job_, swp_, mdl_ or dst_.", code="usage")
    return _KINDS[prefix]
