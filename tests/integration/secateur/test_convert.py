"""`secateur convert` as a user runs it: pickles and adapters become checkpoints, and code in them is not run."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForPreTraining, BertForSequenceClassification, BertModel

from benchmarks.families.tiny_models import MODELS
from tests.support.outputs import checked

BERT = next(tiny for tiny in MODELS if tiny.name == "BertForSequenceClassification")


def secateur(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "secateur", "convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    folder = BERT.save(BERT.stock(), tmp_path / "bert")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "optimizer.pt").write_bytes(b"x")
    return folder


def test_a_pickle_becomes_safetensors(pickled: Path, tmp_path: Path) -> None:
    done = secateur(pickled)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "bert-safetensors"
    assert done.stdout == f"{out}\n"
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors", *BERT.files}
    stock = BertForSequenceClassification.from_pretrained(out)
    for name, tensor in BERT.stock().state_dict().items():
        assert torch.equal(stock.state_dict()[name], tensor)
    again = secateur(pickled, out)
    assert (again.returncode, "is not empty" in again.stderr) == (2, True)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["MARK"],)


def test_code_in_a_pickle_is_not_run(pickled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", str(tmp_path / "ran"))
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil()}))
    done = secateur(pickled, tmp_path / "out", "--json")
    assert done.returncode == 2
    assert "could run code" in json.dumps(checked(json.loads(done.stderr)))
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out" / "model.safetensors").exists()


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pretraining": {},
    "of lengths, ranks and alphas": {
        "use_dora": True,
        "rank_pattern": {"query": 3, "layer.0.output.dense": 4},
        "alpha_pattern": {"intermediate.dense": 9, "query": 5},
        "use_rslora": True,
    },
}


@pytest.mark.parametrize("of", list(KINDS))
def test_an_adapter_is_merged_as_peft_merges_it(tmp_path: Path, of: str) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    base = BERT.save((BertForPreTraining if of == "pretraining" else BertModel)(BERT.stock().config), tmp_path / "base")
    model = BertForSequenceClassification.from_pretrained(base, num_labels=5)
    wanted = LoraConfig(
        r=2, lora_alpha=6, target_modules=["query", "dense"], task_type="SEQ_CLS", init_lora_weights=False, **KINDS[of]
    )
    adapter = get_peft_model(model, wanted)
    for name, parameter in adapter.named_parameters():
        if "lora_magnitude_vector" in name:
            # As if it had been trained: at first it is the length that the rows have anyway.
            parameter.data *= 1 + torch.rand_like(parameter)
    adapter.save_pretrained(tmp_path / "adapter")
    done = secateur(tmp_path / "adapter", tmp_path / "out", "--base", base)
    assert done.returncode == 0, done.stderr
    merged = adapter.merge_and_unload().eval()
    found = BertForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    words = torch.arange(1, 9)[None]
    with torch.inference_mode():
        torch.testing.assert_close(found(words).logits, merged(words).logits)
    assert secateur(tmp_path / "adapter", tmp_path / "other").returncode == 2


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    wanted = LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS")
    get_peft_model(BERT.stock(hidden_size=16), wanted).save_pretrained(tmp_path / "adapter")
    base = BERT.save(BERT.stock(), tmp_path / "base")
    done = secateur(tmp_path / "adapter", tmp_path / "out", "--base", base)
    assert (done.returncode, "Does the adapter belong to another model?" in done.stderr.replace("\n", " ")) == (2, True)
