"""Calls to the kernel that Python 3.11 has no function for. Each raises OSError where the kernel refuses."""

import ctypes
import os
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
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
