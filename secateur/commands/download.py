"""`secateur download`: a step's files, resumed where an earlier try stopped, every SHA-256 checked."""

from pathlib import Path
from typing import Annotated

import typer

from secateur.commands.shared import arguments
from secateur.commands.shared.group import JOBS
from secateur.commands.shared.session import Session, served
from secateur.documents import Download, DownloadedFile
from secateur.terminal.formatting import size
from secateur.terminal.progress_bars import transfer


def register(app: typer.Typer) -> None:
    """The command."""
    served(app, JOBS, patient=True)(download)


def download(
    session: Session,
    identifier: arguments.Job,
    step: Annotated[
        int | None, typer.Option(min=1, help="Step to download. Default: the job's result.", show_default=False)
    ] = None,
    to: Annotated[
        Path | None, typer.Option(file_okay=False, help="Output folder. Default: JOB-step-N.", show_default=False)
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="If the job has no result (yet), take its last finished step.")
    ] = False,
) -> None:
    """Download the pruned checkpoint; prints the folder."""
    identifier = session.whole_id(identifier, "job")
    found = session.client.job(identifier).checkpoint(step, partial=partial)
    folder = to or Path(f"{identifier}-step-{found.step}")
    with transfer(session.err, f"step {found.step}") as told:
        found.download(folder, told)
    files = tuple(DownloadedFile(name=file.name, size=file.size, sha256=file.sha256) for file in found.view.files)
    session.note(f"Step {found.step}, {len(files)} files, {size(sum(file.size for file in files))}, in:")
    session.give(Download(job=identifier, step=found.step, folder=folder, files=files), str(folder))
