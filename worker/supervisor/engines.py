"""Starts engines: forked from a template process that has imported their libraries, or as programs."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from store import tracing
from store.cage import Cage
from store.settings import Settings
from worker.children.child import minimal_environment, spawned
from worker.children.template import ForkedProcess, Template, TemplateLostError

log = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "worker.engine")
WARM = "worker.engine.warm"
_FONTS = "import matplotlib.font_manager"


class Engines:
    """Starts a worker process's engines. `folder` belongs to this process; engines can at most read it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._command = settings.engine_command
        self._home = folder / "template"
        self._template: Template | None = None
        self._fonts: subprocess.Popen[bytes] | None = None
        # An operator's own program is started as configured.
        if self._command[: len(PROGRAM)] == PROGRAM:
            self._template = Template(WARM, _of_template(self._home))

    def warm_up(self) -> None:
        """Start what the first job would otherwise wait for; returns at once."""
        if self._template is None or self._home.exists():
            return
        self._home.mkdir(mode=0o700)
        self._template.start()
        # In a separate process, because it starts a thread, which a template must not have.
        self._fonts = subprocess.Popen(
            [sys.executable, "-c", _FONTS],
            env=minimal_environment(self._home, 1),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def furnish(self, home: Path) -> None:
        """Copy the font list into a job's home; otherwise matplotlib would build it again in each one."""
        self.warm_up()
        made = self._home / "cache" / "matplotlib"
        if self._fonts is not None and self._fonts.poll() == 0 and made.is_dir():
            shutil.copytree(made, home / "cache" / "matplotlib", dirs_exist_ok=True)

    def start(
        self,
        arguments: Sequence[str],
        cage: Cage,
        folder: Path,
        home: Path,
        threads: int,
        traceparent: str | None = None,
    ) -> subprocess.Popen[bytes] | ForkedProcess:
        """Start an engine in `cage`, whose report is its first line of output; `folder` is its working directory."""
        environment = minimal_environment(home, threads)
        if traceparent is not None:
            environment[tracing.ENVIRONMENT] = traceparent
        if self._template is not None:
            try:
                options = self._command[len(PROGRAM) :]
                return self._template.fork([*options, *arguments], cage, folder, environment)
            except TemplateLostError as error:
                log.warning("the engine is started without the template process: %s", error)
        return spawned([*self._command, *arguments], cage, folder, environment)

    def close(self) -> None:
        """Stop what was started for future engines."""
        if self._fonts is not None:
            self._fonts.kill()
            self._fonts.wait()
        if self._template is not None:
            self._template.close()


def _of_template(home: Path) -> dict[str, str]:
    """One thread, because no library may start more before a child is forked. CUDA devices are counted without being touched."""
    return minimal_environment(home, 1) | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
