"""Processor seconds of running processes, of those that they started too: told apart are a program and its children."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Spent:
    """Processor seconds, user and system: of a process itself, and of all below it, ended ones included."""

    own: float = 0.0
    below: float = 0.0

    def since(self, before: "Spent") -> "Spent":
        """What was spent from there to here."""
        return Spent(self.own - before.own, self.below - before.below)

    @property
    def all(self) -> float:
        return self.own + self.below


def spent(pid: int) -> Spent:
    """So far. Nothing of one that is gone."""
    try:
        process = psutil.Process(pid)
        times, children = process.cpu_times(), process.children()
    except psutil.NoSuchProcess:
        return Spent()
    # What ended is in its parent's `children_` once that has waited for it; what lives is counted where it is.
    below = float(times.children_user + times.children_system)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            below += spent(child.pid).all
    return Spent(float(times.user + times.system), below)


SERVICE = ("api", "maintenance", "beat", "postgresql", "valkey", "workers")


def by_part(used: Mapping[str, Spent], jobs: int) -> dict[str, float]:
    """Processor seconds a job of each part of the service, of engines and of the bucket; `service` is the sum of the first.

    What is below a worker are its engines: the cage, the interpreter and the program in it.
    """
    parts = dict.fromkeys((*SERVICE, "engines", "s3"), 0.0)
    for name, each in used.items():
        if name.startswith("worker-"):
            parts["workers"] += each.own
            parts["engines"] += each.below
        else:
            parts[name] += each.all
    found = {name: seconds / jobs for name, seconds in parts.items()}
    return {"service": sum(found[name] for name in SERVICE), **found}
