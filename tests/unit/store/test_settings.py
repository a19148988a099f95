"""Settings come from SECATEUR_* and are complete without any."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError
from redis import ConnectionPool
from sqlalchemy import make_url

from store.settings import Settings


def test_everything_lies_below_the_data_folder_by_default(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/secateur.db"
    assert settings.artifacts_url == f"file://{tmp_path}/artifacts"
    assert settings.scratch == tmp_path / "scratch"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECATEUR_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SECATEUR_DATABASE_URL", "postgresql+psycopg://db/x")
    monkeypatch.setenv("SECATEUR_LEASE_SECONDS", "30")
    monkeypatch.setenv("SECATEUR_ENGINE_COMMAND", '["engine", "--fast"]')
    settings = Settings()
    assert settings.database_url == "postgresql+psycopg://db/x"
    assert settings.artifacts_url == f"file://{tmp_path}/artifacts"
    assert settings.lease_seconds == 30
    assert settings.engine_command == ("engine", "--fast")


def test_a_relative_folder_is_resolved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(data_dir=Path("here")).database_url == f"sqlite:///{tmp_path}/here/secateur.db"


def test_a_lease_outlives_two_heartbeats() -> None:
    with pytest.raises(ValidationError, match="half of lease_seconds"):
        Settings(lease_seconds=10, heartbeat_seconds=6)


def test_a_setting_comes_from_the_file_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, content in {
        "DATABASE_URL": "postgresql+psycopg://db/x\n",
        "LEASE_SECONDS": " 30 ",
        "ENGINE_COMMAND": '["engine", "--fast"]\n',
    }.items():
        (tmp_path / name).write_text(content)
        monkeypatch.setenv(f"SECATEUR_{name}_FILE", str(tmp_path / name))
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url == "postgresql+psycopg://db/x"
    assert settings.lease_seconds == 30
    assert settings.engine_command == ("engine", "--fast")
    assert Settings(lease_seconds=40).lease_seconds == 40


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"\xff", "not UTF-8"), (b"x" * (2**16 + 1), "larger than 65536 bytes")],
)
def test_a_file_that_cannot_be_read_is_named_and_its_content_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SECATEUR_DATABASE_URL_FILE", str(file))
    with pytest.raises(SettingsError, match=said) as caught:
        Settings()
    assert str(file) in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_a_setting_is_given_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://elsewhere")
    monkeypatch.setenv("SECATEUR_BROKER_URL", "redis://here")
    monkeypatch.setenv("SECATEUR_BROKER_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(SettingsError, match="SECATEUR_BROKER_URL and SECATEUR_BROKER_URL_FILE are both set"):
        Settings()


def test_passwords_are_put_into_their_urls_whatever_they_consist_of() -> None:
    password = "a@b:c/d?e#f %41"
    settings = Settings(
        database_url="postgresql+psycopg://secateur@postgres:5432/secateur",
        database_password=SecretStr(password),
        broker_url="rediss://valkey:6379/0?ssl_cert_reqs=required",
        broker_password=SecretStr(password),
    )
    assert make_url(settings.database_url).password == password
    assert ConnectionPool.from_url(settings.broker_url).connection_kwargs["password"] == password
    assert settings.broker_url.endswith("@valkey:6379/0?ssl_cert_reqs=required")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"database_password": "p"}, "over TCP; database_url names sqlite"),
        ({"database_password": "p", "database_url": "postgresql+psycopg://u:p@h/x"}, "has a password already"),
        ({"database_password": "p", "database_url": "postgresql://h/x"}, "names no user"),
        ({"database_password": "p", "database_url": "nothing"}, "database_url is not a URL"),
        (
            {"broker_password": "p", "broker_url": "redis+socket:///here"},
            r"over TCP; broker_url names redis\+socket",
        ),
    ],
)
def test_a_password_without_a_place_is_refused(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings.model_validate(changes)


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
