"""Formulas are plain text in docs/, which a terminal and an editor show too; on the site their indices are set as such."""

import re

# Stays as it is: blocks and spans of code, addresses of links.
_CODE = re.compile(r"(^```.*?^```|^ {4}\S[^\n]*|`[^`\n]*`|\]\([^)\s]*\))", re.MULTILINE | re.DOTALL)
_INDEX = re.compile(r"(?<![\w/.])([A-Z]|d?[a-zα-ωk̄]{1,2})_([a-z]{1,2}|T)(?![a-z_])")
_OTHER_INDEX = re.compile(r"([Σ)\]])_([a-z]{1,2})(?![a-z_])")
_POWER = re.compile(r"\^(-?)½")


def set_formulas(markdown: str) -> str:
    """`W_q` with its index below the line, `C^½` with its power above it."""
    parts = _CODE.split(markdown)
    return "".join(part if place % 2 else _set(part) for place, part in enumerate(parts))


def _set(text: str) -> str:
    text = _INDEX.sub(r"<var>\1</var><sub>\2</sub>", text)
    text = _OTHER_INDEX.sub(r"\1<sub>\2</sub>", text)
    return _POWER.sub(lambda found: f"<sup>{'−' if found[1] else ''}½</sup>", text)
