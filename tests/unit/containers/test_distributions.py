"""What the two distributions hold: no package in both, versions alike, ranges that have what is locked."""

import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from setuptools import find_namespace_packages, find_packages

ROOT = Path(__file__).parents[3]
CLIENT, SERVER = (tomllib.loads((ROOT / name).read_text()) for name in ("pyproject.toml", "server/pyproject.toml"))


def packages(project: dict[str, Any]) -> set[str]:
    """Of the distribution, by its own patterns."""
    return set(find_namespace_packages(str(ROOT), include=project["tool"]["setuptools"]["packages"]["find"]["include"]))


def test_the_client_is_installed_without_the_server() -> None:
    client, server = packages(CLIENT), packages(SERVER)
    assert {name.partition(".")[0] for name in client} == {"api_schemas", "checkpoints", "secateur"}
    assert {name.partition(".")[0] for name in server} == {"service", "store", "worker"}
    assert set(find_packages(str(ROOT), include=["service*", "store*", "worker*"])) <= server


def test_both_are_of_one_version() -> None:
    version = CLIENT["project"]["version"]
    assert SERVER["project"]["version"] == version
    assert SERVER["project"]["dependencies"] == [f"secateur=={version}"]
    for field in ("license", "requires-python"):
        assert SERVER["project"][field] == CLIENT["project"][field]


def test_the_server_has_one_version_of_what_the_client_has_a_range_of() -> None:
    exact = {found.name: found for found in map(Requirement, CLIENT["project"]["optional-dependencies"]["server"])}
    for asked in map(Requirement, CLIENT["project"]["dependencies"]):
        assert not any(each.operator == "==" for each in asked.specifier), f"{asked}: a range is needed"
        (pin,) = exact[asked.name].specifier
        assert pin.operator == "=="
        assert asked.specifier.contains(pin.version)
