"""URLs without the user names, passwords and tokens that may stand in them, for whatever is printed or logged."""

import re

# A password may hold what a URL should have escaped: databases and buckets take it as it is. A port is none.
_USER = re.compile(r"://(?:[^\s/?#]*|[^\s:/?#@\[\"'<>]*:(?!\d*[/?#])[^\s@\"'<>]{0,256})@")
# `password=` of PostgreSQL, `X-Amz-Signature=` and the like of signed addresses.
_QUERY = re.compile(
    r"([?&][\w.%-]{0,64}(?:passw|secret|token|signature|sig)[\w.%-]{0,64}=)[^&\s#\"'<>]+", re.IGNORECASE
)


def without_credentials(text: str) -> str:
    """A URL, or a text with URLs in it: `***` for what stands between `//` and `@`, and for secrets in a query by their name."""
    if "@" in text:
        text = _USER.sub("://***@", text)
    return _QUERY.sub(r"\1***", text) if "=" in text else text
