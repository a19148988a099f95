"""Progress: the share done and the time left follow what was measured, not what was guessed."""

from types import SimpleNamespace

import pytest

from api_schemas.enums import Phase, Split
from api_schemas.results.events import PhaseChanged, Progress
from api_schemas.results.metrics import UnfinishedEpoch
from worker.engine import run
from worker.engine.runtime.progress import Reporter


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def said():
    return []


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reporter(said, clock):
    plan = {Phase.SCORING: (2, 1.0), Phase.FINETUNING: (2, 3.0)}
    return Reporter(said.append, 2, plan, clock=clock)


def test_time_left_from_measured_speed(reporter, said, clock):
    """Scoring takes 10 s, fine-tuning 90 s: guessed three times as long, found nine times as long."""
    reporter.phase(Phase.SCORING, 1)
    clock.now = 10
    reporter.progress(1, 1)
    assert said[-1].eta_seconds == pytest.approx(10 + 2 * 30)  # the guess: a fine-tuning is three scorings
    reporter.phase(Phase.FINETUNING, 1)
    clock.now = 100
    reporter.progress(1, 1)
    assert said[-1].eta_seconds == pytest.approx(10 + 90)
    assert said[-1].fraction == pytest.approx(0.5)
    reporter.phase(Phase.SCORING, 2)
    clock.now = 110
    reporter.phase(Phase.FINETUNING, 2)
    clock.now = 155
    reporter.progress(1, 2)
    assert said[-1].eta_seconds == pytest.approx(45)
    clock.now = 200
    reporter.progress(2, 2)
    assert said[-1].eta_seconds == pytest.approx(0)
    assert said[-1].fraction == pytest.approx(1)


def test_parts_of_a_piece_count_by_their_work(reporter, said, clock):
    """One of three parts done in 3 s, of a piece whose parts are 1, 3 and 2 long."""
    reporter.phase(Phase.SCORING, 1)
    reporter.divide(1, 3, 2)
    shares = []
    for done, total in ((5, 10), (10, 10), (1, 2), (2, 2), (1, 1), (1, 1)):
        clock.now += 1
        reporter.progress(done, total)
        assert (said[-1].done, said[-1].total) == (done, total)
        # Of two scorings and two fine-tunings, guessed to be three times as long.
        shares.append(8 * said[-1].fraction)
        if done == total:
            reporter.next_part()
    assert shares == pytest.approx([1 / 12, 1 / 6, 5 / 12, 4 / 6, 1.0, 1.0])
    reporter.phase(Phase.SCORING, 2)
    clock.now += 3
    reporter.progress(1, 2)
    assert said[-1].fraction == pytest.approx(1.5 / 8)


def test_said_at_most_twice_a_second_and_at_the_end(reporter, said, clock):
    reporter.phase(Phase.SCORING, 1)
    for done in range(1, 101):
        clock.now += 0.1
        reporter.progress(done, 100)
    progress = [event for event in said if isinstance(event, Progress)]
    assert 15 <= len(progress) <= 22
    assert progress[-1].done == 100


def test_wall_time_by_phase_belongs_to_one_step(reporter, clock):
    reporter.restart()
    reporter.phase(Phase.SCORING, 1)
    clock.now = 4
    reporter.phase(Phase.EVALUATING, 1)
    clock.now = 5
    reporter.phase(Phase.FINETUNING, 1)
    clock.now = 7
    reporter.phase(Phase.EVALUATING, 1)
    clock.now = 10
    reporter.close()
    assert reporter.rounded_seconds() == {"scoring": 4, "evaluating": 4, "finetuning": 2}
    clock.now = 50
    reporter.restart()
    reporter.phase(Phase.SCORING, 2)
    clock.now = 51
    reporter.close()
    assert reporter.rounded_seconds() == {"scoring": 1}


def test_what_an_earlier_attempt_did_is_not_left(reporter, said, clock):
    reporter.skip(Phase.SCORING, 1)
    reporter.skip(Phase.FINETUNING, 1)
    reporter.phase(Phase.SCORING, 2)
    clock.now = 10
    reporter.progress(1, 1)
    assert said[-1].eta_seconds == pytest.approx(30)
    # Of 2 · 10 s scoring and 2 · 30 s fine-tuning, the second fine-tuning is left.
    assert said[-1].fraction == pytest.approx(50 / 80)
    assert isinstance(said[0], PhaseChanged)


def test_a_better_plan_keeps_what_was_measured(reporter, said, clock):
    reporter.phase(Phase.SCORING, 1)
    clock.now = 10
    reporter.close()
    reporter.replan({Phase.SCORING: (4, 1.0), Phase.FINETUNING: (1, 5.0)})
    reporter.phase(Phase.SCORING, 2)
    clock.now = 20
    reporter.progress(1, 1)
    assert said[-1].eta_seconds == pytest.approx(2 * 10 + 5 * 10)


def test_what_was_done_before_is_neither_left_nor_measured(reporter, said, clock):
    """The first fine-tuning goes on after a half: five of ten batches take 50 s, so a whole one takes 100 s."""
    reporter.skip(Phase.SCORING, 2)
    reporter.phase(Phase.FINETUNING, 1)
    reporter.skip_part(5, 10)
    clock.now = 10
    reporter.progress(6, 10)
    assert said[-1].done == 6
    assert said[-1].eta_seconds == pytest.approx(40 + 100)
    clock.now = 50
    reporter.progress(10, 10)
    assert said[-1].eta_seconds == pytest.approx(100)
    reporter.phase(Phase.FINETUNING, 2)
    clock.now = 75
    reporter.progress(1, 4)
    assert said[-1].eta_seconds == pytest.approx(75)
    clock.now = 150
    reporter.progress(4, 4)
    assert said[-1].fraction == pytest.approx(1)


def test_while_data_is_read_its_rows_are_what_is_planned_with(said, clock, monkeypatch):
    """Ten of a hundred rows in the first second of reading; then fifty samples, six times through the model."""

    def plan(samples):
        return {Phase.PREPARING: (1, sum(samples.values())), Phase.SCORING: (1, 6 * min(50, samples[Split.TRAIN]))}

    def prepare(*_paths, progress, **_settings):
        clock.now += 20  # libraries are loaded
        progress(0, 100)
        clock.now += 1
        progress(10, 100)
        raise InterruptedError

    monkeypatch.setattr(run, "prepare", prepare)
    described = SimpleNamespace(family=SimpleNamespace(modality=None), architecture=SimpleNamespace(head=None))
    described.labels = described.multi_label = None
    spec = SimpleNamespace(columns=None, splits=None, speech=None, seed=0)
    inputs = SimpleNamespace(data=None, model=None, cache=None)
    reporter = Reporter(said.append, 1, plan(run.likely_splits(run.UNKNOWN_YET)), clock=clock)
    with pytest.raises(InterruptedError):
        run._prepare(inputs, spec, described, reporter, plan)
    assert said[-1].eta_seconds == pytest.approx(9 + 30)
    assert run.likely_splits(101) == {Split.TRAIN: 61, Split.VALIDATION: 20, Split.TEST: 20}


def test_nothing_is_foretold_from_a_thousandth_of_the_work(said, clock):
    reporter = Reporter(said.append, 1, {Phase.PREPARING: (1, 1.0), Phase.SCORING: (1, 999.0)}, clock=clock)
    reporter.phase(Phase.PREPARING, 0)
    clock.now = 8
    reporter.progress(1, 1)
    assert said[-1].eta_seconds is None
    assert 0 < said[-1].fraction < 0.01
    reporter.phase(Phase.SCORING, 1)
    clock.now = 9
    reporter.progress(8, 999)
    assert said[-1].eta_seconds is None
    clock.now = 10
    reporter.progress(9, 999)
    assert said[-1].eta_seconds == pytest.approx(990 * 2 / 9)


def test_the_loss_so_far_is_told_until_the_phase_ends(reporter, said, clock):
    reporter.phase(Phase.FINETUNING, 1)
    reporter.progress(1, 4)
    assert said[-1].training is None
    reporter.training = UnfinishedEpoch(epoch=1, epochs=1, parts=4, points=(0.5,))
    clock.now = 1
    reporter.progress(2, 4)
    assert said[-1].training == reporter.training
    reporter.phase(Phase.SCORING, 2)
    reporter.progress(1, 1)
    assert said[-1].training is None
