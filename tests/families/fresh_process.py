"""A step folder in transformers' own pipelines: in a fresh, isolated process, as a stranger to Secateur has it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from tests.families.lessons import COLOURS, voice
from tests.support.checkpoints.clips import RATE
from tests.support.checkpoints.preprocessors import SIDE

PIPELINES: Mapping[str, tuple[str, Any]] = {
    "ViTForImageClassification": ("image-classification", "red"),
    "WavLMForSequenceClassification": ("audio-classification", "cab"),
    "Wav2Vec2ForCTC": ("automatic-speech-recognition", "CAB"),
    "WhisperForConditionalGeneration": ("automatic-speech-recognition", "CAB"),
    "BertForSequenceClassification": ("text-classification", "good"),
    "BertForTokenClassification": ("token-classification", ["name", "verb", "word", "name"]),
    "BertForMaskedLM": ("fill-mask", "film"),
    "BertForQuestionAnswering": ("question-answering", "london"),
    "ViTModel": ("image-feature-extraction", (17, 32)),
    "DistilBertModel": ("feature-extraction", (6, 32)),
}
"""One class of each head: the hub's task, and what is right. The last two are shapes: of sixteen patches and the class token, and
of four words and two special tokens. transformers 5 has no pipeline that answers questions: there the model is called."""

SENTENCES = {
    "text-classification": "a good film",
    "token-classification": "ada sleep in london",
    "feature-extraction": "ada sleep in london",
    "fill-mask": "ada sleep in the good [MASK] ada sleep in",
    "question-answering": "the good|a film in london love the film",
}

STRANGER = """
import json, sys
import torch
from transformers import pipeline
torch.set_num_threads(1)
folder, task, given, writes = json.loads(sys.stdin.read())
if task.startswith(("audio", "automatic")):
    import soundfile
    sound, rate = soundfile.read(given, dtype="float32")
    given = {"raw": sound, "sampling_rate": rate}
if task == "question-answering":
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer
    question, context = given.split("|")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    places = inputs.pop("offset_mapping")[0]
    output = AutoModelForQuestionAnswering.from_pretrained(folder, trust_remote_code=True).eval()(**inputs)
    first, last = output.start_logits.argmax(), output.end_logits.argmax()
    print(json.dumps({"answer": context[places[first][0]:places[last][1]]}))
    sys.exit()
options = {"generate_kwargs": {"max_new_tokens": 24}} if writes else {}
answer = pipeline(task, folder, trust_remote_code=True, device="cpu")(given, **options)
print(json.dumps(answer, default=float))
"""


def check_pipeline(name: str, folder: Path, scratch: Path) -> None:
    """The pipeline of a class answers an input of its kind rightly: "CAB", a red square, or a sentence."""
    task, right = PIPELINES[name]
    answer = _ask(task, folder, _given(task, scratch), scratch, writes=name.startswith("Whisper"))
    if task == "automatic-speech-recognition":
        found: Any = answer["text"].strip()
    elif task == "token-classification":
        found = [each["entity"] for each in answer]
    elif task == "fill-mask":
        found = answer[0]["token_str"]
    elif task == "question-answering":
        found = answer["answer"]
    elif task.endswith("feature-extraction"):
        found = np.array(answer[0]).shape
    else:
        found = answer[0]["label"]
    assert found == right, answer


def _given(task: str, scratch: Path) -> str:
    """A sentence, or the path of a file."""
    if task.startswith("image"):
        path = scratch / "red.png"
        image = Image.new("RGB", (SIDE, SIDE), (30, 30, 30))
        image.paste(COLOURS["red"], (8, 8, 8 + SIDE // 2, 8 + SIDE // 2))
        image.save(path)
        return str(path)
    if task in SENTENCES:
        return SENTENCES[task]
    path = scratch / "cab.wav"
    soundfile.write(path, voice("CAB", np.random.default_rng(9)), RATE, subtype="PCM_16")
    return str(path)


def _ask(task: str, folder: Path, given: str, scratch: Path, *, writes: bool) -> Any:
    run = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER],
        input=json.dumps([str(folder), task, given, writes]),
        env={"HOME": str(scratch), "HF_HOME": str(scratch), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])
