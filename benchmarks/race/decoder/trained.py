"""A small Llama for those who have no other: trained here, in minutes of a processor, on the documentation at hand.

It is far from what its architecture could learn of so many tokens, let alone of trillions: what the race's page says about small
models is about it. Kept in a folder of the cache by all that decides what comes out, but for the machine's rounding.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from api_schemas.enums import Split
from benchmarks.race.decoder import texts

END = "<|endoftext|>"
SAY_EVERY = 50


@dataclass(frozen=True)
class Recipe:
    """The model, and how it is trained."""

    vocabulary: int = 1024
    hidden: int = 192
    neurons: int = 512
    layers: int = 4
    heads: int = 6
    epochs: int = 1
    batch: int = 16
    """Blocks of a step."""
    learning_rate: float = 3e-3
    warmup: float = 0.05
    weight_decay: float = 0.1
    seed: int = 0


def checkpoint(cache: Path, recipe: Recipe = Recipe()) -> Path:
    """The folder of the trained model with its tokenizer, made now unless it is in `cache`."""
    drawn = texts.drawn()
    content = hashlib.sha256("\0".join(drawn[Split.TRAIN]).encode()).hexdigest()
    key = hashlib.sha256(json.dumps([asdict(recipe), content, texts.BLOCK]).encode()).hexdigest()[:16]
    folder = cache / f"race-decoder-{key}"
    if not (folder / "config.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="training-") as scratch:
            made = Path(scratch) / "model"
            _train(made, drawn, recipe)
            made.rename(folder)
    return folder


def tokenizer_of(lines: tuple[str, ...], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Sennrich et al., arXiv 1508.07909): pairs of these texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


def factor(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate: up in a straight line, then down along half a cosine to a tenth."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _train(folder: Path, drawn: Mapping[Split, tuple[str, ...]], recipe: Recipe) -> None:
    tokenizer_of(drawn[Split.TRAIN], recipe.vocabulary).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=recipe.vocabulary, hidden_size=recipe.hidden, intermediate_size=recipe.neurons,
        num_hidden_layers=recipe.layers, num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads,
        max_position_embeddings=texts.BLOCK, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    config.save_pretrained(folder)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(recipe.seed)
        model = LlamaForCausalLM(config)
    ids_NT = texts.blocks(folder, drawn[Split.TRAIN])
    order = torch.Generator().manual_seed(recipe.seed)
    per_epoch = len(ids_NT) // recipe.batch
    steps = recipe.epochs * per_epoch
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate, betas=(0.9, 0.95),
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, steps, recipe.warmup))
    rows: Tensor = torch.empty(0, dtype=torch.int64)
    print(f"training a Llama on {ids_NT.numel():,} tokens, {steps} steps", flush=True)
    for step in range(steps):
        if step % per_epoch == 0:
            rows = torch.randperm(len(ids_NT), generator=order)
        start = step % per_epoch * recipe.batch
        batch_BT = ids_NT[rows[start : start + recipe.batch]]
        logits_BTV = model(input_ids=batch_BT, use_cache=False).logits
        loss = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), batch_BT[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % SAY_EVERY == 0:
            print(f"step {step + 1}: {float(loss.detach()):.3f} nats a token", flush=True)
    model.eval().save_pretrained(folder)
