"""What an identifier names."""

from typing import Literal

from secateur.errors import InvalidRequest

Kind = Literal["job", "model", "dataset"]
_KINDS: dict[str, Kind] = {"job": "job", "mdl": "model", "dst": "dataset"}


def kind_of(identifier: str) -> Kind:
    """By its prefix. Raises InvalidRequest."""
    prefix = identifier.partition("_")[0]
    if prefix not in _KINDS or prefix == identifier:
        raise InvalidRequest(f"{identifier!r} is no identifier: they begin with job_, mdl_ or dst_.", code="usage")
    return _KINDS[prefix]
