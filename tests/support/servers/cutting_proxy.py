"""A way to a server that breaks: after so many bytes in one direction, a connection is reset, a given number of times."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.servers.databases import wait_for


class CuttingProxy:
    """Listens on a port of its own and passes bytes on."""

    def __init__(self, port: int, after: int, times: int, answers: bool, ready: Callable[[int], bool]) -> None:
        self._target, self._answers = port, answers
        self._ready = ready
        self._after = after
        self._left = times
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.answered = 0
        """Bytes that came from the server."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
                passed += len(data)
                if not self._answers and passed > self._after and self._may_cut():
                    _reset(client)
                    break
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # Closing alone does nothing while the other thread waits on it.

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            # In small pieces where they are counted, or one would go far beyond the count.
            while data := server.recv(2048 if self._answers else 65536):
                # Counted first: whoever has the bytes may ask at once.
                self.answered += len(data)
                client.sendall(data)
                passed += len(data)
                if self._answers and passed > self._after and self._may_cut():
                    wait_for(lambda: self._ready(self.cuts), 30, "what was sent before the cut")
                    _reset(client)
                    break
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        server.close()

    def _may_cut(self) -> bool:
        with self._lock:
            if self._left == 0:
                return False
            self._left -= 1
            self.cuts += 1
            return True


def _reset(client: socket.socket) -> None:
    """Not closed in peace: what a lost network looks like to the client."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RD)  # The other thread may be waiting on it.
    client.close()


@contextmanager
def cutting_proxy(
    port: int, after: int, times: int, *, answers: bool = False, ready: Callable[[int], bool] = lambda _: True
) -> Iterator[CuttingProxy]:
    """Ends connections to `port` once more than `after` bytes were sent, or with `answers` came, `times` times in all.

    An end takes with it what the client has not read yet, on a busy machine all of it: the n-th waits until `ready(n)`.
    """
    proxy = CuttingProxy(port, after, times, answers, ready)
    try:
        yield proxy
    finally:
        proxy.close()
