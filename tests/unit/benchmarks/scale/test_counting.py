"""What is made of claims and of processor seconds."""

import subprocess
import sys

import psutil
import pytest

from benchmarks.scale.cost import Spent, by_part, spent
from benchmarks.scale.turns import Claim, shares


def test_turns_count_while_all_wait() -> None:
    # `a` has four jobs from the beginning, `b` two from moment 2 on.
    order = [("a", 0.0, 1.0), ("a", 0.0, 3.0), ("b", 2.0, 4.0), ("a", 0.0, 5.0), ("b", 2.0, 6.0), ("a", 0.0, 7.0)]
    found = shares([Claim(*each) for each in order])
    assert found == {"claims": 4, "tenants": 2, "shares": {"a": 0.5, "b": 0.5}, "gap": 1}


def test_a_tenant_that_is_passed_over_shows() -> None:
    greedy = [Claim("a", 0.0, float(at)) for at in range(1, 6)] + [Claim("b", 0.0, 6.0), Claim("a", 0.0, 7.0)]
    found = shares(greedy)
    assert found["gap"] == 5
    assert found["shares"]["b"] == pytest.approx(1 / 6)


def test_who_never_waited_beside_another_had_no_turns() -> None:
    assert shares([Claim("a", 0.0, 1.0), Claim("b", 2.0, 3.0)]) == {"claims": 0, "tenants": 2}


def test_engines_are_no_part_of_the_service() -> None:
    used = {"api": Spent(2.0, 1.0), "worker-1": Spent(4.0, 10.0), "worker-2": Spent(1.0, 2.0), "s3": Spent(7.0)}
    found = by_part(used, jobs=2)
    assert (found["service"], found["workers"], found["engines"], found["s3"]) == (4.0, 2.5, 6.0, 3.5)


def test_seconds_of_children_that_live_and_of_those_that_ended() -> None:
    burn = "sum(i for i in range(3_000_000))"
    program = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", "{burn}"])
alive = subprocess.Popen([sys.executable, "-c", "{burn}; print('burnt', flush=True); input()"], stdin=subprocess.PIPE)
input()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = spent(process.pid)
        [alive] = psutil.Process(process.pid).children()
        times = alive.cpu_times()
        process.communicate(b"\n")
    ended = found.below - times.user - times.system
    assert times.user > 0.02
    assert ended > 0.02
    assert spent(process.pid) == Spent()
