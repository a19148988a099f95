"""Checks the environment for misspelt settings, which would otherwise go unnoticed."""

import difflib
import os

from api_schemas.api.checkup import Finding, ok, warning
from store.settings import Settings

PREFIX = "SECATEUR_"


def unknown() -> list[Finding]:
    """Variables that are no setting and look like one. Others of that prefix are the client's, or a container's."""
    known = {f"{PREFIX}{name.upper()}{end}" for name in Settings.model_fields for end in ("", "_FILE")}
    given = {name for name in os.environ if name.startswith(PREFIX)}
    findings = []
    for name in sorted(given - known):
        if meant := difflib.get_close_matches(name, known, 1, 0.85):
            findings.append(
                warning("settings", f"{name} is not a setting and has no effect", f"Did you mean {meant[0]}?")
            )
    return findings or [ok("settings", f"{len(given & known)} from the environment")]
