"""`secateur login`, `logout` and `profiles`: saved services."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from api_schemas.credentials import without_credentials
from secateur import profiles
from secateur.client.blocking_client import Secateur
from secateur.client.transport.connection import DEFAULT_URL, address
from secateur.commands.shared.exit_status import write_json
from secateur.commands.shared.group import SERVICE
from secateur.commands.shared.session import with_errors
from secateur.documents import SavedService, SignedIn, SignedOut
from secateur.profiles import Profile
from secateur.terminal import consoles

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document; errors as JSON on standard error.")]
Name = Annotated[str, typer.Option("--profile", help="Name of the profile.")]


def register(app: typer.Typer) -> None:
    """The three."""
    app.command(rich_help_panel=SERVICE)(login)
    app.command(rich_help_panel=SERVICE)(logout)
    app.command("profiles", rich_help_panel=SERVICE)(list_profiles)


def login(
    url: Annotated[str, typer.Option(help="Address of the service.", envvar="SECATEUR_URL")] = DEFAULT_URL,
    profile: Name = profiles.DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Save a service and its key. Prompts for the key, or reads it from standard input, and stores it in a file with mode 0600.

    For example: `secateur login --url https://secateur.example.com --profile work < key.txt`, then `secateur jobs --profile work`
    """

    def run() -> None:
        found = address(url)
        if sys.stdin.isatty():
            key = typer.prompt(
                "API key (empty for a service without keys)", default="", hide_input=True, show_default=False, err=True
            )
        else:
            key = sys.stdin.readline()
        kept = Profile(found, key.strip() or None)
        # An empty key, not None: the key of the environment is not what is stored.
        with Secateur(found, kept.api_key or "", max_retries=1) as client:
            allowed = client.limits().scopes
        profiles.store(profile, kept)
        if as_json:
            signed_in = SignedIn(
                profile=profile, url=without_credentials(found), scopes=tuple(allowed), file=profiles.file()
            )
            write_json(signed_in, consoles.results())
            return
        how = f"The key has the scopes {', '.join(allowed)}" if kept.api_key else "The service needs no key"
        consoles.notes().print(
            f"Signed in to {without_credentials(found)} as profile {profile!r}. {how}. Saved in {profiles.file()}.",
            soft_wrap=True,
        )

    with_errors(as_json, run)


def logout(profile: Name = profiles.DEFAULT, as_json: AsJson = False) -> None:
    """Remove a saved service and its key. The key itself stays valid: `secateur keys revoke` revokes it."""

    def run() -> None:
        profiles.remove(profile)
        if as_json:
            write_json(SignedOut(profile=profile), consoles.results())
        else:
            consoles.notes().print(f"Profile {profile!r} is removed from {profiles.file()}.", soft_wrap=True)

    with_errors(as_json, run)


def list_profiles(as_json: AsJson = False) -> None:
    """List the saved services, without their keys."""

    def run() -> None:
        known = profiles.all_profiles()
        if as_json:
            rows = [
                SavedService(profile=name, url=without_credentials(each.url), has_key=each.api_key is not None)
                for name, each in known.items()
            ]
            write_json(rows, consoles.results())
            return
        if not known:
            consoles.results().print("There are no profiles. Create one: secateur login --url URL")
            return
        table = Table("profile", "url", "key", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name, each in known.items():
            table.add_row(
                consoles.clean(name), consoles.clean(without_credentials(each.url)), "yes" if each.api_key else "none"
            )
        consoles.results().print(table)

    with_errors(as_json, run)
