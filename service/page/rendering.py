"""Templates: finding them, rendering them, and making the response."""

import hashlib
import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from api_schemas import formatting
from api_schemas.enums import TERMINAL_STATES, JobState
from api_schemas.results import display, parts, speed
from api_schemas.results.answer import recommendation
from service.access.caller import CALLER_KEY
from service.access.sessions import CSRF_KEY
from service.page import static_files
from service.page.admin import places
from service.page.figures.types import format_value
from service.page.job_parts import timeline
from service.responses import ranges


def when(moment: datetime | None) -> str:
    """`2026-01-05 12:00 UTC`."""
    return "–" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def when_exactly(moment: datetime) -> str:
    """The same to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float | None) -> str:
    """Two units at most: `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    for size, unit, small, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            count, rest = divmod(whole, size)
            return f"{count} {unit} {rest // small} {small_unit}" if rest // small else f"{count} {unit}"
    return f"{whole} s"


def field(pointer: str) -> str:
    """A JSON pointer as specs are spoken of: `/pruning/target/flops` → `pruning.target.flops`."""
    return formatting.plain(pointer).removeprefix("/").replace("/", ".").replace("~1", "/").replace("~0", "~")


def visible_json(value: Any) -> str:
    """Indented. Characters that show nothing, turn the rest around or cannot be sent are JSON's escapes: the same document."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else json.dumps(c)[1:-1] for c in text
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("service.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        plain=formatting.plain, percent=formatting.percent, points=formatting.points, count=formatting.count,
        file_size=formatting.file_size, milliseconds=formatting.milliseconds, line=formatting.line, when=when,
        when_exactly=when_exactly, duration=duration, field=field, format_value=format_value,
    )  # fmt: skip
    environment.globals.update(
        static=static_files.address,
        scores_written=display.written,
        metric_name=display.metric_name,
        latency_at=display.latency_at,
        goal=display.goal,
        achieved_written=speed.achieved_written,
        speed_of=speed.speed,
        speed_written=speed.written,
        slower=speed.slower,
        removed=parts.removed,
        part_names=parts.NAMES,
        found_in_words=parts.found_in_words,
        drop_written=parts.drop_written,
        phase_names=timeline.NAMES,
        recommendation=recommendation,
        JobState=JobState,
        TERMINAL=TERMINAL_STATES,
    )
    return environment


_TEMPLATES = _environment()


def answer(request: Request, template: str, /, status: int = 200, **context: Any) -> Response:
    """The template filled in; 304 where the browser has the same already."""
    services = request.app.state.services
    caller = getattr(request.state, CALLER_KEY, None)
    body = _TEMPLATES.get_template(template).render(
        path=request.url.path,
        address=str(request.url.replace(scheme="", netloc="")),
        csrf=getattr(request.state, CSRF_KEY, ""),
        keys=services.settings.auth != "none",
        admin_places=places.places_of(caller),
        admin_name=places.name_of(caller),
        **context,
    )
    etag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    # One address answers with the whole or a part, by what asks.
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "HX-Target, Cookie"}
    if status == 200 and ranges.matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    return Response(body, status, headers, "text/html; charset=utf-8")


def part_wanted(request: Request) -> str | None:
    """Id of the element that is to be renewed, where a script asks for no more than that."""
    return request.headers.get("hx-target") if request.headers.get("hx-request") else None
