"""The report page: complete, self-contained, safe with strangers' words, and the same bytes every time."""

import re
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from api_schemas.enums import (
    Balance,
    Basis,
    Compensation,
    Granularity,
    Layout,
    Normalization,
    Part,
    Scope,
    TargetKind,
)
from api_schemas.results.display import head_sparsity
from api_schemas.results.metrics import EpochLoss, JobWarning, TargetMet
from api_schemas.results.parts import together
from api_schemas.results.widths import AttentionWidths, LayerWidths
from api_schemas.spec.job import EngineSpec
from worker.engine.report import html, write_report
from worker.engine.report.descriptions import method

from .conftest import ARCHITECTURE, HOSTILE, Job, cutting_both, make_job, measured_by

FIGURES = ("tradeoff", "speed", "size", "layers", "heads", "loss")
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
    write_report(
        folder,
        job.steps,
        spec=job.spec,
        data=job.data,
        title=title,
        architecture=ARCHITECTURE,
        result=job.result,
    )
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    """Folder and page of the job of `job`, for tests that only look: drawing takes seconds."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, _write(folder, make_job())


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the page's words alone."""
    monkeypatch.setattr(html, "write_figures", lambda *_, **__: ())


def test_writes_a_flat_folder_of_figures_and_one_page(whole: tuple[Path, Page]) -> None:
    folder, _ = whole
    expected = {f"figure-{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg")} | {"report.html"}
    assert {path.name for path in folder.iterdir()} == expected
    for name in FIGURES:
        assert (folder / f"figure-{name}.png").read_bytes().startswith(b"\x89PNG\r\n")
        assert ElementTree.parse(folder / f"figure-{name}.svg").getroot().tag.endswith("}svg")


def test_the_page_is_well_formed_and_its_ids_are_unique(whole: tuple[Path, Page]) -> None:
    _, page = whole
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


def test_the_tables_hold_the_measurements(whole: tuple[Path, Page], job: Job) -> None:
    text = whole[1].text
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


@pytest.mark.usefixtures("no_figures")
def test_what_is_to_be_known_of_the_data_is_said(tmp_path: Path, job: Job) -> None:
    found = JobWarning(code="shared_rows", pointer="/dataset/splits/test", detail="7 rows are in <train>, too.")
    page = _write(tmp_path, replace(job, data=job.data.model_copy(update={"warnings": (found,)})))
    assert "Warning" in page.text
    assert found.detail in page.text


@pytest.mark.usefixtures("no_figures")
def test_exports_have_a_table_where_there_are_some(tmp_path: Path, job: Job, exported_job: Job) -> None:
    assert "onnx" not in _write(tmp_path, job).text
    page = _write(tmp_path, exported_job)
    assert page.open == []
    graphs = ("model.onnx", "4.2e-06", "100.0%", "model.int8.onnx", "1.91 MB", "0.21", "98.8%", "81.1%", "1.48×")
    for shown in (*graphs, "torchao_int8/model.safetensors", "1.95 MB", "98.4%"):
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


def test_other_input_other_figures(whole: tuple[Path, Page], tmp_path: Path) -> None:
    _write(tmp_path, make_job(steps=4))
    for name in FIGURES:
        assert (whole[0] / f"figure-{name}.svg").read_bytes() != (tmp_path / f"figure-{name}.svg").read_bytes()


def test_the_drop_that_is_allowed_is_drawn_where_there_is_a_bound(
    whole: tuple[Path, Page], tmp_path: Path, stopped_job: Job
) -> None:
    _write(tmp_path, stopped_job)
    for folder, said in ((whole[0], False), (tmp_path, True)):
        assert (">allowed</text>" in (folder / "figure-tradeoff.svg").read_text(encoding="utf-8")) is said


def test_what_is_left_is_drawn_and_how_far_off_the_target_it_is_stands_in_the_table(
    whole: tuple[Path, Page], job: Job
) -> None:
    folder, page = whole
    drawn = (folder / "figure-size.svg").read_text(encoding="utf-8")
    assert all(
        f">{word}</text>" in drawn for word in ("attention parameters", "all parameters", "FLOPs per input", "file")
    )
    last = job.steps[-1]
    off = 100 * (last.achieved_sparsity - last.requested_sparsity)
    assert off
    shown = f"{100 * last.requested_sparsity:.1f}% {100 * last.achieved_sparsity:.2f}% {off:+.2f} points"
    assert shown in page.text


def test_words_are_true_for_a_job_without_recovery(whole: tuple[Path, Page], tmp_path: Path, job: Job) -> None:
    folder, page = whole
    drawn = (folder / "figure-tradeoff.svg").read_text(encoding="utf-8")
    assert "accuracy, before recovery" in page.text
    assert "Each point is a step, before and after recovery." in page.text
    assert "Shaded: its 95% interval on its 400 samples." in page.text
    assert ">before recovery, validation</text>" in drawn
    steps = tuple(step.model_copy(update={"losses": (), "lora_ranks": {}}) for step in job.steps)
    page = _write(tmp_path, replace(job, steps=steps, spec=job.spec.model_copy(update={"finetune": None})))
    words = page.text.partition("The whole spec")[0].replace("without recovery", "").replace("Recovery none", "")
    assert "recovery" not in words.lower()
    assert "recovery" not in (tmp_path / "figure-tradeoff.svg").read_text(encoding="utf-8")


def test_losses_are_drawn_by_parts_of_epochs(tmp_path: Path, job: Job) -> None:
    """Each recovery of one epoch of 50 parts; and of means alone, as earlier versions left them."""
    points = tuple(2.0 / (1 + part) for part in range(50))
    one = EpochLoss(epoch=1, train_loss=0.2, learning_rate=1e-4)
    for losses, vertices in (((one.model_copy(update={"points": points}),), 50), (job.steps[1].losses, 3)):
        steps = tuple(step.model_copy(update={"losses": losses if step.step else ()}) for step in job.steps)
        page = _write(tmp_path, replace(job, steps=steps))
        root = ElementTree.parse(tmp_path / "figure-loss.svg").getroot()
        paths = [
            element.get("d", "") for element in root.iter() if "fill: none; stroke: #0072b2" in element.get("style", "")
        ]
        assert [1 + path.count("L ") for path in paths] == 3 * [vertices]
        assert ("Mean over the batches since the previous point" in page.text) is (vertices == 50)


def test_the_layer_figure_shows_every_layers_sparsity(whole: tuple[Path, Page], job: Job) -> None:
    shown = re.findall(r">(\d+)</text>", (whole[0] / "figure-layers.svg").read_text(encoding="utf-8"))
    dense, last = job.steps[0].widths.layers, job.steps[-1].widths.layers
    for before, after in zip(dense, last, strict=True):
        assert f"{100 * (1 - after.qk_total / before.qk_total):.0f}" in shown


def cell_texts(folder: Path, figure: str) -> list[str]:
    """The numbers written into a heat map's cells, row by row, its panels one after the other."""
    source = (folder / f"figure-{figure}.svg").read_text(encoding="utf-8")
    return re.findall(r"font-size: 7\.5px[^>]*>([-\d.]+)</text>", source)


def test_the_head_figure_shows_every_head_of_the_original(whole: tuple[Path, Page], job: Job) -> None:
    rows = [["100"] * (6 - layer.heads) + ["0"] * layer.heads for layer in job.steps[-1].widths.layers]
    assert cell_texts(whole[0], "heads") == 2 * [cell for row in rows for cell in row]


def test_ragged_heads_are_shown_one_by_one_qk_and_vo_apart() -> None:
    """Head 1 of the first layer is gone; the second layer has lost all of its heads."""
    dense = AttentionWidths.dense(layers=2, heads=3, head_dim=8)
    left = LayerWidths(qk=(2, 8), vo=(6, 1), numbers=(0, 2))
    cut = AttentionWidths(head_dim=8, layers=(left, LayerWidths(qk=(), vo=())))
    assert head_sparsity(dense, cut, "QK") == ((0.75, 1.0, 0.0), (1.0, 1.0, 1.0))
    assert head_sparsity(dense, cut, "VO") == ((0.25, 1.0, 0.875), (1.0, 1.0, 1.0))


def test_the_sensitivity_figure_shows_what_each_layer_costs(tmp_path: Path, analysed_job: Job) -> None:
    page = _write(tmp_path, analysed_job)
    points = [3.0, 6.0, 12.0, 10.0, 20.0, 40.0, 6.0, 12.0, 24.0, -0.5, -1.0, -2.0]
    nats = [0.06, 0.12, 0.24, 0.20, 0.40, 0.80, 0.12, 0.24, 0.48, -0.01, -0.02, -0.04]
    assert cell_texts(tmp_path, "sensitivity") == [f"{v:.1f}" for v in points] + [f"{v:.2f}" for v in nats]
    assert "What cutting each layer alone would cost" in page.text
    assert "on 128 validation samples" in page.text
    # A sixth is as near as whole heads come to a quarter, and the reader is told.
    assert "actually removed were 17 to 17%, 50 to 50%, 83 to 83%." in page.text


@pytest.mark.usefixtures("no_figures")
def test_a_stopped_job_says_why_and_which_step_to_take(tmp_path: Path, stopped_job: Job, job: Job) -> None:
    assert stopped_job.result is not None
    page = _write(tmp_path, stopped_job)
    assert "The job stopped here, before its target." in page.text
    assert stopped_job.result.detail in page.text
    assert "The result's accuracy on test is 81.2%." in page.text
    assert "2 result" in page.text
    assert "3 beyond the bound" in page.text
    assert "falls by more than 5 points" in page.text
    free = _write(tmp_path, job)
    assert "3 result" not in free.text
    assert "bound" not in free.text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("kind", list(TargetKind))
def test_what_was_asked_and_what_was_met_in_the_targets_own_unit(tmp_path: Path, job: Job, kind: TargetKind) -> None:
    steps = tuple(
        step.model_copy(update={"target": TargetMet(kind=kind, requested=0.1 * step.step, achieved=0.1 * step.step + 0.0123)})
        if step.step else step
        for step in job.steps
    )  # fmt: skip
    spec = EngineSpec.model_validate({"pruning": {"target": {kind: 0.3}}})
    page = _write(tmp_path, replace(job, steps=steps, spec=spec))
    # What is asked of a part by itself has its columns in the table of steps.
    of_a_part = kind in (TargetKind.ATTENTION_SPARSITY, TargetKind.FFN_SPARSITY)
    assert ("the unit of the target" in page.text) is not of_a_part
    assert ("31.23%" in page.text) is not of_a_part
    assert ("+1.23 points" in page.text) is not of_a_part


BOTH = {"attention_sparsity": 0.5, "ffn_sparsity": 0.5}


def test_a_job_that_cuts_both_shows_what_was_asked_and_met_of_both(tmp_path: Path, job: Job) -> None:
    both = cutting_both(job, BOTH)
    page, last = _write(tmp_path, both), both.steps[-1]
    attention = f"{100 * last.achieved_sparsity:.1f}%"
    assert f"Keywords: {attention} of its attention and 30.0% of its feed-forward parameters removed" in page.text
    assert (
        "towards the target: 50.0% of the original attention parameters and 50.0% of the original feed-forward"
        in page.text
    )
    assert f"attention removed {attention} target {100 * last.requested_sparsity:.1f}%" in page.text
    assert "feed-forward removed 30.0% target 33.3%" in page.text
    off = f"{100 * (last.achieved_sparsity - last.requested_sparsity):+.2f} points"
    shown = f"{100 * last.requested_sparsity:.1f}% {100 * last.achieved_sparsity:.2f}% {off} 33.3% 30.00% -3.33 points"
    assert shown in page.text
    assert "feed-forward parameters -30.0%" in page.text
    assert "neurons of feed-forward blocks" in page.text
    # Beside what is gone of QK and of VO, a column a block of what is gone of the neurons.
    cells = cell_texts(tmp_path, "layers")
    assert cells[-12:] == [cell for step in ("10", "20", "30") for cell in 4 * [step]]
    assert len(cells) == 36
    assert "attention and feed-forward parameters removed" in (tmp_path / "figure-tradeoff.svg").read_text()


def test_a_job_of_feed_forward_blocks_alone_says_nothing_of_attention_removed(tmp_path: Path, job: Job) -> None:
    page = _write(tmp_path, cutting_both(job, {"ffn_sparsity": 0.5}))
    assert "Keywords: 30.0% of its feed-forward parameters removed" in page.text
    assert "feed-forward removed 30.0% target 33.3%" in page.text
    assert "attention removed" not in page.text
    assert "fisher_gate criterion, global scope, step 3" in page.text
    assert "the unit of the target" not in page.text
    assert not (tmp_path / "figure-heads.svg").exists()
    assert cell_texts(tmp_path, "layers") == [cell for step in ("10", "20", "30") for cell in 4 * [step]]


@pytest.mark.usefixtures("no_figures")
def test_in_one_ranking_nothing_was_asked_of_either_part(tmp_path: Path, job: Job) -> None:
    page = _write(tmp_path, cutting_both(job, {"flops": 0.5}, parts=["attention", "feed_forward"]))
    assert "feed-forward removed 30.0% target –" in page.text
    assert "in one ranking with the rest" in page.text


def test_figures_are_drawn_against_the_parameters_of_what_is_cut(job: Job) -> None:
    both = cutting_both(job, BOTH)
    first, last = both.steps[0], both.steps[-1]
    parameters = [step.size.attention_parameters + step.size.feed_forward_parameters for step in (first, last)]
    assert together(first, last, tuple(Part)) == pytest.approx(1 - parameters[1] / parameters[0], abs=1e-5)
    assert together(first, last, (Part.ATTENTION,)) == last.achieved_sparsity
    assert together(first, last, (Part.FEED_FORWARD,)) == last.ffn_sparsity


@pytest.mark.usefixtures("no_figures")
def test_the_method_is_told(tmp_path: Path, job: Job) -> None:
    spec = EngineSpec.model_validate({
        "pruning": {
            "target": {"attention_sparsity": 0.5}, "granularity": "ragged", "basis": "principal", "align": 8,
            "compensation": "least_squares", "normalization": "parameters", "exclude_layers": [0, 3], "only": "encoder",
            "schedule": {"steps": 4, "shape": "cubic"}, "calibration": {"labels": "model"},
        },
        "finetune": {"method": "full", "epochs": 1, "distill": {"weight": 0.7, "temperature": 3, "attention": 0.25}},
    })  # fmt: skip
    text = _write(tmp_path, replace(job, spec=spec)).text
    for shown in (
        "any number of channels in any head", "widths in multiples of 8", "scores per parameter removed",
        "rotated into its principal axes", "refitted on the calibration samples", "in 4 steps, cubic",
        "Not cut layers 0, 3", "Cut alone the encoder",
        "over the model's own labels", "after each step 1 epoch on train, all weights",
        "with recovery of all weights",
        "70% of the loss for the original's answers at temperature 3, 30% for the labels",
        "attention outputs matched layer by layer, weight 0.25",
    ):  # fmt: skip
        assert shown in text, shown


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field, words in {
            "granularity": Granularity, "basis": Basis, "compensation": Compensation, "normalization": Normalization,
            "scope": Scope, "balance": Balance, "layout": Layout,
        }.items()
        for value in words
    ],
)  # fmt: skip
def test_every_setting_has_words(job: Job, field: str, value: StrEnum) -> None:
    """A new word of the contract must not end a job when its report is written."""
    pruning = job.spec.pruning.model_copy(update={field: value})
    told = method(job.spec.model_copy(update={"pruning": pruning, "finetune": None}), job.steps[-1])
    assert all(what and how for what, how in told)
    assert ("recovery", "none") in told


def test_the_original_alone_makes_a_report_too(tmp_path: Path, job: Job) -> None:
    write_report(tmp_path, job.steps[:1], spec=job.spec, data=job.data, title="Original", architecture=ARCHITECTURE)
    names = {path.name for path in tmp_path.iterdir()}
    assert "report.html" in names
    assert not {"figure-layers.svg", "figure-heads.svg", "figure-loss.svg", "figure-sensitivity.svg"} & names


def test_a_report_needs_a_step(tmp_path: Path, job: Job) -> None:
    with pytest.raises(ValueError, match="step 0"):
        write_report(tmp_path, (), spec=job.spec, data=job.data, title="Nothing", architecture=ARCHITECTURE)


def test_errors_of_words_are_written_as_errors(tmp_path: Path, analysed_job: Job) -> None:
    job = measured_by(analysed_job, cross_entropy=1.234, word_error_rate=0.123, character_error_rate=0.05)
    page = _write(tmp_path, job)
    assert "WER, validation" in page.text
    assert "12.3%" in page.text
    assert "1.2340" in page.text
    assert "accuracy" not in page.text.lower()
    assert "WER gained (points)" in (tmp_path / "figure-sensitivity.svg").read_text(encoding="utf-8")


def test_layers_of_a_model_that_writes_are_shown_by_their_loss_alone(tmp_path: Path, analysed_job: Job) -> None:
    found = analysed_job.steps[0].sensitivity
    assert found is not None
    layers = tuple(layer.model_copy(update={"metric": (None,) * 3}) for layer in found.layers)
    without = found.model_copy(update={"dense_metric": None, "layers": layers})
    steps = (analysed_job.steps[0].model_copy(update={"sensitivity": without}), *analysed_job.steps[1:])
    _write(tmp_path, measured_by(replace(analysed_job, steps=steps), cross_entropy=1.2, word_error_rate=0.1))
    figure = (tmp_path / "figure-sensitivity.svg").read_text(encoding="utf-8")
    assert "cross entropy gained (nats)" in figure
    assert "(points)" not in figure


def test_embeddings_have_no_cross_entropy(tmp_path: Path, analysed_job: Job) -> None:
    found = analysed_job.steps[0].sensitivity
    assert found is not None
    layers = tuple(layer.model_copy(update={"cross_entropy": (None,) * 3}) for layer in found.layers)
    without = found.model_copy(update={"dense_cross_entropy": None, "layers": layers})
    steps = (analysed_job.steps[0].model_copy(update={"sensitivity": without}), *analysed_job.steps[1:])
    job = measured_by(replace(analysed_job, steps=steps), cosine_similarity=0.98765, similarity_correlation=0.9)
    page = _write(tmp_path, job)
    assert "cosine similarity, validation" in page.text
    assert "0.9877" in page.text
    assert "cross entropy" not in page.text.lower()
    assert "nats" not in (tmp_path / "figure-sensitivity.svg").read_text(encoding="utf-8")
