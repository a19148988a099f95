#!/usr/bin/env python3
"""Fetch what the page brings along from others, at fixed versions: python scripts/vendor_page.py

The files are committed, so that neither users nor builds need npm or a network. To take a newer version, change it here together
with the SHA-256 of its package, and run this again.
"""

import hashlib
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "service" / "page" / "static" / "vendor"
PACKAGES = {
    ("htmx.org", "2.0.11", "165a2655073e9e6e55e307a7c74e8ebcdb76afb7701f9c16cfd106a13add408e"): {
        "package/dist/htmx.min.js": "htmx.min.js",
        "package/LICENSE": "htmx.LICENSE.txt",
    },
    ("uplot", "1.6.32", "4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d"): {
        "package/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
        "package/dist/uPlot.min.css": "uPlot.min.css",
        "package/LICENSE": "uPlot.LICENSE.txt",
    },
}
SHA256 = {
    "htmx.LICENSE.txt": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "uPlot.LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""Of the files that are taken out of them."""


def sha256_of(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(name: str, version: str, sha256: str, folder: Path) -> bytes:
    """The package as the registry has it. SystemExit where it is another than the one that was looked at."""
    subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    data = (folder / f"{name}-{version}.tgz").read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit(f"{name} {version} is not the package that was agreed on.")
    return data


def main() -> None:
    """Write the files below `FOLDER`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for (name, version, sha256), files in PACKAGES.items():
            with tarfile.open(fileobj=io.BytesIO(fetch(name, version, sha256, Path(folder)))) as package:
                for inside, outside in files.items():
                    content = package.extractfile(inside)
                    assert content is not None
                    (FOLDER / outside).write_bytes(content.read())
                    if sha256_of(FOLDER / outside) != SHA256[outside]:
                        raise SystemExit(f"{outside} is not the file that was agreed on.")


if __name__ == "__main__":
    main()
