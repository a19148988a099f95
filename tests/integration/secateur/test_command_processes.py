"""The command as the shell sees it: its exit status, pipes, Ctrl-C, a terminal's bars, and completion."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from secateur import Secateur

COMMAND = [sys.executable, "-m", "secateur"]
SECONDS = 60


def environment(url: str, **more: str) -> dict[str, str]:
    return {**os.environ, "SECATEUR_URL": url, "SECATEUR_API_KEY": "", "TERM": "xterm", **more}


def secateur(url: str, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=environment(url, **more),
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def waiting(url: str, pair: tuple[str, str]) -> str:
    """The id of a job that nobody takes."""
    with Secateur(url) as client:
        return client.submit(*pair, sparsity=0.5, priority=-10, name="café").id


def read_until(descriptor: int, wanted: bytes) -> bytes:
    """What a terminal has shown once `wanted` is there."""
    seen = b""
    while wanted not in seen:
        assert select.select([descriptor], [], [], SECONDS)[0], seen
        seen += os.read(descriptor, 65536)
    return seen


@pytest.mark.parametrize("arguments", [("wait",), ("wait", "--json")])
def test_ctrl_c_stops_the_waiting_and_not_the_job(url: str, waiting: str, arguments: tuple[str, ...]) -> None:
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments, waiting],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(url, COLUMNS="120"),
        text=True,
        # Whoever runs these tests in the background may have them ignore what Ctrl-C sends.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    shown = read_until(terminal, b"queued")
    assert "café" in shown.decode()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=SECONDS)
    said = read_until(terminal, b"secateur cancel").decode()
    os.close(terminal)
    assert process.returncode == 130
    assert "Stopped waiting" in said
    if "--json" in arguments:
        assert [each["state"] for each in json.loads(output)] == ["queued"]
    else:
        assert output == ""
    with Secateur(url) as client:
        assert client.job(waiting).state == "queued"
        client.job(waiting).cancel()


def test_exit_statuses_and_streams_of_a_script(url: str, waiting: str) -> None:
    shown = secateur(url, "show", waiting, "--json")
    assert (shown.returncode, shown.stderr, json.loads(shown.stdout)["id"]) == (0, "", waiting)
    late = secateur(url, "wait", waiting, "--timeout", "0.1", "--json")
    assert (late.returncode, json.loads(late.stderr)["error"]["code"]) == (5, "wait_timeout")
    assert secateur(url, "cancel", waiting).returncode == 0
    assert secateur(url, "wait", waiting).returncode == 4
    refused = secateur(url, "resume", waiting)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert secateur("http://127.0.0.1:1", "jobs").returncode == 1


def test_a_reader_that_leaves_is_no_trouble(url: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "jobs", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(url)
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(SECONDS) == 1


@pytest.mark.parametrize(
    "more", [{"NO_COLOR": "1"}, {"COLUMNS": "20"}, {"PYTHONIOENCODING": "ascii"}, {"TERM": "dumb"}, {"LC_ALL": "C"}]
)
def test_no_terminal_is_too_poor(url: str, waiting: str, more: dict[str, str]) -> None:
    shown = secateur(url, "show", waiting, **more)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\x1b" not in shown.stdout


def test_the_shells_completion_knows_jobs_and_is_silent_where_nobody_answers(
    url: str, waiting: str, tmp_path: Path
) -> None:
    def completed(where: str, words: str) -> subprocess.CompletedProcess[str]:
        asked = {"_SECATEUR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        command = [str(Path(sys.executable).with_name("secateur"))]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment(where, **asked)
        )

    assert waiting in completed(url, "secateur wait job_").stdout.split()
    assert completed(url, "secateur wait mdl_").stdout.split() == []
    nobody = completed("http://127.0.0.1:1", "secateur wait job_")
    assert (nobody.stdout.split(), nobody.stderr) == ([], "")

    script = secateur(url, "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert script.returncode == 0
    (tmp_path / "completion.sh").write_text(script.stdout)
    sourced = f"source {tmp_path}/completion.sh && complete -p secateur"
    found = subprocess.run(
        ["bash", "--norc", "-c", sourced], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (found.returncode, "secateur" in found.stdout) == (0, True), found.stderr
