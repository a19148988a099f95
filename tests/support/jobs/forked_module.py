"""What a template process of the tests imports: children that say what they are, and end in every way."""

import json
import os
import signal
import sys
import time
from pathlib import Path

IMPORTED_BY = os.getpid()


def main(arguments: list[str]) -> int:
    match arguments:
        case ["describe"]:
            seen = {
                "pid": os.getpid(),
                "session": os.getsid(0),
                "imported_by": IMPORTED_BY,
                "folder": str(Path.cwd()),
                "environment": dict(os.environ),
                "descriptors": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()),
            }
            print(json.dumps(seen))
        case ["status", number]:
            return int(number)
        case ["exit", text]:
            sys.exit(text)
        case ["raise"]:
            raise ValueError("what went wrong")
        case ["signal"]:
            os.kill(os.getpid(), signal.SIGUSR1)
        case ["hang"]:
            print("hangs", flush=True)
            time.sleep(3600)
    return 0
