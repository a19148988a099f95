"""Every page of the cookbook is run as it stands there, on small data against the real engine; its jobs are cut short."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.families.folders import data_folder, model_folder
from tests.families.lessons import voice
from tests.support.checkpoints.clips import RATE
from tests.support.checkpoints.preprocessors import SIDE
from tests.support.gate import WHOLE
from tests.support.snippets import ROOT, run_page

COOKBOOK = ROOT / "docs" / "cookbook"
RECIPES = {
    "keyword-spotting.md": {"my-ast": "ASTForAudioClassification"},
    "speech-recognition.md": {"my-ctc": "Wav2Vec2ForCTC", "my-whisper": "WhisperForConditionalGeneration"},
    "images.md": {"my-vit": "ViTForImageClassification"},
    "texts.md": {"my-bert": "BertForSequenceClassification"},
    "embeddings.md": {"my-encoder": "DistilBertModel"},
    "language-models.md": {"my-gpt2": "GPT2LMHeadModel"},
}
"""Of each page the folders that it speaks of, and a class for each; the data is that of the first."""

MEASURED = {"latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": None}
ONE_STEP = '"schedule": {"steps": 1}'
SHORT = {
    ', "align": 8': "",
    "pruning={": f"pruning={{{ONE_STEP}, ",
    'finetune={"epochs": 3}': 'finetune={"epochs": 1}',
    "sparsity=0.5, finetune": f"sparsity=0.5, pruning={{{ONE_STEP}}}, finetune",
    'finetune={"epochs": 1}': f'finetune={{"epochs": 1}}, evaluate={MEASURED}',
}
"""In this order: a step and an epoch go the way that more would go, and a whole head is eight wide here."""


@pytest.mark.parametrize("page", RECIPES)
def test_it_goes_as_it_says(page: str, service: str, tmp_path: Path) -> None:
    models = RECIPES[page]
    for name, architecture in models.items():
        (tmp_path / name).symlink_to(model_folder(architecture))
    (tmp_path / "my-data").symlink_to(data_folder(next(iter(models.values()))))
    soundfile.write(tmp_path / "clip.wav", voice("CAB", np.random.default_rng(9)), RATE, subtype="PCM_16")
    Image.new("RGB", (SIDE, SIDE), (220, 40, 40)).save(tmp_path / "picture.png")
    # Compiling takes most of a page's time, and is tested in tests/families/test_everyday.py: the gate compiles nothing.
    environment = {"OMP_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": str(int(not WHOLE))}
    said = run_page(COOKBOOK / page, tmp_path, environment, {"http://127.0.0.1:8000": service, **SHORT}, session=True)
    print(said)
    assert list(tmp_path.glob("pruned*/model.safetensors"))


def test_every_page_is_here() -> None:
    assert {path.name for path in COOKBOOK.glob("*.md")} == set(RECIPES)
