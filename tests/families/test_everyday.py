"""Everyday things done to results: a class of each kind, in the stock layout, with ragged heads, and without any attention.

The gate does them to one of the three of each class, and to each of the three of some class.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from tests.support.gate import WHOLE
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint

NAMES = (
    "ASTForAudioClassification",
    "ViTForImageClassification",
    "Wav2Vec2ForCTC",
    "WavLMForSequenceClassification",
    "WhisperForConditionalGeneration",
    "ClapAudioModelWithProjection",
    "BertForSequenceClassification",
    "BertModel",
)
CUTS = ("nothing cut", "ragged", "no heads at all")
BY_ID = {tiny.id: tiny for tiny in MODELS}


def do_everyday_things(folders: dict[Path, str], original: Path, scratch: Path) -> dict[str, dict[str, str]]:
    script = shutil.copy(Path(__file__).with_name("everyday.py"), scratch)
    run = subprocess.run(
        [sys.executable, "-I", str(script)],
        input="\n".join(json.dumps([str(folder), str(original), auto_class]) for folder, auto_class in folders.items()),
        env={
            "HOME": str(scratch),
            "HF_HOME": str(scratch),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "custom code" not in run.stdout + run.stderr
    return dict(json.loads(line) for line in run.stdout.splitlines() if line.startswith('["/'))


@pytest.mark.parametrize("name", NAMES)
def test_everyday_things(name: str, tmp_path: Path) -> None:
    tiny = BY_ID[name]
    original = tiny.save(tiny.stock(), tmp_path / "original")
    loaded = load_original(original)
    folders = {}
    # transformers has no auto class of a CLAP's audio encoder alone.
    cuts = CUTS[1:] if name.startswith("Clap") else CUTS
    if not WHOLE:
        cuts = (cuts[NAMES.index(name) % len(cuts)],)
    for cut in cuts:
        folder = tmp_path / cut.replace(" ", "_")
        save_checkpoint(folder, reference.cut_by(loaded, reference.keeps(loaded.widths)[cut]), original)
        save_file({key: tensor.contiguous() for key, tensor in tiny.inputs(2).items()}, folder / "probe.safetensors")
        folders[folder] = tiny.model_spec.family.architectures[tiny.name].auto_class
    found = do_everyday_things(folders, original, tmp_path)
    assert len(found) == len(cuts)
    wrong = {
        f"{Path(folder).name}: {what}": came
        for folder, done in found.items()
        for what, came in done.items()
        if came != "right"
    }
    assert wrong == {}, json.dumps(wrong, indent=1)
