"""The launcher: `python -m store.cage CAGE COMMAND…`, with the fields of a `Cage` as JSON. See store/cage/__init__.py.

The report leaves out layers that this machine does not support. If the sandbox cannot be set up, the exit status is 70, with a
sentence on stderr.
"""

import json
import os
import sys

from store.cage import Cage
from store.cage.closing import REFUSED, CageRefusedError, close


def main() -> None:
    cage = Cage(**json.loads(sys.argv[1]))
    command = sys.argv[2:]
    try:
        held = close(cage)
    except CageRefusedError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)
    print(json.dumps({"isolation": held}), flush=True)
    print("kept apart by", ", ".join(held), file=sys.stderr, flush=True)
    os.execvpe(command[0], command, dict(os.environ))


if __name__ == "__main__":
    main()
