"""How passes are timed in turn: in which order, how often, and when it is enough. No clock but a simulated one."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from checkpoints.sizes.cost_model import LEAST_ROUNDS
from tests.unit.engine.latency.machines import LOADS, Machine
from worker.engine.latency.timing import LONG, PATIENCE, WARM_UP, sure, time_in_turn


def test_every_pass_is_as_often_in_every_place_and_order_is_drawn() -> None:
    called: list[int] = []
    time_in_turn([lambda which=which: called.append(which) for which in range(3)], 60)
    rounds = np.array(called).reshape(-1, 3)[WARM_UP:]
    assert all(sorted(row) == [0, 1, 2] for row in rounds.tolist())
    for place in range(3):
        assert Counter(rounds[:, place].tolist()) == {0: 20, 1: 20, 2: 20}
    assert len({tuple(row) for row in rounds.tolist()}) == 6
    # Each follows each of the others about as often: what one leaves in the caches helps no one more.
    after = Counter((one, other) for one, other in pairwise(called[9:]) if one != other)
    assert min(after.values()) > 0.6 * max(after.values())


def test_a_quiet_machine_is_done_after_the_rounds_asked_for() -> None:
    machine = Machine(0)
    times = time_in_turn([machine.passes(6.0)] * 3, 30, most=300, seconds=10.0, enough=sure, clock=machine.clock)
    assert times.shape == (30, 3)
    assert 5.5 < np.median(times) < 6.5


def test_a_busy_one_gets_more_until_it_is_enough_or_time_or_rounds_are_spent() -> None:
    def rounds(seconds: float, most: int = 300, milliseconds: float = 6.0) -> int:
        machine = Machine(1, **LOADS["all"])
        passes = [machine.passes(milliseconds)] * 3
        return len(time_in_turn(passes, 10, most=most, seconds=seconds, enough=sure, clock=machine.clock))

    assert rounds(0.0) == 10  # those asked for are made in any case
    assert 10 < rounds(1e6) < 300
    assert rounds(1e6, most=12) == 12
    # A round of 0.1 s at least: half a second is over before the rounds asked for are.
    assert rounds(0.5, milliseconds=30.0) == 10


def test_of_long_passes_a_few_are_enough_and_three_times_as_much_time_where_they_are_not() -> None:
    def spent(milliseconds: float, least: int = 30, **load: float) -> tuple[int, float]:
        machine = Machine(1, **load)
        passes = [machine.passes(milliseconds)] * 3
        told: list[tuple[int, int]] = []
        times = time_in_turn(
            passes,
            least,
            most=10 * least,
            seconds=10.0,
            enough=sure,
            clock=machine.clock,
            progress=lambda done, total: told.append((done, total)),
        )
        assert told == [(number, least) for number in range(1, len(times) + 1)]
        return len(times), float(times.sum()) / 1000.0

    rounds, seconds = spent(3000.0, jitter=0.005)
    assert rounds == LEAST_ROUNDS
    assert LONG < seconds < 2 * LONG
    rounds, seconds = spent(700.0, bursts=True)
    assert LEAST_ROUNDS < rounds < 30
    assert PATIENCE * LONG < seconds < (PATIENCE + 1) * LONG
    assert spent(3000.0, least=5)[0] == 5


def test_one_long_round_warms_up() -> None:
    machine, calls = Machine(0), Counter[int]()
    for milliseconds in (10, 3000):
        run = machine.passes(float(milliseconds))

        def counted(run: Callable[[], object] = run, milliseconds: int = milliseconds) -> None:
            calls[milliseconds] += 1
            run()

        time_in_turn([counted], 5, clock=machine.clock)
    assert calls == {10: WARM_UP + 5, 3000: 1 + 5}
