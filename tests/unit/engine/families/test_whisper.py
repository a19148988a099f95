"""Whisper writes: token after token, with and without what its decoder remembers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, GenerationConfig

from api_schemas import accounting
from api_schemas.checkpoint import describe_folder
from api_schemas.checkpoint_config import read_config
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.families.whisper import DECODER_TOKENS
from tests.unit.engine.families.special_models import (
    CASES,
    KEEPS,
    blocks_of,
    bound,
    keep_of,
    loaded,
    smaller,
    stock,
    whisper_config,
    whisper_inputs,
    zeroed,
)
from worker.engine import principal
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.compensation import refit_outputs
from worker.engine.scoring import observe

NAME = "whisper"
WAYS = {
    "greedy": {},
    "greedy, nothing remembered": {"use_cache": False},
    "beam": {"num_beams": 3},
    "beam, nothing remembered": {"num_beams": 3, "use_cache": False},
    "static cache": {"cache_implementation": "static"},
}


def written(model, options, seed=1):
    x = whisper_inputs(3, seed)["input_features"]
    return model.generate(x, max_new_tokens=16, do_sample=False, **options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", KEEPS)
def test_it_writes_what_the_zeroed_model_writes(how, way):
    keep = keep_of(NAME, how)
    found = written(smaller(loaded(NAME), keep).model, WAYS[way])
    expected = written(zeroed(NAME, keep), WAYS[way])
    assert found.shape[1] > 10
    assert torch.equal(found, expected)


def test_the_cuts_are_heard():
    texts = [written(zeroed(NAME, keep_of(NAME, how)), {}).tolist() for how in KEEPS]
    assert len({str(text) for text in texts}) > len(texts) // 2


@pytest.mark.parametrize("how", ["ragged", "some without heads", "others without heads"])
def test_token_by_token_gives_the_logits_of_the_whole_text(how):
    model, x = smaller(loaded(NAME), keep_of(NAME, how)).model, whisper_inputs(3, 1)
    with torch.inference_mode():
        whole = model(**x, use_cache=False).logits
        memory, steps = None, []
        for token in x["decoder_input_ids"].split(1, dim=1):
            output = model(x["input_features"], decoder_input_ids=token, past_key_values=memory, use_cache=True)
            memory = output.past_key_values
            steps.append(output.logits)
    assert (torch.cat(steps, 1) - whole).abs().max() <= bound(whole)


def test_padded_texts():
    keep, x = keep_of(NAME, "ragged"), whisper_inputs(3, 1)
    mask = torch.ones_like(x["decoder_input_ids"])
    mask[0, :4] = mask[2, :1] = 0
    with torch.inference_mode():
        expected = zeroed(NAME, keep)(**x, decoder_attention_mask=mask, use_cache=False).logits
        found = smaller(loaded(NAME), keep).model(**x, decoder_attention_mask=mask, use_cache=False).logits
    real = mask.bool()
    assert (found - expected)[real].abs().max() <= bound(expected)


@pytest.mark.parametrize("how", ["ragged", "some without heads"])
def test_attention_maps_keep_the_heads_that_are_left(how):
    keep, x = keep_of(NAME, how), whisper_inputs(2, 1)
    models = smaller(loaded(NAME), keep).model, zeroed(NAME, keep)
    outputs = []
    for model in models:
        model.set_attn_implementation("eager")
        with torch.inference_mode():
            outputs.append(model(**x, use_cache=False, output_attentions=True))
    found, expected = ([*o.encoder_attentions, *o.decoder_attentions, *o.cross_attentions] for o in outputs)
    sites = CASES[NAME].kind.layout(CASES[NAME].config.to_dict()).attention
    order = [0, 1, *(n for n, site in enumerate(sites) if "decoder" in site.module and "self" in site.module)]
    order += [n for n, site in enumerate(sites) if "encoder_attn" in site.module]
    for number, ours, theirs in zip(order, found, expected, strict=True):
        kept = theirs[:, [head.head for head in keep[number]]]
        assert ours.shape == kept.shape
        assert torch.allclose(ours, kept, atol=1e-5)


@pytest.mark.parametrize("how", KEEPS)
def test_flops_against_torchs_own_counter(how, tmp_path):
    """Eager and without a cache: no head is padded there."""
    stock(NAME).save_pretrained(tmp_path)
    described, model = describe_folder(tmp_path), smaller(loaded(NAME), keep_of(NAME, how))
    model.model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.model(**whisper_inputs(1, 1, DECODER_TOKENS), use_cache=False)
    assert accounting.total_flops(described.shape, model.widths) == counter.get_total_flops()


def test_nothing_is_remembered_while_layers_are_fitted(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a cache was written to")

    monkeypatch.setattr(DynamicCache, "update", refuse)
    dense = loaded(NAME)
    cut = smaller(dense, keep_of(NAME, "ragged"))
    refit_outputs(dense, cut, [whisper_inputs(4, 1)], feed_forward=True)


def test_a_copy_of_a_tied_tensor_counts_for_nothing(tmp_path):
    model = stock(NAME)
    model.save_pretrained(tmp_path)
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
    stock(NAME).save_pretrained(folder)
    settings = {**json.loads((folder / "generation_config.json").read_text()), "suppress_tokens": [7, 9]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model = load_original(folder)
    x = whisper_inputs(4, 1)
    observed = observe(model.model, blocks_of(model), [(x, None)], lambda z, _: z.flatten(1).sum(1), principal.WANTS)
    turned = principal.rotate(model, principal.principal_bases(blocks_of(model), observed))
    cut = smaller(turned, keep_of(NAME, "ragged"))
    for each in (model, turned, cut):
        assert each.model.generation_config.suppress_tokens == [7, 9]
    save_checkpoint(tmp_path / "pruned", cut, folder)
    assert GenerationConfig.from_pretrained(tmp_path / "pruned").suppress_tokens == [7, 9]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"decoder_attention_heads": 2}, "decoder_attention_heads"),
        ({"encoder_attention_heads": 5}, "encoder_attention_heads"),
    ],
)
def test_heads_of_two_widths_are_refused(changes, key):
    config = {**whisper_config().to_dict(), **changes, "architectures": ["WhisperForConditionalGeneration"]}
    with pytest.raises(SecateurError, match=key) as refused:
        read_config(config)
    assert refused.value.code is ErrorCode.CONFIG_INVALID
