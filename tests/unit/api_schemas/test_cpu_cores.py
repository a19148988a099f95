"""How many cores may be used: control groups of both versions as they look in and outside of containers, and OMP_NUM_THREADS."""

import os
from pathlib import Path

import pytest

from api_schemas import cpu_cores
from api_schemas.cpu_cores import affine_cores, cpu_quota, omp_threads, threads_alone, usable_cores

SLICE = "system.slice/docker-1.scope"


def group(folder: Path, quota: str) -> None:
    """Version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(quota + "\n")


def group_1(folder: Path, quota: int, period: int = 100_000) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


def quota_of(tmp_path: Path, groups: str) -> float | None:
    (tmp_path / "cgroup").write_text(groups)
    return cpu_quota(tmp_path / "cgroup", tmp_path / "fs")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("150000 100000", 1.5),
        ("max 100000", None),
        ("200000 50000", 4.0),
        ("", None),
        ("nonsense", None),
        ("1 0", None),
    ],
)
def test_version_2(tmp_path: Path, quota: str, cores: float | None) -> None:
    group(tmp_path / "fs", quota)  # as a container sees it
    assert quota_of(tmp_path, "0::/\n") == cores


def test_of_nested_groups_the_least_counts(tmp_path: Path) -> None:
    group(tmp_path / "fs" / SLICE / "child", "max 100000")
    group(tmp_path / "fs" / SLICE, "300000 100000")
    group(tmp_path / "fs" / "system.slice", "800000 100000")
    assert quota_of(tmp_path, f"0::/{SLICE}/child\n") == 3.0
    group(tmp_path / "fs" / "system.slice", "200000 100000")
    assert quota_of(tmp_path, f"0::/{SLICE}/child\n") == 2.0
    assert quota_of(tmp_path, "0::/user.slice\n") is None


@pytest.mark.parametrize("path", [f"/{SLICE}", "/../../elsewhere", "/"])
def test_a_container_that_is_told_its_path_on_the_host_has_its_own_group_at_the_root(tmp_path: Path, path: str) -> None:
    group(tmp_path / "fs", "100000 100000")
    group(tmp_path, "50000 100000")  # above the mount: nobody's
    assert quota_of(tmp_path, f"0::{path}\n") == 1.0


@pytest.mark.parametrize("mounted", ["cpu", "cpu,cpuacct"])
def test_version_1(tmp_path: Path, mounted: str) -> None:
    group_1(tmp_path / "fs" / mounted, -1)
    group_1(tmp_path / "fs" / mounted / "docker" / "1", 250_000)
    lines = "9:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n3:cpuset:/docker/1\n0::/\n"
    assert quota_of(tmp_path, lines) == 2.5
    assert quota_of(tmp_path, lines.replace("docker/1", "")) is None


def test_both_versions_at_once(tmp_path: Path) -> None:
    group(tmp_path / "fs" / "unified" / "a", "400000 100000")
    group_1(tmp_path / "fs" / "cpu" / "a", 300_000)
    assert quota_of(tmp_path, "1:cpu:/a\n0::/a\n") == 3.0


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "absent", tmp_path / "absent") is None
    assert usable_cores(tmp_path / "absent", tmp_path / "absent") == affine_cores() >= 1


def test_never_more_than_the_cores_there_are(tmp_path: Path) -> None:
    group(tmp_path, "99900000 100000")
    assert usable_cores(tmp_path / "absent", tmp_path) == affine_cores()
    group(tmp_path, "50000 100000")
    assert usable_cores(tmp_path / "absent", tmp_path) == 0.5


@pytest.mark.parametrize(
    ("text", "threads"),
    [("3", 3), (" 4 ", 4), ("2,1", 2), ("", None), ("0", None), ("-1", None), ("many", None), ("²", None)],
)
def test_omp_num_threads(text: str, threads: int | None) -> None:
    assert omp_threads({"OMP_NUM_THREADS": text}) == threads


def test_an_engine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads_alone({"OMP_NUM_THREADS": "7"}) == 7
    for cores, threads in ((2.5, 2), (0.5, 1)):
        monkeypatch.setattr(cpu_cores, "usable_cores", lambda cores=cores: cores)
        assert threads_alone({}) == threads


def test_where_affinity_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert affine_cores() == 6
