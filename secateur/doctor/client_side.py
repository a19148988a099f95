"""Checks the server that a client would call: whether it responds, whether it is Secateur, and what the key allows."""

import os
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import httpx
from pydantic import ValidationError

from api_schemas.api.checkup import Finding, ok, warning, wrong
from api_schemas.api.resources import Limits
from api_schemas.credentials import without_credentials
from api_schemas.enums import KeyScope
from secateur.client.transport.connection import API_KEY as KEY
from secateur.client.transport.connection import DEFAULT_URL, URL, separated

SECONDS = 30
SKEW_SECONDS = 60
MAIN_JOB = {KeyScope.MODELS_WRITE: "uploading", KeyScope.JOBS_WRITE: "submitting jobs"}
"""What a job takes, by scope; `jobs:write` allows what `jobs:read` does."""


def server(url: str | None, key: str | None = None, profile: str | None = None) -> list[Finding]:
    """Check the server at `url`, by default that of the environment. No response is an error only if a URL was given.

    `key`: by default that of the environment. `profile`: whose URL it is.
    """
    named = url or os.environ.get(URL)
    whole = (named or DEFAULT_URL).rstrip("/")
    address = without_credentials(whole)
    try:
        bare, user = separated(whole)
        with httpx.Client(base_url=bare, timeout=8, auth=user) as client:
            return _findings(client, address, key, profile)
    except (ValueError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        return [
            wrong(
                "server", f"{address} is not a valid URL: {error}", f"Use a URL like {DEFAULT_URL} (--url, or {URL})."
            )
        ]
    except httpx.TransportError as error:
        found = f"no server responds at {address} ({error or type(error).__name__})"
        if named is None:
            return [
                warning("server", found, f"Start one with `secateur up`, or give the URL of yours: --url, or {URL}.")
            ]
        again = f", or `secateur login --url URL --profile {profile}`" if profile else ""
        remedy = f"Start it, or give another URL: --url, or {URL}{again}. A firewall or proxy may block it."
        return [wrong("server", found, remedy)]


def _findings(client: httpx.Client, address: str, key: str | None, profile: str | None) -> list[Finding]:
    answer = client.get("/openapi.json")
    about = _json(answer).get("info", {})
    if not isinstance(about, dict) or about.get("title") != "Secateur":
        if _json(answer).get("code"):
            return [
                wrong(
                    "server",
                    f"{address} rejects requests: {_json(answer).get('detail')}",
                    "Follow the message, or use another URL.",
                )
            ]
        found = f"{address} is not Secateur: unexpected /openapi.json ({answer.status_code})"
        return [
            wrong(
                "server", found, f"Give the URL of the right server: --url, or {URL}; or free that port for Secateur."
            )
        ]
    theirs, ours = str(about.get("version")), version("secateur")
    findings = [ok("server", f"Secateur {theirs} at {address}")]
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        remedy = f"Install the client in the server's version: pip install . in a checkout of {theirs}."
        findings = [warning("server", f"Secateur {theirs} at {address}, but this client is {ours}", remedy)]
    return [*findings, *_health(client), *_clock(answer), *_key(client, address, key, profile)]


def _health(client: httpx.Client) -> list[Finding]:
    answer = client.get("/readyz")
    if answer.is_success:
        return []
    broken = [name for name, state in _json(answer).get("checks", {}).items() if state != "ok"]
    return [
        warning(
            "server",
            f"not ready: {', '.join(broken) or 'no details given'}",
            "Run `secateur doctor` on the server for details.",
        )
    ]


def _clock(answer: httpx.Response) -> list[Finding]:
    if "date" not in answer.headers:
        return []
    apart = (datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])).total_seconds()
    if abs(apart) <= SKEW_SECONDS:
        return []
    found = f"this machine is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} the server"
    return [
        warning(
            "clock",
            found,
            "Synchronize both clocks (timedatectl set-ntp true): signatures and expiry times depend on them.",
        )
    ]


def _key(client: httpx.Client, address: str, key: str | None, profile: str | None) -> list[Finding]:
    """`GET /v1/limits` takes any valid key and says what it allows."""
    own = profile is not None and not os.environ.get(KEY)
    key = os.environ.get(KEY) or key
    answer = client.get("/v1/limits", headers={"Authorization": f"Bearer {key}"} if key else {})
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        said = str(_json(answer).get("detail"))
        lacks = f"profile {profile!r} has none" if own else f"{KEY} is not set"
        remedy = (
            f"Sign in again: `secateur login --url {address} --profile {profile}`."
            if own
            else f"Set {KEY} to a valid key."
        )
        return [wrong("key", said if key else f"the server requires a key, but {lacks}", remedy)]
    try:
        scopes = Limits.model_validate(_json(answer)).scopes
    except ValidationError:
        return [wrong("key", f"not accepted: {_json(answer).get('detail', answer.status_code)}", "Follow the message.")]
    missing = {scope: what for scope, what in MAIN_JOB.items() if scope not in scopes}
    if missing:
        lacks = " and ".join(f"{scope.value} (for {what})" for scope, what in missing.items())
        return [
            warning(
                "key",
                f"valid, but without the scope {lacks}",
                "If you need it, ask an administrator for a key with this scope.",
            )
        ]
    return [ok("key", f"allows {', '.join(scopes)}" if key else "no key required")]


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
