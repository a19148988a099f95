"""The shell steps of the images, each really run: the programs they call are stubs that write down how they were called."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.servers.receiver import serving

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "docker" / "scripts"
NAMES = tuple(sorted(path.name for path in SCRIPTS.glob("*.sh")))


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder, first in PATH, whose programs print their name and arguments, one a line."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    for name in ("uvicorn", "celery", "python"):
        stub = folder / name
        stub.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" {name} "$@"\n')
        stub.chmod(0o755)
    return folder


def run(script: str, *arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    folders = [*([str(path)] if path else []), str(SCRIPTS), str(Path(sys.executable).parent), "/usr/bin", "/bin"]
    return subprocess.run(
        [SCRIPTS / script, *arguments],
        env={"PATH": os.pathsep.join(folders), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    result = subprocess.run(
        [shellcheck, "--external-sources", *SCRIPTS.glob("*.sh"), ROOT / "docker" / "setup.sh", ROOT / ".ci" / "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_every_script_is_tested_here_and_can_be_run() -> None:
    assert NAMES == ("entrypoint.sh", "healthcheck.sh", "migrate.sh", "setting.sh", "wait-for.sh")
    for name in NAMES:
        assert os.access(SCRIPTS / name, os.X_OK)
        assert "set -euo pipefail" in (SCRIPTS / name).read_text()


class TestEntrypoint:
    @pytest.mark.parametrize(
        ("role", "expected"),
        [
            (
                "api",
                ["uvicorn", "--factory", "service.app:create_app", "--host", "0.0.0.0", "--port", "8000", "--http"],
            ),
            ("worker", ["celery", "--app", "worker.app", "worker", "--queues", "jobs"]),
            ("maintenance", ["celery", "--app", "worker.maintenance", "worker", "--queues", "maintenance"]),
            ("beat", ["celery", "--app", "worker.maintenance", "beat"]),
            ("migrate", ["python", "-c"]),
        ],
    )
    def test_becomes_its_role(self, role: str, expected: list[str], stubs: Path, tmp_path: Path) -> None:
        result = run("entrypoint.sh", role, path=stubs, PID_FILE=str(tmp_path / "pid"), SECATEUR_AUTH="keys")
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[: len(expected)] == expected

    @pytest.mark.parametrize("setting", [{}, {"SECATEUR_AUTH": "none"}])
    def test_opens_no_port_without_keys(self, stubs: Path, tmp_path: Path, setting: dict[str, str]) -> None:
        result = run("entrypoint.sh", "api", path=stubs, PID_FILE=str(tmp_path / "pid"), **setting)
        assert (result.returncode, result.stdout) == (78, "")
        assert "SECATEUR_AUTH=keys" in result.stderr

    def test_leaves_its_process_number_and_keeps_it(self, stubs: Path, tmp_path: Path) -> None:
        (stubs / "celery").write_text("#!/usr/bin/env bash\necho $$\n")
        result = run("entrypoint.sh", "worker", path=stubs, PID_FILE=str(tmp_path / "pid"))
        assert (tmp_path / "pid").read_text() == result.stdout

    @pytest.mark.parametrize("in_files", [False, True])
    def test_waits_for_database_and_broker(self, stubs: Path, tmp_path: Path, open_port: int, in_files: bool) -> None:
        urls = {
            "SECATEUR_DATABASE_URL": f"postgresql+psycopg://u:p@127.0.0.1:{open_port}/x",
            "SECATEUR_BROKER_URL": f"redis://127.0.0.1:{closed_port()}/0",
        }
        if in_files:
            for name, url in urls.items():
                (tmp_path / name).write_text(f"{url}\n")
            urls = {f"{name}_FILE": str(tmp_path / name) for name in urls}
        result = run("entrypoint.sh", "worker", path=stubs, PID_FILE=str(tmp_path / "pid"), WAIT_SECONDS="0", **urls)
        assert result.returncode == 1
        assert "did not answer" in result.stderr
        assert "celery" not in result.stdout

    def test_runs_any_other_command_as_it_is(self) -> None:
        assert run("entrypoint.sh", "echo", "a b", "c").stdout == "a b c\n"

    def test_says_how_to_use_it(self) -> None:
        result = run("entrypoint.sh")
        assert result.returncode == 64
        assert "usage" in result.stderr


class TestSetting:
    def test_is_the_environments_or_a_files(self, tmp_path: Path) -> None:
        (tmp_path / "url").write_text("redis://elsewhere\n")
        assert run("setting.sh", "BROKER_URL", SECATEUR_BROKER_URL="redis://here").stdout == "redis://here"
        assert (
            run("setting.sh", "BROKER_URL", SECATEUR_BROKER_URL_FILE=str(tmp_path / "url")).stdout
            == "redis://elsewhere\n"
        )
        unset = run("setting.sh", "BROKER_URL")
        assert (unset.returncode, unset.stdout) == (0, "")

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        missing = run("setting.sh", "BROKER_URL", SECATEUR_BROKER_URL_FILE=str(tmp_path / "url"))
        assert missing.returncode == 1
        assert str(tmp_path / "url") in missing.stderr


class TestWaitFor:
    @pytest.mark.parametrize(
        "url", ["redis://127.0.0.1:{}/0", "postgresql+psycopg://u:p%40ss@127.0.0.1:{}/db?sslmode=disable"]
    )
    def test_an_open_port_is_enough(self, url: str, open_port: int) -> None:
        assert run("wait-for.sh", url.format(open_port), "0").returncode == 0

    def test_gives_up_without_naming_the_password(self) -> None:
        port = closed_port()
        result = run("wait-for.sh", f"postgresql://secateur:hunter2@127.0.0.1:{port}/db", "1")
        assert result.returncode == 1
        assert f"127.0.0.1:{port} did not answer within 1 s" in result.stderr
        assert "hunter2" not in result.stderr

    def test_waits_until_the_server_comes(self) -> None:
        port = closed_port()
        process = subprocess.Popen([SCRIPTS / "wait-for.sh", f"redis://127.0.0.1:{port}/0", "20"])
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.7)
            with socket.create_server(("127.0.0.1", port)):
                assert process.wait(timeout=20) == 0
        finally:
            process.kill()
            process.wait()

    @pytest.mark.parametrize("url", ["", "sqlite:////var/lib/secateur/secateur.db", "redis+socket:///run/valkey.sock"])
    def test_some_urls_need_no_waiting(self, url: str) -> None:
        assert run("wait-for.sh", url, "0").returncode == 0

    @pytest.mark.parametrize("url", ["valkey", "amqp://broker/0"])
    def test_refuses_what_it_does_not_understand(self, url: str) -> None:
        assert run("wait-for.sh", url, "0").returncode == 64


class TestMigrate:
    def test_makes_the_tables_and_may_run_twice(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'new' / 'secateur.db'}"
        for _ in range(2):
            result = run("migrate.sh", SECATEUR_DATABASE_URL=url, SECATEUR_DATA_DIR=str(tmp_path), PYTHONPATH=str(ROOT))
            assert result.returncode == 0, result.stderr
        assert (tmp_path / "new" / "secateur.db").stat().st_size > 0

    def test_fails_where_there_is_no_database(self, tmp_path: Path) -> None:
        url = f"postgresql+psycopg://u:p@127.0.0.1:{closed_port()}/x"
        result = run("migrate.sh", SECATEUR_DATABASE_URL=url, SECATEUR_DATA_DIR=str(tmp_path), PYTHONPATH=str(ROOT))
        assert result.returncode != 0
        assert "refused" in result.stderr


class Server(HTTPServer):
    well = True


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.send_response(200 if self.path == "/healthz" and self.server.well else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def api() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Answer)
    with serving(server):
        yield server


class TestHealthcheck:
    def test_asks_the_api(self, api: Server) -> None:
        port = str(api.server_address[1])
        assert run("healthcheck.sh", "api", API_PORT=port, http_proxy="http://127.0.0.1:9").returncode == 0
        api.well = False
        assert run("healthcheck.sh", "api", API_PORT=port).returncode == 1

    def test_no_api_is_unhealthy(self) -> None:
        result = run("healthcheck.sh", "api", API_PORT=str(closed_port()))
        assert result.returncode == 1
        assert "unhealthy: the API does not answer" in result.stderr

    @pytest.mark.parametrize("role", ["worker", "maintenance", "beat"])
    def test_a_live_process_with_its_servers_is_healthy(self, role: str, tmp_path: Path, open_port: int) -> None:
        pid_file = tmp_path / "pid"
        pid_file.write_text(f"{os.getpid()}\n")
        urls = {
            "SECATEUR_BROKER_URL": f"redis://127.0.0.1:{open_port}/0",
            "SECATEUR_DATABASE_URL": f"postgresql://u:p@127.0.0.1:{open_port}/x",
        }
        assert run("healthcheck.sh", role, PID_FILE=str(pid_file), **urls).returncode == 0

    def test_a_dead_process_is_not(self, tmp_path: Path) -> None:
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
        (tmp_path / "pid").write_text(f"{ended.pid}\n")
        result = run("healthcheck.sh", "worker", PID_FILE=str(tmp_path / "pid"))
        assert result.returncode == 1
        assert "has ended" in result.stderr
        assert "has not started" in run("healthcheck.sh", "beat", PID_FILE=str(tmp_path / "none")).stderr

    def test_a_lost_broker_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "pid").write_text(f"{os.getpid()}\n")
        broker = f"redis://127.0.0.1:{closed_port()}/0"
        result = run("healthcheck.sh", "worker", PID_FILE=str(tmp_path / "pid"), SECATEUR_BROKER_URL=broker)
        assert result.returncode == 1
        assert "no broker" in result.stderr

    def test_says_how_to_use_it(self) -> None:
        assert run("healthcheck.sh", "postgres").returncode == 64


@pytest.fixture
def still(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose pid file is in `tmp_path`, and has not been touched for ten minutes."""
    with subprocess.Popen(["sleep", "600"]) as process:
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        os.utime(tmp_path / "pid", (time.time() - 600, time.time() - 600))
        yield process
        process.kill()


class TestHealing:
    def check(self, role: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return run("healthcheck.sh", role, PID_FILE=str(folder / "pid"), HEAL_AFTER="2", **environment)

    @pytest.mark.parametrize("role", ["worker", "maintenance", "beat"])
    def test_who_gives_no_sign_of_life_is_ended(
        self, role: str, still: subprocess.Popen[bytes], tmp_path: Path
    ) -> None:
        (tmp_path / "pid.stuck").write_text("0\n")
        first = self.check(role, tmp_path)
        assert (first.returncode, still.poll()) == (1, None)
        assert f"the {role} has given no sign of life for 60" in first.stderr
        second = self.check(role, tmp_path)
        assert "ended after 2 checks" in second.stderr
        assert still.wait(timeout=20) == -signal.SIGKILL

    def test_one_sign_in_between_starts_the_count_anew(self, still: subprocess.Popen[bytes], tmp_path: Path) -> None:
        (tmp_path / "pid.stuck").write_text("0\n")
        old = (tmp_path / "pid").stat().st_mtime
        for _ in range(3):
            self.check("worker", tmp_path)
            os.utime(tmp_path / "pid")
            assert self.check("worker", tmp_path).returncode == 0
            os.utime(tmp_path / "pid", (old, old))
        assert still.poll() is None

    @pytest.mark.parametrize("lost", ["SECATEUR_BROKER_URL", "SECATEUR_DATABASE_URL"])
    def test_who_waits_for_a_server_is_left_alone(
        self, still: subprocess.Popen[bytes], tmp_path: Path, lost: str
    ) -> None:
        (tmp_path / "pid.stuck").write_text("0\n")
        for _ in range(3):
            assert self.check("worker", tmp_path, **{lost: f"redis://127.0.0.1:{closed_port()}/0"}).returncode == 1
        assert still.poll() is None

    def test_an_api_that_does_not_answer_is_ended(
        self, still: subprocess.Popen[bytes], tmp_path: Path, api: Server
    ) -> None:
        port = str(api.server_address[1])
        api.well = False
        for _ in range(3):
            assert "unhealthy: the API" in self.check("api", tmp_path, API_PORT=port).stderr
        assert still.poll() is None, "it was still starting"
        api.well = True
        assert self.check("api", tmp_path, API_PORT=port).returncode == 0
        api.well = False
        for _ in range(2):
            self.check("api", tmp_path, API_PORT=port)
        assert still.wait(timeout=20) == -signal.SIGKILL
