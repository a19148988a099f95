"""The Helm chart: valid by Kubernetes' schemas, `restricted` by its pod security standards, and what code and images expect."""

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from api_schemas.errors import SecateurError
from service.app import create_app
from service.metrics import QueueMetrics
from store.database.connection import Database
from store.files.artifacts import Artifacts
from store.settings import PREFIX, Settings
from tests.support.chart import (
    CHART,
    NEEDED,
    ROOT,
    ask,
    component,
    container,
    environment,
    pods,
    render,
    rendered,
    selects,
)
from tests.support.local import local_client
from tests.support.promql import Scrape, selectors
from tests.support.servers.receiver import Reply, receiver

PODS = {
    "least": ("api", "beat", "maintenance", "migrate", "worker-cpu", "worker-gpu"),
    "everything": ("api", "beat", "maintenance", "migrate", "worker-gpu"),
}
BOTH = pytest.mark.parametrize("said", PODS)
EVERY_POD = pytest.mark.parametrize(
    "which", [pytest.param((said, name), id=f"{said}-{name}") for said, names in PODS.items() for name in names]
)
ENTRYPOINT = (ROOT / "docker" / "scripts" / "entrypoint.sh").read_text()
HEALTHCHECK = (ROOT / "docker" / "scripts" / "healthcheck.sh").read_text()
DOCKERFILES = {name: (ROOT / "docker" / f"{name}.Dockerfile").read_text() for name in ("api", "worker")}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture
def documents(said: str) -> list[dict[str, Any]]:
    return rendered(said)


@pytest.fixture
def template(which: tuple[str, str]) -> dict[str, Any]:
    return dict(pods(rendered(which[0])))[f"secateur-{which[1]}"]


@BOTH
def test_its_pods_are_these(documents: list[dict[str, Any]], said: str) -> None:
    assert sorted(name for name, _ in pods(documents)) == [f"secateur-{name}" for name in PODS[said]]


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def dockerfile(template: dict[str, Any]) -> str:
    return DOCKERFILES["worker" if component(template) == "worker" else "api"]


# --- what Kubernetes takes


@BOTH
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_is_valid_by_the_schemas_of_kubernetes(documents: list[dict[str, Any]], version: str) -> None:
    ours = [document for document in documents if document["apiVersion"] != "keda.sh/v1alpha1"]
    assert len(ours) >= 12
    for document in ours:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_refuse_mistakes() -> None:
    (job,) = of_kind(render(NEEDED), "Job")
    job["spec"]["template"]["spec"]["serviceAcountName"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.29", strict=True)


def test_is_clean_by_helms_linter() -> None:
    said = ask([NEEDED])["lint"]
    assert [message for message in said["messages"] if "icon" not in message["error"]] == []
    assert said["errors"] == []


WRONG: tuple[dict[str, Any], ...] = (
    {"database": {"url": ""}},
    {"database": {"url": "postgresql+psycopg://secateur:password@db/secateur"}},
    {"broker": {"url": "redis://:password@valkey:6379/0"}},
    {"artifacts": {"url": "file:///data"}},
    {"hosts": []},
    {"hub": {"secret": "x", "repositories": ["*"]}},
    {"settings": {"log_format": "json"}},
    {"workers": {"gpu": {"scale": {"jobs": "all"}}}},
    {"workers": {"Large_GPUs": {}}},
    {"networkPolicies": {"enabled": False}},
)


def test_values_that_cannot_be_meant_are_refused() -> None:
    answers = ask([{**NEEDED, **wrong} for wrong in WRONG])["answers"]
    assert [wrong for wrong, answer in zip(WRONG, answers, strict=True) if "refused" not in answer] == []


def test_is_of_the_version_of_the_code() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
    assert {container(template)["image"] for _, template in pods(rendered("least"))} == {
        service["image"].replace(f"${{SECATEUR_VERSION:-{version}}}", version)
        for service in COMPOSE["services"].values()
        if service["image"].startswith("secateur/")
    }


def test_the_values_that_the_documentation_shows_are_enough() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (shown,) = re.findall(r"^```yaml\n(.+?)^```", page, re.MULTILINE | re.DOTALL)
    documents = render(yaml.safe_load(shown))
    assert len(of_kind(documents, "Ingress")) == 1
    made = set(re.findall(r"create secret generic (\S+)", page))
    assert made == set(re.findall(r"['\"]name['\"]: ['\"](secateur-(?:database|broker|bucket))['\"]", str(documents)))


# --- pod security standards, `restricted`
# https://kubernetes.io/docs/concepts/security/pod-security-standards/


@EVERY_POD
def test_every_pod_is_restricted(template: dict[str, Any]) -> None:
    spec, only = template["spec"], container(template)
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & set(spec)
    assert not any("hostPort" in port for port in only.get("ports", ()))
    assert {key for volume in spec["volumes"] for key in volume} <= {"name", "emptyDir", "projected"}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert only["resources"]["limits"]["memory"]
    assert only["resources"]["requests"]["cpu"]


# --- what the images expect


@EVERY_POD
def test_is_who_the_image_says_and_writes_where_it_may(template: dict[str, Any]) -> None:
    text = dockerfile(template)
    match = re.search(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
    assert match is not None
    context = template["spec"]["securityContext"]
    assert [context["runAsUser"], context["runAsGroup"], context["fsGroup"]] == [*map(int, match.groups()), 10001]
    mounts = {mount["mountPath"]: mount for mount in container(template)["volumeMounts"]}
    (volumes,) = re.findall(r"^VOLUME (.+)$", text, re.MULTILINE)
    written = {"/tmp", *re.findall(r"/[\w/]+", volumes)}
    assert set(mounts) == written | {"/run/secrets/secateur"}
    assert not any(mounts[path].get("readOnly") for path in written)
    made = {volume["name"] for volume in template["spec"]["volumes"]}
    claimed = {"scratch"} if "scratch" not in made and component(template) == "worker" else set()
    assert {mount["name"] for mount in mounts.values()} == made | claimed
    # What else an image writes, it writes below these.
    for path in re.findall(r"\w+_(?:HOME|DIR)=(/\S+)|MPLCONFIGDIR=(/\S+)", text):
        assert any("".join(path).startswith(folder) for folder in written)


@EVERY_POD
def test_its_role_is_one_of_the_entrypoint(template: dict[str, Any]) -> None:
    (role,) = container(template)["args"]
    assert "command" not in container(template)
    assert role == component(template)
    assert re.search(rf"^    {role}\)$", ENTRYPOINT, re.MULTILINE)


@EVERY_POD
def test_a_process_without_a_port_is_asked_by_its_health_check(template: dict[str, Any]) -> None:
    role, only = component(template), container(template)
    if role == "migrate":
        assert not [name for name in only if name.endswith("Probe")]
        return
    # Whatever reaps the pod's processes is its first one, so that the check can end ours.
    assert template["spec"]["shareProcessNamespace"] is True
    if role == "api":
        return
    for probe in ("startupProbe", "readinessProbe"):
        assert only[probe]["exec"]["command"] == ["healthcheck.sh", role]
        assert only[probe]["timeoutSeconds"] == 20
    assert role in HEALTHCHECK
    # It fails without a broker as well, and a restart for that would cost the job that runs.
    assert "livenessProbe" not in only
    assert "ports" not in only


def test_the_api_is_probed_by_a_name_and_a_path_that_it_answers(tmp_path: Path) -> None:
    (api,) = (template for name, template in pods(rendered("least")) if name == "secateur-api")
    ports = {port["name"]: port["containerPort"] for port in container(api)["ports"]}
    assert f"${{API_PORT:-{ports['http']}}}" in ENTRYPOINT
    assert f"EXPOSE {ports['http']}\n" in DOCKERFILES["api"]
    assert environment(api)["SECATEUR_METRICS_PORT"] == str(ports["metrics"])
    app = create_app(Settings(data_dir=tmp_path, auth="keys", allowed_hosts=("secateur.example.org",)))
    with local_client(app, client=("10.1.2.3", 40000)) as client:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container(api)[probe]["httpGet"]
            assert asked["port"] == "http"
            headers = {header["name"]: header["value"] for header in asked["httpHeaders"]}
            assert client.get(asked["path"], headers=headers).status_code == 200
            assert client.get(asked["path"], headers={"Host": "10.1.2.4:8000"}).status_code == 421


@EVERY_POD
def test_it_has_time_to_end(template: dict[str, Any]) -> None:
    grace = template["spec"].get("terminationGracePeriodSeconds", 30)
    if component(template) == "worker":
        assert grace > Settings().cancel_grace_seconds
    if component(template) == "api":
        (drain,) = re.findall(r"--timeout-graceful-shutdown (\d+)", ENTRYPOINT)
        slept = int(container(template)["lifecycle"]["preStop"]["exec"]["command"][1])
        assert grace > slept + int(drain)


# --- what the code expects


@EVERY_POD
def test_every_variable_is_one_that_the_code_reads(
    template: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings are made of exactly these, as the process in the pod makes them."""
    given = environment(template)
    ours = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    known = {f"{PREFIX}{name.upper()}{end}" for name in Settings.model_fields for end in ("", "_FILE")}
    assert set(ours) <= known
    others = {
        "AWS_REGION",
        "AWS_ENDPOINT",
        "AWS_ALLOW_HTTP",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "FORWARDED_ALLOW_IPS",
    }
    assert set(given) - set(ours) <= others | {"OTEL_EXPORTER_OTLP_ENDPOINT"}
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    (passwords,) = (volume["projected"] for volume in template["spec"]["volumes"] if volume["name"] == "passwords")
    shown = {item["path"] for source in passwords["sources"] for item in source["secret"]["items"]}
    for name, value in ours.items():
        if name.endswith("_FILE"):
            folder, _, file = value.rpartition("/")
            assert folder == "/run/secrets/secateur"
            assert file in shown
            (tmp_path / file).write_text(f"{file}-p@ss\n")
            monkeypatch.setenv(name, str(tmp_path / file))
        else:
            monkeypatch.setenv(name, value if isinstance(value, str) else "secateur-worker-gpu-0")
    settings = Settings()
    assert settings.database_url.startswith("postgresql+psycopg://secateur:database_password-p%40ss@db.internal:5432")
    assert settings.broker_url.startswith("redis://:broker_password-p%40ss@valkey.internal:6379")
    # Whatever a user sets, callers need keys, and their requests are counted where all processes see it.
    assert (settings.auth, settings.rate_storage) == ("keys", "broker")
    assert settings.artifacts_url.startswith("s3://bucket")
    if component(template) == "worker":
        assert settings.scratch == Path("/scratch")
        assert settings.worker_name == "secateur-worker-gpu-0"
        assert environment(template)["SECATEUR_WORKER_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    if component(template) == "api":
        assert settings.allowed_hosts == ("secateur.example.org",)
        assert settings.metrics_host == "0.0.0.0"


def test_nothing_that_compose_sets_is_forgotten() -> None:
    """But for what has another way here, or is its default."""
    otherwise = {"SECATEUR_LOG_LEVEL", "SECATEUR_HUB_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"}
    here = {component(template): set(environment(template)) for _, template in pods(rendered("least"))}
    for name in ("api", "worker", "maintenance", "beat", "migrate"):
        assert set(COMPOSE["services"][name]["environment"]) - otherwise <= here[name], name


def test_a_pool_has_its_own_settings() -> None:
    (gpu,) = (template for _, template in pods(rendered("everything")) if component(template) == "worker")
    given = environment(gpu)
    assert (given["SECATEUR_MAX_MODEL_BYTES"], given["SECATEUR_LOG_FORMAT"]) == ("1000", "console")
    assert given["SECATEUR_DEVICE"] == "cuda"


def test_only_workers_have_the_hubs_token_and_as_a_file() -> None:
    hub = {"secret": "hub-access", "repositories": ["company/keywords", "company-speech/*"]}
    for _, template in pods(render({**NEEDED, "hub": hub})):
        given, worker = environment(template), component(template) == "worker"
        mounted = [volume["secret"]["secretName"] for volume in template["spec"]["volumes"] if "secret" in volume]
        assert mounted == (["hub-access"] if worker else [])
        assert given.get("SECATEUR_HUB_TOKEN_FILE") == ("/run/secrets/hub/token" if worker else None)
        assert "SECATEUR_HUB_TOKEN" not in given
        if worker:
            assert json.loads(given["SECATEUR_HUB_TOKEN_REPOSITORIES"]) == hub["repositories"]
            assert {"name": "hub", "mountPath": "/run/secrets/hub", "readOnly": True} in container(template)[
                "volumeMounts"
            ]


def test_the_store_reads_where_the_bucket_is_and_by_what_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver(lambda _: Reply(403)) as store:
        bucket = {"url": "s3://bucket/prefix", "region": "eu", "endpoint": store.url, "secret": "credentials"}
        (api,) = (each for _, each in pods(render({**NEEDED, "artifacts": bucket})) if component(each) == "api")
        given = environment(api)
        for name in [name for name in given if name.startswith("AWS_")]:
            monkeypatch.setenv(name, given[name] if isinstance(given[name], str) else name.lower())
        assert given["AWS_SECRET_ACCESS_KEY"] == {
            "secretKeyRef": {"name": "credentials", "key": "AWS_SECRET_ACCESS_KEY"}
        }
        with pytest.raises(SecateurError):
            list(Artifacts(given["SECATEUR_ARTIFACTS_URL"]).list("jobs"))
    [asked] = store.received
    assert asked.path.startswith("/bucket?")
    assert re.search(r"Credential=aws_access_key_id/\d+/eu/s3/", asked.headers["authorization"])


@BOTH
def test_the_schema_is_new_before_anything_else_starts(documents: list[dict[str, Any]]) -> None:
    hooks = [each for each in documents if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    (job,) = of_kind(documents, "Job")
    assert hooks == [job]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    # Nothing of the release is there before it.
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]
    (account,) = of_kind(documents, "ServiceAccount")
    others = [template["spec"] for name, template in pods(documents) if name != job["metadata"]["name"]]
    assert {spec["serviceAccountName"] for spec in others} == {account["metadata"]["name"]}


def test_workers_are_scaled_by_a_number_that_the_api_tells(sqlite_database: Database, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(QueueMetrics(sqlite_database, Settings(data_dir=tmp_path)))
    told = Scrape.of(generate_latest(registry).decode())
    scaled = of_kind(rendered("least"), "ScaledObject")
    assert len(scaled) == 2
    assert of_kind(rendered("everything"), "ScaledObject") == []
    (service,) = (each for each in of_kind(rendered("least"), "Service") if each["metadata"]["name"] == "secateur-api")
    sets = {each["metadata"]["name"]: each for each in of_kind(rendered("least"), "StatefulSet")}
    for each in scaled:
        spec = each["spec"]
        target = sets[spec["scaleTargetRef"]["name"]]
        assert (spec["scaleTargetRef"]["kind"], target["spec"].get("replicas")) == ("StatefulSet", None)
        assert spec["minReplicaCount"] == 0 < spec["maxReplicaCount"]
        (trigger,) = spec["triggers"]
        asked = trigger["metadata"]
        assert (trigger["type"], asked["format"], asked["targetValue"]) == ("metrics-api", "prometheus", "1")
        port = {each["name"]: each["port"] for each in service["spec"]["ports"]}["metrics"]
        assert asked["url"] == f"http://secateur-api.ml.svc:{port}/metrics"
        # KEDA reads it as Prometheus reads a selector, and takes the first series that it fits.
        (selector,) = selectors(asked["valueLocation"])
        labels = frozenset((matcher.name, matcher.value) for matcher in selector.matchers.matchers)
        assert told.series[selector.name][labels] == 0
        assert dict(labels)["device"] == environment(target["spec"]["template"])["SECATEUR_DEVICE"]
    jobs = {environment(each["spec"]["template"])["SECATEUR_DEVICE"]: each for each in sets.values()}
    assert set(jobs) == {"cuda", "cpu"}
    gpu = container(jobs["cuda"]["spec"]["template"])["resources"]
    assert gpu["limits"]["nvidia.com/gpu"] == gpu["requests"]["nvidia.com/gpu"] == "1"


def test_jobs_that_run_anywhere_start_workers_of_one_kind() -> None:
    located = [
        each["spec"]["triggers"][0]["metadata"]["valueLocation"] for each in of_kind(rendered("least"), "ScaledObject")
    ]
    assert sum('jobs="any"' in each for each in located) == 1


@BOTH
def test_names_of_things_lead_to_each_other(documents: list[dict[str, Any]]) -> None:
    templates = dict(pods(documents))
    for service in of_kind(documents, "Service"):
        named = [
            template
            for template in templates.values()
            if selects({"matchLabels": service["spec"]["selector"]}, template["metadata"]["labels"])
        ]
        assert len(named) == 1, service["metadata"]["name"]
        ports = {port["name"] for port in container(named[0]).get("ports", ())}
        assert {port["targetPort"] for port in service["spec"].get("ports", ())} == ports
    services = {each["metadata"]["name"] for each in of_kind(documents, "Service")}
    for document in documents:
        spec = document.get("spec", {})
        if "template" in spec and "selector" in spec:
            assert selects(spec["selector"], spec["template"]["metadata"]["labels"])
        if document["kind"] == "StatefulSet":
            assert spec["serviceName"] in services
            assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", f"{document['metadata']['name']}-999")
    for scaler in of_kind(documents, "HorizontalPodAutoscaler"):
        assert scaler["spec"]["scaleTargetRef"]["name"] in templates
        (scaled,) = (each for each in of_kind(documents, "Deployment") if each["metadata"]["name"] == "secateur-api")
        assert "replicas" not in scaled["spec"]
    for ingress in of_kind(documents, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            assert rule["http"]["paths"][0]["backend"]["service"]["name"] in services


# --- who may talk to whom


def allowed(documents: list[dict[str, Any]], template: dict[str, Any], way: str) -> list[dict[str, Any]]:
    """What policies let in or out of these pods; fails where none is about them, and everything is let."""
    about = [
        policy["spec"]
        for policy in of_kind(documents, "NetworkPolicy")
        if selects(policy["spec"]["podSelector"], template["metadata"]["labels"])
    ]
    assert any(way.capitalize() in policy["policyTypes"] for policy in about)
    return [rule for policy in about for rule in policy.get(way, ())]


@BOTH
def test_only_the_api_is_called(documents: list[dict[str, Any]]) -> None:
    for _, template in pods(documents):
        let_in = [port["port"] for rule in allowed(documents, template, "ingress") for port in rule["ports"]]
        assert let_in == (["http", "metrics"] if component(template) == "api" else [])


@BOTH
def test_each_calls_what_it_needs_and_no_more(documents: list[dict[str, Any]], said: str) -> None:
    every = {53, 5432, 6379}
    bucket, traces = (443, set()) if said == "least" else (9000, {4318})
    wanted = {
        "api": {*every, bucket, *traces},
        "worker": {*every, bucket, *traces, 443, 8443},
        "maintenance": {*every, bucket, *traces, 443, 8443},
        "beat": every,
        "migrate": every,
    }
    for _, template in pods(documents):
        rules = allowed(documents, template, "egress")
        assert {port["port"] for rule in rules for port in rule["ports"]} == wanted[component(template)]
        for rule in rules:
            if {port["port"] for port in rule["ports"]} == {443, 8443}:
                # By what webhooks and the hub may be called on at all; private networks are refused by the code, too.
                assert Settings().outbound_ports == (443, 8443)
                assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"]
            elif said == "everything" and rule["ports"][0]["port"] != 53:
                assert rule["to"], "only to those who were named"
