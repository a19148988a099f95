"""Sweeps by client and command, against a real service."""

from typing import Any

import pytest

from secateur import errors
from secateur.specs.job_request import Options
from secateur.specs.sweep_request import draft_sweep
from tests.integration.secateur.test_commands import Shell
from tests.support.jobs.manual_worker import ManualWorker

PAPER = {"methods": "paper", "sparsity": 0.5, "finetune": None}


@pytest.fixture(scope="module")
def shell(url: str) -> Shell:
    return Shell(url)


def test_both_clients_submit_steer_and_delete(client: Any, pair: tuple[str, str]) -> None:
    sweep = client.submit_sweep(*pair, name="twelve", **PAPER)
    assert (sweep.state, len(sweep.rows), sweep.ended) == ("queued", 12, False)
    assert client.sweep(sweep.id).view == sweep.view
    assert next(iter(client.sweeps())).id == sweep.id
    assert {job.id for job in client.jobs(sweep=sweep.id)} == {row.job for row in sweep.rows}
    assert [job.name for job in sweep.jobs()] == [row.label for row in sweep.rows]
    assert sweep.pause().state == "paused"
    assert sweep.resume().view.jobs == {"queued": 12}
    with pytest.raises(errors.WaitTimeout, match="It continues"):
        sweep.wait(timeout=0)
    with pytest.raises(errors.Conflict):
        client.delete_sweep(sweep.id)
    assert sweep.cancel().ended
    assert sweep.cancel().view.jobs == {"cancelled": 12}  # As it is already.
    told: list[Any] = []
    assert sweep.wait(progress=told.append).ended
    assert (told[-1].done, told[-1].total, told[-1].unit) == (12, 12, "jobs")
    assert "entire_head/fisher/global" in sweep._repr_html_()
    sweep.delete()
    with pytest.raises(errors.NotFound):
        sweep.refresh()


def test_what_is_wrong_is_pointed_at(client: Any, pair: tuple[str, str]) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit_sweep(*pair, sparsity=0.5, specs=[{"seed": 1}, {"seed": -1}])
    assert list(caught.value.pointers) == ["/specs/1/seed"]


def test_the_commands(shell: Shell, pair: tuple[str, str], worker: ManualWorker) -> None:
    model, data = pair
    given = (
        "--data",
        data,
        "--sparsity",
        0.5,
        "--one-shot",
        "--grid",
        "seed=0,1",
        "--priority",
        10,
        "--max-parallel",
        1,
    )
    sweep = shell("sweep", model, *given, "--name", "seeds").stdout.strip()
    found = shell.json("show", sweep)
    assert [row["label"] for row in found["rows"]] == ["seed=0", "seed=1"]
    assert found["max_parallel"] == 1
    first = shell.json("show", found["rows"][0]["job"])["request"]
    assert (first["finetune"], first["pruning"]["schedule"]["steps"], first["priority"]) == (None, 1, 10)
    worker.claim(found["rows"][0]["job"])
    worker.commit(0, {})
    worker.commit(1, {"model.safetensors": b"x"})
    worker.succeed(1)
    page = shell("show", sweep).stdout
    assert "seeds" in page
    assert "90.0%" in page
    assert sweep in shell("sweeps").stdout
    assert "paused" in shell("pause", sweep).stdout
    assert "queued" in shell("resume", sweep).stdout
    assert "cancelled" in shell("cancel", sweep).stdout
    assert shell("delete", "--yes", sweep).stdout.strip() == f"{sweep} is deleted."
    shell("show", sweep, status=2)
    assert "path=value" in shell.refusal("sweep", model, *given, "--grid", "seed")["detail"]


def test_values_of_a_grid_are_read_as_yaml() -> None:
    grid = ["pruning.target.flops=0.25, 0.5", "finetune=[null, {epochs: 1}]", "pruning.granularity=per_head,ragged"]
    options = Options(f"mdl_{'a' * 26}", f"dst_{'a' * 26}")
    draft = draft_sweep(None, options, ["seed=1"], methods=None, grid=grid, one_shot=False, max_parallel=None)
    assert draft.body["grid"] == {
        "pruning.target.flops": [0.25, 0.5],
        "finetune": [None, {"epochs": 1}],
        "pruning.granularity": ["per_head", "ragged"],
    }
    assert draft.body["base"] == {"seed": 1}
