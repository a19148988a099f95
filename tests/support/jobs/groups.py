"""The processes of a job as threads of a test, which talk through the same pipes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from typing import TypeVar

from worker.engine.parallel.group import Group
from worker.engine.parallel.processes import Member

T = TypeVar("T")


def groups(size: int) -> list[Group]:
    pipes = [Pipe() for _ in range(size - 1)]
    others = [Group(Member(rank, size, (theirs,))) for rank, (_, theirs) in enumerate(pipes, start=1)]
    return [Group(Member(0, size, tuple(ours for ours, _ in pipes))), *others]


def by_each(size: int, work: Callable[[Group], T]) -> list[T]:
    """What `work` returns in every one of `size` processes."""

    def one(mine: Group) -> T:
        try:
            return work(mine)
        except BaseException:
            # As where a process ends: the others would wait for it.
            for link in mine.member.links:
                link.close()
            raise

    with ThreadPoolExecutor(size) as pool:
        return [future.result(60) for future in [pool.submit(one, each) for each in groups(size)]]
