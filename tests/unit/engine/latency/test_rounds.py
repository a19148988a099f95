"""How passes are timed in turn: in which order, how often, and when it is enough. No clock but a simulated one."""

from collections import Counter
from itertools import pairwise

import numpy as np

from tests.unit.engine.latency.machines import LOADS, Machine
from worker.engine.latency.timing import WARM_UP, sure, time_in_turn


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
    # A pass of a second: ten seconds are over before the rounds asked for are.
    assert rounds(10.0, milliseconds=1000.0) == 10
