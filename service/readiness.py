"""Whether what the service depends on responds: checked in separate threads, so that no request blocks on the check."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""After this time, the dependency counts as not responding."""
OK, UNREACHABLE = "ok", "unreachable"


class Readiness:
    """Asks each of `questions`, which raise where there is no answer. For use on the event loop alone."""

    def __init__(self, questions: Mapping[str, Callable[[], object]]) -> None:
        self._questions = questions
        self._threads = ThreadPoolExecutor(len(questions), thread_name_prefix="readiness")
        self._open: dict[str, asyncio.Future[object]] = {}

    async def ask(self) -> dict[str, str]:
        """OK or UNREACHABLE, by name."""
        answers = await asyncio.gather(*map(self._one, self._questions))
        return dict(zip(self._questions, answers, strict=True))

    async def _one(self, name: str) -> str:
        # Who asks while a question is still open waits for the same answer: they do not pile up in front of a dead server.
        asked = self._open.get(name)
        if asked is None or asked.done():
            asked = self._open[name] = asyncio.get_running_loop().run_in_executor(self._threads, self._questions[name])
        try:
            await asyncio.wait_for(asyncio.shield(asked), PATIENCE_SECONDS)
        except Exception as error:
            # Whatever a driver raises, the response is the same: details are only in the log.
            log.warning("%s does not answer: %s", name, error or type(error).__name__)
            return UNREACHABLE
        return OK
