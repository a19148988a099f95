"""Broken installations, broken for real: each is found, named, and said how to mend; what is safe to mend is mended."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from sqlalchemy import text, update
from typer.testing import CliRunner

from api_schemas.api.checkup import FINDINGS, Finding, Verdict, examine, ok
from api_schemas.api.resources import DeclaredFile
from api_schemas.enums import KeyScope
from secateur import profiles
from secateur.cli import app
from secateur.doctor import client_side, installation, profile, server_side
from store.access import api_keys
from store.checkup import broker
from store.checkup.__main__ import findings as store_findings
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import ApiKey, StoredBytes
from store.settings import Settings
from store.uploads import uploads
from tests.support.servers.databases import valkey_server
from tests.support.servers.processes import service_process
from tests.support.servers.receiver import Reply, receiver

ROOT = Path(__file__).parents[3]
NOBODY = 65534


def of(findings: Sequence[Finding], check: str) -> Finding:
    """The worst finding of a check."""
    order = (Verdict.WRONG, Verdict.WARNING, Verdict.OK)
    return min((one for one in findings if one.check == check), key=lambda one: order.index(one.verdict))


def found(findings: Sequence[Finding], check: str, verdict: Verdict, *words: str) -> None:
    """The check came to this, and says these words; what is not ok also says what to do."""
    worst = of(findings, check)
    said = f"{worst.found} {worst.remedy or ''}"
    assert worst.verdict is verdict, worst
    assert all(word in said for word in words), worst
    assert verdict is Verdict.OK or (worst.remedy or "").endswith((".", "?", "]'")), worst


def run_doctor(*options: str, ahead: Path | None = None) -> tuple[int, list[Finding]]:
    """`secateur doctor --json` in a process of its own, with `ahead` first on its path; exit status and findings."""
    path = os.pathsep.join(str(part) for part in (ahead, ROOT) if part)
    command = [sys.executable, "-m", "secateur", "doctor", "--json", *options]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, FINDINGS.validate_json(done.stdout)


def doctor_here(*options: str) -> tuple[int, list[Finding]]:
    """The same in this process, without a look at torch, which takes seconds to load."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("secateur.doctor.accelerator.torch", list)
        patched.setattr("secateur.doctor.accelerator.torchaudio", list)
        done = CliRunner().invoke(app, ["doctor", "--json", *options])
    assert done.exit_code in (0, 1), (done.output, done.exception)
    return done.exit_code, FINDINGS.validate_json(done.stdout)


def checkup(settings: Mapping[str, object], *options: str, prefix: Sequence[str] = ()) -> list[Finding]:
    """What `python -m store.checkup` finds under these settings, by name; in a process of its own where that has a prefix."""
    given = {f"SECATEUR_{name.upper()}": str(value) for name, value in settings.items()}
    if not prefix:
        with pytest.MonkeyPatch.context() as patched:
            for name, value in given.items():
                patched.setenv(name, value)
            return list(store_findings(options))
    command = [*prefix, sys.executable, "-m", "store.checkup", *options]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return FINDINGS.validate_json(done.stdout)


def distribution(folder: Path, name: str, version: str) -> None:
    """What pip would have left of an installed library, its code aside."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


# The installation itself


def test_what_is_advised_for_an_extra_brings_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secateur is on no index, and the server's libraries alone start nothing."""

    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installation, "version", nothing)
    said = {finding.check: finding.found for finding in installation.packages()}
    for extra in ("server", "worker"):
        assert f"pip install '.[{extra}]' ./server" in said[f"libraries: {extra}"]
    assert said["libraries: export"] == "not installed (pip install 'secateur[export]' adds it)"


def test_transformers_that_are_too_old(tmp_path: Path) -> None:
    distribution(tmp_path, "transformers", "5.9.0")
    status, findings = run_doctor(ahead=tmp_path)
    assert status == 1
    found(
        findings, "libraries: worker", Verdict.WRONG, "transformers 5.9.0", "5.23.0", "pip install 'secateur[worker]'"
    )
    found(findings, "libraries: server", Verdict.OK)


def test_a_torchaudio_that_was_not_repaired_and_its_repair(tmp_path: Path) -> None:
    """Fakes that fail as the real ones do: torchaudio loads its compiled half where it is there, and torch is a CPU build."""
    distribution(tmp_path, "torch", "2.13.0")
    distribution(tmp_path, "torchaudio", "2.11.0")
    torch, torchaudio = tmp_path / "torch", tmp_path / "torchaudio"
    (torchaudio / "lib").mkdir(parents=True)
    (torchaudio / "lib" / "_torchaudio.so").touch()
    (torchaudio / "__init__.py").write_text(
        "import ctypes, pathlib\n"
        "for library in (pathlib.Path(__file__).parent / 'lib').glob('*.so'):\n    ctypes.CDLL(str(library))\n"
    )
    torch.mkdir()
    (torch / "__init__.py").write_text(
        "class version:\n    cuda = None\nclass cuda:\n    is_available = staticmethod(lambda: False)\n"
    )
    status, findings = run_doctor(ahead=tmp_path)
    assert status == 1
    found(findings, "torchaudio", Verdict.WRONG, "2.11.0 does not load", "secateur doctor --fix")
    _, findings = run_doctor("--fix", ahead=tmp_path)
    found(findings, "mended", Verdict.OK, "removed its compiled half")
    found(findings, "torchaudio", Verdict.OK, "2.11.0 loads")
    assert not list((torchaudio / "lib").iterdir())


# The server that a client calls


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Database]]:
    """A service with keys: its address, its database."""
    folder = tmp_path_factory.mktemp("guarded")
    settings = Settings(data_dir=folder, auth="keys", broker_url="redis://127.0.0.1:1/0")
    with service_process(settings, folder / "log") as client:
        database = Database(settings.database_url)
        yield str(client.base_url), database
        database.close()


@pytest.mark.parametrize(
    ("which", "verdict", "words"),
    [
        ("none", Verdict.WRONG, ("SECATEUR_API_KEY is not set",)),
        ("unknown", Verdict.WRONG, ("That API key isn't valid",)),
        ("revoked", Verdict.WRONG, ("was revoked",)),
        ("expired", Verdict.WRONG, ("has expired",)),
        ("reading", Verdict.WARNING, ("models:write (for uploading)", "jobs:write (for submitting jobs)")),
        ("good", Verdict.OK, ("jobs:write", "models:write")),
    ],
)
def test_keys(
    guarded: tuple[str, Database], monkeypatch: pytest.MonkeyPatch, which: str, verdict: Verdict, words: tuple[str, ...]
) -> None:
    url, database = guarded
    scopes = [KeyScope.JOBS_READ] if which == "reading" else [KeyScope.MODELS_WRITE, KeyScope.JOBS_WRITE]
    with database.write() as session:
        key, token = api_keys.create(session, "default", which, scopes)
        spoilt = {"revoked": {"revoked_at": now()}, "expired": {"expires_at": now(plus=-1)}}.get(which)
        if spoilt:
            session.execute(update(ApiKey).where(ApiKey.id == key.id).values(spoilt))
    if which != "none":
        monkeypatch.setenv("SECATEUR_API_KEY", f"sk_{'a' * 26}_{'a' * 52}" if which == "unknown" else token)
    findings = client_side.server(url)
    found(findings, "key", verdict, *words)
    assert any("Secateur 0" in finding.found for finding in findings)


def test_another_program_has_the_address() -> None:
    with receiver(lambda _: Reply(200, {}, b"<html>hello</html>")) as foreign:
        found(client_side.server(foreign.url), "server", Verdict.WRONG, foreign.url, "is not Secateur", "SECATEUR_URL")


def test_nobody_at_an_address_is_wrong_where_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr(client_side, "DEFAULT_URL", url)
        found(client_side.server(None), "server", Verdict.WARNING, url, "secateur up")
        found(client_side.server(url), "server", Verdict.WRONG, url)
    for nonsense in ("127.0.0.1:8000", "http://127.0.0.1:port"):
        found(client_side.server(nonsense), "server", Verdict.WRONG, "is not a valid URL")


# The profile in use


def looked(name: str | None = None, url: str | None = None) -> list[Finding]:
    """What is said of the profile, and of the server where it says which."""
    use, said = profile.in_use(url, name)
    return [*said, *([] if use is None else client_side.server(use.url, use.key, use.profile))]


def test_the_profile_in_use_is_checked(
    guarded: tuple[str, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, database = guarded
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with database.write() as session:
        _, token = api_keys.create(session, "default", "mine", [KeyScope.MODELS_WRITE, KeyScope.JOBS_WRITE])
    with monkeypatch.context() as patched:
        patched.setattr(client_side, "DEFAULT_URL", url)
        assert not [one for one in looked() if one.check == "profile"]
    found(looked("work"), "profile", Verdict.WRONG, "There is no profile 'work'", "secateur login")
    assert [one.check for one in looked("work")] == ["profile"]
    profiles.store("default", profiles.Profile(url, token))
    findings = looked()
    found(findings, "profile", Verdict.OK, "'default'", url, "with a key")
    found(findings, "key", Verdict.OK, "jobs:write")
    profiles.store("work", profiles.Profile(url, f"sk_{'a' * 26}_{'a' * 52}"))
    monkeypatch.setenv("SECATEUR_PROFILE", "work")
    found(looked(), "key", Verdict.WRONG, "That API key isn't valid", f"secateur login --url {url} --profile work")
    monkeypatch.setenv("SECATEUR_API_KEY", token)
    found(looked(), "profile", Verdict.OK, "a key from SECATEUR_API_KEY")
    found(looked(), "key", Verdict.OK, "jobs:write")
    monkeypatch.delenv("SECATEUR_PROFILE")
    found(looked(url="http://127.0.0.1:1"), "profile", Verdict.OK, "not used")
    found(looked(url="http://127.0.0.1:1"), "server", Verdict.WRONG, "http://127.0.0.1:1")
    profiles.file().chmod(0o644)
    found(looked(), "profile", Verdict.WARNING, "other users may read", "chmod 600")
    profiles.file().write_text("{")
    found(looked(), "profile", Verdict.WRONG, "cannot be read", "secateur login")


def test_a_password_in_a_url_is_not_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    profiles.store("default", profiles.Profile("http://ann:hunter2@127.0.0.1:1"))
    _, findings = run_doctor()
    assert "hunter2" not in str(findings)
    found(findings, "profile", Verdict.OK, "http://***@127.0.0.1:1")
    found(findings, "server", Verdict.WRONG, "http://***@127.0.0.1:1", "--profile default")


# The parts of a server


def test_no_broker(tmp_path: Path) -> None:
    findings = checkup({"data_dir": tmp_path, "broker_url": "redis://:secret@127.0.0.1:1/0"})
    found(findings, "broker", Verdict.WRONG, "127.0.0.1:1", "does not answer", "SECATEUR_BROKER_URL")
    assert "secret" not in str(findings)


def test_a_full_disk(tmp_path: Path) -> None:
    """A file system of a megabyte with nothing left, in a mount namespace of its own."""
    folder = tmp_path / "full"
    folder.mkdir()
    fill = f'mount -t tmpfs -o size=1m none "{folder}" && ! head -c 2M /dev/zero > "{folder}/fill" 2>/dev/null && exec "$@"'
    prefix = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", fill, "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    findings = checkup({"data_dir": folder}, "--embedded", prefix=prefix)
    found(findings, "disk", Verdict.WRONG, "0 MiB free", "Free some space")
    found(findings, "folders", Verdict.WRONG, "No space left", "SECATEUR_DATA_DIR")


def test_less_room_than_the_settings_let_come(tmp_path: Path) -> None:
    findings = checkup({"data_dir": tmp_path, "max_model_bytes": 2**60}, "--embedded")
    found(findings, "disk", Verdict.WARNING, "less than the settings allow", "SECATEUR_MAX_MODEL_BYTES")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that everybody may look into. Those above `tmp_path` are closed by every run of pytest that begins."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest.mark.parametrize("closed", ["theirs", "."])
def test_a_folder_that_only_others_may_write_to(open_path: Path, closed: str) -> None:
    """`.`: this user may not even look into the folder above."""
    folder = open_path / "data" / "theirs"
    folder.mkdir(parents=True)
    prefix: list[str] = []
    if os.getuid() == 0:
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        (folder.parent / closed).chmod(0o755 if closed == "theirs" else 0o700)
    else:
        (folder.parent / closed).chmod(0o555 if closed == "theirs" else 0o000)
    findings = checkup({"data_dir": folder}, "--embedded", prefix=prefix)
    shown = str(folder if closed == "theirs" else folder.parent)
    (folder.parent / closed).chmod(0o755)
    found(findings, "folders", Verdict.WRONG, shown, "Permission denied", "SECATEUR_DATA_DIR")
    found(findings, "artifacts", Verdict.WRONG, shown, "SECATEUR_ARTIFACTS_URL")


def test_the_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        findings = checkup({"data_dir": tmp_path}, "--embedded", "--port", str(number))
    found(findings, "port", Verdict.WRONG, str(number), f"process {os.getpid()}", "--port")


def test_databases_of_other_versions(tmp_path: Path) -> None:
    settings = {"data_dir": tmp_path, "database_url": f"sqlite:///{tmp_path / 'some.db'}"}
    found(checkup(settings), "database", Verdict.WRONG, "does not exist", "SECATEUR_DATABASE_URL")
    found(checkup(settings, "--embedded"), "database", Verdict.OK, "does not exist yet")
    (tmp_path / "some.db").touch()
    found(checkup(settings), "database", Verdict.WRONG, "has no schema yet", "secateur up")
    database = Database(str(settings["database_url"]))
    database.migrate()
    found(checkup(settings), "database", Verdict.OK)
    for revision, remedy in (("0001", "migrates it"), ("9999", "newer Secateur")):
        with database.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        found(checkup(settings), "database", Verdict.WRONG, f"has schema {revision}", remedy)
    database.close()


def test_settings_that_cannot_be_and_names_that_are_none(tmp_path: Path) -> None:
    findings = checkup({"data_dir": tmp_path, "lease_seconds": "soon", "brokr_url": "x"})
    assert [finding.verdict for finding in findings] == [Verdict.WARNING, Verdict.WRONG]
    assert findings[0].remedy == "Did you mean SECATEUR_BROKER_URL?"
    assert "SECATEUR_LEASE_SECONDS" in findings[1].found


def test_engines_that_ask_for_more_than_there_is(tmp_path: Path) -> None:
    asked = {"data_dir": tmp_path, "engine_threads": 4096, "engine_memory_bytes": 2**50, "engine_user": "no-such-user"}
    findings = checkup(asked, "--embedded")
    found(
        findings, "cores", Verdict.WARNING, "4096 threads: SECATEUR_ENGINE_THREADS says so", "SECATEUR_ENGINE_THREADS"
    )
    found(findings, "memory", Verdict.WRONG, "SECATEUR_ENGINE_MEMORY_BYTES")
    if os.getuid() == 0:
        found(findings, "cage", Verdict.WRONG, "no-such-user")


def test_nobody_takes_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "TAKEN_SECONDS", 0.2)
    with valkey_server() as url:
        findings = broker.workers(Settings(data_dir=tmp_path, broker_url=url))
    assert [finding.verdict for finding in findings] == [Verdict.WARNING, Verdict.WARNING]
    found(findings[:1], "workers", Verdict.WARNING, "no job worker", "celery -A worker.app")
    found(findings[1:], "workers", Verdict.WARNING, "no maintenance worker", "celery -A worker.maintenance")


# The whole


def test_what_an_ended_stack_left_is_mended(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    announcement = tmp_path / "up.json"
    announcement.write_text(
        json.dumps({"url": "http://127.0.0.1:1", "pid": ended.pid, "broker": "redis://127.0.0.1:1"})
    )
    found(server_side.leftover(tmp_path), "leftover", Verdict.WRONG, str(announcement), "--fix")
    server_side.remove_leftover(tmp_path)
    assert (announcement.exists(), server_side.leftover(tmp_path)) == (False, [])


def test_without_the_server_extra_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.local_server.installed.STACK", ("celery", "no_such_module"))
    findings = server_side.stack_parts(tmp_path, 8000)
    found(findings, "server's parts", Verdict.WRONG, "no_such_module", "pip install '.[server,worker]' ./server")


def test_a_check_that_raises_or_hangs_is_a_finding() -> None:
    def raises() -> list[Finding]:
        raise RuntimeError("what now\nmore")

    found(examine("odd", raises, 5), "odd", Verdict.WRONG, "RuntimeError: what now", "report")
    found(examine("slow", lambda: time.sleep(30) or [], 0.05), "slow", Verdict.WRONG, "no answer within 0.05 s")
    assert examine("fine", lambda: [ok("fine", "yes")], 5) == [ok("fine", "yes")]


def test_the_table_has_a_line_a_finding_and_the_status_says_whether_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("secateur.doctor.accelerator.find_spec", lambda _: None)
    monkeypatch.setattr("secateur.doctor.accelerator.torchaudio", lambda: [ok("torchaudio", "[bold]as it is[/]")])
    with receiver() as foreign:
        done = CliRunner().invoke(app, ["doctor", "--url", foreign.url])
    assert done.exit_code == 1
    assert "[bold]as it is[/]" in done.stdout
    assert "is not Secateur" in done.stdout


def test_rows_are_compared_with_objects_where_that_is_asked_for(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    database = Database(settings.database_url)
    database.migrate()
    with database.write() as session:
        declared = [DeclaredFile(name="config.json", size=4, sha256="ab" * 32)]
        upload_id = uploads.create(session, "default", "model", None, declared).id
        assert uploads.record_file(session, "default", upload_id, "config.json", f"uploads/{upload_id}/1/config.json")
        session.execute(update(StoredBytes).values(size=1))
    database.close()
    status, findings = doctor_here("--data-dir", str(tmp_path), "--verify")
    assert status == 1
    found(findings, "stored files", Verdict.WRONG, "1 of 1", upload_id, "artifact_lost")
    found(findings, "unnamed objects", Verdict.OK)
    found(findings, "counted bytes", Verdict.WRONG, "default", "--fix")
    found(doctor_here("--data-dir", str(tmp_path), "--verify", "--fix")[1], "counted bytes", Verdict.OK)
    usual = checkup({"data_dir": tmp_path}, "--embedded")
    assert not any(finding.check == "stored files" for finding in usual)


def test_rows_of_no_server_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SECATEUR_")]:
        monkeypatch.delenv(name)
    found(doctor_here("--verify")[1], "stored files", Verdict.WRONG, "--data-dir")
