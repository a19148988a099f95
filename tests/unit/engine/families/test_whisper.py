"""Whisper writes: token after token, with and without what its decoder remembers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DynamicCache, GenerationConfig

from benchmarks.families import reference
from benchmarks.families.tiny_models import SPECIAL
from checkpoints.describe import describe_folder
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.models.attention import attention_blocks
from worker.engine.pruning import principal
from worker.engine.pruning.compensation import UNPRUNED_RIDGE, Ridges, refit_outputs
from worker.engine.pruning.selection import Selection
from worker.engine.scoring import observe

TINY = SPECIAL[0]
KIND = TINY.model_spec
WAYS = {
    "greedy": {},
    "greedy, nothing remembered": {"use_cache": False},
    "beam": {"num_beams": 3},
    "beam, nothing remembered": {"num_beams": 3, "use_cache": False},
    "static cache": {"cache_implementation": "static"},
}


# The first and the last decoder layer without heads for its own past, and for what it hears.
EMPTIED = {"first past": 2, "first heard": 3, "last past": 6, "last heard": 7}


def dense():
    return reference.dense(KIND, TINY.stock())


def keep_of(how):
    keeps = reference.keeps(dense().widths)
    if how in keeps:
        return keeps[how]
    ragged = keeps["ragged"]
    heads = tuple(() if number == EMPTIED[how] else layer for number, layer in enumerate(ragged.heads))
    return Selection(heads, ragged.neurons)


HOWS = ("whole heads", "ragged", "unequal sides", "no heads at all", "nothing cut", *EMPTIED)


def written(model, options):
    return model.generate(TINY.inputs(3)["input_features"], max_new_tokens=16, do_sample=False, **options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", HOWS)
def test_it_writes_what_the_zeroed_model_writes(how, way):
    keep = keep_of(how)
    found = written(reference.cut_by(dense(), keep).model, WAYS[way])
    with reference.masked(KIND, TINY.stock(), keep) as stock:
        expected = written(stock, WAYS[way])
    assert found.shape[1] > 10
    assert torch.equal(found, expected)


def test_the_cuts_are_heard():
    texts = {str(written(reference.cut_by(dense(), keep_of(how)).model, {}).tolist()) for how in HOWS}
    assert len(texts) > len(HOWS) // 2


@pytest.mark.parametrize("how", ["ragged", *EMPTIED])
def test_token_by_token_gives_the_logits_of_the_whole_text(how):
    model, x = reference.cut_by(dense(), keep_of(how)).model, TINY.inputs(3)
    with torch.inference_mode():
        whole = model(**x, use_cache=False).logits
        memory, steps = None, []
        for token in x["decoder_input_ids"].split(1, dim=1):
            output = model(x["input_features"], decoder_input_ids=token, past_key_values=memory, use_cache=True)
            memory = output.past_key_values
            steps.append(output.logits)
    reference.assert_near(torch.cat(steps, 1), whole)


def test_padded_texts():
    keep, x = keep_of("ragged"), TINY.inputs(3)
    mask = torch.ones_like(x["decoder_input_ids"])
    mask[0, :4] = mask[2, :1] = 0
    with torch.inference_mode():
        found = reference.cut_by(dense(), keep).model(**x, decoder_attention_mask=mask).logits
        with reference.masked(KIND, TINY.stock(), keep) as stock:
            expected = stock(**x, decoder_attention_mask=mask).logits
            assert (stock(**x).logits - expected)[mask.bool()].abs().max() > 1e-2
    reference.assert_near(found[mask.bool()], expected[mask.bool()])


@pytest.mark.parametrize("how", ["ragged", *EMPTIED])
def test_attention_maps_keep_the_heads_that_are_left(how):
    keep, x = keep_of(how), TINY.inputs(2)
    stock, model = TINY.stock(), reference.cut_by(dense(), keep).model
    for each in (stock, model):
        each.set_attn_implementation("eager")
    with torch.inference_mode(), reference.masked(KIND, stock, keep) as whole:
        outputs = [each(**x, output_attentions=True) for each in (model, whole)]
    found, expected = ([*o.encoder_attentions, *o.decoder_attentions, *o.cross_attentions] for o in outputs)
    order = [0, 1, 2, 4, 6, 3, 5, 7]  # two of the encoder; the decoder's of its past; those of what it hears
    for number, ours, theirs in zip(order, found, expected, strict=True):
        kept = theirs[:, [head.head for head in keep.heads[number]]]
        assert ours.shape == kept.shape
        assert torch.allclose(ours, kept, atol=1e-5)


def test_nothing_is_remembered_while_layers_are_fitted(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a cache was written to")

    monkeypatch.setattr(DynamicCache, "update", refuse)
    whole, x = dense(), TINY.inputs(4)
    cut = reference.cut_by(whole, keep_of("ragged"))
    for each in (whole, cut):
        each.model.config.use_cache = True
    refit_outputs(whole, cut, [x], Ridges(feed_forward=UNPRUNED_RIDGE))
    with pytest.raises(AssertionError, match="written to"):
        cut.model(**x)


def test_a_copy_of_a_tied_tensor_counts_for_nothing(tmp_path):
    model = TINY.stock()
    TINY.save(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "proj_out.weight" not in tensors
    copied = {**tensors, "proj_out.weight": tensors["model.decoder.embed_tokens.weight"].clone()}
    save_file(copied, tmp_path / "model.safetensors", metadata={"format": "pt"})
    described = describe_folder(tmp_path)
    assert accounting.total_parameters(described.shape, described.widths) == sum(p.numel() for p in model.parameters())
    save_checkpoint(tmp_path / "pruned", load_original(tmp_path), tmp_path)
    assert set(load_file(tmp_path / "pruned" / "model.safetensors")) == set(tensors)


def test_how_it_generates_stays_as_it_was(tmp_path):
    """generation_config.json travels, and rules in the engine too: through cuts and rotations."""
    folder = tmp_path / "original"
    TINY.save(TINY.stock(), folder)
    settings = {**json.loads((folder / "generation_config.json").read_text()), "suppress_tokens": [7, 9]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model = load_original(folder)
    x = TINY.inputs(4)
    blocks = attention_blocks(model.model, KIND, model.widths)
    observed = observe(
        model.model, blocks, [(x, None)], lambda z, _: z.flatten(1).sum(1), principal.REQUIRED_STATISTICS
    )
    turned = principal.rotate(model, principal.principal_bases(blocks, observed))
    cut = reference.cut_by(turned, keep_of("ragged"))
    for each in (model, turned, cut):
        assert each.model.generation_config.suppress_tokens == [7, 9]
    save_checkpoint(tmp_path / "pruned", cut, folder)
    assert GenerationConfig.from_pretrained(tmp_path / "pruned").suppress_tokens == [7, 9]
