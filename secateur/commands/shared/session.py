"""What every command that talks to a service shares: address and key, `--json`, and error handling."""

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property, wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from rich.console import RenderableType

from secateur.client.async_client import AsyncSecateur
from secateur.client.blocking_client import Secateur
from secateur.client.transport.connection import log
from secateur.commands.shared import short_ids
from secateur.commands.shared.exit_status import ExitStatus, exit_status_of, say, write_json
from secateur.errors import InvalidRequest, SecateurError
from secateur.profiles import signed_in
from secateur.terminal import consoles

P = ParamSpec("P")
_RETRIES, _PATIENT_RETRIES = 2, 8
_PANEL = "Service"
_BROKEN_PIPE = 32

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="SECATEUR_URL",
        help="Address of the service. Default: http://127.0.0.1:8000.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        help="API key. Other users of this machine can see it: prefer SECATEUR_API_KEY or --api-key-file.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        exists=True,
        dir_okay=False,
        help="File with the API key.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="Service saved by `secateur login`. Default: SECATEUR_PROFILE, then `default`.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document; errors as JSON on standard error.", rich_help_panel=_PANEL),
]


class Session:
    """One run of a command."""

    def __init__(self, url: str | None, api_key: str | None, as_json: bool, patient: bool = False) -> None:
        self._url, self._api_key = url, api_key
        self._retries = _PATIENT_RETRIES if patient else _RETRIES
        self.as_json = as_json
        self.out, self.err = consoles.results(), consoles.notes()

    @cached_property
    def client(self) -> Secateur:
        """The service, without `await`."""
        return Secateur(self._url, self._api_key, max_retries=self._retries, first_contact_retries=_RETRIES)

    def awaiting_client(self) -> AsyncSecateur:
        """The service, with `await`: for several jobs at a time."""
        return AsyncSecateur(self._url, self._api_key, max_retries=self._retries, first_contact_retries=_RETRIES)

    def whole_id(self, text: str, *prefixes: str) -> str:
        """The id that a short one means; see `short_ids.whole`."""
        return short_ids.whole(self.client, text, *prefixes)

    def close(self) -> None:
        """Close the connections."""
        if "client" in self.__dict__:
            self.client.close()

    def give(self, value: Any, *shown: RenderableType) -> None:
        """The result: `value` for programs, what is `shown` for people."""
        if self.as_json:
            write_json(value, self.out)
            return
        for each in shown:
            self.out.print(each)

    def give_line(self, value: Any, text: str) -> None:
        """One of many: a document a line for programs."""
        if self.as_json:
            write_json(value, self.out, indent=None)
        else:
            print(consoles.clean(text), file=self.out.file, flush=True)

    def note(self, text: str) -> None:
        """Something for people beside the result."""
        if not self.as_json:
            self.err.print(consoles.clean(text), soft_wrap=True)


def served(
    app: typer.Typer, panel: str | None = None, name: str | None = None, patient: bool = False
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[..., None]]:
    """Make a function a command with the options above, and with a Session for its first argument.

    `patient`: whether what it does is long, and worth trying for minutes where the connection fails.
    """

    def register(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
        own = list(inspect.signature(function).parameters.values())[1:]

        @wraps(function)
        def command(*args: Any, **options: Any) -> None:
            given = {each: options.pop(each) for each in ("url", "api_key", "api_key_file", "profile", "as_json")}
            with_errors(
                given["as_json"],
                lambda: _run(function, given, patient, args, options),
            )

        shared = [
            inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for each, annotation, default in (
                ("url", Url, None),
                ("api_key", ApiKey, None),
                ("api_key_file", ApiKeyFile, None),
                ("profile", ProfileName, None),
                ("as_json", AsJson, False),
            )
        ]
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + shared
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        app.command(name, rich_help_panel=panel)(command)
        return command

    return register


def with_errors(as_json: bool, work: Callable[[], None]) -> None:
    """Do it; an error that is meant for the user is said, and ends the program with its status."""
    try:
        work()
    except KeyboardInterrupt:
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    except SecateurError as error:
        say(error, consoles.notes(), as_json)
        raise typer.Exit(exit_status_of(error)) from None
    except OSError as error:
        # Whoever read our output has left; Typer ends quietly.
        if error.errno == _BROKEN_PIPE:
            raise
        say(SecateurError(f"{error}.", code="os_error"), consoles.notes(), as_json)
        raise typer.Exit(ExitStatus.UNEXPECTED) from None


def _run(
    function: Callable[..., None], given: dict[str, Any], patient: bool, args: Iterable[Any], options: dict[str, Any]
) -> None:
    key = given["api_key"]
    if given["api_key_file"] is not None:
        if key is not None:
            raise InvalidRequest("Give --api-key or --api-key-file, not both.", code="usage")
        key = given["api_key_file"].read_text().strip()
        if not key:
            raise InvalidRequest(f"{given['api_key_file']} is empty; an API key begins with sk_.", code="usage")
    url, key = signed_in(given["url"], key, given["profile"])
    session = Session(url, key, given["as_json"], patient)
    with closing(session), _retries_said(session):
        function(session, *args, **options)


@contextmanager
def _retries_said(session: Session) -> Iterator[None]:
    """What the client logs of failed tries is said to whoever waits."""
    handler = _Notes(session)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Notes(logging.Handler):
    def __init__(self, session: Session) -> None:
        super().__init__(logging.WARNING)
        self._session = session

    def emit(self, record: logging.LogRecord) -> None:
        self._session.note(record.getMessage())
