"""Folders of sentence-transformers through whole jobs: pooled as they say, and loaded by that library in a fresh process."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling

from api_schemas.enums import Head, Modality
from api_schemas.errors import SecateurError
from checkpoints.config.dense_modules import ACTIVATIONS
from checkpoints.config.sentences import POOLINGS
from checkpoints.describe import describe_folder
from checkpoints.file_names import checkpoint_names, names_in
from checkpoints.files.preprocessor_files import MODULES, NORMALIZE, POOLING
from store.uploads.inspection.models.local import judge_folder
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.rows import TEXT, write_splits
from tests.support.jobs.engine import run_job, steps_of
from worker.engine.checkpoint.load import load_original, load_step
from worker.engine.checkpoint.stock_folder import as_stock_reads
from worker.engine.data.featurizers import featurizer_for
from worker.engine.tasks import task_for
from worker.engine.tasks.dense_layers import load_dense

CPU = torch.device("cpu")
LONGEST = 7
TEXTS = (
    "the good films",
    "Bad film.",
    "Ada Lovelace sleeps in London",
    "a b",
    "the bad",
    "ADA GOOD FILMS in the London",
)
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,
}
OWN = {"target": {"attention_sparsity": 0.4}, "schedule": {"steps": 1}}
STOCK = {"target": {"ffn_sparsity": 0.5}, "schedule": {"steps": 1}, "layout": "stock"}
OLDER = {
    MODULES: [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ],
    "sentence_bert_config.json": {"max_seq_length": LONGEST, "do_lower_case": True},
    "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.2.2", "pytorch": "1.9"}},
    POOLING: {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    },
}
"""As versions before 5 wrote them, for a model that takes the first token."""
STRANGER = """
import json, sys
import torch
from sentence_transformers import SentenceTransformer
torch.set_num_threads(1)
answers = []
for folder, own, texts in json.loads(sys.stdin.read()):
    model = SentenceTransformer(folder, trust_remote_code=own, device="cpu", local_files_only=True)
    answers.append(model.encode(texts, normalize_embeddings=True).tolist())
print(json.dumps(answers))
"""


def encoder(folder: Path) -> Path:
    """A plain BertModel whose tokenizer keeps capitals."""
    made = json.loads((preprocessors.write("bert", folder) / "config.json").read_text())
    del made["model_type"]
    vocabulary = transformers.BertTokenizer.from_pretrained(folder).get_vocab()
    transformers.BertTokenizer(vocab=vocabulary, do_lower_case=False).save_pretrained(folder)
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**{**made, **SMALL})).save_pretrained(folder)
    return folder


def older(folder: Path, **changes: Any) -> Path:
    """A folder as an older version of the library left it."""
    encoder(folder)
    for name, value in {**OLDER, **changes}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return folder


def newer(folder: Path, *pooling: str, prompt: str | None = None, dense: Sequence[Dense] = ()) -> Path:
    """A folder as the library writes it now."""
    begin = Transformer(str(encoder(folder / "encoder")), processor_kwargs={"model_max_length": LONGEST})
    modules = [begin, Pooling(32, pooling_mode=pooling), *dense, Normalize()]  # type: ignore[arg-type]
    prompts = {} if prompt is None else {"prompts": {"told": prompt}, "default_prompt_name": "told"}
    SentenceTransformer(modules=modules, device="cpu", **prompts).save(str(folder / "model"))  # type: ignore[arg-type]
    return folder / "model"


def embedded(folder: Path, original: Path, *, step: bool = False) -> torch.Tensor:
    """What the engine makes of TEXTS with a folder's weights and the `original`'s other files, [B, D]."""
    described = describe_folder(original)
    loaded = load_step(folder) if step else load_original(folder)
    dense = load_dense(original, described.dense)
    task = task_for(Head.EMBEDDING, loaded.model.config, pooling=described.pooling, dense=dense)
    made = featurizer_for(original, Modality.TEXT, Head.EMBEDDING)(TEXTS, TEXTS)["input_ids"]
    with torch.inference_mode():
        rows = [task.outputs(loaded.model.eval(), {"input_ids": torch.from_numpy(row)[None]}) for row in made]
    return torch.cat(rows)


def expected(folder: Path) -> torch.Tensor:
    return torch.from_numpy(SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True))


def asked_elsewhere(folders: Mapping[Path, bool], scratch: Path) -> list[torch.Tensor]:
    """Embeddings of TEXTS by a process that knows nothing of Secateur; whether it may run the folder's code, by folder."""
    run = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER],
        input=json.dumps([[str(folder), own, TEXTS] for folder, own in folders.items()]),
        env={"HOME": str(scratch), "HF_HOME": str(scratch), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return [torch.tensor(each) for each in json.loads(run.stdout.splitlines()[-1])]


def job(out: Path, model: Path, data: Path, pruning: Mapping[str, Any]) -> Path:
    """The folder of the one step, whose metric was taken of the embeddings that are compared here."""
    spec = {
        "pruning": pruning,
        "finetune": {"epochs": 1, "batch_size": 2},
        "evaluate": {"latency_batch_sizes": [], "sensitivity_samples": None},
    }
    dense, cut = steps_of(run_job(out, spec, model=model, data=data))
    assert dense.validation.cosine_similarity == pytest.approx(1.0, abs=1e-6)
    before, after = embedded(model, model), embedded(out / "step-1", model, step=True)
    assert cut.validation.cosine_similarity == pytest.approx((before * after).sum(-1).mean().item(), abs=1e-5)
    return out / "step-1"


def test_results_are_folders_of_sentence_transformers(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", {"text": TEXT}, [{"text": text} for text in TEXTS])
    first = older(tmp_path / "first")
    torch.manual_seed(3)
    mean = newer(tmp_path / "mean", "mean", dense=[Dense(32, 24), Dense(24, 12, bias=False, activation_function=None)])
    steps = {job(tmp_path / "own", mean, data, OWN): mean, job(tmp_path / "stock", first, data, STOCK): first}
    codes = {step: bool(list(step.glob("*.py"))) for step in steps}
    assert list(codes.values()) == [True, False]
    for (step, original), found in zip(steps.items(), asked_elsewhere(codes, tmp_path), strict=True):
        torch.testing.assert_close(found, embedded(step, original, step=True), atol=1e-5, rtol=0)
        assert {MODULES, POOLING} <= set(names_in(step))
        assert "SentenceTransformer(" in (step / "README.md").read_text(encoding="utf-8")
        digests = json.loads((step / "pruning.json").read_text())["sha256"]
        assert {POOLING, *(each.weights_file for each in describe_folder(original).dense)} <= set(digests)
    # A stock step is a model of its own, pooled in the same way.
    stock, again = tmp_path / "stock" / "step-1", tmp_path / "again"
    for name in checkpoint_names(names_in(stock)):
        (again / name).parent.mkdir(parents=True, exist_ok=True)
        (again / name).write_bytes((stock / name).read_bytes())
    assert judge_folder(again, 2**20).pooling == ("cls",)


@pytest.mark.parametrize("pooling", [*((each,) for each in POOLINGS), ("mean", "cls"), ("cls", "max", "lasttoken")])
def test_every_pooling_is_the_librarys_own(pooling: tuple[str, ...], tmp_path: Path) -> None:
    folder = newer(tmp_path, *pooling)
    assert judge_folder(folder, 2**20).pooling == pooling
    assert NORMALIZE in names_in(folder)
    torch.testing.assert_close(embedded(folder, folder), expected(folder), atol=1e-6, rtol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_modules_are_the_librarys_own(activation: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    dense = [Dense(64, 24, activation_function=getattr(torch.nn, activation)()), Dense(24, 48, bias=False)]
    folder = newer(tmp_path, "cls", "mean", dense=dense)
    assert [each.width_out for each in judge_folder(folder, 2**20).dense] == [24, 48]
    assert "4_Normalize/config.json" in names_in(folder)
    torch.testing.assert_close(embedded(folder, folder), expected(folder), atol=1e-6, rtol=0)


def test_a_dense_module_of_half_precision(tmp_path: Path) -> None:
    """The library computes with it in float32 all the same."""
    folder = newer(tmp_path, "mean", dense=[Dense(32, 24).half()])
    torch.testing.assert_close(embedded(folder, folder), expected(folder), atol=1e-6, rtol=0)


def spoilt(width: int, value: float) -> dict[str, torch.Tensor]:
    return {"linear.weight": torch.full((width, 32), value), "linear.bias": torch.ones(24)}


@pytest.mark.parametrize(
    ("tensors", "code", "said"),
    [
        (None, "file_missing", "2_Dense/model.safetensors is missing"),
        ({"linear.weight": torch.ones(24, 32)}, "weights_mismatch", "linear.bias [24]"),
        (spoilt(3, 1.0), "weights_mismatch", "[24, 32]"),
        (spoilt(24, torch.nan), "weights_not_finite", ""),
    ],
    ids=["not there", "no bias", "shape", "nan"],
)
def test_weights_of_a_dense_module_that_cannot_be_used(tensors: Any, code: str, said: str, tmp_path: Path) -> None:
    folder = newer(tmp_path, "mean", dense=[Dense(32, 24)])
    (folder / "2_Dense/model.safetensors").unlink()
    if tensors:
        save_file(tensors, folder / "2_Dense/model.safetensors")
    with pytest.raises(SecateurError) as caught:
        judge_folder(folder, 2**20)
    assert caught.value.code == code
    assert said in caught.value.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"sentence_bert_config.json": {"max_seq_length": 5, "do_lower_case": True}},
        {"sentence_bert_config.json": {"max_seq_length": LONGEST, "do_lower_case": False}},
        {"config_sentence_transformers.json": {"prompts": {"q": "a "}, "default_prompt_name": "q"}},
        {POOLING: {"word_embedding_dimension": 32, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}},
        {POOLING: {"word_embedding_dimension": 32}},
    ],
)
def test_texts_are_read_as_the_folder_says(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = older(tmp_path / "model", **changes)
    found = embedded(folder, folder)
    torch.testing.assert_close(found, expected(folder), atol=1e-6, rtol=0)
    plain = older(tmp_path / "plain")
    assert found.shape != embedded(plain, plain).shape or (found - embedded(plain, plain)).abs().max() > 1e-3


def test_an_encoder_that_is_saved_with_its_head_for_masked_words_is_the_plain_one(tmp_path: Path) -> None:
    """As all-distilroberta-v1 is published."""
    folder = older(tmp_path / "model")
    config = transformers.BertConfig.from_pretrained(folder)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    judged = judge_folder(folder, 2**20)
    assert (judged.name, judged.pooling) == ("BertModel", ("cls",))
    torch.testing.assert_close(embedded(folder, folder), expected(folder), atol=1e-6, rtol=0)


def test_without_modules_json_the_other_files_say_nothing(tmp_path: Path) -> None:
    folder = older(tmp_path / "model")
    (folder / MODULES).unlink()
    judged = judge_folder(folder, 2**20)
    assert judged.pooling == ("mean",)
    assert [warning.code for warning in judged.warnings] == ["files_ignored"]
    with as_stock_reads(folder) as place, torch.inference_mode():
        model = transformers.BertModel.from_pretrained(place).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        means = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(1) for text in TEXTS]
    torch.testing.assert_close(embedded(folder, folder), torch.nn.functional.normalize(torch.cat(means)))
