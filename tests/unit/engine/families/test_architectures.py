"""Every class of every family: what is read off its files, what it does once it is cut, what a stranger gets of it."""

import copy
import json

import pytest
import torch

from api_schemas.enums import Head
from api_schemas.spec.recovery import Lora
from benchmarks.families import fresh_process, reference
from benchmarks.families.examples import LABELS
from benchmarks.families.tiny_models import MODELS
from checkpoints.describe import describe_folder
from checkpoints.families import FAMILIES
from checkpoints.sizes import accounting
from tests.support.families import ALIKE, LEFT_TO_WHOLE
from tests.support.gate import WHOLE
from tests.unit.engine.families import cut_checks, method_checks
from worker.engine.checkpoint.load import PRUNING_FILE, load_original, load_step
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.exports.attention import for_export
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.recovery.lora import attach, merge

every = pytest.mark.parametrize("tiny", MODELS, ids=lambda tiny: tiny.id)
BLOCKS = [tiny for tiny in MODELS if WHOLE or tiny.name not in LEFT_TO_WHOLE]
"""Every way to compute blocks; in whole, every class."""
every_block = pytest.mark.parametrize("tiny", BLOCKS, ids=lambda tiny: tiny.id)
KEEPS = ("whole heads", "ragged", "unequal sides", "no heads first", "no heads at all", "neurons", "nothing cut")


@every
def test_a_saved_checkpoint_is_described_and_loaded(tiny, tmp_path):
    stock, kind = tiny.stock(), tiny.model_spec
    described = describe_folder(tiny.save(stock, tmp_path))
    assert (described.family, described.name) == (kind.family, tiny.name)
    assert described.labels == (
        LABELS if described.architecture.head in (Head.CLASSIFICATION, Head.TOKEN_CLASSIFICATION) else ()
    )
    total = sum(parameter.numel() for parameter in stock.parameters())
    assert accounting.total_parameters(described.shape, described.widths) == total
    loaded = load_original(tmp_path)
    blocks = attention_blocks(reference.dense(kind, stock).model, kind, described.widths)
    inside = sum(p.numel() for block in blocks for linear in block.projections.values() for p in linear.parameters())
    assert accounting.attention_parameters(described.shape, described.widths) == inside
    for path in kind.classifiers:
        stock.get_submodule(path)
    inputs = tiny.inputs(3)
    with torch.inference_mode():
        expected = reference.answer(stock, inputs)
        reference.assert_near(reference.answer(loaded.model, inputs), expected)


@pytest.mark.parametrize("name", KEEPS)
@every_block
def test_cut_equals_masked(tiny, name):
    inputs = tiny.inputs(3)
    cut_checks.check_cut(tiny.model_spec, tiny.stock(), inputs, name, None if tiny.mask is None else tiny.mask(inputs))


@every_block
def test_what_stays_gets_the_gradients_of_the_masked_model(tiny):
    cut_checks.check_gradients(tiny.model_spec, tiny.stock(), tiny.inputs(3), "heads and channels")


@pytest.mark.parametrize("name", ["nothing cut", "no heads first"])
@every_block
def test_flops_and_parameters_are_torchs(tiny, name):
    cut_checks.check_flops(tiny.model_spec, tiny.stock(), tiny.nominal(), name)


@every_block
def test_every_criterion_and_fisher_against_a_loop(tiny):
    method_checks.check_scores(tiny.model_spec, tiny.stock(), tiny.inputs(3))


@pytest.mark.parametrize("name", ["ragged", "no heads first"])
@every_block
def test_the_rotated_model_is_the_same_function(tiny, name):
    method_checks.check_rotation(tiny.model_spec, tiny.stock(), tiny.inputs(4), name)


@every_block
def test_streams_are_what_outputs_are_added_to(tiny):
    cut_checks.check_streams(tiny.model_spec, tiny.stock(), tiny.inputs(2))


@every_block
def test_least_squares_brings_unseen_inputs_nearer_than_bias(tiny):
    seen = [tiny.inputs(32, seed) for seed in range(10, 14)]
    method_checks.check_compensation(tiny.model_spec, tiny.stock(), seen, tiny.inputs(16, seed=2), "ragged")


@every_block
def test_a_model_that_was_not_cut_stays_as_it_is(tiny):
    method_checks.check_uncut_stays(tiny.model_spec, tiny.stock(), [tiny.inputs(8, seed) for seed in (10, 11)])


@pytest.mark.parametrize("name", ["heads and channels", "no heads first"])
@every_block
def test_what_is_exported_is_the_same_function(tiny, name):
    whole, inputs = reference.dense(tiny.model_spec, tiny.stock()), tiny.inputs(3)
    loaded = reference.cut_by(whole, reference.keeps(whole.widths)[name])
    with torch.inference_mode():
        reference.assert_near(reference.answer(for_export(loaded), inputs), reference.answer(loaded.model, inputs))


@every_block
def test_adapters_reach_attention_and_classifiers_and_merge_away(tiny):
    """Those of every projection that stays, under the names the modules really have."""
    kind, whole, inputs = tiny.model_spec, reference.dense(tiny.model_spec, tiny.stock()), tiny.inputs(3)
    loaded = reference.cut_by(whole, reference.keeps(whole.widths)["no heads last"])
    projections = projections_by_name(attention_blocks(loaded.model, kind, loaded.widths))
    plain = copy.deepcopy(loaded.model)
    adapted, ranks = attach(loaded.model, projections, kind.classifiers, Lora(rank=2, dropout=0.0))
    assert set(ranks) == set(projections)
    (reference.answer(adapted, inputs) ** 2).sum().backward()
    moved = {
        name for name, parameter in adapted.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    for path in projections:
        assert any(f"{path}.lora_B" in name for name in moved), path
    for path in kind.classifiers:
        assert any(f".{path}." in name for name in moved), path
    with torch.inference_mode():
        assert torch.equal(reference.answer(merge(adapted), inputs), reference.answer(plain, inputs))


def _written(folder, loaded, without_code, scale):
    """What the engine itself reads of a step that it wrote."""
    record = {
        "family": loaded.model_spec.family.name,
        "architecture": loaded.model_spec.name,
        "widths": loaded.widths.model_dump(mode="json"),
        "stock_layout": without_code,
        "query_scale": scale,
    }
    (folder / PRUNING_FILE).write_text(json.dumps(record))
    return load_step(folder).model


def _cuts(family):
    """What is left of every block unequal; and alike, by the family's keys: then stock code will do."""
    yield "heads and channels"
    yield from ("equal",) if family.head_dim_key else ()
    yield from ("equal neurons",) if family.neurons_key else ()
    yield from ("equal, neurons too",) if family.head_dim_key and family.neurons_key else ()


def first_of_each():
    """Of every family that computes as no other does, the first class."""
    seen = set(ALIKE)
    for tiny in MODELS:
        if (name := tiny.model_spec.family.name) not in seen:
            seen.add(name)
            yield tiny


def test_strangers_load_what_was_cut(tmp_path):
    """Blocks of many widths, half of them in half precision; and with equal ones, where stock code will do."""
    packages, stock_layouts, texts = [], set(), {}
    for number, tiny in enumerate(BLOCKS if WHOLE else first_of_each()):
        stock, inputs = tiny.stock(), tiny.inputs(3)
        stock = stock.to(torch.bfloat16) if number % 2 else stock
        loaded = load_original(tiny.save(stock, tmp_path / f"original {number}"))
        for name in _cuts(tiny.model_spec.family):
            smaller = reference.cut_by(loaded, reference.keeps(loaded.widths)[name])
            folder = tmp_path / f"{name} {number}"
            without_code, scale = save_checkpoint(folder, smaller, tmp_path / f"original {number}")
            assert without_code == (name != "heads and channels")
            stock_layouts |= {str(folder)} if without_code else set()
            again = _written(folder, smaller, without_code, scale)
            with torch.inference_mode():
                expected = reference.answer(again, inputs)
                if stock.dtype == torch.float32:
                    reference.assert_near(expected, reference.answer(smaller.model, inputs))
                if again.can_generate():
                    tokens = again.generate(inputs[again.main_input_name], max_new_tokens=12, do_sample=False)
                    texts[str(folder)] = tokens.tolist()
            packages.append(
                fresh_process.Packaged(
                    folder, tiny.model_spec.family.architectures[tiny.name].auto_class, inputs, expected
                )
            )
    results = fresh_process.load_in_fresh_process(packages, tmp_path)
    assert {folder for folder, result in results.items() if not result["code"]} == stock_layouts
    assert stock_layouts
    assert {folder: result["written"] for folder, result in results.items() if "written" in result} == texts
    assert texts


def test_the_table_has_every_class():
    assert {tiny.name for tiny in MODELS} == {name for family in FAMILIES for name in family.architectures}
