"""Exchanges between processes: sums in the order of ranks, draws and scores as of one process; here each is a thread."""

from pathlib import Path
from typing import TypeVar

import pytest
import torch

from api_schemas.enums import LabelSource
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import EngineEvent, Failed
from tests.support.jobs.groups import by_each, groups
from tests.unit.engine.tasks.uneven import CASES, uneven
from worker.engine.__main__ import _say
from worker.engine.evaluate import evaluate
from worker.engine.parallel import failures, group
from worker.engine.parallel.failures import PeerLostError
from worker.engine.parallel.group import ALONE, Group
from worker.engine.parallel.processes import Member
from worker.engine.pruning.calibration import loss_for

T = TypeVar("T")
CPU = torch.device("cpu")


def test_sums_are_taken_in_the_order_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "AT_ONCE", 3)
    # In float32 the order of three such numbers shows.
    parts = [
        torch.tensor([1e8, 1.0, 2.0, -1e8]),
        torch.tensor([1.0, 1e8, 1.0, 1e8]),
        torch.tensor([-1e8, -1e8, 3.0, 1.0]),
    ]
    expected = parts[0] + parts[1] + parts[2]
    assert not torch.equal(expected, parts[0] + (parts[1] + parts[2]))

    def work(mine: Group) -> tuple[torch.Tensor, torch.Tensor]:
        first, counts = parts[mine.rank].clone().reshape(2, 2), torch.tensor(mine.rank)
        mine.sum_in_place([first, counts])
        return first, counts

    for first, counts in by_each(3, work):
        assert torch.equal(first.flatten(), expected)
        assert int(counts) == 3


def test_every_sample_is_somebodys_and_nobody_elses() -> None:
    for size in (1, 2, 3, 7):
        for count in (0, 1, 2, 6, 8, 64):
            parts = [range(count)[Group(Member(rank, size)).part(count)] for rank in range(size)]
            assert [number for part in parts for number in part] == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_what_each_has_is_known_to_all() -> None:
    assert by_each(3, lambda mine: mine.gather(mine.rank * 10)) == [[0, 10, 20]] * 3
    assert by_each(2, lambda mine: mine.from_first(f"of {mine.rank}")) == ["of 0"] * 2
    assert (ALONE.gather(1), ALONE.from_first(2), ALONE.first_does(lambda: 3)) == ([1], 2, 3)


def test_who_waits_for_one_that_is_gone_is_told() -> None:
    first, other = groups(2)
    other.member.links[0].close()
    with pytest.raises(PeerLostError):
        first.wait()
    first, other = groups(2)
    first.member.links[0].close()
    with pytest.raises(PeerLostError):
        other.sum_in_place([torch.ones(2)])


@pytest.mark.parametrize("name", CASES)
def test_scores_of_every_task_are_those_of_one_process(name: str) -> None:
    case = uneven(name)
    alone = evaluate(case.model, case.split, case.task, batch_size=2, device=CPU)

    # Made one after the other: what they draw is the whole program's.
    cases = [uneven(name) for _ in range(3)]

    def work(mine: Group) -> object:
        own = cases[mine.rank]
        return evaluate(own.model, own.split, own.task, batch_size=2, device=CPU, group=mine)

    # More of them than batches of some length: the last have fewer than others, or none.
    first, *others = by_each(3, work)
    assert others == [first] * 2
    for measure, value in alone.model_dump(exclude_none=True).items():
        assert getattr(first, measure) == pytest.approx(value, abs=1e-6), measure


@pytest.mark.parametrize("name", CASES)
def test_labels_are_drawn_as_by_one_process(name: str) -> None:
    case = uneven(name)
    batches = [case.split.batch(rows) for rows in ([0, 3, 9], [7, 11], [1, 5])]
    answers = [case.task.outputs(case.model, inputs).detach() for inputs, _ in batches]
    asked = [case.task.asked(inputs, targets) for inputs, targets in batches]

    def gradients(mine: Group) -> list[torch.Tensor]:
        loss = loss_for(case.task, LabelSource.MODEL, 5, mine)
        found = []
        for whole, targets in zip(answers, asked, strict=True):
            part = mine.part(len(whole))
            own = whole[part].clone().requires_grad_()
            losses = loss(own if len(own) else torch.zeros(0), targets[part])
            assert len(losses) == len(own)
            if len(own):
                losses.sum().backward()
            found.append(torch.zeros_like(own) if own.grad is None else own.grad)
        return found

    expected, shared = gradients(ALONE), by_each(3, gradients)
    for number, whole in enumerate(expected):
        assert whole.any()
        torch.testing.assert_close(torch.cat([each[number] for each in shared]), whole)


def test_the_reason_of_another_process_is_said_by_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "SECONDS", 0.1)
    said: list[EngineEvent] = []
    lost = PeerLostError("another process of the job has ended")
    _say(lost, Member(0, 2), tmp_path, said.append)
    assert said == [], "it was killed: the engine has crashed"
    _say(lost, Member(2, 3), tmp_path, said.append)
    _say(SecateurError(ErrorCode.OUT_OF_MEMORY, "The GPU is full."), Member(1, 3), tmp_path, said.append)
    assert said == []
    _say(lost, Member(0, 3), tmp_path, said.append)
    [event] = said
    assert isinstance(event, Failed)
    assert (event.code, event.detail) == (ErrorCode.OUT_OF_MEMORY, "The GPU is full.")
    assert list(tmp_path.iterdir()) == []
