"""The Helm chart, rendered by Helm's own library, and what of it tests look at."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="Helm's library has no wheel for this machine")

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


@cache
def _chart() -> Any:
    return helm.Chart.load(str(CHART))


def render(values: Mapping[str, Any]) -> list[Document]:
    """What `helm template` prints, hooks included, as documents. Raises helm.HelmError for values that the chart refuses."""
    chart = _chart()
    chart.validate_schema(dict(values))
    files = chart.render(dict(values), name="secateur", namespace="ml")
    return [
        document
        for name, text in sorted(files.items())
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Each thing's name and the template of its pods."""
    for document in documents:
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
