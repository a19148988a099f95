"""The report page: complete, self-contained, safe with strangers' words, and the same bytes every time."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from worker.engine.report import write_report

from .conftest import HOSTILE, Job, make_job

FIGURES = ("tradeoff", "speed", "layers", "widths", "loss")
_VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects elements and text, and insists that every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def attributes(self) -> Iterator[tuple[str, str]]:
        return ((name, value or "") for _, attributes in self.elements for name, value in attributes.items())


def _write(folder: Path, job: Job, title: str = "Keywords") -> Page:
    write_report(folder, job.steps, spec=job.spec, data=job.data, title=title)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_writes_a_flat_folder_of_figures_and_one_page(tmp_path: Path, job: Job) -> None:
    _write(tmp_path, job)
    expected = {f"figure-{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg")} | {"report.html"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    for name in FIGURES:
        assert (tmp_path / f"figure-{name}.png").read_bytes().startswith(b"\x89PNG\r\n")
        assert ElementTree.parse(tmp_path / f"figure-{name}.svg").getroot().tag.endswith("}svg")


def test_the_page_is_well_formed_and_its_ids_are_unique(tmp_path: Path, job: Job) -> None:
    page = _write(tmp_path, job)
    assert page.open == []
    ids = [value for name, value in page.attributes() if name == "id"]
    # A marker's symbol may be defined again with the same content inside one figure; other ids may not repeat.
    repeated = {value for value in ids if ids.count(value) > 1}
    assert not repeated
    references = {value[1:] for name, value in page.attributes() if name == "xlink:href"}
    assert references
    assert references <= set(ids)


def test_the_page_requests_nothing(tmp_path: Path, hostile_job: Job) -> None:
    page = _write(tmp_path, hostile_job)
    assert not {tag for tag, _ in page.elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    }
    for name, value in page.attributes():
        assert not name.startswith("on")
        if name in {"src", "href", "xlink:href", "action", "srcset", "poster", "data"}:
            assert value.startswith("#")
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "@import" not in source
    assert not re.search(r"url\((?!#)", source)


def test_strangers_words_stay_words(tmp_path: Path, hostile_job: Job) -> None:
    page = _write(tmp_path, hostile_job, title="</title><script>alert(2)</script>")
    assert "<script>alert(1)</script>" in page.text
    assert "</title><script>alert(2)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "49" not in [word.strip(",") for word in page.text.split()]
    assert not any(c in page.text for c in "\u202e\x00\x1b")
    assert HOSTILE[1] in page.text


def test_the_tables_hold_the_measurements(tmp_path: Path, job: Job) -> None:
    text = _write(tmp_path, job).text
    last = job.steps[-1]
    assert last.validation.accuracy is not None
    assert last.test is not None
    assert last.test.accuracy is not None
    for shown in (
        f"{100 * last.achieved_sparsity:.2f}%",
        f"{100 * last.validation.accuracy:.1f}%",
        f"{100 * last.test.accuracy:.1f}%",
        f"{last.validation.cross_entropy:.4f}",
        f"{last.latency[1].speedup:.2f}×",
        f"{last.latency[0].p95_ms:.2f} ms",
        "7.34 MB",
        "held out of train by seed 0",
        "1200 samples",
        "3.1e-07",
        "Grouped by speaker",
    ):
        assert shown in text, shown


def test_exports_have_a_table_where_there_are_some(tmp_path: Path, job: Job, exported_job: Job) -> None:
    assert "onnx" not in _write(tmp_path, job).text
    page = _write(tmp_path, exported_job)
    assert page.open == []
    for shown in ("model.onnx", "4.2e-06", "100.0%", "model.int8.onnx", "1.91 MB", "0.21", "98.8%", "81.1%", "1.48×"):
        assert shown in page.text, shown


def test_several_labels_a_clip_are_measured_by_map(tmp_path: Path, multi_label_job: Job) -> None:
    page = _write(tmp_path, multi_label_job)
    assert "mAP, validation" in page.text
    assert "accuracy" not in page.text.lower().replace("accuracy/", "")
    assert "mAP (%)" in (tmp_path / "figure-tradeoff.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("multi_label", [False, True])
def test_same_input_same_bytes(tmp_path: Path, multi_label: bool) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        _write(folder, make_job(multi_label=multi_label))
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second


def test_other_input_other_figures(tmp_path: Path, job: Job) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, shown in zip(folders, (job, make_job(steps=4)), strict=True):
        folder.mkdir()
        _write(folder, shown)
    for name in FIGURES:
        assert (folders[0] / f"figure-{name}.svg").read_bytes() != (folders[1] / f"figure-{name}.svg").read_bytes()


def test_the_layer_figure_shows_every_layers_sparsity(tmp_path: Path, job: Job) -> None:
    _write(tmp_path, job)
    shown = re.findall(r">(\d+)</text>", (tmp_path / "figure-layers.svg").read_text(encoding="utf-8"))
    dense, last = job.steps[0].widths.layers, job.steps[-1].widths.layers
    for before, after in zip(dense, last, strict=True):
        assert f"{100 * (1 - after.qk_total / before.qk_total):.0f}" in shown


def test_the_original_alone_makes_a_report_too(tmp_path: Path, job: Job) -> None:
    write_report(tmp_path, job.steps[:1], spec=job.spec, data=job.data, title="Original")
    names = {path.name for path in tmp_path.iterdir()}
    assert "report.html" in names
    assert not {"figure-layers.svg", "figure-loss.svg"} & names


def test_a_report_needs_a_step(tmp_path: Path, job: Job) -> None:
    with pytest.raises(ValueError, match="step 0"):
        write_report(tmp_path, (), spec=job.spec, data=job.data, title="Nothing")
