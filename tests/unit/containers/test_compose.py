"""docker-compose.yml: valid by the Compose schema, and safe: what is published, what waits for what, which settings are set."""

import copy
import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator

from store.settings import Settings

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = ("worker", "worker-cpu")
OURS = ("api", *WORKERS, "maintenance", "beat", "migrate")
EXAMPLE = (ROOT / "docker" / "env.example").read_text()


def problems(document: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft201909Validator(SCHEMA).iter_errors(document)]


def test_is_valid_by_the_schema() -> None:
    assert problems(COMPOSE) == []


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [("api", "port", ["8000"]), ("api", "ports", 8000), ("worker", "deploy", {"resources": {"gpus": 1}})],
)
def test_the_schema_refuses_mistakes(service: str, key: str, value: Any) -> None:
    document = copy.deepcopy(COMPOSE)
    document["services"][service][key] = value
    assert problems(document)


def test_the_services_are_these() -> None:
    assert set(SERVICES) == {*OURS, "valkey", "postgres", "proxy"}
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"proxy": ["tls"], "worker": ["gpu"], "worker-cpu": ["cpu"]}


def test_the_api_is_published_on_loopback_only_and_the_proxy_to_everybody() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api", "proxy"]
    assert SERVICES["proxy"]["ports"] == ["80:80", "443:443"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["api"]["ports"])
    assert all("network_mode" not in service for service in SERVICES.values())


def test_database_and_broker_have_no_way_out() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in ("postgres", "valkey", "beat", "migrate"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_nobody_gets_in_without_a_key() -> None:
    assert SERVICES["api"]["environment"]["SECATEUR_AUTH"] == "keys"
    assert SERVICES["proxy"]["command"][-1] == "api:8000"


def test_the_proxy_has_no_more_rights_than_its_ports_need() -> None:
    assert SERVICES["proxy"]["cap_drop"] == ["ALL"]
    assert SERVICES["proxy"]["cap_add"] == ["NET_BIND_SERVICE"]
    assert SERVICES["proxy"]["read_only"] is True


def test_the_worker_for_gpus_reserves_one_and_no_other_needs_any() -> None:
    (device,) = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert all("deploy" not in service for name, service in SERVICES.items() if name != "worker")
    assert SERVICES["worker-cpu"]["build"]["args"] == {"TORCH": "cpu"}
    alike = {name: {**SERVICES[name]} for name in WORKERS}
    for worker in alike.values():
        for own in ("profiles", "image", "build", "environment", "volumes", "deploy"):
            worker.pop(own, None)
    assert alike["worker"] == alike["worker-cpu"]


def test_what_is_waited_for_exists_and_can_become_true() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert SERVICES[name]["restart"] in ("no", "on-failure")
    for name in WORKERS:
        assert set(SERVICES[name]["depends_on"]) == {"migrate", "postgres", "valkey"}


def test_every_lasting_service_restarts_and_says_whether_it_is_well() -> None:
    for name, service in SERVICES.items():
        if name != "migrate":
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"], name


def test_ours_run_without_privileges() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "privileged" not in service
        assert "user" not in service  # the image's own, which is not root


def test_the_role_of_each_container_is_one_the_entrypoint_knows() -> None:
    entrypoint = (ROOT / "docker" / "scripts" / "entrypoint.sh").read_text()
    for name in OURS:
        (role,) = SERVICES[name]["command"]
        assert role == name.removesuffix("-cpu")
        assert re.search(rf"^    {role}\)$", entrypoint, re.MULTILINE)


def test_every_setting_is_one_that_is_read() -> None:
    fields = {f"SECATEUR_{name.upper()}{end}" for name in Settings.model_fields for end in ("", "_FILE")}
    for name in OURS:
        given = {key for key in SERVICES[name]["environment"] if key.startswith("SECATEUR_")}
        assert given <= fields
        assert {"SECATEUR_DATABASE_URL", "SECATEUR_BROKER_URL", "SECATEUR_ARTIFACTS_URL"} <= given


@pytest.mark.parametrize("service", ["api", *WORKERS])
def test_the_settings_are_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, service: str) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    for key, value in SERVICES[service]["environment"].items():
        filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: m[2], value)
        monkeypatch.setenv(key, str(tmp_path / "password") if key.endswith("_PASSWORD_FILE") else filled)
    settings = Settings()
    assert settings.database_url == "postgresql+psycopg://secateur:s3cret@postgres:5432/secateur"
    assert settings.broker_url == "redis://:s3cret@valkey:6379/0"
    assert settings.device == {"api": "auto", "worker": "cuda", "worker-cpu": "cpu"}[service]
    assert settings.allowed_hosts == (("localhost",) if service == "api" else ())
    assert settings.max_running_jobs == 4
    assert SERVICES["worker"]["stop_grace_period"] == "60s"
    assert settings.cancel_grace_seconds < 60


def test_secrets_are_files_that_only_who_needs_them_sees() -> None:
    assert {name: secret["file"] for name, secret in COMPOSE["secrets"].items()} == {
        name: f"docker/secrets/{name}" for name in ("database_password", "broker_password", "broker.conf")
    }
    given = {name: set(service.get("secrets", ())) for name, service in SERVICES.items()}
    ours = {name: {"database_password", "broker_password"} for name in OURS}
    assert given == {**ours, "postgres": {"database_password"}, "valkey": {"broker.conf"}, "proxy": set()}
    assert "POSTGRES_PASSWORD:" not in (ROOT / "docker-compose.yml").read_text()


def test_two_workers_share_neither_a_name_nor_a_scratch_folder() -> None:
    names = [SERVICES[name]["environment"]["SECATEUR_WORKER_NAME"] for name in WORKERS]
    scratch = [volume for name in WORKERS for volume in SERVICES[name]["volumes"] if volume.endswith(":/scratch")]
    assert len(set(names)) == len(set(scratch)) == len(WORKERS)


def test_api_worker_and_maintenance_share_the_artifacts() -> None:
    for name in ("api", *WORKERS, "maintenance"):
        assert "artifacts:/var/lib/secateur/artifacts" in SERVICES[name]["volumes"]
        assert SERVICES[name]["environment"]["SECATEUR_ARTIFACTS_URL"] == "file:///var/lib/secateur/artifacts"
    named = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert named == set(COMPOSE["volumes"])


def test_valkey_keeps_its_queue() -> None:
    command = SERVICES["valkey"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    named = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert set(named) == asked | {"COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"}
    assert not [name for name in named if "PASSWORD" in name]
    assert {"docker/.env", "docker/secrets/"} <= set((ROOT / ".gitignore").read_text().splitlines())


def test_images_are_pinned_to_a_release() -> None:
    for name, service in SERVICES.items():
        tag = service["image"].rpartition(":")[2] if "$" not in service["image"] else "ours"
        assert tag not in ("", "latest"), name


def test_who_calls_out_has_a_way_out_and_nobody_else() -> None:
    out = {name for name, service in SERVICES.items() if {"outside", "front"} & set(service["networks"])}
    # The API is published and reads buckets; the worker fetches; maintenance calls webhooks; the proxy gets certificates.
    assert out == {"api", *WORKERS, "maintenance", "proxy"}


def test_only_the_proxy_s_word_about_addresses_is_taken() -> None:
    """And it is at that address, on the one network that it shares with the API."""
    proxy = SERVICES["proxy"]["networks"]
    assert list(proxy) == ["front"]
    trusted = SERVICES["api"]["environment"]["FORWARDED_ALLOW_IPS"]
    assert trusted.partition(":-")[2] == proxy["front"]["ipv4_address"].partition(":-")[2] != ""
    assert [name for name, service in SERVICES.items() if "front" in service["networks"]] == ["api", "proxy"]
    defaults = dict(re.findall(r"\$\{(PROXY_\w+):-([^}]+)\}", json.dumps(COMPOSE)))
    network = ipaddress.ip_network(defaults["PROXY_SUBNET"])
    assert ipaddress.ip_address(defaults["PROXY_ADDRESS"]) in list(network.hosts())[1:], "the first is the gateway's"
    # Docker gives who has no fixed address the first that is free: the proxy's, where the API starts before it.
    api = SERVICES["api"]["networks"]["front"]["ipv4_address"].partition(":-")[2].rstrip("}")
    assert ipaddress.ip_address(api) in list(network.hosts())[1:]
    assert api != defaults["PROXY_ADDRESS"]


def test_every_container_has_a_bound_of_processes_and_the_worker_s_is_above_an_engine_s() -> None:
    assert {name for name, service in SERVICES.items() if "pids_limit" not in service} == set()
    most = Settings.model_fields["engine_processes"].default
    for name in WORKERS:
        assert SERVICES[name]["pids_limit"] >= most + 1024


def test_every_container_has_bounds_of_memory_and_of_its_log() -> None:
    for name, service in SERVICES.items():
        assert service["mem_limit"], name
        assert service["logging"]["options"] == {"max-size": "20m", "max-file": "5"}, name
    # More cores than a machine has are refused by the engine: a number here is one that every machine has, or a setting.
    assert {str(service["cpus"]) for service in SERVICES.values() if "cpus" in service} == {"1", "${WORKER_CPUS:-0}"}
    # What the broker holds ends in refused messages before the kernel ends the broker.
    command = SERVICES["valkey"]["command"]
    assert (command[command.index("--maxmemory") + 1], SERVICES["valkey"]["mem_limit"]) == ("768mb", "1g")
