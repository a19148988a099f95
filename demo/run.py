"""`make demo`: the whole way of a job over HTTP, from a dense checkpoint to a pruned one that stock transformers loads.

DEMO_MODEL, DEMO_DATA    a checkpoint folder, and a folder of parquet shards or of recordings (default: made here)
DEMO_SPARSITY            share of the attention parameters to remove (0.5)
DEMO_EPOCHS              of recovery after every step (1; the paper: 3)
DEMO_LEARNING_RATE       of recovery (the default of the API)
DEMO_CLIPS               test clips for the fresh process (500)
DEMO_CONTROL             0 leaves out the control, which removes heads at random and is otherwise the same job
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from api_schemas.enums import Criterion
from api_schemas.spec.recovery import Finetune
from demo import DemoError, inputs, score
from demo.control import Given, control, kept_score
from demo.results import Outcome, save, show
from demo.service import running_service
from secateur import Job, Secateur
from secateur.errors import SecateurError
from secateur.terminal.job_bar import JobBar, duration
from secateur.terminal.metrics import percent, quality


def main() -> int:
    """Run the demo; returns the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    began = time.monotonic()
    try:
        _check_numbers()
        model, data, own = inputs.model_and_data(console)
        # The demo's own model is so small that a second thread costs more than it gives.
        settings = {"SECATEUR_ENGINE_THREADS": "1"} if own else {}
        kept = inputs.ROOT / "service"
        with (
            running_service({**settings, **_settings_given()}, kept) as url,
            tempfile.TemporaryDirectory() as downloads,
        ):
            console.print(f"The service runs at {url}.")
            outcomes, job = _over_http(url, model, data, own, Path(downloads), console)
        console.print("The service and all its processes have stopped.")
    except (DemoError, SecateurError) as error:
        console.print("[red]The demo failed:[/]", end=" ")
        console.print(str(error), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; everything was stopped.")
        return 130
    show(outcomes, console)
    seconds = round(time.monotonic() - began)
    about = {"model": model.name, "data": data.name, "seconds": seconds}
    save(outcomes, about, inputs.ROOT)
    console.print(f"Took {duration(seconds)}. The numbers: {inputs.ROOT}/result.md and {inputs.ROOT}/result.json.")
    console.print(f"The report, with its curves: {inputs.ROOT}/report.html")
    page = f"http://127.0.0.1:8000/jobs/{job}"
    console.print(f"The job's page: {_command()} up --data-dir {kept}, then {page}", soft_wrap=True)
    return 0


def _command() -> str:
    """`secateur` as this shell finds it: make runs that of .venv, which need not be on the path."""
    return "secateur" if shutil.which("secateur") else os.path.relpath(Path(sys.executable).with_name("secateur"))


def _check_numbers() -> None:
    """Raises DemoError for a DEMO_ variable that should be a number: before anything is made or started."""
    _sparsity()
    _recovery()
    inputs.test_clips()


def _sparsity() -> float:
    return inputs.number("DEMO_SPARSITY", 0.5)


def _settings_given() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("SECATEUR_")}


def _over_http(
    url: str, model: Path, data: Path, own: bool, downloads: Path, console: Console
) -> tuple[list[Outcome], str]:
    """Upload, run the job and its control, download and score; also the id of the job, whose report is saved."""
    with Secateur(url) as client:
        uploaded = client.upload_model(model)
        dataset = client.upload_dataset(data)
        assert uploaded.layout is not None
        assert dataset.contents is not None
        layers = uploaded.layout.widths.layers
        console.print(
            f"Uploaded {uploaded.layout.architecture}, {len(layers)} layers of {layers[0].heads} heads, and "
            f"{dataset.contents.seconds:.0f} s of audio: {dataset.contents.rows}."
        )

        def measured(criterion: Criterion, title: str) -> tuple[Job, Outcome]:
            job = client.submit(
                uploaded,
                dataset,
                **_request(criterion),
                name=f"demo, {criterion.value}",
            )
            console.print(f"Job {job.id}: paper preset, criterion {criterion.value}.")
            _follow(job, console)
            pruned = job.download(downloads / criterion.value)
            console.print(
                f"Downloaded step {job.metrics[-1].step}: {len(list(pruned.iterdir()))} files, every SHA-256 correct."
            )
            return job, Outcome(title, job.metrics[-1], _score_afresh(pruned, data))

        job, pruned = measured(Criterion.FISHER, "pruned")
        inputs.ROOT.mkdir(exist_ok=True)
        (inputs.ROOT / "report.html").write_text(job.report(), encoding="utf-8")
        outcomes = [Outcome("before", job.metrics[0], _score_before(model, data, own)), pruned]
        if os.environ.get("DEMO_CONTROL", "1") != "0":
            outcomes.append(_control(model, data, own, lambda title: measured(Criterion.RANDOM, title)[1], console))
        return outcomes, job.id


def _request(criterion: Criterion) -> dict[str, Any]:
    return {
        "preset": "paper",
        "sparsity": _sparsity(),
        "pruning": {"criterion": criterion.value},
        "finetune": _recovery().model_dump(),
    }


def _control(model: Path, data: Path, own: bool, measure: Callable[[str], Outcome], console: Console) -> Outcome:
    """On the demo's own model and data it is kept: nobody learns more from a second one."""
    title = "control: heads removed at random"
    if not own:
        return measure(title)
    request = _request(Criterion.RANDOM)
    given = Given(model.name, data.name, request, inputs.test_clips(), _settings_given())
    return control(given, lambda: measure(title), console)


def _follow(job: Job, console: Console) -> None:
    """Wait for the job, showing where it is and what every step came to."""
    told = 0

    def note(bar: JobBar) -> None:
        nonlocal told
        for step in job.metrics[told:]:
            bar.note(
                f"step {step.step}: {percent(step.achieved_sparsity)} of attention removed, "
                f"{quality(step.validation)} on validation"
            )
        told = len(job.metrics)
        if job.progress is not None:
            bar.update(job.progress)

    with JobBar(console) as bar:
        job.wait(progress=lambda _: note(bar))
        note(bar)


def _recovery() -> Finetune:
    default = Finetune()
    rate = inputs.number("DEMO_LEARNING_RATE", default.learning_rate)
    return Finetune(epochs=inputs.number("DEMO_EPOCHS", 1), learning_rate=rate)


def _score_before(model: Path, data: Path, own: bool) -> dict[str, Any]:
    """The demo's own model is as it was in an earlier run: its score is kept."""
    if not own:
        return _score_afresh(model, data)
    return kept_score(model.name, data.name, inputs.test_clips(), lambda: _score_afresh(model, data))


def _score_afresh(checkpoint: Path, data: Path) -> dict[str, Any]:
    """Load and score in a new process that knows nothing of this project: stock transformers, offline."""
    command = [sys.executable, "-I", str(Path(score.__file__)), str(checkpoint), str(data)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [*command, "--limit", str(inputs.test_clips())], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0:
        raise DemoError(f"the checkpoint did not load in a fresh process:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.exit(main())
