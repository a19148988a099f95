"""A release: `python -m scripts.release 0.3.0` writes the version and today's date where they belong; after the commit,
`make release` builds it into dist/ and tags it.

dist/ then holds the wheels of client and server, the release notes (the changelog's section of this version) and SHA256SUMS.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHANGELOG = "CHANGELOG.md"
VERSION = r"\d+\.\d+\.\d+"
WHERE: dict[str, tuple[str, ...]] = {
    "pyproject.toml": (rf'(?m)^(version = ")({VERSION})(")$',),
    "server/pyproject.toml": (rf'(?m)^(version = ")({VERSION})(")$', rf"(secateur==)({VERSION})()"),
    "deploy/helm/secateur/Chart.yaml": (rf"(?m)^(version: )({VERSION})()$", rf"(?m)^(appVersion: )({VERSION})()$"),
    "docker/env.example": (rf"(?m)^(SECATEUR_VERSION=)({VERSION})()$",),
    "docker-compose.yml": (rf"(SECATEUR_VERSION:-)({VERSION})(\}})",),
    "docs/howto/several-hosts.md": (rf"(/secateur/(?:api|worker):)({VERSION})()",),
}
"""By file, patterns of what stands before a version, the version, and what stands behind it."""
UNRELEASED = "## Unreleased\n"


def versions(root: Path = ROOT) -> dict[str, set[str]]:
    """By file, every version of this project that it names. Raises ValueError for a file in which a pattern finds none."""
    found: dict[str, set[str]] = {}
    for name, patterns in WHERE.items():
        text = (root / name).read_text()
        for pattern in patterns:
            named = {match[2] for match in re.finditer(pattern, text)}
            if not named:
                raise ValueError(f"{name} names no version as {pattern}")
            found.setdefault(name, set()).update(named)
    return found


def current(root: Path = ROOT) -> str:
    """The version of pyproject.toml."""
    version: str = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return version


def notes(version: str, root: Path = ROOT) -> str:
    """The changelog's section of this version, without its heading. Raises ValueError where there is none with a date."""
    text = (root / CHANGELOG).read_text()
    found = re.search(rf"(?ms)^## {re.escape(version)} - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", text)
    if not found or not found[1].strip():
        raise ValueError(f"{CHANGELOG} has no dated section of {version}")
    return found[1].strip() + "\n"


def write(version: str, day: str, root: Path = ROOT) -> None:
    """Name `version` everywhere, and give what the changelog calls unreleased this version and day (YYYY-MM-DD).

    Raises ValueError, and writes nothing, for what is no version, is not newer than the present one, or has no changes.
    """
    if not re.fullmatch(VERSION, version):
        raise ValueError(f"{version!r} is no version; versions are three numbers, such as 0.3.0")
    if [*map(int, version.split("."))] <= [*map(int, current(root).split("."))]:
        raise ValueError(f"{version} is not newer than {current(root)}")
    changelog = (root / CHANGELOG).read_text()
    _, unreleased, rest = changelog.partition(UNRELEASED)
    if not unreleased or not rest.split("\n## ")[0].strip():
        raise ValueError(f"{CHANGELOG} lists nothing under {UNRELEASED.strip()!r}")
    versions(root)
    for name, patterns in WHERE.items():
        text = (root / name).read_text()
        for pattern in patterns:
            text = re.sub(pattern, rf"\g<1>{version}\g<3>", text)
        (root / name).write_text(text)
    dated = f"{UNRELEASED}\n## {version} - {day}\n"
    (root / CHANGELOG).write_text(changelog.replace(UNRELEASED, dated, 1))


def build(folder: Path) -> list[Path]:
    """Wheels, notes and checksums of the commit, in `folder`; then the tag. Raises ValueError for uncommitted changes."""
    version = current()
    tag = f"v{version}"
    if _git("status", "--porcelain"):
        raise ValueError("commit your changes first: a release is a state of the repository")
    if _git("tag", "--list", tag):
        raise ValueError(f"{tag} exists already")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty")
    said = folder / "NOTES.md"
    said.write_text(notes(version))
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    with tempfile.TemporaryDirectory(prefix="secateur-release-") as clean:
        export("HEAD", Path(clean))
        subprocess.run([*wheel, clean, f"{clean}/server"], check=True)
    made = sorted(folder.iterdir())
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made)
    (folder / "SHA256SUMS").write_text(sums)
    _git("tag", "--annotate", tag, "--cleanup=verbatim", "--file", str(said))
    return [*made, folder / "SHA256SUMS"]


def export(commit: str, folder: Path, root: Path = ROOT) -> None:
    """The files of a commit, and only those: setuptools would pack what lies in an old `build` as well."""
    archive = folder / "files.tar"
    subprocess.run(["git", "archive", "--output", str(archive), commit], cwd=root, check=True)
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    archive.unlink()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", nargs="?", help="to write; none: build what is committed and tag it")
    arguments = parser.parse_args()
    try:
        if arguments.version:
            write(arguments.version, datetime.now(UTC).date().isoformat())
            print(
                f"Read CHANGELOG.md and docs/upgrading.md once more, commit as “Release {arguments.version}”, then: make release"
            )
            return
        for path in build(ROOT / "dist"):
            print(path.relative_to(ROOT))
        print(f"Tagged v{current()}. To publish it: git push --follow-tags")
    except ValueError as error:
        raise SystemExit(f"release: {error}") from error


if __name__ == "__main__":
    main()
