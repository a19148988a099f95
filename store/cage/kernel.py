"""System calls for which Python 3.11 has no function. Each raises OSError if the kernel refuses."""

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 0x2, 0x4, 0x8, 0x4000, 0x80000
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def check(result: int) -> int:
    """The result of a call to libc. Raises OSError where it is -1."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(number: int, *arguments: object) -> int:
    """A system call by its number."""
    return check(int(_libc.syscall(ctypes.c_long(number), *arguments)))


def prctl(option: int, value: int) -> None:
    check(_libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3))


def leave_network() -> None:
    """Into a network namespace of its own; for any user but root into a user namespace as well, which that takes."""
    user, group = os.getuid(), os.getgid()
    try:
        check(_libc.unshare(CLONE_NEWNET))
    except PermissionError:
        check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNET))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def own_shared_memory(folder: Path, most: int) -> None:
    """An empty `folder` of at most `most` bytes in memory, and System V IPC, that this process and its descendants alone see.

    Both go with the last of them. It takes the right to mount, which `leave_network` gives to any user that it gives its own.
    """
    check(_libc.unshare(CLONE_NEWNS | CLONE_NEWIPC))
    # Mounts of the machine still come and go here; ours stays here.
    _mount("none", "/", None, MS_REC | MS_SLAVE, None)
    _mount("tmpfs", str(folder), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, f"size={most},mode=1777")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None) -> None:
    texts = (text if text is None else text.encode() for text in (source, target, kind, options))
    of, at, as_, how = texts
    check(_libc.mount(of, at, as_, ctypes.c_ulong(flags), how))


def user_namespace() -> int:
    """The one that this process is in."""
    return Path("/proc/self/ns/user").stat().st_ino


def counts_by_namespace() -> bool:
    """Whether RLIMIT_NPROC counts the processes of a user in one namespace, and not all that the user has (Linux 5.14)."""
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return all(number.isdecimal() for number in numbers) and tuple(map(int, numbers)) >= (5, 14)


def empty_bounding_set() -> None:
    """Then executing a program gives no capability to anybody, root included. It takes one to do so, so it comes first."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            return  # Beyond the last one, or without the right to drop: then there are none to be lost either.


def drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    check(_libc.capset(header, (ctypes.c_uint32 * 6)()))


def no_new_privileges() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
