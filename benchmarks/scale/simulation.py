"""How long jobs wait, and how busy GPUs are: a simulation of a queue by SimPy, for sizing.

    python -m benchmarks.scale.simulation --gpus 64 --jobs-a-day 10000 --mean 400 [--busy-hours 10 --busy-share 0.8]
    python -m benchmarks.scale.simulation --gpus 64 --jobs-a-day 10000 --durations durations.json [--mean 400]

A GPU runs one job at a time, and the job that waits longest is next. Turns between tenants and priorities change who waits, but
not how long all wait on average. `--durations` is JSON: numbers, in lists or as values of `--key`, wherever they stand; with
`--mean` they are stretched to that mean. Without it durations are exponential. The last line of output is JSON.
"""

import argparse
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simpy

DAY = 86_400.0
Draw = Callable[[np.random.Generator, int], np.ndarray]
"""That many durations, in seconds."""


@dataclass(frozen=True)
class Load:
    """Jobs of a day: `busy_share` of them come, at random, within the first `busy_hours` of it, the rest at random after."""

    jobs_a_day: float
    busy_hours: float = 12.0
    busy_share: float = 0.5

    def arrivals(self, random: np.random.Generator, days: int) -> np.ndarray:
        """Moments in seconds, in order: a Poisson process whose rate has two values."""
        moments = []
        for day in range(days):
            count = random.poisson(self.jobs_a_day)
            busy = random.random(count) < self.busy_share
            span = self.busy_hours * 3600
            within = np.where(busy, random.random(count) * span, span + random.random(count) * (DAY - span))
            moments.append(day * DAY + within)
        return np.sort(np.concatenate(moments))


@dataclass(frozen=True)
class Outcome:
    """Seconds of waiting, and the share of the GPUs' time in which they had a job. The first day is left out of both."""

    jobs: int
    mean_wait: float
    p50: float
    p95: float
    p99: float
    utilisation: float
    offered: float
    """Work that comes, as a share of what the GPUs can do; from 1 on the queue grows without end."""


def exponential(mean: float) -> Draw:
    """Durations of that mean, of which many are short and few long."""
    return lambda random, count: random.exponential(mean, count)


def measured(seconds: Sequence[float], mean: float | None = None) -> Draw:
    """Drawn from what was measured, each as likely; stretched to `mean` where it is given. Raises ValueError without any."""
    if not seconds:
        raise ValueError("no durations above zero")
    values = np.asarray(seconds, dtype=float)
    scale = 1.0 if mean is None else mean / values.mean()
    return lambda random, count: random.choice(values, count) * scale


def simulate(gpus: int, load: Load, draw: Draw, *, overhead: float = 0.0, days: int = 6, seed: int = 0) -> Outcome:
    """Days of jobs, the first of which fills the queue. `overhead`: seconds that a GPU is held beside a job's duration."""
    random = np.random.default_rng(seed)
    arrivals = load.arrivals(random, days)
    durations = draw(random, len(arrivals)) + overhead
    begun = np.empty(len(arrivals))
    world = simpy.Environment()
    free = simpy.Resource(world, capacity=gpus)

    def job(number: int) -> Generator[simpy.Event, Any, None]:
        with free.request() as turn:
            yield turn
            begun[number] = world.now
            yield world.timeout(durations[number])

    def source() -> Generator[simpy.Event, Any, None]:
        for number, moment in enumerate(arrivals):
            yield world.timeout(moment - world.now)
            world.process(job(number))

    world.process(source())
    world.run()
    counted = arrivals >= DAY
    waits = (begun - arrivals)[counted]
    end = days * DAY
    busy = np.clip(np.minimum(begun + durations, end) - np.maximum(begun, DAY), 0, None).sum()
    p50, p95, p99 = np.percentile(waits, [50, 95, 99])
    return Outcome(
        jobs=int(counted.sum()),
        mean_wait=float(waits.mean()),
        p50=float(p50),
        p95=float(p95),
        p99=float(p99),
        utilisation=float(busy / (gpus * (end - DAY))),
        offered=float(load.jobs_a_day / DAY * durations.mean() / gpus),
    )


def numbers(found: Any, key: str | None = None) -> list[float]:
    """All above zero in JSON that was read; with `key`, those that are its values."""
    if isinstance(found, dict):
        return [each for name, value in found.items() for each in _of_member(name, value, key)]
    if isinstance(found, list):
        return [each for value in found for each in numbers(value, key)]
    plain = isinstance(found, int | float) and not isinstance(found, bool)
    return [float(found)] if key is None and plain and found > 0 else []


def _of_member(name: str, value: Any, key: str | None) -> list[float]:
    return numbers(value, None if name == key else key)


def needed(load: Load, draw: Draw, most: float, *, overhead: float = 0.0, days: int = 3, seed: int = 0) -> int:
    """The least number of GPUs with which 95% of jobs wait at most `most` seconds."""

    def enough(gpus: int) -> bool:
        return simulate(gpus, load, draw, overhead=overhead, days=days, seed=seed).p95 <= most

    random = np.random.default_rng(seed)
    # With fewer the queue grows without end.
    low = int(load.jobs_a_day / DAY * float((draw(random, 10_000) + overhead).mean()) * 0.95)
    high = low + 1
    while not enough(high):
        low, high = high, high + max(1, high // 4)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def sizing(means: Sequence[float], seconds: Sequence[float], overhead: float, days: int) -> list[dict[str, Any]]:
    """10,000 jobs a day on 64 GPUs: a row for each mean duration, spread as `seconds` are, evenly over the day and by day; and
    how many GPUs are `needed` for 95% to wait at most ten minutes."""
    rows = []
    for mean in means:
        row: dict[str, Any] = {"mean": mean}
        for name, load in (("even", Load(10_000)), ("by_day", Load(10_000, busy_hours=10, busy_share=0.8))):
            draw = measured(seconds, mean)
            out = simulate(64, load, draw, overhead=overhead, days=days)
            row[name] = {**asdict(out), "needed": needed(load, draw, 600, overhead=overhead)}
        rows.append(row)
    return rows


def main() -> int:
    """Prints what came out, and JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.simulation", description=__doc__)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--jobs-a-day", type=float, default=10_000)
    parser.add_argument("--durations", type=Path, help="JSON with seconds")
    parser.add_argument("--key", help="of the values in it; without: all numbers")
    parser.add_argument("--mean", type=float, help="seconds; with --durations they are stretched to it")
    parser.add_argument("--overhead", type=float, default=0.0, help="seconds that a job holds its GPU beside that")
    parser.add_argument("--busy-hours", type=float, default=12.0)
    parser.add_argument("--busy-share", type=float, default=0.5, help="of a day's jobs that come in these hours")
    parser.add_argument(
        "--most", type=float, default=600, help="seconds that 95% may wait, for the number of GPUs needed"
    )
    parser.add_argument("--days", type=int, default=6, help="the first is not counted; at least 2")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.days < 2 or not 0 < arguments.busy_hours < 24 or not 0 <= arguments.busy_share <= 1:
        parser.error("--days is at least 2, --busy-hours between 0 and 24, --busy-share a share")
    if arguments.durations is not None:
        given = numbers(json.loads(arguments.durations.read_text()), arguments.key)
        draw = measured(given, arguments.mean)
    elif arguments.mean is not None:
        draw = exponential(arguments.mean)
    else:
        parser.error("--durations or --mean is needed")
    load = Load(arguments.jobs_a_day, arguments.busy_hours, arguments.busy_share)
    out = simulate(arguments.gpus, load, draw, overhead=arguments.overhead, days=arguments.days, seed=arguments.seed)
    if out.offered >= 1:
        print(f"More work comes than {arguments.gpus} GPUs can do: the queue grows without end.")
    print(
        f"{out.jobs:,} jobs: half wait at most {out.p50:.0f} s, 95% {out.p95:.0f} s; "
        f"GPUs are busy {out.utilisation:.0%} of the time."
    )
    least = needed(load, draw, arguments.most, overhead=arguments.overhead, seed=arguments.seed)
    print(f"With {least} GPUs 95% wait at most {arguments.most:.0f} s.")
    print(json.dumps({**asdict(out), "needed": least}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
