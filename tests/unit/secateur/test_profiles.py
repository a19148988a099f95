"""Profiles: which service and key a command uses, and that a key goes to its own service alone."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from secateur import profiles
from secateur.cli import app
from secateur.errors import InvalidRequest
from secateur.profiles import Profile, signed_in

HOME, WORK = Profile("http://127.0.0.1:8000", "sk_home"), Profile("https://work.example", "sk_work")


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with two profiles, and nothing in the environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("SECATEUR_URL", "SECATEUR_API_KEY", "SECATEUR_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    profiles.store("default", HOME)
    profiles.store("work", WORK)
    return profiles.file()


def test_the_default_profile_stands_for_url_and_key() -> None:
    assert signed_in(None, None) == (HOME.url, HOME.api_key)
    assert signed_in(None, None, "work") == (WORK.url, WORK.api_key)
    assert signed_in(None, "sk_other", "work") == (WORK.url, "sk_other")


def test_the_environment_and_options_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_PROFILE", "work")
    assert signed_in(None, None) == (WORK.url, WORK.api_key)
    monkeypatch.setenv("SECATEUR_API_KEY", "sk_environment")
    # The client takes it from there.
    assert signed_in(None, None) == (WORK.url, None)
    monkeypatch.setenv("SECATEUR_URL", "http://elsewhere.example")
    assert signed_in(None, None) == ("http://elsewhere.example", None)


def test_a_key_goes_to_its_own_service_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signed_in("http://elsewhere.example", None) == ("http://elsewhere.example", None)
    assert signed_in(f"{HOME.url}/", None) == (HOME.url, HOME.api_key)
    with pytest.raises(InvalidRequest, match="give only one of them"):
        signed_in("http://elsewhere.example", None, "work")
    monkeypatch.setenv("SECATEUR_PROFILE", "work")
    assert signed_in("http://elsewhere.example", None) == ("http://elsewhere.example", None)


def test_the_file_is_the_users_alone_and_says_what_is_wrong_with_it(known: Path) -> None:
    known.chmod(0o644)
    profiles.remove("work")
    assert known.stat().st_mode & 0o777 == 0o600
    assert list(profiles.all_profiles()) == ["default"]
    assert [each.name for each in known.parent.iterdir()] == [known.name]
    with pytest.raises(InvalidRequest, match="no profile 'work'; there are default"):
        profiles.chosen("work")
    known.write_text("[1]")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        signed_in(None, None)


def test_who_has_no_place_for_profiles_needs_none(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    # A file where a folder should be, as good as one of somebody else: root may read everything.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(known))
    assert signed_in("http://elsewhere.example", None) == ("http://elsewhere.example", None)
    assert signed_in(None, None) == (None, None)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert signed_in(None, None) == (None, None)
    with pytest.raises(InvalidRequest, match="set HOME or XDG_CONFIG_HOME"):
        signed_in(None, None, "work")


def test_a_password_in_a_profiles_url_is_not_shown() -> None:
    profiles.store("proxy", Profile("https://ann:hunter2@work.example", None))
    for options in ((), ("--json",)):
        shown = CliRunner().invoke(app, ["profiles", *options]).output
        assert "hunter2" not in shown
        assert "https://***@work.example" in shown
    with pytest.raises(InvalidRequest) as refused:
        signed_in("http://bob:hunter2@elsewhere.example", None, "proxy")
    assert "hunter2" not in str(refused.value)
    assert signed_in(None, None, "proxy") == ("https://ann:hunter2@work.example", None)
