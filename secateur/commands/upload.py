"""`secateur upload model` and `secateur upload dataset`; and the uploads that submit and estimate do first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from api_schemas.api.resources import DatasetResource, ModelResource
from secateur.client.files.model_files import left_out, model_files
from secateur.commands.shared.session import Session, served
from secateur.specs.job_request import DraftRequest
from secateur.specs.references import What, reference
from secateur.terminal.consoles import clean
from secateur.terminal.progress_bars import transfer

app = typer.Typer(
    no_args_is_help=True, help="Upload a checkpoint or data; prints the id. Resumes an interrupted upload."
)

Name = Annotated[str | None, typer.Option(help="Display name. Default: the folder's name.", show_default=False)]


@served(app, name="model", patient=True)
def upload_model(
    session: Session,
    path: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="A folder as `save_pretrained` writes it.")
    ],
    name: Name = None,
) -> None:
    """Upload a checkpoint: config, safetensors, and the files that prepare its inputs."""
    found = _send_model(session, path, name)
    session.note(f"{found.layout.architecture if found.layout else 'The model'} is ready. Its id:")
    session.give(found, found.id)


@served(app, name="dataset", patient=True)
def upload_dataset(
    session: Session,
    path: Annotated[
        Path,
        typer.Argument(
            exists=True,
            help="Folder of parquet, of <split>/<label>/<recordings or images>, or of texts; or a file (parquet, csv, jsonl).",
        ),
    ],
    name: Name = None,
    input_column: Annotated[
        str | None, typer.Option(help="Column with the model's input, if its name does not make that clear.")
    ] = None,
    pair_column: Annotated[
        str | None, typer.Option(help="Column with the second text, if the model reads pairs.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column with the labels or targets.")] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Column with groups, such as speakers: rows of a group stay in one split.")
    ] = None,
    label_ids: Annotated[
        bool, typer.Option("--label-ids", help="Labels are the model's class indices, starting from 0.")
    ] = False,
) -> None:
    """Upload data; folders of files are packed into parquet first."""
    given = {"input": input_column, "input_pair": pair_column, "label": label_column, "group": group_column}
    columns: dict[str, Any] = {role: column for role, column in given.items() if column is not None}
    if label_ids:
        columns["label_ids"] = True
    found = _send_dataset(session, path, name, columns or None, None)
    rows = (
        ", ".join(f"{number:,} {split}" for split, number in found.contents.rows.items())
        if found.contents
        else "The data"
    )
    session.note(f"{rows}: ready. Its id:")
    session.give(found, found.id)


def uploaded(session: Session, wanted: DraftRequest) -> dict[str, Any]:
    """The request with everything in it uploaded that was only here, and with whole ids."""
    for what, text in wanted.short.items():
        prefix = "job" if text.startswith("job_") else "mdl" if what == "model" else "dst"
        part, mark, step = text.replace(":", "/").partition("/")
        found = reference(f"{session.whole_id(part, prefix)}{mark}{step}", what)
        assert isinstance(found, dict)
        kept = {name: wanted.body[what][name] for name in ("columns", "splits") if name in wanted.body[what]}
        wanted.body[what] = {**kept, **found}
    ids: dict[What, str] = {}
    for what, path in wanted.uploads.items():
        if what == "model":
            ids[what] = _send_model(session, path, None).id
        else:
            data = wanted.body["dataset"]
            ids[what] = _send_dataset(session, path, None, data.get("columns"), data.get("splits")).id
        session.note(f"{path} is {ids[what]}.")
    return wanted.with_ids(ids)


def _send_model(session: Session, path: Path, name: str | None) -> ModelResource:
    if others := left_out(path, model_files(path)):
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        session.note(f"Not uploaded, since no checkpoint needs them: {', '.join(map(clean, others[:5]))}{more}.")
    with transfer(session.err, path.name) as told:
        found = session.client.upload_model(path, name=name, progress=told)
    for warning in found.warnings:
        session.note(f"warning: {warning.detail}")
    return found


def _send_dataset(
    session: Session,
    path: Path,
    name: str | None,
    columns: Mapping[str, Any] | None,
    splits: Mapping[str, Any] | None,
) -> DatasetResource:
    with transfer(session.err, path.name) as told:
        found = session.client.upload_dataset(path, name=name, columns=columns, splits=splits, progress=told)
    for warning in found.warnings:
        session.note(f"warning: {warning.detail}")
    return found
