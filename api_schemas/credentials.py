"""URLs without the user names, passwords and tokens that may stand in them, for whatever is printed or logged."""

import re

# A password may hold what a URL should have escaped: databases and buckets take it as it is. A port is none.
_USER = re.compile(r"://(?:[^\s/?#]*|[^\s:/?#@\[\"'<>]*:(?!\d*[/?#])[^\s@\"'<>]{0,256})@")


def without_credentials(text: str) -> str:
    """A URL, or a text with URLs in it: what stands between `//` and `@` is `***`."""
    return _USER.sub("://***@", text)
