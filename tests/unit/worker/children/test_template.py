"""Template processes: what their children are, how they end, and what becomes of both when one of them is killed."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from store.cage import Cage, Layer, read_report
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import gone
from worker.children.template import ForkedProcess, Template, TemplateLostError

ROOT = Path(__file__).parents[4]
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    made = Template("tests.support.jobs.forked_module", ENVIRONMENT)
    yield made
    made.close()


def forked(template: Template, folder: Path, *arguments: str, **environment: str) -> ForkedProcess:
    cage = Cage(write=(str(folder),), file_bytes=2**20)
    return template.fork(arguments, cage, folder, {"PATH": os.environ["PATH"], **environment})


def ended(child: ForkedProcess) -> tuple[int, list[str], str]:
    """Status, lines after the cage's report, standard error."""
    with child.stdin, child.stdout, child.stderr:
        report, *lines = child.stdout.read().decode().splitlines()
        errors = child.stderr.read().decode()
        status = child.wait(20)
    child.release()
    assert {Layer.ENVIRONMENT, Layer.RESOURCES, Layer.PRIVILEGES} <= set(read_report(report))
    return status, lines, errors


def test_a_child_knows_what_it_was_given_and_nothing_of_the_template(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    status, [line], _ = ended(forked(template, tmp_path, "describe", HOME=str(tmp_path)))
    seen = json.loads(line)
    assert status == 0
    assert seen["environment"] == {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    assert seen["folder"] == str(tmp_path)
    # Standard input, output and error, and the one with which the folder is listed.
    assert seen["descriptors"] == [0, 1, 2, 3]
    assert seen["session"] == seen["pid"] != os.getsid(0)


def test_children_share_one_import(template: Template, tmp_path: Path) -> None:
    seen = [json.loads(ended(forked(template, tmp_path, "describe"))[1][0]) for _ in range(2)]
    assert seen[0]["pid"] != seen[1]["pid"]
    [importer] = {each["imported_by"] for each in seen}
    assert importer not in {each["pid"] for each in seen}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("status", "0"), 0, ""),
        (("status", "3"), 3, ""),
        (("exit", "a sentence"), 1, "a sentence"),
        (("raise",), 1, "ValueError: what went wrong"),
        (("signal",), -signal.SIGUSR1, ""),
    ],
)
def test_how_a_child_ended_is_known(
    template: Template, tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    found, _, errors = ended(forked(template, tmp_path, *arguments))
    assert found == status
    assert said in errors


def test_several_at_once_and_in_any_order(template: Template, tmp_path: Path) -> None:
    children = [forked(template, tmp_path, "status", str(number)) for number in range(5)]
    assert [ended(child)[0] for child in reversed(children)] == [4, 3, 2, 1, 0]


def test_a_child_can_be_killed_as_soon_as_it_is_known(template: Template, tmp_path: Path) -> None:
    for _ in range(5):
        child = forked(template, tmp_path, "hang")
        assert child.poll() is None
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait(20) == -signal.SIGKILL
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE  # so that its number is nobody else's
        child.release()
        wait_for(lambda child=child: not psutil.pid_exists(child.pid))


def test_an_end_is_told_once_however_long_nobody_listens(template: Template, tmp_path: Path) -> None:
    """Else an ended child that is not let go would fill its socket, and the template would wait for a reader for ever."""
    first = forked(template, tmp_path, "status", "7")
    for _ in range(20):
        assert ended(forked(template, tmp_path, "status", "0"))[0] == 0
    assert first.wait(20) == 7
    first._status.settimeout(0.05)
    with pytest.raises(TimeoutError):
        first._status.recv(1024)
    first.release()


def test_a_child_that_is_let_go_while_it_runs_is_reaped_when_it_ends(template: Template, tmp_path: Path) -> None:
    child = forked(template, tmp_path, "hang")
    child.stdout.readline()
    child.release()
    os.killpg(child.pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(child.pid))


def test_waiting_has_an_end(template: Template, tmp_path: Path) -> None:
    child = forked(template, tmp_path, "hang")
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(20)
    child.release()


def test_a_template_that_was_killed_takes_its_children_along_and_is_made_again(
    template: Template, tmp_path: Path
) -> None:
    child = forked(template, tmp_path, "hang")
    child.stdout.readline()
    importer = psutil.Process(child.pid).ppid()
    os.kill(importer, signal.SIGKILL)
    assert child.wait(20) == -signal.SIGKILL
    wait_for(lambda: gone(child.pid))
    child.release()
    seen = json.loads(ended(forked(template, tmp_path, "describe"))[1][0])
    assert seen["imported_by"] != importer


def test_a_module_that_starts_threads_is_refused_and_not_tried_again_at_once(tmp_path: Path) -> None:
    template = Template("tests.support.jobs.threaded_module", ENVIRONMENT)
    with pytest.raises(TemplateLostError, match="ended"):
        forked(template, tmp_path)
    with pytest.raises(TemplateLostError, match="a moment ago"):
        forked(template, tmp_path)
    template.close()


def test_a_cage_that_cannot_be_closed_lets_nothing_run(template: Template, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    child = template.fork(["describe"], Cage(user="no-such-user"), tmp_path, {"PATH": os.environ["PATH"]})
    with child.stdin, child.stdout, child.stderr:
        assert child.stdout.read() == b""
        assert b"engine_user" in child.stderr.read()
    assert child.wait(20) == 70
    child.release()
