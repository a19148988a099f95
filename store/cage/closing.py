"""Applies a sandbox to the calling process, layer by layer, irrevocably."""

import os
import pwd
import resource
from collections.abc import Callable

from store.cage import Cage, Layer, kernel, landlock, paths, seccomp

SHARED_MEMORY_BYTES = 2**30
"""Of a `/dev/shm`: nothing that runs in a cage needs much of one."""
REFUSED = 70
"""The exit status of a program whose cage could not be closed."""


class CageRefusedError(Exception):
    """The cage is strict and a needed layer is missing, or the process was to become another user and could not."""


def close(cage: Cage) -> tuple[Layer, ...]:
    """Give up whatever `cage` does not leave; returns the layers that hold, sorted by name.

    Closes every descriptor but the three standard ones. The process must have one thread: a namespace is entered by no more.
    Raises CageRefusedError, after which the process is good for nothing but to end.
    """
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # Each layer is put on while what it takes to do so is still there: the filter of calls is the last.
    held = [Layer.ENVIRONMENT]
    _limit(cage)
    held.append(Layer.RESOURCES)
    users = kernel.user_namespace()
    if _tried(kernel.leave_network):
        held.append(Layer.NETWORK)
    if _tried(lambda: kernel.own_shared_memory(paths.SHARED_MEMORY, SHARED_MEMORY_BYTES)):
        held.append(Layer.SHARED_MEMORY)
    # Among all that a user runs elsewhere the limit would bound others as well.
    if cage.processes is not None and kernel.user_namespace() != users and kernel.counts_by_namespace():
        _bound(resource.RLIMIT_NPROC, cage.processes)
        held.append(Layer.PROCESSES)
    kernel.empty_bounding_set()
    if cage.user is not None and os.getuid() == 0:
        _become(cage.user)
        held.append(Layer.USER)
    kernel.drop_capabilities()
    kernel.no_new_privileges()
    held.append(Layer.PRIVILEGES)
    if _tried(lambda: landlock.install(paths.rules(cage.write, cage.read))):
        held.append(Layer.LANDLOCK)
    if _tried(seccomp.install):
        held.append(Layer.SECCOMP)
    if cage.strict and not {Layer.SECCOMP, Layer.NETWORK} & set(held):
        raise CageRefusedError(
            "Neither seccomp (libseccomp) nor network namespaces are available here, so nothing keeps untrusted files off "
            "the network. Allow one of them in this container, or install libseccomp2."
        )
    return tuple(sorted(held))


def _limit(cage: Cage) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: cage.file_bytes,
        resource.RLIMIT_AS: cage.memory_bytes,
        resource.RLIMIT_CPU: cage.cpu_seconds,
    }
    for kind, limit in limits.items():
        if limit is not None:
            _bound(kind, limit)


def _bound(kind: int, limit: int) -> None:
    _, most = resource.getrlimit(kind)
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(kind, (limit, limit))


def _become(name: str) -> None:
    try:
        user = pwd.getpwnam(name)
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except (KeyError, OSError) as error:
        raise CageRefusedError(
            f"The sandbox cannot switch to the user {name!r}: {error}. Set engine_user to one that exists."
        ) from error


def _tried(layer: Callable[[], None]) -> bool:
    """Whether this machine has the layer."""
    try:
        layer()
    except (OSError, RuntimeError, ImportError):
        return False
    return True
