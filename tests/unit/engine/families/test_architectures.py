"""Every class of every family: what is read off its files, what it does once it is cut, what a stranger gets of it."""

import pytest
import torch

from api_schemas import accounting
from api_schemas.checkpoint import describe_folder
from api_schemas.enums import Head
from api_schemas.families import FAMILIES
from tests.unit.engine.families import checks
from tests.unit.engine.families.models import LABELS, MODELS
from worker.engine.attention import attention_blocks
from worker.engine.checkpoint.load import load_original

every = pytest.mark.parametrize("tiny", MODELS, ids=lambda tiny: tiny.id)
KEEPS = ("whole heads", "ragged", "unequal sides", "no heads first", "no heads at all", "nothing cut")


@every
def test_a_saved_checkpoint_is_described_and_loaded(tiny, tmp_path):
    stock, kind = tiny.stock(), tiny.kind
    described = describe_folder(tiny.save(stock, tmp_path))
    assert (described.family, described.name) == (kind.family, tiny.name)
    assert described.labels == (
        LABELS if described.architecture.head in (Head.CLASSIFICATION, Head.TOKEN_CLASSIFICATION) else ()
    )
    total = sum(parameter.numel() for parameter in stock.parameters())
    assert accounting.total_parameters(described.shape, described.widths) == total
    blocks = attention_blocks(stock, kind, described.widths)
    inside = sum(p.numel() for block in blocks for linear in block.projections.values() for p in linear.parameters())
    assert accounting.attention_parameters(described.shape, described.widths) == inside
    for path in kind.classifiers:
        stock.get_submodule(path)
    inputs = tiny.inputs(3)
    with torch.inference_mode():
        expected = checks.answer(stock, inputs)
        checks.assert_near(checks.answer(load_original(tmp_path).model, inputs), expected)


@pytest.mark.parametrize("name", KEEPS)
@every
def test_cut_equals_masked(tiny, name):
    inputs = tiny.inputs(3)
    checks.check_cut(tiny.kind, tiny.stock(), inputs, name, None if tiny.mask is None else tiny.mask(inputs))


@every
def test_what_stays_gets_the_gradients_of_the_masked_model(tiny):
    checks.check_gradients(tiny.kind, tiny.stock(), tiny.inputs(3), "heads and channels")


@pytest.mark.parametrize("name", ["nothing cut", "ragged", "no heads first"])
@every
def test_flops_and_parameters_are_torchs(tiny, name):
    checks.check_flops(tiny.kind, tiny.stock(), tiny.nominal(), name)


def test_the_table_has_every_class():
    ours = {"ast"}  # tests/unit/engine/test_families.py
    expected = {name for family in FAMILIES for name in family.architectures if family.name not in ours}
    assert expected <= {tiny.name for tiny in MODELS}
