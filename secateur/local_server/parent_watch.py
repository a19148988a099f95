"""Runs a command that ends when its parent ends, for any reason:
`python -m secateur.local_server.parent_watch PARENT_PID COMMAND…`.

`secateur up` starts everything through this, so killing it (also with KILL) leaves nothing behind. On Linux the kernel sends the
command TERM when the parent dies; elsewhere only an orderly stop ends it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the command. The tie survives exec."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # It died before the tie was made.
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
