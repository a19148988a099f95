"""The registry of model families, by `model_type`."""

from checkpoints.families.audio.ast import AST
from checkpoints.families.audio.clap import CLAP
from checkpoints.families.audio.qwen2_audio import QWEN2_AUDIO, QWEN2_AUDIO_ENCODER
from checkpoints.families.audio.wav2vec2 import DATA2VEC_AUDIO, HUBERT, SEW, UNISPEECH, UNISPEECH_SAT, WAV2VEC2
from checkpoints.families.audio.wav2vec2_bert import WAV2VEC2_BERT
from checkpoints.families.audio.wav2vec2_conformer import WAV2VEC2_CONFORMER
from checkpoints.families.audio.wavlm import WAVLM
from checkpoints.families.audio.whisper import WHISPER
from checkpoints.families.base import (
    Architecture,
    AttentionKind,
    AttentionSite,
    Config,
    Family,
    FeedForwardSite,
    Layout,
    Part,
    UnusableConfigError,
)
from checkpoints.families.decoders.gemma import GEMMA
from checkpoints.families.decoders.gemma2 import GEMMA2
from checkpoints.families.decoders.gemma3 import GEMMA3
from checkpoints.families.decoders.gpt2 import GPT2
from checkpoints.families.decoders.llama import LLAMA
from checkpoints.families.decoders.mistral import MISTRAL
from checkpoints.families.decoders.opt import OPT
from checkpoints.families.decoders.phi import PHI
from checkpoints.families.decoders.phi3 import PHI3
from checkpoints.families.decoders.qwen2 import QWEN2
from checkpoints.families.decoders.qwen3 import QWEN3
from checkpoints.families.text.bert import BERT, CAMEMBERT, ROBERTA, XLM_ROBERTA
from checkpoints.families.text.clap_text import CLAP_TEXT
from checkpoints.families.text.distilbert import DISTILBERT
from checkpoints.families.text.electra import ELECTRA
from checkpoints.families.text.modernbert import MODERNBERT
from checkpoints.families.text.mpnet import MPNET
from checkpoints.families.vision.clip_vision import CLIP_VISION, SIGLIP_VISION
from checkpoints.families.vision.dinov2 import DINOV2
from checkpoints.families.vision.dinov3 import DINOV3
from checkpoints.families.vision.vit import DEIT, VIT

FAMILIES: tuple[Family, ...] = (
    AST,
    VIT,
    DEIT,
    DINOV2,
    DINOV3,
    CLIP_VISION,
    SIGLIP_VISION,
    WAV2VEC2,
    HUBERT,
    DATA2VEC_AUDIO,
    SEW,
    UNISPEECH,
    UNISPEECH_SAT,
    WAVLM,
    WAV2VEC2_CONFORMER,
    WAV2VEC2_BERT,
    WHISPER,
    QWEN2_AUDIO_ENCODER,
    CLAP,
    CLAP_TEXT,
    BERT,
    ROBERTA,
    XLM_ROBERTA,
    CAMEMBERT,
    DISTILBERT,
    ELECTRA,
    MPNET,
    MODERNBERT,
    GPT2,
    OPT,
    LLAMA,
    MISTRAL,
    QWEN2,
    QWEN3,
    PHI,
    PHI3,
    GEMMA,
    GEMMA2,
    GEMMA3,
)
WHOLE_MODELS: tuple[Family, ...] = (QWEN2_AUDIO,)
"""Larger models of which one of these families' is a part that is pruned where it is (`Family.part`)."""
ALL_FAMILIES = (*FAMILIES, *WHOLE_MODELS)
_BY_NAME = {family.name: family for family in ALL_FAMILIES}
_BY_MODEL_TYPE = {model_type: family for family in ALL_FAMILIES for model_type in family.model_types}


def family_of(model_type: str) -> Family | None:
    """The family of a config's `model_type`, or None where there is none here."""
    return _BY_MODEL_TYPE.get(model_type)


def family_named(name: str) -> Family:
    """The family with this `Family.name`. KeyError where there is none."""
    return _BY_NAME[name]


__all__ = [
    "ALL_FAMILIES",
    "AST",
    "FAMILIES",
    "WHOLE_MODELS",
    "Architecture",
    "AttentionKind",
    "AttentionSite",
    "Config",
    "Family",
    "FeedForwardSite",
    "Layout",
    "Part",
    "UnusableConfigError",
    "family_named",
    "family_of",
]
