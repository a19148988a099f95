"""The engine's cage: a stand-in that tries to get out of it, and what becomes of its job."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode
from store.cage import Cage, Layer, paths, read_report
from store.cage.landlock import RUN
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs
from store.settings import Settings
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import MakeBench, fork_fake_engines, log_of, seen_in, supervisor
from tests.unit.worker.conftest import make_bench  # noqa: F401
from worker.children import confinement

SECRETS = ("SECATEUR_DATABASE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "HF_TOKEN")
ALWAYS = {Layer.ENVIRONMENT, Layer.RESOURCES, Layer.PRIVILEGES}
KEPT_OUT_BY_SECCOMP = (
    *("internet socket", "internet socket, version 6", "unix socket", "netlink socket", "packet socket"),
    *("trace the parent", "io_uring", "user namespace", "leave the session"),
    *("System V memory", "System V semaphores", "System V queue"),
)
KEPT_OUT_BY_LANDLOCK = (
    *("environment of the parent", "signal to the parent", "read outside", "write outside", "write to the model"),
)


@pytest.fixture(params=["program", "forked"])
def started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How engines are started: as a program of their own, or forked from a template process."""
    if request.param == "forked":
        fork_fake_engines(monkeypatch)
    return str(request.param)


@pytest.mark.usefixtures("started")
def test_an_engine_gets_nowhere(
    make_bench: MakeBench,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    secret = tmp_path / "elsewhere" / "secret"
    secret.parent.mkdir()
    secret.write_text("the database's password")
    bench = make_bench("trespass", str(secret.parent), engine_folders=())
    for name in SECRETS:
        monkeypatch.setenv(name, "a secret")
    inheritable = os.open(secret, os.O_RDONLY)
    os.set_inheritable(inheritable, True)
    job_id = bench.submit()

    supervisor(bench).run_one()

    os.close(inheritable)
    assert bench.job(job_id).state is JobState.SUCCEEDED
    seen = seen_in(bench, job_id, 0)
    assert not set(SECRETS) & set(seen["environment"])
    assert "a secret" not in seen["environment"].values()
    scratch = str(bench.settings.scratch)
    for name in ("HOME", "TMPDIR", "HF_HOME", "HF_MODULES_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        assert seen["environment"][name].startswith(scratch), name
    # Standard input, output and error, and the one with which the folder is listed.
    assert seen["descriptors"] == ["0", "1", "2", "3"]
    held = isolation(bench, job_id)
    assert set(held) >= ALWAYS | {Layer.SECCOMP}
    refused = KEPT_OUT_BY_SECCOMP + (KEPT_OUT_BY_LANDLOCK if Layer.LANDLOCK in held else ())
    assert {name: seen["outcome"][name] for name in refused} == dict.fromkeys(refused, "PermissionError")
    assert not secret.with_name("mine").exists()


def isolation(bench: Bench, job_id: str) -> tuple[str, ...]:
    """What every step says of it."""
    with bench.database.read() as session:
        [held] = {step.metrics.isolation for step in jobs.steps(session, DEFAULT_TENANT, job_id)}
    return held


@pytest.mark.usefixtures("started")
def test_an_engine_that_takes_too_much_memory_has_run_out_of_it(make_bench: MakeBench) -> None:  # noqa: F811
    bench = make_bench("fat", engine_memory_bytes=256 * 2**20)
    job_id = bench.submit()
    assert supervisor(bench).run_until_empty() == 2
    job = bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, ErrorCode.OUT_OF_MEMORY)
    assert f"the maximum is {256 * 2**20}" in job.error.detail
    assert bench.steps(job_id) == [0]


@pytest.mark.usefixtures("started")
def test_an_engine_that_starts_too_many_processes_is_ended(make_bench: MakeBench) -> None:  # noqa: F811
    bench = make_bench("crowd", engine_processes=64, failure_cap=1)
    job_id = bench.submit()
    supervisor(bench).run_one()
    job = bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, ErrorCode.ENGINE_CRASHED)
    assert "the maximum is 64" in job.error.detail


@pytest.mark.usefixtures("started")
def test_an_engine_that_writes_too_large_a_file_is_stopped(make_bench: MakeBench) -> None:  # noqa: F811
    bench = make_bench("large", engine_file_bytes=2**20, failure_cap=1)
    job_id = bench.submit()
    supervisor(bench).run_one()
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.ENGINE_CRASHED)
    assert "File too large" in log_of(bench, job_id, 1)
    assert bench.steps(job_id) == [0]


def caged(cage: Cage, *command: str, starter: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`starter`: what starts it, of UNPRIVILEGED."""
    return subprocess.run(
        [*starter, *cage.command(command)],
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


UNPRIVILEGED = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    # The interpreter may lie where only root looks.
    *(
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
    ),
)


def by_others() -> tuple[str, ...]:
    """What makes somebody without rights of whoever runs the tests."""
    if os.getuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("nothing here makes another user of root")
    return UNPRIVILEGED


def test_root_becomes_another_user_without_capabilities() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    said = caged(Cage(user="nobody"), "sh", "-c", "id -un; grep CapBnd /proc/self/status").stdout.splitlines()
    assert Layer.USER in read_report(said[0])
    assert said[1] == "nobody"
    assert int(said[2].split()[1], 16) == 0


@pytest.mark.parametrize("rights", ["as we are", "without rights"])
def test_shared_memory_is_a_cage_s_own_and_goes_with_it(rights: str) -> None:
    before = paths.SHARED_MEMORY / f"secateur-test-{os.getpid()}"
    left = before.with_name(f"{before.name}-left")
    before.write_text("somebody else's")
    try:
        script = f"ls {before.parent}; echo mine > {left}; cat {left}; df -P -k {before.parent} | tail -1"
        starter = () if rights == "as we are" else by_others()
        said = caged(Cage(file_bytes=2**20), "sh", "-c", script, starter=starter)
        held = read_report(said.stdout.splitlines()[0])
        if Layer.SHARED_MEMORY not in held:
            pytest.skip("no mounts of one's own are to be had here")
        assert said.stdout.splitlines()[1] == "mine", said
        assert int(said.stdout.split()[-5]) == 2**20, "a GiB, in KiB"
        assert not left.exists()
    finally:
        before.unlink()
        left.unlink(missing_ok=True)


def test_processes_are_bounded_by_the_kernel_where_it_counts_a_cage_s_own() -> None:
    script = "i=0; while [ $i -lt 200 ]; do sleep 2 </dev/null >/dev/null 2>&1 & i=$((i + 1)); echo $i; done"
    said = caged(Cage(processes=64), "sh", "-c", script, starter=by_others())
    held, *counted = said.stdout.splitlines()
    if Layer.PROCESSES not in read_report(held):
        pytest.skip("no user namespace is to be had here, or the kernel counts across them")
    # The shell itself is one of them.
    assert counted[-1] == "63"


def test_an_unknown_user_is_an_error() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    run = caged(Cage(user="no-such-user"), "true")
    assert (run.returncode, run.stdout) == (70, "")
    assert "engine_user" in run.stderr


@pytest.fixture
def bare_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Child processes find neither libseccomp nor network namespaces."""
    (tmp_path / "pyseccomp.py").write_text("raise RuntimeError('Unable to find libseccomp')")
    (tmp_path / "sitecustomize.py").write_text(
        "import store.cage.kernel\n"
        "def refuse(): raise PermissionError(1, 'Operation not permitted')\n"
        "store.cage.kernel.leave_network = refuse\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))


@pytest.mark.usefixtures("bare_platform")
def test_a_worker_for_strangers_does_not_start_where_nothing_keeps_engines_from_the_network(tmp_path: Path) -> None:
    assert set(confinement.check(Settings(data_dir=tmp_path))) >= ALWAYS
    with pytest.raises(SystemExit, match="libseccomp2"):
        confinement.check(Settings(data_dir=tmp_path, auth="keys"))


def test_a_worker_for_strangers_starts_here(tmp_path: Path) -> None:
    assert Layer.SECCOMP in confinement.check(Settings(data_dir=tmp_path, auth="keys"))


def test_the_version_of_what_runs_can_be_read() -> None:
    """Also where a checkout stands first on the path, with the description that an editable installation left in it."""
    asked = "import sys; sys.path.insert(0, sys.argv[1]); from importlib.metadata import version; print(version('secateur'))"
    said = caged(Cage(), sys.executable, "-c", asked, str(paths.CODE)).stdout.splitlines()
    assert said[1:] == [version("secateur")]


def test_of_an_editable_installation_code_and_description_are_read_and_nothing_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CODE", tmp_path)
    for name in (*paths.ROOMS, "secateur.egg-info", "data"):
        (tmp_path / name).mkdir()
    inside = {path.name: rights for path, rights in paths.rules((), ()) if path.parent == tmp_path}
    assert inside == dict.fromkeys((*paths.ROOMS, "secateur.egg-info"), RUN)
