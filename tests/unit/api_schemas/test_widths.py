"""Widths of heads: what is a layer, and which layouts a stock configuration can say."""

import pytest
from pydantic import ValidationError

from api_schemas.results.widths import AttentionWidths, LayerWidths
from checkpoints.sizes.accounting import attention_flops, attention_parameters, attention_sparsity
from tests.support.checkpoints.shapes import equal_shape

SHAPE = equal_shape(2, heads=4, head_dim=8, hidden=32, tokens=14)
ATTENTION = attention_parameters(SHAPE, SHAPE.dense)


def test_a_layer_may_have_no_heads_and_keeps_its_output_bias():
    layer = LayerWidths(qk=(), vo=())
    assert (layer.heads, layer.qk_total, layer.vo_total, layer.uniform) == (0, 0, 0, True)
    widths = AttentionWidths.of(8, [((), ()), ((8, 8, 8, 8), (8, 8, 8, 8))])
    assert attention_parameters(SHAPE, widths) == 32 + ATTENTION // 2
    assert attention_flops(SHAPE, widths) == 4 * (2 * 14 * 32 * 32 + 14 * 14 * 32)
    none = AttentionWidths.of(8, [((), ()), ((), ())])
    assert attention_sparsity(SHAPE, none) == 1 - 64 / ATTENTION
    assert attention_flops(SHAPE, none) == 0
    assert AttentionWidths.model_validate_json(none.model_dump_json()) == none


@pytest.mark.parametrize(("qk", "vo"), [((4,), ()), ((4, 0), (4, 4)), ((4, 4), (-1, 4))])
def test_what_is_no_layer(qk, vo):
    with pytest.raises(ValidationError):
        LayerWidths(qk=qk, vo=vo)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([((8, 8), (8, 8))] * 2, (2, 8)),
        ([((8, 8), (8, 8)), ((8,), (8,))], None),  # layers differ in heads
        ([((8, 8), (6, 6))] * 2, None),  # QK and VO differ
        ([((8, 6), (8, 6))] * 2, None),  # heads differ
        ([((), ())] * 2, None),  # no stock configuration has no heads
        ([((8, 8), (8, 8)), ((), ())], None),
    ],
)
def test_what_a_stock_configuration_can_say(layers, shape):
    assert AttentionWidths.of(8, layers).stock_shape == shape


def test_rotated_pairs_are_bits_in_json_and_lists_are_read_too():
    layer = LayerWidths(qk=(6, 8, 2), vo=(1, 1, 1), numbers=(0, 2, 3), rotary=((0, 1, 3), (2, 64, 65), ()))
    said = layer.model_dump(mode="json")
    assert said["rotary"] == ["b", "30000000000000004", "0"]
    assert LayerWidths.model_validate(said) == layer
    assert LayerWidths.model_validate_json(layer.model_dump_json()) == layer
    assert LayerWidths.model_validate({**said, "rotary": [[0, 1, 3], [2, 64, 65], []]}) == layer
    assert "rotary" not in LayerWidths(qk=(2,), vo=(2,)).model_dump(mode="json")


@pytest.mark.parametrize("mask", ["", "0x1", "-1", "B", "1_1", " 1", "1\n", "1" * 257, "٣", 11, None])
def test_what_is_no_mask_of_pairs(mask):
    with pytest.raises(ValidationError):
        LayerWidths.model_validate({"qk": [8], "vo": [8], "rotary": [mask]})
