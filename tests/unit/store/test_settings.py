"""Settings come from SECATEUR_* and are complete without any."""

from pathlib import Path

import pytest
from pydantic import ValidationError

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


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
