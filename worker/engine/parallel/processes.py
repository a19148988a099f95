"""The processes of an engine that computes on several devices: forked by the first, and ended with it.

We do not use torchrun: it starts new sessions, and its processes connect over TCP. The sandbox forbids both
(docs/adr/0049-several-processes.md). No library that starts a thread may be needed here.
"""

import os
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection


@dataclass(frozen=True)
class Member:
    """Which of how many processes this one is, and how it reaches the others."""

    rank: int = 0
    size: int = 1
    links: tuple[Connection, ...] = ()
    """Of the first to all others, in the order of ranks; of each other to the first."""


def started(count: int) -> Member:
    """Fork until there are `count`; returns in every one of them. This process must have one thread.

    The first keeps its standard streams. The standard input of the others ends with the first, and what they print goes nowhere;
    their log is the first one's.
    """
    links: list[Connection] = []
    held: list[int] = []
    for rank in range(1, count):
        ours, theirs = Pipe()
        ends, stays = os.pipe()
        if os.fork() == 0:
            for link in (ours, *links):
                link.close()
            for descriptor in (stays, *held):
                os.close(descriptor)
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(ends, 0)
            os.dup2(nothing, 1)
            for descriptor in (ends, nothing):
                os.close(descriptor)
            return Member(rank, count, (theirs,))
        theirs.close()
        os.close(ends)
        links.append(ours)
        held.append(stays)  # Open for as long as this process lives.
    return Member(0, count, tuple(links))
