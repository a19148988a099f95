"""What only some families have: calls with a share of the positions, windows, statistics, and the configurations they refuse."""

from dataclasses import replace

import pytest
import torch

from api_schemas.errors import ErrorCode, SecateurError
from benchmarks.families import reference
from benchmarks.families.tiny_models import SPECIAL, WAVLM_CTC
from checkpoints.config.checkpoint_config import read_config
from tests.unit.engine.families import cut_checks
from worker.engine.models import pruned_heads, pruned_layers
from worker.engine.recovery.finetune import train_without_batch_norm

every = pytest.mark.parametrize("tiny", SPECIAL, ids=lambda tiny: tiny.id)
CLAP = next(tiny for tiny in SPECIAL if tiny.name == "ClapAudioModelWithProjection")
WHISPER = SPECIAL[0]


@pytest.mark.parametrize("name", ["ragged", "no heads first"])
@every
def test_heads_of_every_width_in_calls_of_their_own(tiny, name, monkeypatch):
    """On inputs this short all heads share a call; where calls cost nothing, each width gets its own part of the positions."""
    monkeypatch.setattr(pruned_heads, "CALL_FLOPS", 0)
    monkeypatch.setattr(pruned_heads, "NARROWEST", 1)
    monkeypatch.setattr(pruned_heads, "ALIGN", 1)
    loaded = reference.dense(tiny.model_spec, tiny.stock())
    smaller = reference.cut_by(loaded, reference.keeps(loaded.widths)[name])
    attentions = [m for m in smaller.model.modules() if isinstance(m, pruned_layers.PrunedAttention)]
    assert max(len(module.fused_calls) for module in attentions) > 1
    inputs = tiny.inputs(3)
    cut_checks.check_cut(tiny.model_spec, tiny.stock(), inputs, name, None if tiny.mask is None else tiny.mask(inputs))


def test_in_training_a_sample_is_alone_and_statistics_stay():
    """A batch norm would take its mean from the batch, and a gradient in several passes would be another one."""
    model = replace(CLAP, config={**CLAP.config, "hidden_dropout_prob": 0.0}).stock()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train_without_batch_norm(model)
    assert model.training
    inputs = CLAP.inputs(4)
    with torch.no_grad():
        together = model(**inputs).audio_embeds
        alone = torch.cat([model(input_features=one).audio_embeds for one in inputs["input_features"].split(1)])
    reference.assert_near(alone, together)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_windows_shift_in_some_layers_and_not_in_others():
    """The tiny model has all three cases: windows, windows shifted by half, and one window that is all there is."""
    model, seen = reference.dense(CLAP.model_spec, CLAP.stock()).model, []
    for module in model.modules():
        if isinstance(module, pruned_layers.PrunedWindowAttention):
            module.register_forward_pre_hook(lambda _m, args: seen.append((len(args[0]), args[1] is not None)))
    with torch.inference_mode():
        model(**CLAP.inputs(3))
    assert seen == [(3 * 16, False), (3 * 16, True), (3 * 4, False), (3 * 4, True), (3, False)]


@pytest.mark.parametrize(
    ("tiny", "changes", "key"),
    [
        (CLAP, {"enable_fusion": True}, "enable_fusion"),
        (CLAP, {"patch_embed_input_channels": 3}, "patch_embed_input_channels"),
        (CLAP, {"flatten_patch_embeds": False}, "flatten_patch_embeds"),
        (CLAP, {"num_attention_heads": [2, 4]}, "num_attention_heads"),
        (CLAP, {"num_attention_heads": [2, 4, 4]}, "num_attention_heads"),
        (CLAP, {"num_attention_heads": [3, 4, 8]}, "num_attention_heads"),
        (CLAP, {"hidden_size": 32}, "hidden_size"),
        (CLAP, {"window_size": 3}, "window_size"),
        (CLAP, {"window_size": 8}, "window_size"),
        (CLAP, {"patch_stride": [4, 2]}, "patch_stride"),
        (CLAP, {"patch_size": 3}, "patch_stride"),
        (CLAP, {"num_mel_bins": 12}, "spec_size"),
        (CLAP, {"mlp_ratio": "4"}, "mlp_ratio"),
        (CLAP, {"mlp_ratio": 0.01}, "mlp_ratio"),
        (CLAP, {"depths": []}, "depths"),
        (CLAP, {"depths": [2, 5000, 1]}, "depths"),
        (WHISPER, {"decoder_attention_heads": 2}, "decoder_attention_heads"),
        (WHISPER, {"encoder_attention_heads": 5}, "encoder_attention_heads"),
        (WHISPER, {"decoder_layers": 0}, "decoder_layers"),
        (WHISPER, {"decoder_layers": 5000}, "decoder_layers"),
        (WAVLM_CTC, {"add_adapter": True}, "add_adapter"),
    ],
    ids=lambda value: getattr(value, "id", None) or str(value),
)
def test_what_cannot_be_pruned_is_refused_by_its_key(tiny, changes, key):
    model_type = tiny.stock().config.model_type
    config = {**tiny.config, "model_type": model_type, "architectures": [tiny.name]}
    read_config(config)
    with pytest.raises(SecateurError) as refused:
        read_config({**config, **changes})
    assert refused.value.code is ErrorCode.CONFIG_INVALID
    assert refused.value.errors[0].pointer == f"/config.json/{key}"
