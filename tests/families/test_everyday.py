"""Everyday things done to results: a class of each kind, in the stock layout, and in that of our own without heads in one layer.

One process does them to several classes: whoever imports transformers, torchao and an exporter waits for ten seconds.
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
from tests.support.apart import APART
from tests.support.gate import WHOLE
from tests.support.servers.pushed import push_server
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint

WHOLLY = {
    "speech": ("Wav2Vec2ForCTC", "WhisperForConditionalGeneration", "WavLMForSequenceClassification"),
    "images and sounds": ("ViTForImageClassification", "ClapAudioModelWithProjection", "ASTForAudioClassification"),
    "texts": ("BertForQuestionAnswering", "BertModel", "BertForSequenceClassification"),
    "language models": ("GPT2LMHeadModel", "OPTForCausalLM"),
}
IN_GATE = {"one of each": ("WhisperForConditionalGeneration", "ViTForImageClassification", "BertForQuestionAnswering")}
NAMES = WHOLLY if WHOLE else IN_GATE
CUTS = ("nothing cut", "no heads first", *(("ragged", "no heads at all") if WHOLE else ()))
"""The second in the layout of our own: the first layer without heads, the others with heads of unlike widths."""
BY_ID = {tiny.id: tiny for tiny in MODELS}


def do_everyday_things(folders: dict[Path, tuple[Path, str]], scratch: Path) -> dict[str, dict[str, str]]:
    script = shutil.copy(Path(__file__).with_name("everyday.py"), scratch)
    lines = [json.dumps([str(folder), str(original), auto]) for folder, (original, auto) in folders.items()]
    with push_server(scratch / "pushed") as (endpoint, others):
        run = subprocess.run(
            [sys.executable, "-I", str(script), str(APART), str(scratch / "pushed")],
            input="\n".join(lines),
            env={
                "HOME": str(scratch),
                "HF_HOME": str(scratch),
                "HF_ENDPOINT": endpoint,
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "OMP_NUM_THREADS": "1",
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "custom code" not in run.stdout + run.stderr
    assert others == []
    return dict(json.loads(line) for line in run.stdout.splitlines() if line.startswith('["/'))


@pytest.mark.parametrize("kind", NAMES)
def test_everyday_things(kind: str, tmp_path: Path) -> None:
    folders = {}
    for name in NAMES[kind]:
        tiny = BY_ID[name]
        original = tiny.save(tiny.stock(), tmp_path / name / "original")
        loaded = load_original(original)
        auto_class = tiny.model_spec.family.architectures[name].auto_class
        # transformers has no auto class of a CLAP's encoders alone.
        for cut in CUTS[1:] if name.startswith("Clap") else CUTS:
            folder = tmp_path / name / cut.replace(" ", "_")
            stock, _ = save_checkpoint(folder, reference.cut_by(loaded, reference.keeps(loaded.widths)[cut]), original)
            assert stock == (cut == "nothing cut")
            save_file(
                {key: tensor.contiguous() for key, tensor in tiny.inputs(2).items()}, folder / "probe.safetensors"
            )
            folders[folder] = original, auto_class
    found = do_everyday_things(folders, tmp_path)
    assert len(found) == len(folders)
    wrong = {
        f"{Path(folder).parent.name}, {Path(folder).name}: {what}": came
        for folder, done in found.items()
        for what, came in done.items()
        if came != "right"
    }
    assert wrong == {}, json.dumps(wrong, indent=1)
