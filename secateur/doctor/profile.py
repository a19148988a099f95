"""Checks the saved service that commands use (`secateur login`): which it is, and whether its file has the right permissions."""

import os
from dataclasses import dataclass

from api_schemas.api.checkup import Finding, ok, warning, wrong
from api_schemas.credentials import without_credentials
from secateur import profiles
from secateur.client.transport.connection import API_KEY, URL, address
from secateur.errors import InvalidRequest

_OTHERS = 0o077
"""What others than the owner may do with a file."""


@dataclass(frozen=True)
class InUse:
    """Where commands call, and with which key; `profile` is the name of the one that says so, if one does."""

    url: str | None
    key: str | None = None
    profile: str | None = None


def in_use(url: str | None, name: str | None) -> tuple[InUse | None, list[Finding]]:
    """What commands would use, given `--url` and `--profile`, and what there is to say of the profile.

    None for the first where a profile was named that is unusable: nothing says then what to check.
    """
    asked = profiles.asked_for(name)
    try:
        found = profiles.chosen(name)
        if found is None:
            return InUse(url), _unreadable()
        url, key = profiles.signed_in(url, None, name)
        elsewhere = url is not None and address(url) != address(found.url)
    except InvalidRequest as error:
        remedy = "Fix it as the message says, choose another (--profile), or sign in again: `secateur login --url URL`."
        return (None if asked else InUse(url)), [wrong("profile", error.detail, remedy)]
    called, there = asked or profiles.DEFAULT, without_credentials(found.url)
    if elsewhere:
        return InUse(url), [
            ok("profile", f"{called!r} is for {there}, and not used: --url or {URL} names another server")
        ]
    own = "without a key" if found.api_key is None else "with a key"
    said = f"a key from {API_KEY}" if os.environ.get(API_KEY) else own
    use = InUse(url, key, called)
    return use, [_private() or ok("profile", f"{called!r}: {there}, {said} ({profiles.file()})")]


def _unreadable() -> list[Finding]:
    """Nobody named a profile; a file of them that this user may not read would else go unnoticed."""
    try:
        path = profiles.file()
    except InvalidRequest:
        return []
    if not path.exists() or os.access(path, os.R_OK):
        return []
    return [warning("profile", f"this user cannot read {path}", "Change its owner, or run `secateur login` again.")]


def _private() -> Finding | None:
    path = profiles.file()
    if not path.stat().st_mode & _OTHERS:
        return None
    return warning("profile", f"other users may read the keys in {path}", f"Make it private: `chmod 600 {path}`.")
