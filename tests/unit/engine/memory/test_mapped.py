"""Large tensors in files: the same bits, no name, memory where there is no room; and what models and graphs share of them."""

import gc
import os
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from checkpoints.sizes import cost_model
from worker.engine.pruning import calibration, layer_calls
from worker.engine.runtime import mapped
from worker.engine.runtime.mapped import (
    empty_mapped,
    graph_in_files,
    in_file,
    into_memory,
    is_mapped,
    kept_in_file,
    mapped_copy,
    model_copy,
)
from worker.engine.runtime.memory import MemoryWatch, held_bytes

IS_MEMORY = mapped._is_memory.__wrapped__


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tensors of 1 KiB are large here, and the folder for temporary files counts as one on a disk."""
    monkeypatch.setattr(mapped, "LEAST", 1 << 10)
    monkeypatch.setattr(mapped, "_is_memory", lambda _: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_copy_has_the_bits_and_shares_nothing(tmp_path) -> None:
    tensor = torch.randn(40, 20)
    copied = mapped_copy(tensor)
    assert is_mapped(copied)
    assert torch.equal(copied, tensor)
    assert copied.data_ptr() % 64 == 0, "begins where a tensor in memory may begin"
    copied[0, 0] = 7.0
    assert copied[0, 0] == 7.0
    assert tensor[0, 0] != 7.0
    assert not list(tmp_path.iterdir()), "the file has no name"


def test_what_is_mapped_is_taken_as_it_is_and_a_part_of_it_is_copied() -> None:
    whole = in_file(torch.randn(64, 32))
    assert in_file(whole).data_ptr() == whole.data_ptr()
    assert in_file(whole[:32]).data_ptr() != whole.data_ptr(), "a part would keep the whole file"
    assert in_file(whole.mT).is_contiguous()


def test_small_tensors_and_those_without_room_stay_in_memory(monkeypatch) -> None:
    assert not is_mapped(mapped_copy(torch.zeros(16)))
    monkeypatch.setattr(mapped, "RESERVE", 1 << 62)
    assert not is_mapped(mapped_copy(torch.zeros(40, 20)))
    assert empty_mapped((40, 20), torch.float64).shape == (40, 20)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(27, "File too large")])
def test_a_disk_that_fills_up_meanwhile_leaves_it_in_memory(monkeypatch, tmp_path, error) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("os.posix_fallocate", full)
    assert torch.equal(mapped_copy(torch.ones(40, 20)), torch.ones(40, 20))
    assert not list(tmp_path.iterdir())


def test_a_file_system_that_maps_nothing_leaves_it_in_memory(monkeypatch, tmp_path) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("unable to mmap 3200 bytes from file: No such device (19)")

    monkeypatch.setattr("torch.UntypedStorage.from_file", refused)
    assert torch.equal(mapped_copy(torch.ones(40, 20)), torch.ones(40, 20))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", "ext4"])
def test_where_files_are_memory_nothing_is_put_into_them(monkeypatch, tmp_path, kind) -> None:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 21 0:19 / /dev rw - tmpfs udev rw\n"
        f"30 21 {os.major(device)}:{os.minor(device)} / /tmp rw,noatime shared:1 - {kind} none rw\n"
    )
    monkeypatch.setattr(mapped, "_MOUNTS", mounts)
    assert IS_MEMORY(str(tmp_path)) is (kind != "ext4")
    monkeypatch.setattr(mapped, "_is_memory", IS_MEMORY)
    assert is_mapped(mapped_copy(torch.zeros(40, 20))) is (kind == "ext4")


def test_there_is_no_room_for_a_file_larger_than_this_process_may_write(monkeypatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (4000, 4000))
    assert not mapped.has_room(5000)
    assert mapped.has_room(5000, largest=3000)


def test_what_a_graph_keeps_is_not_copied_where_it_gets_no_file(monkeypatch) -> None:
    """In memory what goes into several maps is one tensor, and would be as many."""
    x = torch.randn(40, 20, requires_grad=True)
    assert kept_in_file(x).data_ptr() != x.data_ptr()
    elsewhere = torch.empty(40, 20, device="meta")
    assert kept_in_file(elsewhere).untyped_storage()._cdata == elsewhere.untyped_storage()._cdata
    monkeypatch.setattr(mapped, "RESERVE", 1 << 62)
    with graph_in_files(0):
        answers = [x.sin(), x.cos()]
    kept = [answer.grad_fn._saved_self for answer in answers]  # type: ignore[union-attr]
    assert {each.data_ptr() for each in kept} == {x.data_ptr()}


def test_a_model_is_copied_with_its_ties_and_given_memory_of_its_own() -> None:
    model = nn.Sequential(nn.Linear(20, 40, bias=False), nn.Linear(20, 40, bias=False), nn.BatchNorm1d(40))
    model[1].weight = model[0].weight
    copied = model_copy(model)
    assert copied[0].weight is copied[1].weight
    assert isinstance(copied[0].weight, nn.Parameter)
    assert is_mapped(copied[0].weight)
    assert {id(each) for each in copied.parameters()}.isdisjoint({id(each) for each in model.parameters()})
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), copied.state_dict().values(), strict=True)
    )
    shared = copied[0].weight.detach()
    into_memory(copied)
    assert copied[0].weight is copied[1].weight
    assert not is_mapped(copied[0].weight)
    with torch.no_grad():
        copied[0].weight.fill_(0.0)
    assert shared.abs().sum() > 0


class Deep(nn.Module):
    """Layers whose inputs and activations a backward pass needs."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        for linear in self.maps:
            x = torch.nn.functional.gelu(linear(x)).mT.softmax(-1)
        return x


def gradient(model: Deep, x: Tensor, *, in_memory: int | None) -> Tensor:
    x = x.clone().requires_grad_(True)
    if in_memory is None:
        answer = model(x)
    else:
        with graph_in_files(in_memory):
            answer = model(x)
    answer.square().sum().backward()
    assert x.grad is not None
    return x.grad


def test_gradients_are_the_same_bits_wherever_their_graph_lies() -> None:
    torch.manual_seed(0)
    model, x = Deep(), torch.randn(4, 32, 32)
    expected = gradient(model, x, in_memory=None)
    for in_memory in (0, 1 << 15, 1 << 30):
        assert torch.equal(gradient(model, x, in_memory=in_memory), expected), in_memory


def test_a_graph_holds_no_large_tensor_in_memory() -> None:
    """Counted: of the activations that pass, those that are still there when the forward pass is over."""
    torch.manual_seed(0)
    model, alive = Deep().requires_grad_(False), []
    for linear in model.maps:
        linear.register_forward_hook(lambda _m, _a, out: alive.append(weakref.ref(out.untyped_storage())))

    def held(in_memory: int | None) -> int:
        alive.clear()
        x = torch.randn(4, 32, 32, requires_grad=True)
        if in_memory is None:
            answer = model(x)
        else:
            with graph_in_files(in_memory):
                answer = model(x)
        gc.collect()
        count = sum(each() is not None for each in alive)
        answer.sum().backward()
        return count

    assert held(0) == 0
    assert held(None) == len(model.maps), "and without it all of them: gelu needs what goes into it"


def test_what_stays_in_memory_is_what_estimates_count_with() -> None:
    assert cost_model.GRAPH_IN_MEMORY == mapped.GRAPH_IN_MEMORY
    assert cost_model.CALLS_IN_MEMORY == layer_calls.IN_MEMORY
    assert calibration.BATCH["cpu"] == cost_model.SCORED_TOGETHER


def test_held_memory_is_what_no_file_gives_back(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t 900 kB\nRssAnon:\t 30 kB\nRssFile:\t 500 kB\nRssShmem:\t 4 kB\n")
    assert held_bytes(status) == 34 * 1024
    watch = MemoryWatch(status)
    status.write_text("RssAnon:\t 20 kB\nRssShmem:\t 1 kB\n")
    assert watch.peak() == 34 * 1024, "the most, not the last"
    status.write_text("RssAnon:\t 50 kB\nRssShmem:\t 1 kB\n")
    assert watch.peak() == 51 * 1024
    status.unlink()
    assert watch.peak() == 51 * 1024
    assert held_bytes(status) is None


def test_what_a_graph_keeps_begins_as_far_from_a_cache_line_as_it_did() -> None:
    x = torch.randn(1001, requires_grad=True)[1:]
    assert x.data_ptr() % 64 == 4
    with graph_in_files(0):
        answer = x.sin()
    kept = answer.grad_fn._saved_self  # type: ignore[union-attr]
    assert is_mapped(kept)
    assert kept.data_ptr() % 64 == 4
    assert torch.equal(kept, x)
