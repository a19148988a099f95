"""The documentation stays true where a machine can tell: links, addresses, code, the page of errors."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from api_schemas.api.error_titles import ERROR_TEXTS
from api_schemas.errors import ErrorCode
from checkpoints.families import FAMILIES
from service.app import create_app
from store.settings import Settings

ROOT = Path(__file__).parents[3]
MADE = (
    "reference/commands.md",
    "reference/http.md",
    "reference/json.md",
    "reference/spec.md",
    "reference/events.md",
    "reference/settings.md",
)
"""Pages that scripts/site makes."""
PAGES = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]))
ROOMS = "api_schemas|checkpoints|store|service|worker|secateur|demo|benchmarks"


def prose(page: Path) -> str:
    """The page's text. What was measured and what was changed stand as they were written, with the names of their day."""
    dated = page.name == "CHANGELOG.md" or page.parent.name == "results"
    return "" if dated else page.read_text(encoding="utf-8")


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_code_has_a_title_of_its_own_and_a_remedy() -> None:
    assert set(ERROR_TEXTS) == set(ErrorCode)
    titles = [text.title for text in ERROR_TEXTS.values()]
    assert len(set(titles)) == len(titles)
    for text in ERROR_TEXTS.values():
        assert text.remedy.endswith(".")
        assert "|" not in text.title + text.remedy


def test_the_page_of_errors_is_current() -> None:
    page = load_script("write_error_docs").page()
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == page
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {code.value for code in ErrorCode}


def test_the_page_of_families_is_current() -> None:
    text = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    assert load_script("write_family_docs").page(text) == text
    for family in FAMILIES:
        for name in family.architectures:
            assert f"| `{name}` |" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        path = (page.parent / target).resolve()
        # A page that is made with the site; whether it has the anchors that are linked to, mkdocs itself looks.
        assert path.exists() or path.relative_to(ROOT / "docs").as_posix() in MADE, target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_named_in_the_text_exist(page: Path) -> None:
    rooms = f"{ROOMS}|docker|scripts|tests|docs"
    for name in re.findall(rf"(?<![\w/.-])((?:{rooms})/[\w/.-]*[\w/])", prose(page)):
        assert name in ("docker/.env", "docker/secrets") or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_named_in_the_text_exist(page: Path) -> None:
    for name in re.findall(rf"(?<![\w/.-])((?:{ROOMS})(?:\.[a-z_]+)+)(?=[`:\s])", prose(page)):
        path = ROOT / name.replace(".", "/")
        # Or a name inside the module: an attribute, a setting, a function.
        assert (
            any(each.exists() for each in (path, path.with_suffix(".py"), path.parent.with_suffix(".py")))
            or (path.parent / "__init__.py").exists()
        ), name


@pytest.mark.parametrize("room", ROOMS.split("|"))
def test_files_named_in_the_code_exist(room: str) -> None:
    named = {
        (str(source.relative_to(ROOT)), name)
        for source in (ROOT / room).rglob("*.py")
        for name in re.findall(
            rf"(?<![\w/.-])((?:{ROOMS}|docs|tests|scripts)/[\w/.-]*\.(?:py|md))", source.read_text("utf-8")
        )
    }
    assert [(source, name) for source, name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_in_the_text_is_python(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        compile(block, str(page), "exec")


def test_the_walk_through_uses_calls_that_exist(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path))
    calls = {re.sub(r"\{\w+\}", "*", path) for path in app.openapi()["paths"]}
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    used = set(re.findall(r"\"?\$API(/[^\s\"'?]+)", text)) | {
        f"/{path}" for path in re.findall(r"/v1/([^\s`\"?]+)", text)
    }
    assert len(used) >= 10
    for path in used:
        # A variable of the shell, an id, a step or a file's name stands for one part of the address.
        parts = [
            "*" if re.fullmatch(r"\$\w+|\{\w+\}|\d+|(?:job|mdl)_…|[\w.]+\.\w+", part) else part
            for part in path[1:].split("/")
        ]
        assert "/v1/" + "/".join(parts) in calls, path
