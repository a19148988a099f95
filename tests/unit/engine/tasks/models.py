"""Tiny stock models of transformers with random weights, one a head, in eval mode."""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

LETTERS = "_abcde"
"""Label ids of the CTC model; the first is the blank."""
WORDS = ("<start>", "<end>", "<pad>", " ", "a", "b", "c", "d")
"""Label ids of Whisper."""


def spell(ids: list[int]) -> str:
    """Text of the CTC model's ids."""
    return "".join(LETTERS[number] for number in ids).replace("e", " ")


def read(ids: list[int]) -> str:
    """Text of Whisper's ids; special tokens are no text."""
    return "".join(WORDS[number] for number in ids if number > 2)


def seeded(model: type[PreTrainedModel], config: object) -> PreTrainedModel:
    torch.manual_seed(0)
    made: PreTrainedModel = model(config).eval()
    return made


def bert(model: type[PreTrainedModel] = BertForTokenClassification, labels: int = 3) -> PreTrainedModel:
    answering = (BertForTokenClassification, BertForSequenceClassification, BertForQuestionAnswering, BertForMaskedLM)
    assert model in (*answering, BertModel)
    config = BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=16, num_labels=labels, initializer_range=0.3,
    )  # fmt: skip
    return seeded(model, config)


def ctc(reduction: str = "mean", norm: str = "group") -> PreTrainedModel:
    """Five samples of sound a frame, one more to begin."""
    config = Wav2Vec2Config(
        vocab_size=len(LETTERS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        conv_dim=(8, 8), conv_kernel=(5, 2), conv_stride=(5, 1), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, pad_token_id=0, ctc_loss_reduction=reduction, initializer_range=0.3,
        feat_extract_norm=norm, apply_spec_augment=False, layerdrop=0.0,
    )  # fmt: skip
    return seeded(Wav2Vec2ForCTC, config)


def gpt2() -> PreTrainedModel:
    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=16, initializer_range=0.3)
    return seeded(GPT2LMHeadModel, config)


def whisper() -> PreTrainedModel:
    config = WhisperConfig(
        vocab_size=len(WORDS), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=8, max_source_positions=10,
        max_target_positions=24, pad_token_id=2, bos_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        suppress_tokens=None, begin_suppress_tokens=None, init_std=0.5,
    )  # fmt: skip
    return seeded(WhisperForConditionalGeneration, config)


def clap() -> PreTrainedModel:
    config = ClapAudioConfig(
        spec_size=32, num_mel_bins=8, patch_size=4, patch_stride=(4, 4), patch_embeds_hidden_size=8, hidden_size=16,
        depths=(1, 1), num_attention_heads=(2, 2), window_size=4, projection_dim=12,
    )  # fmt: skip
    return seeded(ClapAudioModelWithProjection, config)
