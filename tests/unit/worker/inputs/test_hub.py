"""The hub's protocol against a hub on loopback that breaks off, lies and redirects."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from store.settings import Settings
from tests.support.servers.hub import REVISION, Misbehaviour, hub_server
from tests.support.servers.receiver import Reply, receiver
from worker.inputs import hub as hub_module
from worker.inputs import kept_inputs
from worker.inputs.hub import Away, Hub, Refused
from worker.inputs.kept_inputs import KeptInputs

SMALL, LARGE = b"{}", bytes(range(256)) * 40
FILES = {"config.json": SMALL, "model.safetensors": LARGE}
REPO = "some/model"
NOTHING_KEPT = KeptInputs(Path("nowhere"), 0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "FIRST_WAIT", 0.001)


def hub_at(endpoint: str, check: Any = lambda: None, *, kept: KeptInputs = NOTHING_KEPT, **settings: Any) -> Hub:
    there = Settings(hub_url=endpoint, outbound_test_target=endpoint.removeprefix("http://"), **settings)
    return Hub(there, check, kept)


def fetch(hub: Hub, folder: Path) -> dict[str, bytes]:
    hub.fetch_all("models", REPO, REVISION, hub.files("models", REPO, REVISION), folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_come_whole(tmp_path: Path) -> None:
    with hub_server({REPO: FILES}) as endpoint:
        assert fetch(hub_at(endpoint), tmp_path) == FILES


def test_a_download_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    wrong = Misbehaviour(break_after=3000)
    with hub_server({REPO: FILES}, misbehaviour=wrong) as endpoint:
        assert fetch(hub_at(endpoint), tmp_path) == FILES
    asked = [ranges for path, ranges in wrong.asked if path.endswith("model.safetensors")]
    assert asked == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]


def test_large_files_come_once_a_worker_and_only_to_who_was_shown_their_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_inputs, "LEAST_BYTES", len(LARGE))
    kept, asks = KeptInputs(tmp_path / "caches", 10**6), Misbehaviour()
    with hub_server({REPO: FILES, "other/model": FILES}, misbehaviour=asks) as endpoint:
        for job in ("first", "second"):
            (tmp_path / job).mkdir()
            assert fetch(hub_at(endpoint, kept=kept), tmp_path / job) == FILES
        assert [path.rpartition("/")[2] for path, _ in asks.asked].count("model.safetensors") == 1
        other = hub_at(endpoint, kept=kept)
        large = [file for file in other.files("models", "other/model", REVISION) if file.lfs]
        other.fetch_all("models", "other/model", REVISION, large, tmp_path / "third")
        assert [path.rpartition("/")[2] for path, _ in asks.asked].count("model.safetensors") == 2
        asks.status = 404
        with pytest.raises(Refused):
            fetch(hub_at(endpoint, kept=kept), tmp_path / "fourth")


def test_a_hub_that_ignores_ranges_sends_it_all_again(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with hub_server({REPO: FILES}, misbehaviour=Misbehaviour(ignores_ranges=True)) as endpoint:
        assert fetch(hub_at(endpoint), tmp_path) == FILES


def test_a_download_that_never_gets_on_is_given_up_for_now(tmp_path: Path) -> None:
    wrong = Misbehaviour(break_after=0)
    with (
        hub_server({REPO: FILES}, misbehaviour=wrong) as endpoint,
        pytest.raises(Away, match=r"model\.safetensors|config"),
    ):
        fetch(hub_at(endpoint), tmp_path)
    assert len([path for path, _ in wrong.asked if path.endswith("model.safetensors")]) <= hub_module.TRIES


@pytest.mark.parametrize("name", FILES)
def test_bytes_that_are_not_the_listed_ones_are_not_kept(tmp_path: Path, name: str) -> None:
    spoilt = hub_server({REPO: {name: FILES[name]}}, misbehaviour=Misbehaviour(spoil=True))
    with spoilt as endpoint, pytest.raises(Away, match="do not match the hub's checksum"):
        fetch(hub_at(endpoint), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("repositories", [["some/model"], ["some/*"], ["Some/Model", "other/x"]], ids=str)
def test_a_private_repository_by_the_operators_token(tmp_path: Path, repositories: list[str]) -> None:
    wrong = Misbehaviour(token="hf_secret", break_after=3000)
    with hub_server({REPO: FILES}, misbehaviour=wrong) as endpoint:
        hub = hub_at(endpoint, hub_token="hf_secret", hub_token_repositories=repositories)
        assert fetch(hub, tmp_path) == FILES


@pytest.mark.parametrize("repositories", [["some/model-2"], ["some/mod"], ["other/*"], ["som/*"]], ids=str)
def test_the_token_is_not_sent_for_others(tmp_path: Path, repositories: list[str]) -> None:
    with (
        hub_server({REPO: FILES}, misbehaviour=Misbehaviour(token="hf_secret")) as endpoint,
        pytest.raises(Refused, match="or it is private"),
    ):
        fetch(hub_at(endpoint, hub_token="hf_secret", hub_token_repositories=repositories), tmp_path)


def test_a_repository_that_was_renamed_is_not_fetched_by_the_token_for_its_old_name(tmp_path: Path) -> None:
    wrong = Misbehaviour(token="hf_secret", renamed=("some/model", "other/model"))
    with hub_server({"other/model": FILES}, misbehaviour=wrong) as endpoint:
        hub = hub_at(endpoint, hub_token="hf_secret", hub_token_repositories=["some/*"])
        with pytest.raises(Refused, match="redirected to another repository"):
            fetch(hub, tmp_path)
    with hub_server({"other/model": FILES}, misbehaviour=Misbehaviour(renamed=wrong.renamed)) as endpoint:
        assert fetch(hub_at(endpoint), tmp_path) == FILES, "of public ones anybody may"


def test_a_token_is_for_something() -> None:
    for settings in ({"hub_token": "hf_secret"}, {"hub_token_repositories": ["a/b"]}):
        with pytest.raises(ValidationError, match="go together") as caught:
            Settings(**settings)
        assert "hf_secret" not in str(caught.value)
    for repositories in (["*"], ["*/*"], ["a/b*"], ["a/b/c"], [""]):
        with pytest.raises(ValidationError, match="hub_token_repositories"):
            Settings(hub_token="hf_secret", hub_token_repositories=repositories)
    assert "hf_secret" not in repr(Settings(hub_token="hf_secret", hub_token_repositories=["a/b"]))


def test_a_redirect_leads_to_hosts_of_the_list_alone(tmp_path: Path) -> None:
    with receiver(lambda _: Reply(200, body=SMALL)) as inside:
        for where in (
            inside.url,
            "https://169.254.169.254",
            "https://cdn.example.com",
            "https://huggingface.co.example.com",
        ):
            with (
                hub_server({REPO: FILES}, elsewhere=where) as endpoint,
                pytest.raises(Refused, match="an address that is not allowed"),
            ):
                fetch(hub_at(endpoint), tmp_path)
        assert inside.connections == 0


@pytest.mark.parametrize(
    ("status", "error"), [(500, Away), (503, Away), (429, Away), (403, Refused), (401, Refused), (302, Refused)]
)
def test_what_may_be_tried_again(tmp_path: Path, status: int, error: type[Exception]) -> None:
    with hub_server({}, status=status) as endpoint, pytest.raises(error):
        fetch(hub_at(endpoint), tmp_path)


def test_what_is_not_there() -> None:
    with hub_server({REPO: FILES}) as endpoint:
        hub = hub_at(endpoint)
        with pytest.raises(Refused, match="no repository of that name"):
            hub.files("models", "some/other", REVISION)
        with pytest.raises(Refused, match="no such revision"):
            hub.files("models", REPO, "f" * 40)
    with pytest.raises(Away):
        hub_at("http://127.0.0.1:1").files("models", REPO, REVISION)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"sha": 1}', b'{"sha": "x", "siblings": [{"rfilename": "a"}]}', b"\xff"]
)
def test_a_list_of_files_that_is_none(body: bytes) -> None:
    with receiver(lambda _: Reply(200, body=body)) as wrong, pytest.raises(Away, match="form"):
        hub_at(wrong.url).files("models", REPO, REVISION)


def test_a_fetch_stops_when_it_is_told_to(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise Stop

    with hub_server({REPO: FILES}) as endpoint, pytest.raises(Stop):
        fetch(hub_at(endpoint, check), tmp_path)


def test_no_hub_is_called_inside_unless_a_test_says_so() -> None:
    with receiver() as inside, pytest.raises(Refused, match="an address that is not allowed"):
        Hub(Settings(hub_url=inside.url), lambda: None, NOTHING_KEPT).files("models", REPO, REVISION)
    assert inside.connections == 0
