"""Trains a small Audio Spectrogram Transformer on keyword data from random weights: a checkpoint worth pruning, in a minute.

Everything about the checkpoint is stock transformers: `ASTForAudioClassification` and `ASTFeatureExtractor`. Two things make
it learn quickly: Xavier weights and position embeddings of visible size, where transformers starts from 0.02 and zero.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification
from transformers.utils import logging

from demo.score import extract_features, read_clips


@dataclass(frozen=True)
class Recipe:
    """The model's size and how it is trained. Frames are 10 ms apart."""

    layers: int = 4
    heads: int = 8
    width: int = 128
    feed_forward: int = 256
    mels: int = 32
    frames: int = 98
    patch: int = 16
    time_stride: int = 8
    epochs: int = 9
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    seed: int = 0


def train(data: Path, out: Path, recipe: Recipe, on_epoch: Callable[[int, float], None] = lambda *_: None) -> float:
    """Train on the train split of `data` (parquet shards), save to `out`; returns the accuracy on the validation split.

    `on_epoch` is told each finished epoch's number and mean training loss.
    """
    logging.disable_progress_bar()  # Of a single file that is written at once.
    random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    extractor = ASTFeatureExtractor(num_mel_bins=recipe.mels, max_length=recipe.frames, do_normalize=False)
    clips, names = read_clips(data, "train")
    labels = sorted(set(names))
    raw, targets = extract_features(extractor, clips), _indices(names, labels)
    mean, deviation = float(raw.mean()), float(raw.std())
    extractor.do_normalize, extractor.mean, extractor.std = True, mean, deviation

    model = _new_model(recipe, labels)
    _fit(model, (raw - mean) / (2 * deviation), targets, recipe, on_epoch)
    model.save_pretrained(out)
    extractor.save_pretrained(out)
    for path in out.iterdir():
        path.chmod(0o644)  # transformers writes the weights for their owner alone

    clips, names = read_clips(data, "validation")
    return accuracy(model, extract_features(extractor, clips), _indices(names, labels))


def accuracy(model: nn.Module, features: Tensor, targets: Tensor) -> float:
    """Share of `features` [N, frames, mels] that `model` puts into class `targets` [N]."""
    model.eval()
    with torch.inference_mode():
        found = torch.cat([model(batch).logits.argmax(dim=1) for batch in features.split(64)])
    return float((found == targets).float().mean())


def _indices(names: list[str], labels: list[str]) -> Tensor:
    return torch.tensor([labels.index(name) for name in names])


def _new_model(recipe: Recipe, labels: list[str]) -> ASTForAudioClassification:
    config = ASTConfig(
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.feed_forward,
        patch_size=recipe.patch,
        frequency_stride=recipe.patch,
        time_stride=recipe.time_stride,
        max_length=recipe.frames,
        num_mel_bins=recipe.mels,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    model = ASTForAudioClassification(config)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    nn.init.normal_(model.audio_spectrogram_transformer.embeddings.position_embeddings, std=0.2)
    return model


def _fit(
    model: nn.Module, features: Tensor, targets: Tensor, recipe: Recipe, on_epoch: Callable[[int, float], None]
) -> None:
    """AdamW with a one-cycle learning rate; one band of an eighth of the mel bins is masked in every batch."""
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=0.02)
    batches = len(targets) // recipe.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=batches * recipe.epochs, pct_start=0.15
    )
    band = recipe.mels // 8
    model.train()
    for epoch in range(recipe.epochs):
        order, losses = torch.randperm(len(targets)), []
        for rows in order[: batches * recipe.batch_size].split(recipe.batch_size):
            inputs = features[rows]
            low = random.randrange(recipe.mels - band)
            inputs[:, :, low : low + band] = 0.0
            loss = nn.functional.cross_entropy(model(inputs).logits, targets[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        on_epoch(epoch + 1, float(np.mean(losses)))
