"""The processes of one job: which one this is, which samples are its own, and sums that are the same in all of them.

Each process computes on its own samples and sends its partial sums to the first, which adds them in the order of ranks and sends
the result to all. So all have the same bits, and the same again when the job is repeated with as many processes. The partial sums
are added on the host, because they are few and small compared with what they sum.
"""

import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from worker.engine.data.split import Inputs, rows
from worker.engine.parallel.failures import PeerLostError
from worker.engine.parallel.processes import Member

AT_ONCE = 2**24
"""Numbers that are sent at a time."""

_ALONE = Member()

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The processes as `member` of them. The first alone writes and speaks.

    All have to come to each of these calls in the same order. Raises PeerLostError where another does not come any more. Tensors
    inside of objects must lie on the CPU.
    """

    member: Member = _ALONE

    @property
    def rank(self) -> int:
        """Which one this is."""
        return self.member.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self.member.size

    @property
    def first(self) -> bool:
        """Whether this one writes and speaks."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Which of `count` samples are this process's; none where there are fewer than processes."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def own(self, inputs: Inputs, targets: T) -> tuple[Inputs, T]:
        """This process's samples of a batch; all of it, whatever targets are, where there is but one."""
        if self.size == 1:
            return inputs, targets
        part, asked = self.part(rows(inputs)), cast(Any, targets)
        return {name: tensor[part] for name, tensor in inputs.items()}, asked[part]

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Every tensor becomes the sum of all processes', in its own precision. Shapes are the same in all."""
        if self.size == 1:
            return
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.detach().reshape(-1).cpu() for tensor in alike])
            for some in flat.split(AT_ONCE) if len(flat) else ():
                self._sum(some)
            with torch.no_grad():
                for tensor, summed in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
                    tensor.copy_(summed.view_as(tensor))

    def _sum(self, some: Tensor) -> None:
        shown = _bytes_of(some)
        with _peers():
            if not self.first:
                [link] = self.member.links
                link.send_bytes(shown)
                link.recv_bytes_into(shown)
                return
            theirs = torch.empty_like(some)
            for link in self.member.links:
                link.recv_bytes_into(_bytes_of(theirs))
                some += theirs
            for link in self.member.links:
                link.send_bytes(shown)

    def gather(self, mine: T) -> list[T]:
        """What each process has, in the order of ranks."""
        if not self.first:
            [link] = self.member.links
            with _peers():
                link.send_bytes(_packed(mine))
            nothing: Any = None
            return self.from_first(nothing)
        with _peers():
            return self.from_first([mine, *(pickle.loads(link.recv_bytes()) for link in self.member.links)])

    def from_first(self, mine: T) -> T:
        """What the first process has; what the others give is not looked at."""
        if self.size == 1:
            return mine
        with _peers():
            if not self.first:
                [link] = self.member.links
                result: T = pickle.loads(link.recv_bytes())
                return result
            packed = _packed(mine)
            for link in self.member.links:
                link.send_bytes(packed)
            return mine

    def first_does(self, work: Callable[[], T]) -> T:
        """The result of what the first process does, while the others wait."""
        nothing: Any = None
        return self.from_first(work() if self.first else nothing)

    def wait(self) -> None:
        """Until all have come so far."""
        self.gather(None)


ALONE = Group()


def _bytes_of(tensor: Tensor) -> Any:
    """Its memory, on the CPU, to read and to write."""
    return tensor.view(torch.uint8).numpy()


def _packed(what: object) -> memoryview:
    written = io.BytesIO()
    pickle.dump(what, written, protocol=pickle.HIGHEST_PROTOCOL)
    return written.getbuffer()


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError, BrokenPipeError) as error:
        raise PeerLostError("another process of the job has ended") from error
