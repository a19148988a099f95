"""The race of whole models: FLOPs as they run, arms that meet their share of them, and the page."""

import re

import pytest
import torch

from api_schemas.enums import Split
from benchmarks.race.arms import moments, slicegpt
from benchmarks.race.cells import Cell, Stage, Status
from benchmarks.race.counting import flops
from benchmarks.race.evaluation import Predictions
from benchmarks.race.results.summary import summarise
from benchmarks.race.setup import Setup, Unreachable
from benchmarks.race.whole import programme, tables
from checkpoints.sizes import accounting
from tests.unit.benchmarks.race.setups import small_setup
from tests.unit.engine.small import TOKENS


@pytest.fixture
def setup(tmp_path) -> Setup:
    return programme.as_whole(small_setup(tmp_path))


def test_flops_as_they_run_are_those_of_the_widths(setup):
    shape = setup.described.shape
    assert flops(setup.dense.model, TOKENS) == accounting.total_flops(shape, shape.dense)
    kept = setup.dense.model.config._attn_implementation
    widths = moments.widths_of(setup.dense.widths, 3, 17)
    state = dict(setup.dense.model.state_dict())
    new = moments.Rewriter(setup.dense)
    for block in moments.attentions(setup.dense):
        for side, name in block.names.items():
            weight = state[f"{name}.weight"]
            new.put(name, weight[:, :12], None) if side == "o" else new.put(
                name, weight[:12], state[f"{name}.bias"][:12]
            )
    for pair in moments.feed_forwards(setup.dense):
        new.put(pair.names[0], state[f"{pair.names[0]}.weight"][:17], state[f"{pair.names[0]}.bias"][:17])
        new.put(pair.names[1], state[f"{pair.names[1]}.weight"][:, :17])
    narrow = new.built(widths)
    assert flops(narrow.model, TOKENS) == accounting.total_flops(shape, widths)
    assert setup.sparsity(narrow) == pytest.approx(setup.share_gone(widths))
    assert setup.dense.model.config._attn_implementation == kept


ARMS = [arm for arm in programme.all_arms() if arm.family != "torch-pruning" or arm.name.endswith("dims/taylor/global")]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_removes_the_share_it_was_asked_for(setup, arm):
    if arm.family == "torch-pruning":
        pytest.importorskip("torch_pruning", reason="the peer is an extra: pip install -e .[bench]")
    before = {name: tensor.clone() for name, tensor in setup.dense.model.state_dict().items()}
    loaded = arm.cut(setup, 0, 0.5)
    # Levels of neurons are a tenth apart in the database of OBS, and streams and blocks are narrow here.
    coarse = arm.family in ("obs", "slicegpt")
    assert setup.sparsity(loaded) == pytest.approx(0.5, abs=0.04 if coarse else 0.015)
    inputs, _ = setup.calibration(0).batch(range(4))
    with torch.inference_mode():
        assert torch.isfinite(loaded.model(**inputs).logits).all()
    for name, tensor in setup.dense.model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the dense model has changed"


def test_a_model_that_is_turned_and_not_sliced_is_the_same(setup):
    hidden = setup.described.shape.attention[0].hidden
    turned = slicegpt.SlicedAST(setup.dense.model, slicegpt.slices(setup, 0), hidden).eval()
    inputs, _ = setup.calibration(0).batch(range(4))
    with torch.inference_mode():
        torch.testing.assert_close(turned(**inputs).logits, setup.dense.model(**inputs).logits, rtol=1e-3, atol=1e-3)
    for width in (hidden, 7):
        sliced = slicegpt.SlicedAST(setup.dense.model, slicegpt.slices(setup, 0), width)
        assert flops(sliced, TOKENS) == slicegpt.flops(setup, width)
    # The residual path's own maps are what a narrower stream costs.
    assert slicegpt.flops(setup, hidden) > flops(setup.dense.model, TOKENS)


def cell(arm: str, family: str, right: list[bool], *, target: float = 0.75, stage: Stage = Stage.ONE_SHOT) -> Cell:
    import numpy as np

    found = Predictions.of(np.array(right), 1.0)
    return Cell(
        key="k", stage=stage, arm=arm, family=family, target=target, seed=0, status=Status.DONE, achieved=target,
        validation=found, test=found,
    )  # fmt: skip


def test_peers_go_on_by_validation_one_a_family():
    cells = [
        cell("ours/best", "ours", [True] * 10),
        cell("obs/obs", "obs", [True] * 8 + [False] * 2),
        cell("obs/obs, by loss", "obs", [True] * 9 + [False]),
        cell("corp/corp", "corp", [True] * 7 + [False] * 3),
        cell("a3/a3", "a3", [True] * 5 + [False] * 5),
        cell("slicegpt/slicegpt", "slicegpt", [True] * 10),
        cell("a3/a3", "a3", [True] * 10, target=0.5),
    ]
    assert programme.strongest(cells, 0.75, 2) == ["obs/obs, by loss", "corp/corp"]


def test_the_page_says_which_goals_hold_and_who_is_ahead(tmp_path):
    right = [True] * 190 + [False] * 10
    cells = [
        cell("dense", "dense", right, target=0.0),
        cell("ours/best", "ours", [*right[:189], *[False] * 11]),
        cell("obs/obs", "obs", [True] * 200),
    ]
    part = tables.Part("ast-asc", {"processor": "any"}, {Split.TEST.value: 200}, 512)
    page = tables.write(tmp_path, part, summarise(cells))
    text = page.read_text()
    assert "75%: at most 0.5 points below dense. 0.50: holds." in text
    assert re.search(r"Never significantly behind a peer that was run: \*\*missed\*\*: behind obs/obs at 75%", text)
    page.write_text(text + "\nby hand\n")
    other = tables.Part("minilm", {"processor": "any"}, {Split.TEST.value: 200}, 512)
    again = tables.write(tmp_path, other, []).read_text()
    assert "## ast-asc" in again
    assert "## minilm" in again
    assert again.endswith("\nby hand\n")


def test_slicing_does_not_apply_to_a_post_norm_model(setup):
    import dataclasses

    spec = dataclasses.replace(setup.dense.model_spec, name="ASTModel")
    setup.dense = dataclasses.replace(setup.dense, model_spec=spec)
    with pytest.raises(Unreachable, match="pre-norm"):
        slicegpt.arms()[0].cut(setup, 0, 0.5)
