"""The version stands in many files, and a release writes all of them (scripts/release.py)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import release

TODAY = "2031-05-06"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for name in (*release.WHERE, release.CHANGELOG):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(release.ROOT / name, tmp_path / name)
    text = (tmp_path / release.CHANGELOG).read_text()
    added = f"{release.UNRELEASED}\n### Added\n\n- A new thing.\n"
    (tmp_path / release.CHANGELOG).write_text(text.replace(release.UNRELEASED, added, 1))
    return tmp_path


def test_all_files_name_one_version_and_the_changelog_has_its_date() -> None:
    version = release.current()
    assert release.versions() == {name: {version} for name in release.WHERE}
    assert release.notes(version)


def test_a_release_writes_the_version_everywhere_and_dates_what_was_unreleased(copied: Path) -> None:
    before = release.current(copied)
    release.write("9.0.1", TODAY, copied)
    assert release.versions(copied) == {name: {"9.0.1"} for name in release.WHERE}
    assert "- A new thing." in release.notes("9.0.1", copied)
    assert "A new thing" not in release.notes(before, copied)
    changelog = (copied / release.CHANGELOG).read_text()
    assert f"{release.UNRELEASED}\n## 9.0.1 - {TODAY}\n" in changelog


@pytest.mark.parametrize(
    ("version", "said"), [("9", "three numbers"), ("9.0.0rc1", "three numbers"), ("0.0.9", "not newer")]
)
def test_what_cannot_be_released_is_refused_and_changes_nothing(copied: Path, version: str, said: str) -> None:
    before = {name: (copied / name).read_bytes() for name in (*release.WHERE, release.CHANGELOG)}
    with pytest.raises(ValueError, match=said):
        release.write(version, TODAY, copied)
    assert {name: (copied / name).read_bytes() for name in before} == before


def test_a_release_without_changes_is_refused(copied: Path) -> None:
    release.write("9.0.1", TODAY, copied)
    with pytest.raises(ValueError, match="lists nothing"):
        release.write("9.0.2", TODAY, copied)


def test_a_file_that_no_longer_names_the_version_is_noticed(copied: Path) -> None:
    (copied / "docker/env.example").write_text("")
    with pytest.raises(ValueError, match=r"docker/env\.example"):
        release.write("9.0.1", TODAY, copied)
    assert release.current(copied) != "9.0.1"


def test_wheels_are_built_from_the_files_of_the_commit_alone(tmp_path: Path) -> None:
    root, clean = tmp_path / "root", tmp_path / "clean"
    for folder in (root / "build/lib", clean):
        folder.mkdir(parents=True)
    (root / ".gitignore").write_text("build/\n")
    (root / "kept.py").write_text("now = 1\n")
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "one")):
        subprocess.run([*git, *arguments], check=True)
    (root / "build/lib/removed.py").write_text("")
    (root / "kept.py").write_text("now = 2\n")
    release.export("HEAD", clean, root)
    assert {path.name for path in clean.iterdir()} == {".gitignore", "kept.py"}
    assert (clean / "kept.py").read_text() == "now = 1\n"
