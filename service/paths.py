"""Which addresses belong to the API and which to the page, and which of those need authentication."""

V1 = "/v1"
"""Below it lies the API."""

_OTHERS = (V1, "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics")
_OPEN = ("/static/", "/signin", "/signout")
_KEPT = (
    "/",
    "/new",
    "/compare",
    "/sweeps",
    "/models",
    "/datasets",
    "/workers",
    "/keys",
    "/webhooks",
    "/audit",
    "/limits",
)
_BELOW = ("/jobs/", "/sweeps/", "/new/", "/models/", "/datasets/", "/lineage/", "/webhooks/")


def is_page(path: str) -> bool:
    """Whether a person looks at it: everything that is not for programs."""
    return not any(f"{path}/".startswith(f"{other}/") for other in _OTHERS)


def needs_caller(path: str) -> bool:
    """Whether it shows what belongs to somebody."""
    return path in _KEPT or path.startswith(_BELOW)


def local_path(given: str | None) -> str:
    """Where to go on after signing in: an address of the page as it was given, and `/` for everything else."""
    path = (given or "").partition("?")[0]
    plain = given is not None and given.isascii() and given.isprintable() and "\\" not in given
    return given if plain and given and needs_caller(path) else "/"
