"""URLs without the user names, passwords and tokens that may stand in them, for whatever is printed or logged."""

import re

_USER = re.compile(r"://[^\s/?#]*@")


def without_credentials(text: str) -> str:
    """A URL, or a text with URLs in it: what stands between `//` and `@` is `***`."""
    return _USER.sub("://***@", text)
