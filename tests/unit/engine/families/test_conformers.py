"""Conformers: a feed-forward block on either side of attention, relative positions, and positions that classes keep."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from api_schemas.enums import Basis, Granularity
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.pruning import Pruning
from benchmarks.families import reference
from benchmarks.families.examples import Example
from benchmarks.families.tiny_models import CONFORMERS
from checkpoints.config.checkpoint_config import read_config
from checkpoints.config.pruned_layout import SaidWidths
from checkpoints.families import UnusableConfigError
from checkpoints.planning.feasibility import check_feasible, max_share
from checkpoints.sizes import accounting
from worker.engine.latency.table_measurement import _Bench
from worker.engine.models.model_spec import width_entries
from worker.engine.pruning.compensation import Ridges, _fitted
from worker.engine.pruning.selection import Ranking, Selection, widths_of
from worker.engine.recovery.finetune import train_without_batch_norm
from worker.engine.scoring import LayerScores

every = pytest.mark.parametrize("tiny", CONFORMERS, ids=lambda tiny: tiny.id)
RELATIVE = [tiny for tiny in CONFORMERS if tiny.variant not in ("rotary positions", "no positions")]
FIRST, HEADS, WIDTH = RELATIVE[0], 4, 8


def test_blocks_are_refitted_in_the_order_in_which_they_run() -> None:
    """Each on what those before it give once they are refitted."""
    layout = FIRST.model_spec.layout(FIRST.stock().config.to_dict())
    layer = layout.stacks[0][1]
    found = [each.path for each in _fitted(layout, layer, Ridges(0.1, 0.1), (), torch.device("cpu"))]
    assert found == [f"{layer}.{path}" for path in ("ffn1.output_dense", "self_attn.linear_out", "ffn2.output_dense")]
    # A half of what blocks put out is added to the stream, so their outputs are fitted to themselves.
    assert [site.stream for site in layout.feed_forward] == [None] * 4
    assert [site.shape.layer for site in layout.feed_forward] == [0, 0, 1, 1]


def test_the_blocks_of_a_layer_lose_neurons_apart() -> None:
    loaded = reference.dense(FIRST.model_spec, FIRST.stock())
    whole = reference.keeps(loaded.widths)["nothing cut"]
    kept = Selection(whole.heads, ((1, 2), tuple(range(48)), tuple(range(48)), (0, 7, 9)))
    smaller, inputs = reference.cut_by(loaded, kept), FIRST.inputs(3)
    assert smaller.widths.feed_forward == (2, 48, 48, 3)
    with torch.inference_mode(), reference.masked(FIRST.model_spec, FIRST.stock(), kept) as dense:
        reference.assert_near(reference.answer(smaller.model, inputs), reference.answer(dense, inputs))


@pytest.mark.parametrize("tiny", RELATIVE, ids=lambda tiny: tiny.id)
def test_positions_go_with_their_head(tiny: Example) -> None:
    """In the model, in its parameters and FLOPs, and in the weights of heads, which are the stock model's."""
    stock, inputs = tiny.stock(), tiny.inputs(2)
    loaded, shape = reference.dense(tiny.model_spec, stock), reference.shape_of(tiny.model_spec, stock)
    whole = reference.keeps(loaded.widths)["nothing cut"].heads
    kept = Selection((whole[0][1:3], whole[1]), reference.keeps(loaded.widths)["nothing cut"].neurons)
    smaller = reference.cut_by(loaded, kept)
    block, beside = shape.attention[0], shape.attention[0].head_parameters
    channels = WIDTH * (accounting.qk_channel_parameters(block) + accounting.vo_channel_parameters(block))
    gone = accounting.total_parameters(shape, loaded.widths) - accounting.total_parameters(shape, smaller.widths)
    assert gone == 2 * (channels + beside)
    models = (stock, smaller.model)
    before, after = (
        model.get_submodule(loaded.model_spec.layout_of(loaded.model).attention[0].module) for model in models
    )
    if beside:
        assert torch.equal(after.linear_pos.weight, before.linear_pos.weight[WIDTH : 3 * WIDTH])
        assert torch.equal(after.pos_bias_v, before.pos_bias_v[1:3])
    for model in models:
        model.set_attn_implementation("eager")
    with torch.inference_mode():
        expected, found = (model(**inputs, output_attentions=True).attentions[0] for model in models)
    reference.assert_near(found, expected[:, 1:3])


def test_channels_of_queries_are_left_to_their_heads() -> None:
    shape = reference.shape_of(FIRST.model_spec, FIRST.stock())
    of_channels: dict[str, Any] = {"target": {"attention_sparsity": 0.1}, "granularity": "per_head"}
    with pytest.raises(SecateurError, match="only with their head") as caught:
        check_feasible(shape, shape.dense, Pruning.model_validate({**of_channels, "balance": "equal"}))
    assert [item.pointer for item in caught.value.errors] == ["/pruning/balance"]
    assert 0.4 < max_share(shape, shape.dense, Pruning.model_validate(of_channels)) < 0.5
    layout = FIRST.model_spec.layout(FIRST.stock().config.to_dict())
    entries = width_entries(layout, shape.dense)["pruned_attention"]
    assert SaidWidths(entries, None).read(layout).layers == shape.dense.layers
    entries[1] |= {"qk": [WIDTH - 2] * HEADS}
    with pytest.raises(UnusableConfigError, match="`qk` of entry 1 must be 8 for every head"):
        SaidWidths(entries, None).read(layout)


@pytest.mark.parametrize("basis", list(Basis))
@pytest.mark.parametrize("granularity", list(Granularity))
def test_no_choice_takes_a_part_of_a_heads_queries(granularity: Granularity, basis: Basis) -> None:
    """Also where QK channels score nothing, so that any that could go would go first."""
    shape = reference.shape_of(FIRST.model_spec, FIRST.stock())
    draw, nothing = torch.Generator().manual_seed(0), (torch.zeros(WIDTH, dtype=torch.float64),) * HEADS
    scores = [
        LayerScores(nothing, tuple(torch.rand(WIDTH, generator=draw, dtype=torch.float64) for _ in range(HEADS)))
        for _ in shape.attention
    ]
    said = {"target": {"attention_sparsity": 0.3}, "granularity": granularity, "basis": basis, "min_heads": 0}
    kept = Ranking(scores, shape.dense, shape, Pruning.model_validate(said)).heads(0.3)
    left = widths_of(kept, shape.dense)
    assert all(layer.qk == (WIDTH,) * layer.heads for layer in left.layers)
    assert left.layers != shape.dense.layers


@every
def test_each_pass_is_as_if_it_were_the_first(tiny: Example) -> None:
    """transformers' classes keep positions: rounded where a pass was in half precision, and none for autograd after inference."""
    model, inputs = reference.dense(tiny.model_spec, tiny.stock()).model, tiny.inputs(2)
    with torch.no_grad():
        expected = reference.answer(model, inputs)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        rounded = reference.answer(model, inputs)
    assert reference.distance(rounded, expected) > 1e-3
    found = reference.answer(model.requires_grad_(), inputs)
    reference.assert_near(found, expected)
    found.square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@every
def test_in_training_a_sample_is_alone(tiny: Example) -> None:
    """The convolutions of Wav2Vec2-Conformer have batch norms."""
    dropout = {key: 0.0 for key in tiny.stock().config.to_dict() if key.endswith(("dropout", "layerdrop"))}
    model = reference.dense(tiny.model_spec, replace(tiny, config={**tiny.config, **dropout}).stock()).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train_without_batch_norm(model)
    inputs = tiny.inputs(3)
    with torch.no_grad():
        together = reference.answer(model, inputs)
        parts = [
            reference.answer(model, {name: each[row : row + 1] for name, each in inputs.items()}) for row in range(3)
        ]
    reference.assert_near(torch.cat(parts), together)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@every
def test_what_is_timed_has_the_positions_of_its_kind(tiny: Example) -> None:
    whole = reference.dense(tiny.model_spec, tiny.stock()).model
    site = tiny.model_spec.layout_of(whole).attention[0]
    bench = _Bench(site, whole.get_submodule(site.module), torch.randn(2, 7, 32))
    with torch.inference_mode():
        for widths in ([8, 8], [8, 6, 5], [3]):
            context = bench.kernel(widths)()[0]
            assert context.shape == (2, 7, sum(widths))
            assert torch.isfinite(context).all()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"add_adapter": True}, "add_adapter"),
    ({"num_attention_heads": 5}, "num_attention_heads"),
    ({"conv_depthwise_kernel_size": 6}, "conv_depthwise_kernel_size"),
    ({"conv_depthwise_kernel_size": 0}, "conv_depthwise_kernel_size"),
    ({"num_hidden_layers": 5000}, "num_hidden_layers"),
    ({"position_embeddings_type": "absolute"}, "position_embeddings_type"),
    ({"position_embeddings_type": "rotary", "num_attention_heads": 32}, "num_attention_heads"),
    # The class fills a sine and a cosine at a time.
    ({"hidden_size": 33, "num_attention_heads": 3, "num_conv_pos_embedding_groups": 3}, "hidden_size"),
    # Twice as many sines of the hidden size are made where the model is.
    ({"max_source_positions": 2**20}, "max_source_positions"),
    ({"rotary_embedding_base": 0}, "rotary_embedding_base"),
    ({"conformer_conv_dropout": 2.0}, "conformer_conv_dropout"),
    ({"vocab_size": None}, "vocab_size"),
]


@pytest.mark.parametrize(("changes", "key"), REFUSED, ids=str)
def test_what_cannot_be_pruned_is_refused_by_its_key(changes: dict[str, Any], key: str) -> None:
    tiny = RELATIVE[1]
    config = {**tiny.config, "model_type": "wav2vec2-conformer", "architectures": [tiny.name]}
    read_config(config)
    with pytest.raises(SecateurError) as refused:
        read_config({**config, **changes})
    assert refused.value.code is ErrorCode.CONFIG_INVALID
    assert refused.value.errors[0].pointer == f"/config.json/{key}"
