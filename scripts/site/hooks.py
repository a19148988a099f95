"""What mkdocs does beside reading docs/: the reference is made of the code, and the pages of the root are taken in.

Pages made here are not kept as files, so that none can be out of date. docs/errors.md, docs/families.md and
docs/reference/spec.schema.json are files, since others link to them; tests hold them to the code.
"""

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands_page
import events_page
import formulas
import http_page
import json_page
import settings_page
import spec_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from schemas import Anchors

ROOT = Path(__file__).parents[2]
OPENAPI = ROOT / "tests" / "integration" / "service" / "openapi.json"
FROM_ROOT = {"index.md": "README.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
ICON = ROOT / "service" / "page" / "static" / "icon.svg"
# What was decided, measured and changed: a search finds it after what explains how to use the product.
RECORDS = ("adr/", "results/", "CHANGELOG.md")
ASSETS = Path(__file__).parent / "assets"
LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#)([^)\s#]+)(#[^)\s]*)?\)")


def pages() -> dict[str, Callable[[], str]]:
    """What each page that is made of the code says, by its address below docs/."""
    document = json.loads(OPENAPI.read_text(encoding="utf-8"))
    spec = json.loads((ROOT / "docs" / "reference" / "spec.schema.json").read_text(encoding="utf-8"))
    anchors = Anchors(document, spec, json_page.named())
    return {
        "reference/commands.md": commands_page.page,
        "reference/json.md": lambda: json_page.page(anchors),
        "reference/http.md": lambda: http_page.page(document, anchors),
        "reference/spec.md": lambda: spec_page.page(spec, anchors),
        "reference/events.md": lambda: events_page.page(document, anchors),
        "reference/settings.md": settings_page.page,
    }


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """`adr/*.md` in the navigation stands for all that there are, README.md first."""
    config.nav = _expanded(config.nav, Path(config.docs_dir))
    return config


def _expanded(node: Any, docs: Path) -> Any:
    if isinstance(node, dict):
        return {title: _expanded(one, docs) for title, one in node.items()}
    if not isinstance(node, list):
        return node
    entries: list[Any] = []
    for one in node:
        if isinstance(one, str) and "*" in one:
            entries += sorted(
                (str(path.relative_to(docs)) for path in docs.glob(one)), key=lambda name: ("README" not in name, name)
            )
        else:
            entries.append(_expanded(one, docs))
    return entries


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is no file of docs/: pages, style and script, and the page's icon, in white for the coloured bar at the top."""
    made = {name: make() for name, make in pages().items()}
    taken = {name: (ROOT / source).read_text(encoding="utf-8") for name, source in FROM_ROOT.items()}
    for name, text in (made | {name: text.replace("](docs/", "](") for name, text in taken.items()}).items():
        files.append(File.generated(config, name, content=text))
    icon = ICON.read_text(encoding="utf-8")
    white = re.sub(r'stroke="#\w+"', 'stroke="#fff"', icon)
    for name, text in {"assets/icon.svg": icon, "assets/logo.svg": white}.items():
        files.append(File.generated(config, name, content=text))
    for path in ASSETS.iterdir():
        files.append(File.generated(config, f"assets/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to source files have no page to lead to: their text stays. And formulas are set."""
    del config
    if page.file.src_uri.startswith(RECORDS):
        page.meta["search"] = {"boost": 0.3}

    def kept(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), match[2]))
        known = files.get_file_from_path(target) is not None
        return match[0] if known or not (ROOT / "docs" / target).exists() else match[1]

    return formulas.set_formulas(LINK.sub(kept, markdown))


def on_post_build(config: MkDocsConfig) -> None:
    """The search index once more, as a script: a page opened from the disk may read no JSON (assets/search_from_disk.js)."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')};\n", encoding="utf-8")
