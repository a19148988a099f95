"""What a test looks at beside the page itself: the console, the network, axe-core, pictures."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, Request, expect

WIDTHS = (360, 1440)
THEMES = ("light", "dark")
SERIOUS = ("serious", "critical")
IMAGES = Path(__file__).parents[2] / "docs" / "images"


@dataclass
class Watched:
    """A page, and what its console or its network said that it should not have."""

    page: Page
    expected: list[str] = field(default_factory=list)
    """Parts of console lines that the test brings about: a browser notes every refusal."""
    _said: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        return [line for line in self._said if not any(part in line for part in self.expected)]

    def note(self, line: str) -> None:
        self._said.append(line)


def watched(page: Page) -> Watched:
    """Notes from now on."""
    found = Watched(page)
    hosts: set[str] = set()

    def asked(request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("data", "blob", "about"):
            return
        hosts.add(address.netloc)
        if len(hosts) > 1:
            found.note(f"asked {address.netloc}")

    def told(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.note(f"{message.text} {message.location.get('url', '')}")

    page.on("request", asked)
    page.on("console", told)
    page.on("pageerror", lambda error: found.note(str(error)))
    return found


def assert_usable(page: Page, name: str) -> None:
    """At both widths and in both themes: nothing to scroll sideways, nothing serious for axe-core."""
    before = page.viewport_size
    try:
        for width in WIDTHS:
            for theme in THEMES:
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{name} is {wide} wide in a window of {width}"
                found = Axe().run(page).response["violations"]
                bad = [
                    (rule["id"], [node["target"] for node in rule["nodes"]][:5])
                    for rule in found
                    if rule["impact"] in SERIOUS
                ]
                assert bad == [], f"{name}, {width} wide, {theme}: {bad}"
    finally:
        page.emulate_media(color_scheme="light")
        if before is not None:
            page.set_viewport_size(before)


def curves_drawn(page: Page, count: int) -> None:
    """Every figure has its drawing, and something is drawn in it."""
    expect(page.locator("figure.plot canvas")).to_have_count(count)
    empty = page.evaluate(
        """() => [...document.querySelectorAll("figure.plot canvas")].filter((canvas) => {
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return !data.some((value) => value);
        }).length"""
    )
    assert empty == 0


def note_drawn_words(page: Page) -> None:
    """From the next page on, what is written on a canvas is kept with it, and where a band is: a drawing has no text to read."""
    page.add_init_script(
        """const draw = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
            (this.canvas.words ??= []).push(text);
            return draw.call(this, text, ...more);
        };
        const fill = CanvasRenderingContext2D.prototype.fillRect;
        CanvasRenderingContext2D.prototype.fillRect = function (left, top, width, height) {
            if (this.globalAlpha < 0.2) (this.canvas.bands ??= []).push({ left, top, width, height });
            return fill.call(this, left, top, width, height);
        };"""
    )


def assert_plots_say_units(page: Page) -> None:
    """On every plot both axes have their names, and shares, ratios and times their units. After `note_drawn_words`."""
    wrong = page.evaluate(
        """() => [...document.querySelectorAll("figure.plot")].flatMap(({ id, dataset }, number) => {
            const words = document.querySelectorAll("figure.plot .canvas")[number].querySelector("canvas")?.words ?? [];
            const some = (part) => words.some((word) => word.includes(part));
            const unit = { share: "%", ratio: "×", ms: "ms", count: dataset.xLabel, number: dataset.yLabel };
            const wanted = [dataset.xLabel, dataset.yLabel, unit[dataset.unit], unit[dataset.xUnit]];
            return wanted.filter((word) => !word || !some(word)).map((word) => `${id}: ${word}`);
        })"""
    )
    assert wrong == [], f"not on the plot: {wrong}"


def assert_noise_is_a_band(page: Page, figure: str) -> None:
    """In the figure bands are drawn that follow each other without a gap over the width of the plot. After `note_drawn_words`."""
    page.wait_for_function("(figure) => document.querySelector(`${figure} canvas`)?.bands?.length", arg=figure)
    bands, wide = page.evaluate(
        """(figure) => {
            const canvas = document.querySelector(`${figure} canvas`);
            const over = canvas.parentElement.querySelector(".u-over");
            return [canvas.bands ?? [], over.clientWidth * devicePixelRatio];
        }""",
        figure,
    )
    assert bands, "no band"
    assert all(band["height"] > 1 for band in bands)
    ends = [band["left"] + band["width"] for band in bands]
    assert all(abs(end - after["left"]) < 1 for end, after in zip(ends, bands[1:], strict=False))
    assert abs(ends[-1] - bands[0]["left"] - wide) <= 2, f"{bands} in a plot of {wide} pixels"


def picture(page: Page, name: str, *, width: int = 1440, height: int = 900, theme: str = "light") -> None:
    """docs/images/page-NAME.png, where pictures are asked for (`make screenshots`)."""
    if "WRITE_SCREENSHOTS" not in os.environ:
        return
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("document.fonts.status === 'loaded'")
    page.wait_for_timeout(300)  # Curves are drawn anew for a new width.
    IMAGES.mkdir(exist_ok=True)
    page.screenshot(path=IMAGES / f"page-{name}.png")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(color_scheme="light")
