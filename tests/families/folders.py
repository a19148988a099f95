"""A very small checkpoint folder of every supported class, as users have it, and data of its kind: made once a machine.

Config, safetensors, and the files of extractor, image processor or tokenizer, all made here. Those that answer with labels or
texts have learnt theirs: a cut model that equals the masked one on noise alone would prove little. Embeddings and encoders
without a head have nothing to learn from and keep weights drawn large enough that attention is far from uniform.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel, WhisperTokenizer

from api_schemas.enums import Head, Modality, Split
from api_schemas.spec.inputs import Columns, Splits
from benchmarks.families import examples, special_models
from checkpoints.describe import Checkpoint, describe_folder
from checkpoints.families import FAMILIES, Architecture, Family
from demo import cache
from tests.families import lessons
from tests.families.lessons import Lessons
from tests.support.checkpoints import clips, preprocessors, rows, tiny
from worker.engine.checkpoint.load import LoadedModel, load_original
from worker.engine.data import PreparedData, prepare
from worker.engine.evaluate import evaluate
from worker.engine.tasks import Task, task_for

BATCH = 16
CPU = torch.device("cpu")
UNTAUGHT = (Head.EMBEDDING, Head.HIDDEN_STATES)
LEARNT = 0.7
"""The task's metric on validation, above which a model has learnt: chance is a half or less."""


@dataclass(frozen=True)
class Recipe:
    """One class of transformers: from what its folder is made."""

    name: str
    preprocessor: str
    """One of those in tests/support/checkpoints/preprocessors.py."""
    config: Mapping[str, Any]
    epochs: int = 12
    learning_rate: float = 3e-3
    seed: int = 0

    @property
    def family(self) -> Family:
        return next(family for family in FAMILIES if self.name in family.architectures)

    @property
    def architecture(self) -> Architecture:
        return self.family.architectures[self.name]

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the class numbers; empty where it has none."""
        return lessons.LABELS.get((self.family.modality, self.architecture.head), ())


WAVES = {key: value for key, value in examples.WAVES.items() if key != "vocab_size"}
"""640 samples a frame: a letter of the lessons has three."""
NORMS_FIRST = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
OWN: Mapping[str, Mapping[str, Any]] = {
    "data2vec_audio": {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2},
    # A layer of either type, and a window that texts are longer than.
    "modernbert": {"local_attention": 4, "global_attn_every_n_layers": 2},
    "wavlm": special_models.POSITIONS,
    "wav2vec2-conformer": special_models.CONFORMER,
    "wav2vec2-bert": {"left_max_position_embeddings": 5, "right_max_position_embeddings": 2},
    "electra": {"embedding_size": 20},
    "dinov2": {"mlp_ratio": 2},
    "dinov3": {"num_register_tokens": 3},
    "clip_vision": {"initializer_factor": 4.0},
}
"""What the configurations of some families have beside."""
WHISPER = {
    key: special_models.WHISPER[key]
    for key in ("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads", "d_model",
                "encoder_ffn_dim", "decoder_ffn_dim", "init_std", "begin_suppress_tokens")
}  # fmt: skip
# Sixteen bins of a second and a hundredth, folded to 64² and cut into 16² patches in windows of 4².
CLAP = {**special_models.CLAP, "spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4]}


def _recipe(family: Family, name: str, head: Head) -> Recipe:
    own = OWN.get(family.name, {})
    if family.name == "clap_text":
        return Recipe(name, "clap_text", {**examples.TINY, **examples.CLAP_TEXT})
    if head is Head.CAUSAL_LM:
        grouped = {
            "llama": examples.LLAMA,
            "mistral": examples.LLAMA,
            "qwen2": examples.QWEN2,
            "qwen3": examples.LLAMA,
            "phi": examples.PHI,
            "phi3": examples.PHI,
            "gemma": examples.GEMMA,
            "gemma2": examples.GEMMA2,
            "gemma3": examples.GEMMA3,
        }
        config = {"gpt2": examples.GPT2, "opt": examples.OPT, **grouped}[family.name]
        made = ("vocab_size", "n_positions", "max_position_embeddings")
        return Recipe(name, family.name, {key: value for key, value in config.items() if key not in made})
    if family.modality is Modality.TEXT:
        config = {**(examples.DISTILLED if family.name == "distilbert" else examples.TINY), **own}
        return Recipe(name, family.name, config, epochs=20 if head in (Head.MASKED_LM, Head.QUESTION_ANSWERING) else 12)
    if family.modality is Modality.IMAGE:
        sizes = {key: value for key, value in examples.TINY.items() if key in family.defaults}
        return Recipe(name, family.name, {**sizes, "patch_size": 8, **own})
    if family.name == "ast":
        return Recipe(name, "ast", {**examples.TINY, "frequency_stride": 8, "time_stride": 8})
    if family.name == "whisper":
        return Recipe(name, "whisper", WHISPER, epochs=20)
    if family.name == "qwen2_audio_encoder":
        sizes = ("encoder_layers", "encoder_attention_heads", "d_model", "encoder_ffn_dim")
        return Recipe(name, family.name, {key: WHISPER[key] for key in sizes})
    if family.name == "clap":
        return Recipe(name, "clap", CLAP)
    if family.name == "wav2vec2-bert":
        config = {**examples.TINY, **special_models.CONFORMER, **own, "classifier_proj_size": 20}
        return Recipe(name, "mel_frames", config, epochs=60 if head is Head.CTC else 12)
    own = {**own, **examples.CODES} if name.endswith("ForPreTraining") else own
    return Recipe(name, "ctc" if head is Head.CTC else "waveform", {**WAVES, **own})


RECIPES: Mapping[str, Recipe] = {
    name: _recipe(family, name, architecture.head)
    for family in FAMILIES for name, architecture in family.architectures.items() if name != "ASTForAudioClassification"
}  # fmt: skip
"""By class; the folder of the AST that classifies is that of tests/support/checkpoints/tiny.py."""
ARCHITECTURES = tuple(name for family in FAMILIES for name in family.architectures)


@dataclass(frozen=True)
class Ready:
    """A class whose folders are made and whose data is prepared."""

    model: Path
    data: Path
    described: Checkpoint
    loaded: LoadedModel
    task: Task
    prepared: PreparedData


def data_folder(name: str) -> Path:
    """The data of a class: shards of train, validation and test. Read only."""
    if name not in RECIPES:
        return tiny.tiny_data()
    lesson = Lessons.of(RECIPES[name].family.modality, RECIPES[name].architecture.head)
    return cache.cached(tiny.ROOT, lesson.kind, lesson, (lessons, preprocessors, clips, rows), lesson.write)


def model_folder(name: str) -> Path:
    """The checkpoint folder of a class of transformers. Read only."""
    if name not in RECIPES:
        return tiny.tiny_model()
    recipe, data = RECIPES[name], data_folder(name)
    sources = (sys.modules[__name__], lessons, examples, special_models, preprocessors)
    return cache.cached(tiny.ROOT, name, recipe, sources, lambda folder: _make(recipe, data, folder), data.name)


def ready(model: Path, data: Path, cache_dir: Path) -> Ready:
    """What the engine makes of two folders before its first step."""
    described, loaded = describe_folder(model), load_original(model)
    modality, head = described.family.modality, described.architecture.head
    found = prepare(
        data, model, labels=described.labels, multi_label=described.multi_label, columns=Columns(), splits=Splits(), seed=0,
        cache_dir=cache_dir, progress=lambda *_: None, modality=modality, head=head,
    )  # fmt: skip
    task = task_for(
        head, loaded.model.config, multi_label=described.multi_label, decode=found.decode, original=loaded.model,
        questions=found.questions,
    )  # fmt: skip
    return Ready(model, data, described, loaded, task, found)


def _make(recipe: Recipe, data: Path, folder: Path) -> None:
    preprocessors.write(recipe.preprocessor, folder)
    config = {**json.loads((folder / "config.json").read_text()), **recipe.config}
    del config["model_type"]
    if recipe.labels:
        config["id2label"] = dict(enumerate(recipe.labels))
        config["label2id"] = {label: number for number, label in enumerate(recipe.labels)}
    if recipe.preprocessor == "whisper":
        end = WhisperTokenizer.from_pretrained(folder).eos_token_id
        config |= dict.fromkeys(("eos_token_id", "bos_token_id", "pad_token_id"), end)
    model = examples.random_model(recipe.name, config, recipe.seed)
    model.save_pretrained(folder)
    if recipe.architecture.head not in UNTAUGHT:
        with TemporaryDirectory() as scratch:
            _teach(recipe, model, ready(folder, data, Path(scratch)))
        model.save_pretrained(folder)


def _teach(recipe: Recipe, model: PreTrainedModel, taught: Ready) -> None:
    """Train in eval mode: nothing at random, so that the same weights come out everywhere."""
    split, task = taught.prepared.splits[Split.TRAIN], taught.task
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    batches = recipe.epochs * len(split.batches(BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, batches)
    generator = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.epochs):
        for numbers in split.batches(BATCH, torch.randperm(len(split), generator=generator)):
            inputs, targets = split.batch(numbers)
            optimizer.zero_grad()
            task.loss(task.outputs(model, inputs), targets).mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if schedule.last_epoch < batches:
                schedule.step()
    scores = evaluate(model, taught.prepared.splits[Split.VALIDATION], task, batch_size=BATCH, device=CPU)
    assert scores.metric is not None
    assert scores.metric >= LEARNT, f"{recipe.name} must have learnt something; it reached {scores.headline}"
