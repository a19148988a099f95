"""Services saved by `secateur login`, by name: URL and key, in a file that only this user can read."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from api_schemas.credentials import without_credentials
from secateur.client.transport.connection import API_KEY, URL, address
from secateur.errors import InvalidRequest

DEFAULT = "default"
NAME = "SECATEUR_PROFILE"


@dataclass(frozen=True)
class Profile:
    """A service, and the key for it; None where it asks for none."""

    url: str
    api_key: str | None = None


def file() -> Path:
    """`$XDG_CONFIG_HOME/secateur/profiles.json`, by default below `~/.config`. InvalidRequest for a user without a home."""
    try:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:
        detail = "This user has no home folder to keep profiles in: set HOME or XDG_CONFIG_HOME."
        raise InvalidRequest(detail, code="usage") from None
    return base / "secateur" / "profiles.json"


def all_profiles() -> dict[str, Profile]:
    """By name; none where there is no file. Raises InvalidRequest where it cannot be read."""
    path = file()
    try:
        return {str(name): Profile(**found) for name, found in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        detail = (
            f"The profiles in {path} cannot be read ({error}). Fix or delete the file, and run `secateur login` again."
        )
        raise InvalidRequest(detail, code="usage") from None


def asked_for(name: str | None) -> str | None:
    """The name given, else that of SECATEUR_PROFILE; None if neither is given."""
    return name or os.environ.get(NAME) or None


def chosen(name: str | None) -> Profile | None:
    """The one of this name, else of SECATEUR_PROFILE, else `default` if there is one. InvalidRequest for an unknown one."""
    asked = asked_for(name)
    if asked is None:
        return all_profiles().get(DEFAULT) if _readable() else None
    known = all_profiles()
    if asked not in known:
        there = f"there are {', '.join(sorted(known))}" if known else "there are none yet"
        detail = f"There is no profile {asked!r}; {there}. Create it: secateur login --url URL --profile {asked}"
        raise InvalidRequest(detail, code="usage")
    return known[asked]


def signed_in(url: str | None, key: str | None, profile: str | None = None) -> tuple[str | None, str | None]:
    """URL and key, with those of the profile where nothing else says them: not an option, not the environment.

    The key of a profile goes to its own URL and to no other. Raises InvalidRequest for an unknown profile, and for one that was
    asked for by name beside another URL.
    """
    url = url or os.environ.get(URL) or None
    if profile is None and url is not None and (key is not None or os.environ.get(API_KEY)):
        return url, key
    found = chosen(profile)
    if found is None:
        return url, key
    if url is not None and address(url) != address(found.url):
        if profile is not None:
            detail = (
                f"--profile {profile} is for {without_credentials(found.url)}, but --url or {URL} is "
                f"{without_credentials(url)}: give only one of them."
            )
            raise InvalidRequest(detail, code="usage")
        return url, key
    return found.url, key if key is not None or os.environ.get(API_KEY) else found.api_key


def _readable() -> bool:
    """Whether there is a file that this user may read. Without a named profile, neither a file nor a home is needed."""
    try:
        return os.access(file(), os.R_OK)
    except InvalidRequest:
        return False


def store(name: str, profile: Profile) -> None:
    """Add one, or replace it."""
    _write({**all_profiles(), name: profile})


def remove(name: str) -> None:
    """Forget one. Raises InvalidRequest where there is none of this name."""
    known = all_profiles()
    if known.pop(name, None) is None:
        raise InvalidRequest(f"There is no profile {name!r}.", code="usage")
    _write(known)


def _write(profiles: dict[str, Profile]) -> None:
    path = file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made with mode 0600, and renamed: at no moment can others read keys, or this program half a file.
    with NamedTemporaryFile("w", dir=path.parent, prefix=".profiles-", delete=False) as partial:
        try:
            json.dump({name: asdict(profile) for name, profile in sorted(profiles.items())}, partial, indent=2)
            partial.close()
            Path(partial.name).replace(path)
        except BaseException:
            Path(partial.name).unlink(missing_ok=True)
            raise
