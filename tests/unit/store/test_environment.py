"""What `secateur doctor` says of the environment: a mistyped setting would go unnoticed, a file that holds one is one."""

import pytest

from store.checkup import environment


def test_a_mistyped_setting_is_named_and_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_DATABASE_ULR", "sqlite://")
    (found,) = environment.unknown()
    assert (found.verdict, found.check) == ("warning", "settings")
    assert "SECATEUR_DATABASE_URL" in str(found)


def test_a_file_that_holds_a_setting_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_BROKER_PASSWORD_FILE", "/run/secrets/broker_password")
    (found,) = environment.unknown()
    assert found.verdict == "ok"
