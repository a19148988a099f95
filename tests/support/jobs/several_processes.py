"""A whole small job by several processes of this program, which are forked once its libraries are here.

    python -m tests.support.jobs.several_processes COUNT OUT SPEC [OPTIONS]

SPEC and OPTIONS (of worker.engine.run.Inputs) are JSON. Standard output gets the events, a line each.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from api_schemas.results.events import EngineEvent, TrainingSaved
from tests.support.jobs.engine import run_job
from worker.engine.parallel.group import Group
from worker.engine.parallel.processes import started


def main(count: int, out: Path, spec: dict[str, Any], options: dict[str, Any]) -> None:
    """`kill_after_epoch` among the options: KILL of this process once that of step 1 is saved."""
    kill_after = options.pop("kill_after_epoch", None)
    options |= {name: Path(options[name]) for name in ("training", "cache") if options.get(name)}
    member = started(count)

    def hear(event: EngineEvent) -> None:
        if member.rank == 0:
            print(event.model_dump_json(), flush=True)
            if isinstance(event, TrainingSaved) and event.epoch == kill_after:
                os._exit(9)

    run_job(out, spec, fresh_process=False, hear=hear, group=Group(member), **options)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads((sys.argv[4:] or ["{}"])[0]))
