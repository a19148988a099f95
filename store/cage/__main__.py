"""The launcher: `python -m store.cage CAGE COMMAND…`, with the fields of a `Cage` as JSON. See store/cage/__init__.py.

A layer that this machine does not have is left out of the report. Exit status 70, and a sentence on stderr, where the cage is
strict and a needed layer is missing, or where it was to become another user and could not.
"""

import json
import os
import pwd
import resource
import sys
from collections.abc import Callable

from store.cage import Cage, Layer, kernel, landlock, paths, seccomp

REFUSED = 70


def main() -> None:
    cage = Cage(**json.loads(sys.argv[1]))
    command = sys.argv[2:]
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # Each layer is put on while what it takes to do so is still there: the filter of calls is the last.
    held = [Layer.ENVIRONMENT]
    _limit(cage)
    held.append(Layer.RESOURCES)
    if _tried(kernel.leave_network):
        held.append(Layer.NETWORK)
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
        sys.stderr.write(
            "Neither seccomp (libseccomp) nor network namespaces are to be had here, so nothing keeps what strangers sent "
            "from the network. Allow one of them to this container, or install libseccomp2.\n"
        )
        sys.exit(REFUSED)
    held.sort()
    print(json.dumps({"isolation": held}), flush=True)
    print("kept apart by", ", ".join(held), file=sys.stderr, flush=True)
    os.execvpe(command[0], command, dict(os.environ))


def _limit(cage: Cage) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: cage.file_bytes,
        resource.RLIMIT_AS: cage.memory_bytes,
        resource.RLIMIT_CPU: cage.cpu_seconds,
    }
    for kind, limit in limits.items():
        if limit is not None:
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
        sys.stderr.write(f"The cage cannot become the user {name!r}: {error}. Set engine_user to one that exists.\n")
        sys.exit(REFUSED)


def _tried(layer: Callable[[], None]) -> bool:
    """Whether this machine has the layer."""
    try:
        layer()
    except (OSError, RuntimeError, ImportError):
        return False
    return True


if __name__ == "__main__":
    main()
