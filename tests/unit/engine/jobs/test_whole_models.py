"""A larger model of which a part is pruned where it is: Qwen2-Audio, whose audio tower is cut and whose rest stays as it was."""

import json

import pytest
import torch
import transformers
from safetensors import safe_open

from benchmarks.families import reference
from benchmarks.families.examples import random_model
from checkpoints.describe import describe_folder
from secateur import load
from store.uploads.inspection.models.local import judge_folder
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.clips import encoded, tone
from tests.support.checkpoints.rows import CLIP, write_splits
from tests.support.jobs.engine import run_job, steps_of
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint

NAME = "Qwen2AudioForConditionalGeneration"
# A window of a second, of which the language model reads 25 tokens.
LISTENS = {
    "model_type": "qwen2_audio_encoder", "d_model": 32, "encoder_attention_heads": 4, "encoder_ffn_dim": 48, "encoder_layers": 2,
    "num_mel_bins": 8, "max_source_positions": 50, "initializer_range": 0.2,
}  # fmt: skip
WRITES = {
    "model_type": "qwen2", "hidden_size": 40, "intermediate_size": 36, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2, "vocab_size": 400,
}  # fmt: skip
SOUND = 399
TOWER, PROJECTION = "audio_tower.", "multi_modal_projector."
ONE_CUT = {
    "pruning": {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 1}, "calibration": {"samples": 6}},
    "finetune": None,
    "evaluate": {"latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": None},
}


def whole_model(**changes):
    config = {"audio_config": LISTENS, "text_config": WRITES, "audio_token_index": SOUND, **changes}
    return random_model(NAME, config)


def write_folder(folder, model, dtype=torch.float32, shard_size="1GB", **how):
    """A checkpoint as its author has it: with a tokenizer, a chat template and settings of generation."""
    preprocessors.write("qwen2", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = [f"<|{number}|>" for number in range(len(tokenizer), SOUND)]
    tokenizer.add_special_tokens({"additional_special_tokens": [*words, "<|AUDIO|>"]})
    extractor = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    transformers.Qwen2AudioProcessor(extractor, tokenizer, chat_template="{{ messages }}").save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"do_sample": true, "top_p": 0.5,  "eos_token_id": [2]}')
    settings = (folder / "generation_config.json").read_bytes()
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_size, **how)
    (folder / "generation_config.json").write_bytes(settings)
    return folder


def written_about(model):
    """Last logits, and what it writes after a text around a sound of a second, and around a shorter one, whose rest is masked."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 8, 100, generator=generator)
    heard, texts = torch.ones(2, 100, dtype=torch.long), torch.randint(3, 90, (2, 31), generator=generator)
    heard[1, 60:] = 0
    there = torch.ones_like(texts)
    # 25 tokens of the first sound, and 15 of the second behind ten of padding.
    texts[0, 3:28] = texts[1, 13:28] = SOUND
    there[1, :10] = 0
    inputs = {"input_features": features, "feature_attention_mask": heard, "input_ids": texts, "attention_mask": there}
    model.float().eval().generation_config.pad_token_id = 0
    with torch.inference_mode():
        return model(**inputs).logits[:, -1], model.generate(**inputs, max_new_tokens=12, do_sample=False)[:, 31:]


def tensors_of(folder):
    found = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, "pt") as weights:
            assert weights.metadata() == {"format": "pt"}
            found |= {name: (file.name, weights.get_tensor(name)) for name in weights.keys()}  # noqa: SIM118
    return found


def in_module_tree(name):
    """Of a tensor that is named as the published files have it."""
    if name.startswith(("model.", "lm_head.")):
        return name
    if name.startswith("language_model."):
        return name.removeprefix("language_model.").replace("model.", "model.language_model.", 1)
    return f"model.{name}"


def assert_rest_unchanged(step, folder, files=True):
    """Every tensor but the tower's is, bit for bit and in the same file, what it was; so is every file beside them."""
    before, after = tensors_of(folder), tensors_of(step)
    if "auto_map" in json.loads((step / "config.json").read_text()):
        # Where code lies beside the weights, transformers renames nothing that it reads.
        before = {in_module_tree(name): found for name, found in before.items()}
    assert before.keys() == after.keys()
    assert {place for place, _ in before.values()} == {place for place, _ in after.values()}
    for name, (place, tensor) in before.items():
        there, new = after[name]
        assert (place, tensor.dtype) == (there, new.dtype), name
        if not name.removeprefix("model.").startswith(TOWER):
            assert torch.equal(tensor.view(torch.uint8), new.view(torch.uint8)), name
    if files:
        beside = [path.name for path in folder.iterdir() if not path.name.startswith("model")]
        assert {"chat_template.jinja", "generation_config.json", "tokenizer.json"} < set(beside)
        for name in set(beside) - {"config.json", "README.md"}:
            assert (step / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize("how", ["ragged", "no heads first", "equal neurons"])
@pytest.mark.parametrize("published", [True, False], ids=["published names", "names of the module tree"])
def test_the_whole_writes_what_the_masked_original_writes(how, published, tmp_path):
    whole = whole_model()
    folder = write_folder(tmp_path / "whole", whole, save_original_format=published)
    assert judge_folder(folder, 2**20).name == NAME
    loaded = load_original(folder)
    kept = reference.keeps(loaded.widths)[how]
    smaller = reference.cut_by(loaded, kept)
    is_stock, _ = save_checkpoint(tmp_path / "step", smaller, folder)
    assert is_stock == (how == "equal neurons")
    assert_rest_unchanged(tmp_path / "step", folder)

    before = written_about(whole)
    with reference.masked(loaded.model_spec, whole, kept):
        logits, text = written_about(whole)
    assert not torch.allclose(before[0], logits, atol=1e-2)
    auto_class = getattr(transformers, describe_folder(folder).architecture.auto_class)
    for loading in (load, auto_class.from_pretrained):
        found = written_about(loading(tmp_path / "step", trust_remote_code=not is_stock))
        reference.assert_near(found[0], logits)
        assert torch.equal(found[1], text)


def clips(folder, seconds=0.9):
    rows = [{"audio": encoded(tone(300.0 + 90 * n, seconds=seconds, seed=n))} for n in range(6)]
    return write_splits(folder, {"audio": CLIP}, rows)


def test_a_job_with_the_default_preset(tmp_path):
    """In bfloat16 and in shards; two steps, the second from the first one's folder."""
    whole = whole_model()
    folder = write_folder(tmp_path / "whole", whole, torch.bfloat16, "60KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    spec = {
        **ONE_CUT,
        "pruning": {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 2}, "calibration": {"samples": 6}},
    }
    said = run_job(tmp_path / "out", spec, model=folder, data=clips(tmp_path / "data"))
    steps = steps_of(said)
    assert [step.step for step in steps] == [0, 1, 2]
    assert steps[2].achieved_sparsity == pytest.approx(0.5, abs=0.05)
    described = describe_folder(folder)
    for step in steps[1:]:
        out = tmp_path / "out" / f"step-{step.step}"
        assert_rest_unchanged(out, folder)
        assert step.reload_max_abs_error is not None
        tensors = [tensor for _, tensor in tensors_of(out).values()]
        assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
        assert step.size.total_parameters == sum(tensor.numel() for tensor in tensors)
        assert step.validation.cosine_similarity > 0.5
        model = load(out, trust_remote_code=True)
        assert model.dtype == torch.bfloat16
        # As its author would call it.
        processor = transformers.AutoProcessor.from_pretrained(out)
        asked = processor(
            text=["<|AUDIO|>a b"], audio=[tone(500.0, seconds=0.9)], return_tensors="pt", sampling_rate=16_000
        )
        found = model.generate(**asked, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
        assert found.shape == (1, asked["input_ids"].shape[1] + 5)
    assert steps[0].size.total_parameters == sum(parameter.numel() for parameter in whole.parameters())
    assert "AutoProcessor" in (tmp_path / "out/step-2/README.md").read_text()
    assert describe_folder(tmp_path / "out/step-2").shape.copied_parameters == described.shape.copied_parameters
