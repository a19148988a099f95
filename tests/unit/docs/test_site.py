"""The site: it builds without a complaint, what is made of the code has all of it, and it asks nobody else for anything."""

import html.parser
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator

from api_schemas.results.events import JobEventBody
from api_schemas.spec.job import EngineSpec, JobRequest
from store.settings import Settings
from tests.unit.docs.test_docs import MADE, ROOT, load_script

SCHEMA = json.loads((ROOT / "docs" / "reference" / "spec.schema.json").read_text(encoding="utf-8"))
# What a browser fetches by itself; an <a> waits for a reader.
FETCHED = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "audio": "src",
    "video": "src",
}
NOT_FETCHED = {"canonical", "prev", "next"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it, where a warning is a failure."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Fetches(html.parser.HTMLParser):
    """The addresses that a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in FETCHED and given.get("rel") not in NOT_FETCHED:
            self.addresses.append(given.get(FETCHED[tag]) or "")


def test_every_page_is_there_and_none_fetches_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert {f"{name.removesuffix('.md')}.html" for name in MADE} <= {
        page.relative_to(site).as_posix() for page in pages
    }
    for page in pages:
        fetches = Fetches()
        fetches.feed(page.read_text(encoding="utf-8"))
        assert fetches.addresses
        assert not [address for address in fetches.addresses if urlsplit(address).netloc], page
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8"), style


def test_the_reference_has_every_call_field_event_and_setting(site: Path) -> None:
    text = {
        name: (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("http", "spec", "events", "settings")
    }
    document = json.loads((ROOT / "tests/integration/service/openapi.json").read_text(encoding="utf-8"))
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert f"{method.upper()} {path}" in text["http"]
            assert f'id="{operation["operationId"]}"' in text["http"]
    everywhere = "".join(text.values())
    assert all(everywhere.count(f'id="schema-{name.lower()}"') == 1 for name in document["components"]["schemas"])
    assert all(f"<code>SECATEUR_{name.upper()}</code>" in text["settings"] for name in Settings.model_fields)
    for event in JobEventBody.__args__[0].__args__:  # type: ignore[attr-defined]
        assert f'id="schema-{event.__name__.lower()}"' in text["events"]
    for name in ("JobRequest", *SCHEMA["$defs"]):
        assert f'id="schema-{name.lower()}"' in text["spec"]


def test_source_files_are_named_and_not_linked_to(site: Path) -> None:
    """They are not on the site; README and docs link to them where they lie in a checkout."""
    text = (site / "states.html").read_text(encoding="utf-8")
    assert "store/jobs/transitions.py" in text
    assert 'transitions.py"' not in text


def test_pages_have_the_icon_and_can_be_searched_from_the_disk(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    for name in ("icon.svg", "logo.svg", "site.css", "search_from_disk.js"):
        assert f'"assets/{name}"' in home
        assert (site / "assets" / name).stat().st_size
    icon = (ROOT / "service/page/static/icon.svg").read_text(encoding="utf-8")
    assert (site / "assets/icon.svg").read_text(encoding="utf-8") == icon
    assert 'stroke="#fff"' in (site / "assets/logo.svg").read_text(encoding="utf-8")
    script = (site / "search/search_index.js").read_text(encoding="utf-8")
    index = json.loads(script.removeprefix("var __index = ").removesuffix(";\n"))
    assert index == json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    ranks = {entry["location"].partition("#")[0]: entry.get("boost", 1) for entry in index["docs"]}
    assert ranks["howto/webhooks.html"] > ranks["adr/0015-webhook-deliveries-are-rows.html"] > 0
    # What search_from_disk.js relies on in the theme, which a new version may do otherwise.
    bundle = next((site / "assets/javascripts").glob("bundle.*.min.js")).read_text(encoding="utf-8")
    assert "search/search_index.js" in bundle
    assert "__index" in bundle
    assert "new Worker(" in bundle


def test_indices_of_formulas_are_set_and_code_is_not_touched(site: Path) -> None:
    text = (site / "method.html").read_text(encoding="utf-8")
    assert "E[<var>q</var><sub>c</sub>²]" in text
    assert "<var>C</var><sub>q</sub><sup>½</sup>" in text
    assert not re.search(r"\b[A-Za-z]_[a-z]\b", re.sub(r"<(code|pre)>.*?</\1>|<[^>]*>", "", text, flags=re.DOTALL))
    for page in site.rglob("*.html"):
        assert not re.search(r"<code>[^<]*<(var|sub|sup)>", page.read_text(encoding="utf-8")), page


def test_stars_in_the_reference_are_stars(site: Path) -> None:
    """A description such as `AWS_*` made the rest of its line italic."""
    for name in ("http", "spec", "events", "settings"):
        text = (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
        assert not re.search(r"<td>[^\n]*<em>(?!required)", text)


def test_the_schema_of_the_spec_is_current() -> None:
    assert load_script("write_spec_schema").document() == (ROOT / "docs/reference/spec.schema.json").read_text(
        encoding="utf-8"
    )
    Draft202012Validator.check_schema(SCHEMA)


def test_every_field_of_the_spec_says_what_it_is() -> None:
    """Itself, or by its type; `type` of a reference says which reference it is."""
    for name, schema in {"JobRequest": SCHEMA, **SCHEMA["$defs"]}.items():
        assert schema.get("description"), name
        for field, said in schema.get("properties", {}).items():
            by_type = any("$ref" in one for one in (said, *said.get("anyOf", ()), *said.get("oneOf", ())))
            assert said.get("description") or by_type or "const" in said, f"{name}.{field}"


def test_what_the_page_of_the_spec_says_of_the_engines() -> None:
    """`secateur prune --spec` takes the same, without what only a service knows."""
    assert set(EngineSpec.model_fields) - set(JobRequest.model_fields) == {"columns", "splits", "lineage"}
    shared = set(EngineSpec.model_fields) & set(JobRequest.model_fields)
    page = (ROOT / "scripts/site/spec_page.py").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in shared)


def test_a_valid_request_passes_and_a_misspelt_one_does_not() -> None:
    reference = {"type": "hf", "id": "owner/name", "revision": "0" * 40}
    request = {"model": reference, "dataset": reference, "pruning": {"target": {"attention_sparsity": 0.5}}}
    check = Draft202012Validator(SCHEMA)
    assert check.is_valid(request)
    shown = re.findall(
        r"```json\n(.*?)```", (ROOT / "scripts/site/spec_page.py").read_text(encoding="utf-8"), re.DOTALL
    )
    assert [check.is_valid(json.loads(text)) for text in shown] == [True]
    assert not check.is_valid(request | {"finetun": {}})
    assert not check.is_valid(request | {"pruning": {"target": {"attention_sparsity": "half"}}})
