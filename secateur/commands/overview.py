"""`secateur` without arguments: which service responds, the newest jobs, and what to do next. And `secateur open`."""

import sys
import webbrowser
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console

from api_schemas.api.resources import JobResource
from secateur.client.blocking_client import Secateur
from secateur.commands.shared import completion
from secateur.commands.shared.arguments import kind_of
from secateur.commands.shared.group import JOBS
from secateur.commands.shared.session import Session, served, with_errors
from secateur.documents import PageAddress
from secateur.errors import ConnectionFailed, SecateurError
from secateur.profiles import signed_in
from secateur.terminal import consoles
from secateur.terminal.listings import jobs_table

_LATEST = 3
_SECONDS = 5.0
_PAGES = {"job": "jobs", "sweep": "sweeps"}


def register(app: typer.Typer) -> None:
    """`open`; the overview is what the command itself does."""
    served(app, JOBS, name="open")(open_page)


def overview() -> None:
    """Print it."""
    with_errors(False, _overview)


def _overview() -> None:
    out = consoles.results()
    url, key = signed_in(None, None)
    with Secateur(url, key, timeout=_SECONDS, max_retries=0) as client:
        try:
            jobs = [job.view for job in islice(client.jobs(), _LATEST)]
        except SecateurError as error:
            out.print(f"Service   {client.url}: {_trouble(error)}", soft_wrap=True)
            _next(out, _without_service(error))
            return
        out.print(f"Service   {client.url}: reachable")
    if not jobs:
        out.print("Jobs      none yet")
        _next(out, _FIRST)
        return
    out.print("")
    out.print(jobs_table(jobs, out.width))
    _next(out, _of_jobs(jobs[0]))


_HELP = ("secateur --help", "all commands")
_FIRST = (
    ("secateur submit --model ./my-ast --data ./my-data --sparsity 0.5 --wait", "upload both, prune, wait"),
    ("secateur open", "do the same in a browser"),
    _HELP,
)


def _trouble(error: SecateurError) -> str:
    if isinstance(error, ConnectionFailed):
        return "no answer"
    return "requires a valid key" if error.code == "unauthenticated" else error.detail


def _without_service(error: SecateurError) -> tuple[tuple[str, str], ...]:
    if isinstance(error, ConnectionFailed):
        return (
            ("secateur up", "start a service on this machine"),
            ("secateur login --url URL", "use a service elsewhere"),
            ("secateur prune ./my-ast --data ./my-data --out ./pruned", "prune here, without a service"),
        )
    return (("secateur login --url URL", "save service and key"), ("secateur doctor", "find what is wrong"), _HELP)


def _of_jobs(latest: JobResource) -> tuple[tuple[str, str], ...]:
    short = latest.id[:12]
    first = (f"secateur wait {short}", "wait until it has ended")
    if latest.finished_at:
        first = (f"secateur show {short}", "see the results of every step")
    second = (f"secateur open {short}", "open its page in a browser")
    if latest.result is not None:
        second = (f"secateur download {short} --to ./pruned", "download its result")
    return (first, second, _HELP)


def _next(out: Console, commands: tuple[tuple[str, str], ...]) -> None:
    out.print("\nNext:")
    widest = max(len(command) for command, _ in commands)
    beside = widest + max(len(said) for _, said in commands) + 4 <= out.width
    for command, said in commands:
        out.print(f"  {command:<{widest}}  {said}" if beside else f"  {command}\n      {said}", soft_wrap=True)


def open_page(
    session: Session,
    identifier: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="job_… or swp_…. Default: the list of jobs.",
            show_default=False,
            autocompletion=completion.jobs_and_sweeps,
        ),
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Print the address without opening it.")] = False,
) -> None:
    """Open the page of a job or a sweep in a browser; prints its address. In a pipe it only prints."""
    url = f"{session.client.url}/"
    if identifier is not None:
        found = session.whole_id(identifier, "job", "swp")
        url += f"{_PAGES[kind_of(found)]}/{found}"
    opened = not only_print and not session.as_json and sys.stdout.isatty() and opens(url)
    session.note("Opened in your browser:" if opened else "The page:")
    session.give(PageAddress(url=url), url)


def opens(url: str) -> bool:
    """Open it in a browser with a window of its own; False where there is none."""
    # A text browser would take the terminal over.
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    # Of GenericBrowser itself, which waits for what it starts; xdg-open, which most desktops have, is of a class below it.
    return type(browser) is not webbrowser.GenericBrowser and browser.open(url)
