"""A multi-label checkpoint on mixtures of two synthesised clips: from parquet to mean average precision."""

import itertools
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import average_precision_score
from transformers import ASTConfig, ASTForAudioClassification

from api_schemas.enums import Split
from api_schemas.spec.inputs import Columns, Splits
from api_schemas.spec.recovery import Finetune
from tests.support.checkpoints.clips import FRAMES, MELS, PITCH, WORDS, encoded, tone, write_checkpoint
from worker.engine.data import prepare
from worker.engine.evaluate import evaluate
from worker.engine.recovery import finetune
from worker.engine.tasks import Classification

CPU = torch.device("cpu")
LABELS = (*WORDS, "never heard")
PAIRS = list(itertools.combinations(range(len(WORDS)), 2))


def write_mixtures(path: Path, count: int, start: int) -> None:
    features = datasets.Features(
        {"audio": datasets.Audio(decode=False), "labels": datasets.List(datasets.ClassLabel(names=list(WORDS)))}
    )
    rows = []
    for number in range(start, start + count):
        pair = PAIRS[number % len(PAIRS)]
        mixed = sum(tone(PITCH[WORDS[word]], seed=3 * number + word) for word in pair)
        rows.append({"audio": {"bytes": encoded(mixed / 2, kind="flac"), "path": None}, "labels": list(pair)})
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), path)


def test_mean_average_precision_of_mixtures_is_scikit_learns(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    for split, count, start in (("train", 60, 0), ("validation", 24, 100), ("test", 24, 200)):
        write_mixtures(data_dir / f"{split}.parquet", count, start)
    data = prepare(
        data_dir,
        write_checkpoint(tmp_path / "model"),
        labels=LABELS,
        multi_label=True,
        columns=Columns(),
        splits=Splits(),
        seed=0,
        cache_dir=tmp_path / "cache",
        progress=lambda *_: None,
    )
    assert data.summary.multi_label
    validation = data.splits[Split.VALIDATION]
    assert validation.targets.sum(dim=1).tolist() == [2.0] * 24

    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        patch_size=8,
        frequency_stride=8,
        time_stride=8,
        max_length=FRAMES,
        num_mel_bins=MELS,
        num_labels=len(LABELS),
    )
    model = ASTForAudioClassification(config)
    before = evaluate(model, validation, Classification(several=True), batch_size=10, device=CPU)
    projections = {name: module for name, module in model.named_modules() if name.endswith("_proj")}
    assert len(projections) == 4
    model, _ = finetune(
        model,
        data.splits[Split.TRAIN],
        Finetune(epochs=20, learning_rate=1e-2, batch_size=15, augment=None),
        projections=projections,
        classifiers=["classifier"],
        task=Classification(several=True),
        pad_value=data.pad_value,
        seed=0,
        device=CPU,
        on_batch=lambda *_: None,
        on_epoch=lambda _: None,
    )
    after = evaluate(model, validation, Classification(several=True), batch_size=10, device=CPU)
    with torch.inference_mode():
        logits = model(**validation.batch(range(24))[0]).logits.numpy()
    heard = slice(0, len(WORDS))  # the class without a positive is left out
    expected = average_precision_score(validation.targets.numpy()[:, heard], logits[:, heard], average="macro")
    assert after.mean_average_precision == pytest.approx(expected, abs=1e-6)
    assert after.mean_average_precision is not None
    assert before.mean_average_precision is not None
    assert after.mean_average_precision > max(0.9, before.mean_average_precision)
    assert np.isfinite(after.cross_entropy)
    assert after.accuracy is None
