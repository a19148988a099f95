"""What a job finds of earlier ones is what it would have computed, to the last bit; and nothing is found that is another's."""

import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.checkpoints.tiny import some_data, tiny_model
from tests.support.jobs.engine import identity, run_job
from worker.engine import kept_results
from worker.engine.kept_results import KeptResults
from worker.engine.records import read_step
from worker.engine.scoring.observations import NeuronObservations, Observations

SPEC: dict[str, Any] = {
    "pruning": {"preset": "paper", "target": {"attention_sparsity": 0.5}, "schedule": {"steps": 1}},
    "finetune": None,
    "evaluate": {"latency_batch_sizes": [], "sensitivity_samples": None},
}
BEST: dict[str, Any] = SPEC | {
    "pruning": {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 1}, "calibration": {"samples": 32}}
}
ALL = ("inputs", "validation", "test")


def job(out: Path, cache: Path, spec: dict[str, Any]) -> tuple[dict[str, bytes], tuple[tuple[str, ...], ...]]:
    """The files of its identity, and what each step found."""
    run_job(out, spec, data=some_data(), cache=cache, fresh_process=False)
    return identity(out / "step-1"), tuple(step.reused for step in read_step(out / "step-1").metrics)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a job of SPEC leaves."""
    folder = tmp_path_factory.mktemp("shared")
    job(folder / "out", folder / "cache", SPEC)
    return folder / "cache"


@pytest.mark.parametrize("spec", [SPEC, BEST], ids=["paper", "best"])
def test_results_are_the_same_with_and_without(tmp_path: Path, spec: dict[str, Any]) -> None:
    alone, nothing = job(tmp_path / "alone", tmp_path / "none", spec)
    assert nothing == ((), ())
    again, reused = job(tmp_path / "again", tmp_path / "none", spec)
    assert reused == (ALL, ("statistics",))
    assert again == alone
    assert len(alone) >= 4


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"granularity": "per_head", "scope": "local"}, ("statistics",)),
        ({"criterion": "fisher_saliency"}, ()),
        ({"calibration": {"samples": 16}}, ()),
    ],
    ids=["method", "criterion", "samples"],
)
def test_another_method_shares_what_does_not_depend_on_it(
    tmp_path: Path, shared: Path, changes: dict[str, Any], found: tuple[str, ...]
) -> None:
    other = SPEC | {"pruning": SPEC["pruning"] | changes}
    alone, _ = job(tmp_path / "alone", tmp_path / "none", other)
    cache = shutil.copytree(shared, tmp_path / "cache")
    assert job(tmp_path / "second", cache, other) == (alone, (ALL, found))


def test_nothing_is_found_that_another_seed_has_left(tmp_path: Path, shared: Path) -> None:
    cache = shutil.copytree(shared, tmp_path / "cache")
    assert job(tmp_path / "third", cache, SPEC | {"seed": 1})[1] == ((), ())


def test_what_need_not_come_out_the_same_is_not_handed_on(tmp_path: Path, shared: Path) -> None:
    cache = shutil.copytree(shared, tmp_path / "cache")
    before = {entry.name for entry in cache.iterdir()}
    assert job(tmp_path / "other", cache, SPEC | {"deterministic": False})[1] == (("inputs",), ())
    assert {entry.name for entry in cache.iterdir()} == before


def test_what_cannot_be_read_is_computed_anew(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    alone, _ = job(tmp_path / "first", cache, SPEC)
    for entry in cache.glob("s*-*"):
        for file in entry.iterdir():
            file.write_bytes(file.read_bytes()[:20])
    again, reused = job(tmp_path / "second", cache, SPEC)
    assert (again, reused) == (alone, (("inputs",), ()))
    assert job(tmp_path / "third", cache, SPEC)[1] == (ALL, ("statistics",))


def test_names_depend_on_all_that_results_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = shutil.copytree(tiny_model(), tmp_path / "model")
    cpu = torch.device("cpu")

    def common(features: str = "features-1", batch_size: int = 32) -> str:
        return KeptResults.of(tmp_path, model, features, cpu, batch_size).common

    names = [common(), common("features-2"), common(batch_size=16)]
    (model / "config.json").write_bytes((model / "config.json").read_bytes() + b" ")
    names.append(common())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    names.append(common())
    monkeypatch.setattr(kept_results, "FORMAT", kept_results.FORMAT + 1)
    names.append(common())
    monkeypatch.setattr(kept_results, "version", lambda _: "0")
    names.append(common())
    assert len(set(names)) == len(names)


def test_what_has_no_room_on_the_disk_is_not_kept_and_fails_nothing(tmp_path: Path) -> None:
    kept = KeptResults.of(tmp_path / "cache", tiny_model(), "features", torch.device("cpu"), 8)
    observed = Observations((), 1, 1, (NeuronObservations(*[torch.zeros(10_000)] * 7, tokens=1),))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        found, there = kept.observations({}, lambda: observed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found is observed
    assert not there
    assert not list((tmp_path / "cache").iterdir())
