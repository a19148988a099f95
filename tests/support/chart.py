"""The Helm chart, rendered by Helm's own library (helm_process.py), and what of it tests look at."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "secateur"
NEEDED = {
    "database": {"url": "postgresql+psycopg://secateur@db.internal:5432/secateur"},
    "broker": {"url": "redis://valkey.internal:6379/0"},
    "artifacts": {"url": "s3://bucket/prefix"},
    "hosts": ["secateur.example.org"],
}
"""The least that has to be said."""
EVERYTHING: dict[str, Any] = {
    **NEEDED,
    "artifacts": {"url": "s3://bucket", "region": "eu", "endpoint": "https://minio.internal:9000", "secret": "bucket"},
    "tracing": {"endpoint": "http://collector.internal:4318"},
    "image": {"pullSecrets": [{"name": "registry"}]},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
    "ingress": {"enabled": True, "className": "nginx", "annotations": {"a": "b"}, "tlsSecret": "tls"},
    "api": {"autoscaling": {"enabled": False}},
    "keda": {"enabled": False},
    "workers": {
        "gpu": {
            "scratchStorageClass": "fast",
            "runtimeClassName": "nvidia",
            "nodeSelector": {"gpu": "a100"},
            "settings": {"MAX_MODEL_BYTES": "1000", "LOG_FORMAT": "console", "AUTH": "none"},
        },
        "cpu": None,
    },
    "networkPolicy": {
        name: [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name.lower()}}}]
        for name in ("apiFrom", "metricsFrom", "databaseTo", "brokerTo", "artifactsTo", "tracingTo")
    },
}
"""Everything that a chart's user can say, the other way round."""

Document = dict[str, Any]


class RefusedError(Exception):
    """What Helm says against the values."""


def ask(values: Sequence[Mapping[str, Any]]) -> Document:
    """What Helm makes of each of these values, and what its linter says of the first; see helm_process.py."""
    if find_spec("helm_python") is None:
        pytest.skip("Helm's library has no wheel for this machine")
    command = [sys.executable, str(Path(__file__).with_name("helm_process.py")), str(CHART)]
    said = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    found: Document = json.loads(said.stdout)
    return found


def render(values: Mapping[str, Any]) -> list[Document]:
    """What `helm template` prints, hooks included, as documents. Raises RefusedError."""
    return documents(ask([values])["answers"][0])


def documents(answer: Document) -> list[Document]:
    """As `render`, of one of the answers."""
    if "refused" in answer:
        raise RefusedError(answer["refused"])
    return [
        document
        for name, text in sorted(answer["files"].items())
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


@cache
def _known() -> dict[str, list[Document]]:
    least, everything = ask([NEEDED, EVERYTHING])["answers"]
    return {"least": documents(least), "everything": documents(everything)}


def rendered(said: str) -> list[Document]:
    """With the `least` said, or `everything`; once a run."""
    return _known()[said]


def pods(found: list[Document]) -> Iterator[tuple[str, Document]]:
    """Each thing's name and the template of its pods."""
    for document in found:
        if "template" in document.get("spec", {}):
            yield document["metadata"]["name"], document["spec"]["template"]


def container(template: Document) -> Document:
    (only,) = template["spec"]["containers"]
    return dict(only)


def environment(template: Document) -> dict[str, Any]:
    """Values, or where they come from; every name once."""
    found = [(each["name"], each.get("value", each.get("valueFrom"))) for each in container(template)["env"]]
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def component(template: Document) -> str:
    return str(template["metadata"]["labels"]["app.kubernetes.io/component"])


def selects(selector: Document, labels: Mapping[str, str]) -> bool:
    """A label selector of Kubernetes."""
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items()) and all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", ())
    )
