"""The race goes on where it stopped, decides on validation, and writes down what it found."""

import json

import numpy as np
import pytest

from benchmarks.race.__main__ import all_arms
from benchmarks.race.arms.arm import Arm
from benchmarks.race.arms.paper import arms
from benchmarks.race.cells import Cell, Stage, Status, Store
from benchmarks.race.evaluation import Predictions
from benchmarks.race.results.plot import COLOURS
from benchmarks.race.results.summary import summarise
from benchmarks.race.results.tables import FAMILIES, as_json, markdown
from benchmarks.race.runner import Runner, best_of
from benchmarks.race.setup import Unreachable
from tests.unit.benchmarks.race.setups import small_setup


@pytest.fixture
def runner(tmp_path) -> Runner:
    (tmp_path / "model").mkdir()
    return Runner(small_setup(tmp_path / "model"), Store(tmp_path / "out"))


def counted(version: int = 1, seeded: bool = True) -> tuple[Arm, list[tuple[int, float]]]:
    calls: list[tuple[int, float]] = []

    def cut(setup, seed, target):
        calls.append((seed, target))
        return setup.dense

    return Arm("ours/counted", "ours", cut, version, {"x": 1}, seeded), calls


def test_a_cell_is_measured_once_and_again_when_its_arm_changes(runner):
    arm, calls = counted()
    runner.one_shot([arm], [0.25, 0.5], [0, 1])
    assert sorted(calls) == [(0, 0.25), (0, 0.5), (1, 0.25), (1, 0.5)]
    runner.one_shot([arm], [0.25, 0.5], [0, 1])
    assert len(calls) == 4
    newer, more = counted(version=2)
    runner.one_shot([newer], [0.25], [0])
    assert more == [(0, 0.25)]
    assert not list(runner.store.folder.glob("*.tmp"))


def test_results_leave_out_cells_of_arms_that_have_changed_since(runner):
    arm, _ = counted()
    runner.dense()
    runner.one_shot([arm], [0.25, 0.5], [0])
    assert len(runner.current([arm])) == 3
    newer, _ = counted(version=2)
    runner.one_shot([newer], [0.25], [0])
    assert [cell.arm for cell in runner.current([arm])] == ["dense", "ours/counted"]
    assert {cell.target for cell in runner.current([newer])} == {0.0, 0.25}
    runner.setup.identity["measured"] = 10
    assert runner.current([newer]) == []


def test_only_one_draw_is_validated(runner):
    arm, _ = counted()
    runner.one_shot([arm], [0.5], [0, 1])
    assert [cell.validation is not None for cell in runner.store] == [True, False]
    (entry,) = summarise(runner.store)
    assert entry.draws == 2
    assert entry.validation == next(iter(runner.store)).validation.accuracy


def test_an_arm_that_draws_nothing_runs_once_for_all_seeds(runner):
    arm, calls = counted(seeded=False)
    runner.one_shot([arm], [0.5], [0, 1, 2])
    assert len(calls) == 1
    assert [cell.seed for cell in runner.store] == [None]


def test_other_calibration_makes_another_cell(runner):
    arm, calls = counted()
    runner.one_shot([arm], [0.5], [0])
    runner.setup.identity["calibration"] = 13
    runner.one_shot([arm], [0.5], [0])
    assert len(calls) == 2


def test_what_cannot_be_reached_stays_and_what_failed_is_tried_again(runner):
    outcome: list[Exception] = [Unreachable("whole heads alone"), RuntimeError("no such kernel")]
    calls = []

    def cut(_track, _seed, target):
        calls.append(target)
        raise outcome[target > 0.5]

    arm = Arm("peer", "peer", cut, 1, {})
    for _ in range(2):
        runner.one_shot([arm], [0.5, 0.75], [0])
    found = {cell.target: cell for cell in runner.store}
    assert found[0.5].status is Status.UNREACHABLE
    assert found[0.75].status is Status.NOT_RUNNABLE
    assert found[0.75].detail == "RuntimeError: no such kernel"
    assert calls == [0.5, 0.75, 0.75]


def test_the_papers_arms_cut_what_they_say(runner):
    for arm in arms():
        loaded = arm.cut(runner.setup, 0, 0.5)
        assert runner.setup.sparsity(loaded) == pytest.approx(0.5, abs=0.02), arm.name


def test_calibration_is_drawn_from_train_by_seed(runner):
    setup = runner.setup
    first, again, other = setup.calibration(0), setup.calibration(0), setup.calibration(1)
    assert np.array_equal(first.inputs["input_values"], again.inputs["input_values"])
    assert not np.array_equal(first.inputs["input_values"], other.inputs["input_values"])
    assert len(first) == 12


def cell(arm: str, validation: float, test: float, seed: int = 0, achieved: float = 0.5, family: str = "paper") -> Cell:
    def predictions(accuracy: float) -> Predictions:
        return Predictions.of(np.arange(200) < round(200 * accuracy), 0.1)

    return Cell(
        key="k", stage=Stage.ONE_SHOT, arm=arm, family=family, target=0.0 if arm == "dense" else 0.5, seed=seed,
        status=Status.DONE, achieved=achieved, validation=predictions(validation), test=predictions(test),
    )  # fmt: skip


def test_the_best_of_a_family_is_chosen_on_validation_among_those_that_met_the_target(tmp_path):
    store = Store(tmp_path)
    for found in (
        cell("paper/a", 0.80, 0.95), cell("paper/a", 0.84, 0.95, seed=1), cell("paper/b", 0.83, 0.70),
        cell("paper/b", 0.83, 0.70, seed=1), cell("paper/less", 0.99, 0.99, achieved=0.33),
        cell("kwon/x", 0.9, 0.9, family="kwon"),
    ):  # fmt: skip
        store.write(found)
    assert best_of(store, "paper", 0.5) == "paper/b"
    assert best_of(store, "ours", 0.5) is None


def test_tables_carry_means_intervals_and_every_mark():
    cells = [
        cell("dense", 0.9, 0.9, achieved=0.0, family="dense"), cell("ours/best", 0.9, 0.88, family="ours"),
        cell("ours/best", 0.9, 0.90, seed=1, family="ours"), cell("paper/a", 0.6, 0.6),
        cell("paper/off", 0.8, 0.8, achieved=0.333),
        Cell(key="k", stage=Stage.ONE_SHOT, arm="kwon/x", family="kwon", target=0.5, seed=0, status=Status.NOT_RUNNABLE,
             detail="OSError: none"),
        Cell(key="k", stage=Stage.ONE_SHOT, arm="paper/z", family="paper", target=0.5, seed=0, status=Status.UNREACHABLE),
    ]  # fmt: skip
    entries = summarise(cells)
    found = {entry.arm: entry for entry in entries}
    assert found["ours/best"].test == pytest.approx(0.89)
    assert found["ours/best"].versus_dense.points == pytest.approx(-1.0)
    assert found["paper/a"].best_minus.points == pytest.approx(29.0)
    assert found["paper/a"].best_minus.significant
    page = markdown(
        entries, (), title="T", loud="QUICK", command="run", machine={"cores": 2}, clips=200, calibration=512
    )
    for line in (
        "> **QUICK**", "| paper/z | - | unreachable |", "| kwon/x | - | not runnable |", "| ours/best | 2 |",
        "- kwon/x: OSError: none", "80.0% at 33.3%",
    ):  # fmt: skip
        assert line in page
    rows = {row["arm"]: row for row in json.loads(as_json(entries, (), {"command": "run"}))["entries"]}
    assert rows["ours/best"]["test_by_draw"] == [0.88, 0.9]
    assert rows["paper/a"]["best_minus"]["low"] > 0


def test_every_family_has_a_colour_and_a_place_in_the_tables():
    assert {each.family for each in all_arms()} <= set(FAMILIES)
    assert set(FAMILIES) == set(COLOURS)
