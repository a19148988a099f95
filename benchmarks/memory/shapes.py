"""Checkpoints of the sizes that are published, with random weights, and a few samples for each."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from accelerate import init_empty_weights
from transformers import ASTFeatureExtractor, WhisperFeatureExtractor, WhisperProcessor

from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.clips import encoded, tone
from tests.support.checkpoints.rows import CLIP, TEXT, write_split

LABELS = ("down", "left", "up")
SAID = ("GO UP", "GO DOWN", "LOOK ALL", "ONE TWO THREE")
WRITTEN_TOKENS = 8
"""That a Whisper writes at most: one with random weights does not know where to end."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """A class of transformers, its configuration, what its weights are stored as, and how long a clip is: short, since bytes of
    weights are what counts."""

    name: str
    files: str
    config: Mapping[str, Any]
    dtype: torch.dtype
    seconds: float
    rows: Callable[[int, float], tuple[Mapping[str, Any], Sequence[Row]]]

    def cut_to(self, layers: int) -> "Shape":
        """With so many layers only, of an encoder and of a decoder."""
        names = ("num_hidden_layers", "encoder_layers", "decoder_layers")
        fewer = {name: layers for name in names if name in self.config}
        return replace(self, config={**self.config, **(fewer or {"num_hidden_layers": layers})})

    def write(self, folder: Path, shard: str | None = None) -> None:
        """A checkpoint, its weights drawn map by map: a small standard deviation, ones for what scales in norms. In shards of at
        most so much ("1GB") where it is said."""
        preprocessors.write(self.files, folder)
        made = json.loads((folder / "config.json").read_text())
        made.pop("model_type")
        if self.files == "whisper":
            tokenizer = WhisperProcessor.from_pretrained(folder).tokenizer
            mels, positions = self.config["num_mel_bins"], self.config["max_source_positions"]
            extractor = WhisperFeatureExtractor(feature_size=mels, chunk_length=positions // 50)
            WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
            made |= {f"{kind}_token_id": tokenizer.eos_token_id for kind in ("bos", "eos", "pad")}
        elif self.files == "ast":
            mels, frames = self.config["num_mel_bins"], self.config["max_length"]
            ASTFeatureExtractor(num_mel_bins=mels, max_length=frames).save_pretrained(folder)
        stock = getattr(transformers, self.name)
        with init_empty_weights(include_buffers=False):
            model = stock(stock.config_class(**{**made, **self.config}))
        torch.manual_seed(0)
        drawn = {name: self._drawn(name, like) for name, like in model.state_dict().items()}
        model.load_state_dict(drawn, assign=True)
        model.tie_weights()
        if self.files == "whisper":
            model.generation_config.max_length = WRITTEN_TOKENS
        model.to(self.dtype).save_pretrained(folder, **({} if shard is None else {"max_shard_size": shard}))

    def _drawn(self, name: str, like: torch.Tensor) -> torch.Tensor:
        if not like.is_floating_point():
            return like.clone()
        if like.ndim == 1:
            return torch.ones(like.shape) if name.endswith("norm.weight") else torch.randn(like.shape) * 0.02
        return (torch.randn(like.shape) * 0.02).to(self.dtype)

    def write_data(self, folder: Path, samples: Mapping[str, int]) -> None:
        """Clips of tones, a parquet file a split."""
        for split, count in samples.items():
            features, rows = self.rows(count, self.seconds)
            write_split(folder / f"{split}.parquet", features, rows)


def _clips(count: int, seconds: float) -> list[bytes]:
    return [encoded(tone(300.0 + 90 * number, seconds=seconds, seed=number), kind="pcm") for number in range(count)]


def labelled(count: int, seconds: float) -> tuple[Mapping[str, Any], Sequence[Row]]:
    """Clips with one of LABELS each."""
    rows = [{"audio": clip, "label": LABELS[n % len(LABELS)]} for n, clip in enumerate(_clips(count, seconds))]
    return {"audio": CLIP, "label": datasets.Value("string")}, rows


def said(count: int, seconds: float) -> tuple[Mapping[str, Any], Sequence[Row]]:
    """Clips with a text each."""
    rows = [{"audio": clip, "text": SAID[n % len(SAID)]} for n, clip in enumerate(_clips(count, seconds))]
    return {"audio": CLIP, "text": TEXT}, rows


_LABELS = {"id2label": dict(enumerate(LABELS)), "label2id": {name: n for n, name in enumerate(LABELS)}}
_AST: Mapping[str, Any] = {**_LABELS, "num_mel_bins": 128, "max_length": 128}
_WAV2VEC2: Mapping[str, Any] = {
    **_LABELS,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
_WHISPER: Mapping[str, Any] = {
    "vocab_size": 51_866, "num_mel_bins": 128, "max_source_positions": 100, "max_target_positions": 448,
    "suppress_tokens": None, "begin_suppress_tokens": None,
}  # fmt: skip
_CONVOLUTIONS = {"conv_dim": (512,) * 7, "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2)}


def _whisper(layers: int, width: int, heads: int, **changes: Any) -> Shape:
    sizes = {
        "d_model": width, "encoder_layers": layers, "decoder_layers": layers, "encoder_attention_heads": heads,
        "decoder_attention_heads": heads, "encoder_ffn_dim": 4 * width, "decoder_ffn_dim": 4 * width,
    }  # fmt: skip
    config = {**_WHISPER, **sizes, **changes}
    return Shape("WhisperForConditionalGeneration", "whisper", config, torch.bfloat16, 2.0, said)


SHAPES: Mapping[str, Shape] = {
    "ast-base": Shape("ASTForAudioClassification", "ast", _AST, torch.float32, 1.0, labelled),
    "wav2vec2-large": Shape(
        "Wav2Vec2ForSequenceClassification",
        "waveform",
        {
            **_WAV2VEC2, **_CONVOLUTIONS, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
        torch.float32,
        1.0,
        labelled,
    ),
    "whisper-large-v3": _whisper(32, 1280, 20),
    "whisper-medium": _whisper(24, 1024, 16),
    "whisper-small": _whisper(12, 768, 12),
    "tiny": _whisper(2, 64, 4, vocab_size=600, num_mel_bins=16, max_target_positions=40),
}  # fmt: skip
