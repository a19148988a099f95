"""Has this worker's device measured once, where none like it was: in a process apart, and never beside a job.

It waits until nothing is run, and nothing has been for a while: libraries are being imported when a worker starts. A job that is
claimed meanwhile ends the measurement, which begins again later.
"""

import hashlib
import json
import logging
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ValidationError

from api_schemas.cpu_cores import cpu_quota
from api_schemas.enums import DeviceKind
from checkpoints.sizes.device_speed import MEASURED, DeviceSpeed
from store.database.connection import UNREACHABLE, Database
from store.database.tables.base import NAME_LENGTH
from store.jobs.workers import device_speeds
from store.jobs.workers.device_speeds import DeviceFacts
from store.jobs.workers.live_workers import Announcement
from store.machine import engine_threads, engines_running, yield_cpu
from store.settings import Settings
from worker.children.child import minimal_environment

log = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "worker.engine.runtime.device_speed")
QUIET_SECONDS = 10.0
"""Of doing nothing before it begins: the template process has imported its libraries by then."""
LOOK_SECONDS = 0.1
LONGEST_SECONDS = 120.0
"""After which it is given up: a device that is not there answers never."""
AGAIN_SECONDS = 60.0
"""After the database did not respond."""
_CPUS = Path("/proc/cpuinfo")


def facts_of(who: Announcement, settings: Settings) -> DeviceFacts:
    """Which device an engine of this worker would compute on, and with how many threads where no other engine runs."""
    device = who.device or DeviceKind.CPU
    # Of an engine alone, since it is measured while none runs: those of others that run now are no part of what device it is.
    threads = engine_threads(settings.engine_threads, 1, quota=cpu_quota()).count
    processor = processor_name()
    name = who.device_name if device is DeviceKind.CUDA else processor
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    known = [MEASURED, device.value, who.device_name, processor, threads, torch]
    fingerprint = hashlib.sha256(json.dumps(known).encode()).hexdigest()
    return DeviceFacts(fingerprint, device, None if name is None else name[:NAME_LENGTH], threads)


def processor_name(cpus: Path = _CPUS) -> str:
    """As Linux calls it; else the kind of machine."""
    with suppress(OSError):
        for line in cpus.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


class DeviceMeasurer:
    """A thread from `start` until the device is known, or `stop`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        who: Announcement,
        idle: Callable[[], bool],
        command: Sequence[str] = PROGRAM,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        """`idle`: whether this worker has nothing to do."""
        self._settings, self._database, self._idle = settings, database, idle
        self._facts = facts_of(who, settings)
        self._command, self._quiet_seconds = command, quiet_seconds
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Returns at once."""
        if not self._settings.measure_device:
            return
        self._thread = threading.Thread(target=self._run, name="device-speed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What is being measured is given up."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._done.is_set() and self._unknown_yet():
                pass
        except TimeoutError as error:
            log.warning("the speed of this device cannot be measured: %s", error)
        except Exception:
            log.exception("the speed of this device cannot be measured")

    def _unknown_yet(self) -> bool:
        """One try. Whether another is to follow."""
        try:
            return not self._known() and (not self._quiet() or self._measured())
        except UNREACHABLE as error:
            log.warning("the speed of this device cannot be kept yet, because the database does not respond: %s", error)
            self._done.wait(AGAIN_SECONDS)
            return True

    def _known(self) -> bool:
        with self._database.write() as session:
            return device_speeds.seen(session, self._facts.fingerprint)

    def _free(self) -> bool:
        return self._idle() and engines_running() == 0

    def _quiet(self) -> bool:
        """Wait until nothing has been run for a while. False where the worker ends first."""
        since = time.monotonic()
        while not self._done.is_set():
            if not self._free():
                since = time.monotonic()
            elif time.monotonic() - since >= self._quiet_seconds:
                return True
            self._done.wait(LOOK_SECONDS)
        return False

    def _measured(self) -> bool:
        """Measure and keep it. False where that is not possible on this machine; True too where a job came first."""
        with tempfile.TemporaryDirectory(prefix="device-speed-") as home:
            arguments = ["--device", self._facts.device.value, "--threads", str(self._facts.threads), "--watch-stdin"]
            process = subprocess.Popen(
                [*self._command, *arguments],
                env=minimal_environment(Path(home), self._facts.threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            yield_cpu(process.pid)
            try:
                if not self._ended(process):
                    return True
                said, errors = process.communicate()
            finally:
                process.kill()
                process.communicate()
        try:
            speed = DeviceSpeed.model_validate_json(said)
        except ValidationError:
            reason = errors.strip().rpartition("\n")[2] or f"exit status {process.returncode}"
            log.warning("the speed of this device cannot be measured: %s", reason)
            return False
        with self._database.write() as session:
            device_speeds.keep(session, self._facts, speed)
        log.info("measured the speed of this device: %s", speed)
        return True

    def _ended(self, process: "subprocess.Popen[str]") -> bool:
        """Whether it ended by itself; not where a job came first, or the worker ends. Raises TimeoutError."""
        until = time.monotonic() + LONGEST_SECONDS
        while process.poll() is None:
            if time.monotonic() > until:
                raise TimeoutError(f"it has not ended after {LONGEST_SECONDS:g} seconds")
            if self._done.wait(LOOK_SECONDS) or not self._free():
                return False
        return True
