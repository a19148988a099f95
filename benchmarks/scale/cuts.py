"""Links of workers that are cut while they run jobs, and what was lost by it."""

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.scale import work
from benchmarks.scale.network import Hosts
from benchmarks.scale.stack import Stack

JOBS_EACH = 8
"""For each worker: more than those that are left can run during a cut of 45 s."""


def cut(stack: Stack, hosts: Hosts, crowd: Sequence[work.Tenant], workers: int, seconds: float) -> dict[str, Any]:
    """The links of half of the workers, then of all of them, are down for that long, each time with jobs under way."""
    stack.grow_to(workers)
    jobs = work.submit(crowd, workers * JOBS_EACH)
    work.wait(stack, jobs, workers, 2 * work.JOB_SECONDS)
    ends = {}
    for name, among in (("half", range(1, workers - workers // 2 + 1)), ("all", range(1, workers + 1))):
        before = work.ended(stack, jobs)
        with hosts.cut(among):
            time.sleep(seconds)
            ends[name] = work.ended(stack, jobs) - before
        jobs |= work.submit(crowd, workers * 2)
        # A worker that was cut off looks again after a while: by then all are at work.
        work.wait(stack, jobs, work.ended(stack, jobs) + workers, 4 * work.JOB_SECONDS)
    work.wait(stack, jobs, len(jobs), work.JOB_SECONDS * JOBS_EACH)
    return {"seconds": seconds, "workers": workers, "ended_meanwhile": ends, **work.account(stack, jobs)}
