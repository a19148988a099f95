"""Checks Python, and whether the installed libraries are those that the distribution's metadata requires."""

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, version
from itertools import chain

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from api_schemas.api.checkup import Finding, ok, warning, wrong
from secateur.local_server.installed import how_to_install

OURS = "secateur"
_HALVES = ("server", "worker")
NAMED = 4
"""So many libraries are named in one line."""


def python() -> list[Finding]:
    """The interpreter, against what the distribution asks for."""
    asked = distribution(OURS).metadata["Requires-Python"] or ""
    here = ".".join(map(str, sys.version_info[:3]))
    if here in SpecifierSet(asked):
        return [ok("python", f"{here} ({sys.executable})")]
    remedy = "Use a Python of that version: make install PYTHON=python3.12, or python3.12 -m venv."
    return [wrong("python", f"{here}, but {asked} is required", remedy)]


def packages() -> list[Finding]:
    """The base and every extra that is installed: its libraries are there, in the versions asked for.

    Nobody writes down which extras were installed. One is taken to be where most of its libraries are.
    """
    ours = distribution(OURS)
    requirements = [Requirement(text) for text in ours.requires or ()]
    extras = [None, *(ours.metadata.get_all("Provides-Extra") or ())]
    return list(chain.from_iterable(_judged(extra, list(_of(extra, requirements))) for extra in extras))


def _of(extra: str | None, requirements: Iterable[Requirement]) -> Iterable[Requirement]:
    for requirement in requirements:
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        asked = requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""})
        if asked and always == (extra is None):
            yield requirement


def _judged(extra: str | None, asked: list[Requirement]) -> list[Finding]:
    check = f"libraries: {extra or 'base'}"
    install = f"pip install '{OURS}{f'[{extra}]' if extra else ''}'"
    there = [(requirement, _installed(requirement.name)) for requirement in asked]
    missing = [requirement.name for requirement, found in there if found is None]
    if extra is not None and 2 * len(missing) >= len(asked):
        # Of these the libraries alone do nothing: their code is another distribution.
        advice = how_to_install(extra) if extra in _HALVES else f"{install} adds it"
        return [ok(check, f"not installed ({advice.rstrip('.')})")]
    findings = [
        (warning if found in _newer(requirement) else wrong)(
            check, f"{requirement.name} {found}, but {requirement.specifier} is required", f"{install} fixes this."
        )
        for requirement, found in there
        if found is not None and not requirement.specifier.contains(found, prereleases=True)
    ]
    if missing:
        named = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")
        findings.append(wrong(check, f"missing: {named}", f"{install} installs them."))
    return findings or [ok(check, f"all {len(asked)} libraries installed as required")]


def _installed(name: str) -> Version | None:
    try:
        return Version(version(name))
    except (PackageNotFoundError, InvalidVersion):
        return None


def _newer(requirement: Requirement) -> SpecifierSet:
    """What lies above every version that is named: untried, and not known to fail."""
    return SpecifierSet(",".join(f">{one.version.removesuffix('.*')}" for one in requirement.specifier))
