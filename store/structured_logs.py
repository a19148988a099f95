"""Log lines: one event each, as text or JSON, with the context of the current work, and without secrets.

Everything logged through the standard library, by us or by a library, has the same format.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from api_schemas.credentials import without_credentials
from store.settings import Settings

HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(r"authorization|cookie|passw|secret|token|api[_-]?key$", re.IGNORECASE)
_SECRETS = (
    # Of a key its id stays: that is what one looks for.
    (re.compile(r"(sk_[a-z2-7]{26})_[a-z2-7]+"), rf"\1_{HIDDEN}"),
    (re.compile(r"whsec_[A-Za-z0-9+/=_-]+"), f"whsec_{HIDDEN}"),
    (re.compile(r"\b(bearer) +(?!sk_)[^\s'\",]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
)
_SUSPECT = re.compile(r"sk_|whsec_|bearer", re.IGNORECASE)
"""In any text that one of them could change: most have none, and one look is cheaper than three."""


class _StandardError(logging.Handler):
    """Standard error as it is when a line is written, so lines follow if it is redirected."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def configure(settings: Settings) -> None:
    """For the whole process; again changes nothing but the form and the level."""
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    as_json = settings.log_format == "json"
    form: Processor = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = _StandardError()
    handler.set_name(__name__)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, form]
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if other.get_name() != __name__] + [handler]
    root.setLevel(settings.log_level.upper())
    # It would write every URL that it calls: those of webhooks and of signed downloads are secrets, as a whole or in their query.
    logging.getLogger("httpx").setLevel(max(root.level, logging.WARNING))


def hide_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Values under names of secrets, and what looks like one inside any text, tracebacks included."""
    return {name: _hidden(name, value) for name, value in event.items()}


def _hidden(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name):
        return HIDDEN
    if isinstance(value, str):
        for secret, instead in _SECRETS if _SUSPECT.search(value) else ():
            value = secret.sub(instead, value)
        return without_credentials(value)
    if isinstance(value, bytes):
        return _hidden(name, value.decode(errors="replace"))
    if isinstance(value, Mapping):
        return {key: _hidden(str(key), item) for key, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (str, bytes)):
        # A header, as ASGI passes them.
        title = value[0] if isinstance(value[0], str) else value[0].decode(errors="replace")
        return [title, _hidden(title, value[1])]
    if isinstance(value, (list, tuple)):
        return [_hidden("", item) for item in value]
    return value
