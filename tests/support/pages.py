"""Pages as a browser takes them: well formed, without anything that their Content-Security-Policy would refuse."""

from collections.abc import Iterator
from html.parser import HTMLParser

from httpx import Response

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "circle", "rect"}
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


class Page(HTMLParser):
    """Elements and text of a page; insists that every element is closed in order, and that ids are unique."""

    def __init__(self, answer: Response) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.status = answer.status_code
        self.feed(answer.text)
        self.close()
        assert self.open == []
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids)), ids
        self._allowed()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All of it, white space single."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """Attributes of the elements of this kind that have these (`data_x` for `data-x`)."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [found for kind, found in self.elements if kind == tag and wanted.items() <= found.items()]

    def addresses(self) -> Iterator[str]:
        """Wherever the page leads, and whatever it loads."""
        for _, attributes in self.elements:
            for name in ("href", "src", "action", "hx-get", "hx-post", "hx-delete"):
                if name in attributes:
                    yield attributes[name]

    def _allowed(self) -> None:
        for tag, attributes in self.elements:
            assert tag not in ("style", "iframe", "object", "embed", "base")
            assert "style" not in attributes, (tag, attributes)
            assert not any(name.startswith("on") for name in attributes), (tag, attributes)
            if tag == "script":
                assert attributes["src"].startswith("/static/"), attributes
        for address in self.addresses():
            assert address.startswith(("/", "#", "?")), address
            assert not address.startswith("//"), address
