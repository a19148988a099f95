"""A larger model of which a part is pruned where it is: Qwen2-Audio, whose audio tower is cut and whose rest stays as it was."""

import json
import pickle
import shutil

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from api_schemas.enums import DeviceKind, ExportFormat, Head
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import Pruning
from benchmarks.families import reference
from benchmarks.families.examples import random_model
from checkpoints.config.checkpoint_config import read_config, used_values
from checkpoints.describe import describe_folder
from checkpoints.families import ALL_FAMILIES
from checkpoints.families.audio.qwen2_audio import QWEN2_AUDIO
from checkpoints.file_names import checkpoint_names
from checkpoints.planning.feasibility import check_feasible
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_model import tensor_bytes
from checkpoints.task_rules import check_exports
from secateur import load
from store.uploads.inspection.models.local import judge_folder
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.clips import encoded, tone
from tests.support.checkpoints.rows import CLIP, write_splits
from tests.support.jobs.engine import run_job, steps_of
from tests.unit.engine.families import cut_checks
from worker.engine.checkpoint.gate import check_original, check_reload
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.models.model_spec import ModelSpec

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


@pytest.mark.slow
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


def test_what_it_costs_is_counted_of_the_whole_or_of_what_runs(tmp_path):
    whole = whole_model()
    folder = write_folder(tmp_path / "whole", whole)
    described = describe_folder(folder)
    shape, kept = described.shape, reference.keeps(described.widths)["heads and channels"]
    smaller = reference.cut_by(load_original(folder), kept)
    copied = sum(
        p.numel() for name, p in whole.named_parameters() if name.startswith(("model.language_model.", "lm_head."))
    )
    assert shape.copied_parameters == copied
    # What the engine has in memory, beside the language model.
    held = sum(parameter.numel() for parameter in smaller.model.parameters())
    assert accounting.total_parameters(shape, smaller.widths) == held + copied
    cut_checks.check_flops(
        smaller.model_spec, part_of(whole, smaller.model_spec), {"input_features": SOUNDS[:1]}, "ragged"
    )

    larger = whole_model(text_config={**WRITES, "num_hidden_layers": 5, "intermediate_size": 600})
    other = describe_folder(write_folder(tmp_path / "larger", larger)).shape
    assert other.copied_parameters > 3 * copied
    spec = EngineSpec.model_validate(ONE_CUT)
    for kind in DeviceKind:
        # Memory is not what the rest decides.
        assert tensor_bytes(spec, other, kind) == tensor_bytes(spec, shape, kind)


SOUNDS = torch.randn(3, 8, 100, generator=torch.Generator().manual_seed(2))


def part_of(whole, model_spec):
    """Encoder and projection of the stock class, as the engine has them."""
    part = model_spec.classes.engine_stock(whole.config)
    part.load_state_dict(
        {name: tensor for name, tensor in whole.state_dict().items() if model_spec.family.part.holds(name)}
    )
    return part.eval()


def test_what_the_engine_runs_is_what_the_language_model_reads(tmp_path):
    whole = whole_model()
    loaded = load_original(write_folder(tmp_path / "whole", whole))
    with torch.no_grad():
        states = whole.model.multi_modal_projector(whole.model.audio_tower(SOUNDS).last_hidden_state)
        found = loaded.model(SOUNDS).last_hidden_state
    assert found.shape == (3, 25, WRITES["hidden_size"])
    reference.assert_near(found, states)
    assert not any("language_model" in name or "lm_head" in name for name, _ in loaded.model.named_modules())


def test_targets_and_sides(tmp_path):
    shape = describe_folder(write_folder(tmp_path / "whole", whole_model())).shape

    def check(**pruning):
        check_feasible(shape, shape.dense, Pruning.model_validate({"granularity": "ragged", **pruning}))

    check(target={"attention_sparsity": 0.5}, only="encoder")
    check(target={"flops": 0.5}, parts=["attention", "feed_forward"])
    with pytest.raises(SecateurError, match="Of this model only the encoder is pruned; leave only out") as caught:
        check(target={"attention_sparsity": 0.5}, only="decoder")
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    # A share of the parameters of all of it, most of which stay.
    with pytest.raises(SecateurError, match="of this model's parameters") as caught:
        check(target={"parameters": 0.5}, parts=["attention", "feed_forward"])
    assert caught.value.code is ErrorCode.SPARSITY_OUT_OF_REACH
    for formats, said in ((["onnx"], "no whole model. Leave out"), (["torchao_int8"], "no whole model. Leave out")):
        with pytest.raises(SecateurError, match=said) as caught:
            check_exports(QWEN2_AUDIO, Head.HIDDEN_STATES, [ExportFormat(each) for each in formats])
        assert caught.value.code is ErrorCode.EXPORT_UNAVAILABLE


@pytest.mark.parametrize(
    ("key", "changes", "code", "said"),
    [
        ("text_config", {"model_type": "llama"}, ErrorCode.CONFIG_INVALID, "`text_config.model_type`: must be qwen2"),
        ("text_config", {"num_hidden_layers": 10**6}, ErrorCode.CONFIG_INVALID, "`text_config.num_hidden_layers`: at most 1024"),
        ("text_config", {"vocab_size": "many"}, ErrorCode.CONFIG_INVALID, "`text_config.vocab_size`: must be a whole number"),
        ("text_config", {"auto_map": {"AutoModel": "a.B"}}, ErrorCode.CODE_REFUSED, "config.json/text_config/auto_map"),
        ("text_config", {"quantization_config": {"bits": 4}}, ErrorCode.CONFIG_INVALID, "config.json/text_config/quantization"),
        ("text_config", {"intermediate_size": 37}, ErrorCode.WEIGHTS_MISMATCH, "language_model"),
        ("audio_config", {"encoder_attention_heads": 5}, ErrorCode.CONFIG_INVALID, "`audio_config.encoder_attention_heads`: 5"),
        ("audio_config", {"activation_function": "tan"}, ErrorCode.CONFIG_INVALID, "`audio_config.activation_function`: must"),
        ("audio_config", {"d_model": 64}, ErrorCode.WEIGHTS_MISMATCH, "audio_tower"),
        # transformers reads these as other names of what a tower has, and believes the last.
        ("audio_config", {"num_hidden_layers": 3}, ErrorCode.CONFIG_INVALID, "`audio_config.num_hidden_layers`: it is another"),
        ("audio_config", {"hidden_size": 64}, ErrorCode.CONFIG_INVALID, "`audio_config.hidden_size`: it is another name for"),
        ("audio_config", {"num_mel_bins": 16}, ErrorCode.WEIGHTS_MISMATCH, "conv1"),
    ],
)  # fmt: skip
def test_a_config_that_is_wrong_inside(key, changes, code, said, folder_once, tmp_path):
    config = json.loads((folder_once / "config.json").read_text())
    config[key] |= changes
    bad = shutil.copytree(folder_once, tmp_path / "bad")
    (bad / "config.json").write_text(json.dumps(config))
    with pytest.raises(SecateurError) as caught:
        judge_folder(bad, 2**20)
    assert caught.value.code is code
    assert said in caught.value.detail
    if said.startswith("`"):
        place = said.split("`")[1].replace(".", "/")
        assert caught.value.errors[0].pointer == f"/config.json/{place}"


@pytest.fixture(scope="module")
def folder_once(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("once") / "whole", whole_model())


@pytest.mark.parametrize("config", [None, [], "qwen2"])
def test_a_configuration_that_is_none(config, folder_once, tmp_path):
    said = json.loads((folder_once / "config.json").read_text())
    bad = shutil.copytree(folder_once, tmp_path / "bad")
    (bad / "config.json").write_text(json.dumps(said | {"audio_config": config}))
    # Without one it is the default's, which is larger.
    with pytest.raises(SecateurError) as caught:
        judge_folder(bad, 2**20)
    assert caught.value.code is (ErrorCode.WEIGHTS_MISMATCH if config is None else ErrorCode.CONFIG_INVALID)


def test_keys_that_nobody_reads(folder_once, tmp_path):
    config = json.loads((folder_once / "config.json").read_text())
    config["text_config"] |= {"use_mrope": False, "torch_dtype": "bfloat16", "rope_theta": 10000}
    config |= {"ignore_index": -100, "vocab_size": 400, "unheard_of": 1}
    other = shutil.copytree(folder_once, tmp_path / "other")
    (other / "config.json").write_text(json.dumps(config))
    [said] = [warning.detail for warning in judge_folder(other, 2**20).warnings if warning.code == "config_ignored"]
    assert "`text_config.use_mrope`, `unheard_of`" in said
    used = used_values(QWEN2_AUDIO, config)
    assert used["ignore_index"] == -100
    assert used["text_config"]["rope_theta"] == 10000.0
    assert "use_mrope" not in used["text_config"]


def test_what_a_config_says_inside_of_outputs_is_not_heard(folder_once, tmp_path):
    """A tower that returns tuples; the original is compared with what transformers makes of the upload's own config."""
    config = json.loads((folder_once / "config.json").read_text())
    for key in ("audio_config", "text_config"):
        config[key] |= {"return_dict": False, "_attn_implementation": "flash_attention_2"}
    # Another name, of which it says nothing.
    config["audio_config"]["hidden_size"] = None
    other = shutil.copytree(folder_once, tmp_path / "other")
    (other / "config.json").write_text(json.dumps(config))
    judge_folder(other, 2**20)
    check_original(other, load_original(other), {"input_features": SOUNDS})


def test_a_stock_result_says_a_width_once(folder_once, tmp_path):
    """Under another name the former one would stand, which transformers believes as well."""
    config = json.loads((folder_once / "config.json").read_text())
    config["audio_config"]["intermediate_size"] = LISTENS["encoder_ffn_dim"]
    other = shutil.copytree(folder_once, tmp_path / "other")
    (other / "config.json").write_text(json.dumps(config))
    loaded = load_original(other)
    smaller = reference.cut_by(loaded, reference.keeps(loaded.widths)["equal neurons"])
    assert save_checkpoint(tmp_path / "step", smaller, other)[0]
    tower = transformers.AutoConfig.from_pretrained(tmp_path / "step").audio_config
    assert {tower.encoder_ffn_dim} == set(smaller.widths.feed_forward) < set(range(LISTENS["encoder_ffn_dim"]))


def test_a_class_beside_it_is_refused_with_the_way_to_it(folder_once):
    config = json.loads((folder_once / "config.json").read_text())
    with pytest.raises(SecateurError, match="save the whole model, a Qwen2AudioForConditionalGeneration") as caught:
        read_config(config | {"architectures": ["Qwen2AudioModel"]})
    assert caught.value.code is ErrorCode.ARCHITECTURE_UNSUPPORTED


@pytest.mark.slow
def test_a_result_is_pruned_again_with_recovery_and_norms_in_single_precision(tmp_path):
    """The first job's result is an upload of its own: judged as one, and cut further."""
    folder = write_folder(tmp_path / "whole", whole_model().to(torch.bfloat16), torch.bfloat16, "60KB")
    for file in folder.glob("model-*.safetensors"):
        tensors = {
            name: tensor.float() if TOWER in name and "norm" in name else tensor
            for name, tensor in load_file(file).items()
        }
        save_file(tensors, file, {"format": "pt"})
    data = clips(tmp_path / "data")
    pruning = {
        "target": {"flops": 0.3},
        "parts": ["attention", "feed_forward"],
        "schedule": {"steps": 1},
        "calibration": {"samples": 6},
    }
    finetune = {"epochs": 1, "batch_size": 3, "method": "full", "learning_rate": 1e-3}
    run_job(tmp_path / "first", {**ONE_CUT, "pruning": pruning, "finetune": finetune}, model=folder, data=data)
    first = tmp_path / "first/step-1"
    assert_rest_unchanged(first, folder)
    assert {name for name, (_, tensor) in tensors_of(first).items() if tensor.dtype == torch.float32} == {
        in_module_tree(name) for name, (_, tensor) in tensors_of(folder).items() if tensor.dtype == torch.float32
    }
    again = tmp_path / "again"
    again.mkdir()
    for name in checkpoint_names(path.name for path in first.iterdir()):
        shutil.copyfile(first / name, again / name)
    judged = judge_folder(again, 2**20)
    assert [warning.code for warning in judged.warnings if warning.code == "pruned_before"]
    spec = {**ONE_CUT, "finetune": {**finetune, "method": "lora", "distill": {}}}
    steps = steps_of(run_job(tmp_path / "second", spec, model=again, data=data))
    second = tmp_path / "second/step-1"
    assert_rest_unchanged(second, again)
    assert steps[1].size.attention_parameters < 0.6 * steps[0].size.attention_parameters
    assert torch.isfinite(written_about(load(second, trust_remote_code=True))[0]).all()


@pytest.mark.slow
def test_a_stock_result_needs_no_code(tmp_path):
    folder = write_folder(tmp_path / "whole", whole_model())
    pruning = {
        "target": {"ffn_sparsity": 0.5}, "layout": "stock", "parts": ["feed_forward"], "schedule": {"steps": 2},
        "calibration": {"samples": 6},
    }  # fmt: skip
    run_job(tmp_path / "out", {**ONE_CUT, "pruning": pruning}, model=folder, data=clips(tmp_path / "data"))
    step = tmp_path / "out/step-2"
    assert_rest_unchanged(step, folder)
    config = json.loads((step / "config.json").read_text())
    assert config["audio_config"]["encoder_ffn_dim"] == 24
    assert "encoder_ffn_dim" not in config
    assert not list(step.glob("*.py"))
    model, info = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(step, output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(written_about(model)[1], written_about(load(step))[1])


def test_a_stock_class_says_why_it_does_not_load_a_result(tmp_path):
    folder = write_folder(tmp_path / "whole", whole_model())
    loaded = load_original(folder)
    save_checkpoint(tmp_path / "step", reference.cut_by(loaded, reference.keeps(loaded.widths)["ragged"]), folder)
    with pytest.raises(Exception, match="trust_remote_code=True"):
        transformers.Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path / "step", ignore_mismatched_sizes=True)


def test_the_reload_check_loads_all_of_it(tmp_path):
    """A tensor that is missing outside of the part ends a job, though nothing there was cut."""
    folder = write_folder(tmp_path / "whole", whole_model())
    loaded = load_original(folder)
    smaller = reference.cut_by(loaded, reference.keeps(loaded.widths)["ragged"])
    step = tmp_path / "step"
    save_checkpoint(step, smaller, folder)
    family = smaller.model_spec.family
    auto_class = family.architectures[NAME].auto_class
    assert check_reload(step, smaller.model, auto_class, {"input_features": SOUNDS}, family.part) < 1e-4
    tensors = load_file(step / "model.safetensors")
    other = {**tensors, "model.audio_tower.layer_norm.bias": tensors["model.audio_tower.layer_norm.bias"] + 0.1}
    save_file(other, step / "model.safetensors", {"format": "pt"})
    with pytest.raises(SecateurError, match="got different last_hidden_state"):
        check_reload(step, smaller.model, auto_class, {"input_features": SOUNDS}, family.part)
    del tensors["model.language_model.norm.weight"]
    save_file(tensors, step / "model.safetensors", {"format": "pt"})
    with pytest.raises(SecateurError, match=r"could not load .*model\.language_model\.norm\.weight"):
        check_reload(step, smaller.model, auto_class, {"input_features": SOUNDS}, family.part)


def test_a_model_is_sent_to_another_process(tmp_path):
    loaded = load_original(write_folder(tmp_path / "whole", whole_model()))
    sent = pickle.loads(pickle.dumps(loaded))
    assert sent.model_spec.family is QWEN2_AUDIO
    with torch.no_grad():
        assert torch.equal(sent.model(SOUNDS).last_hidden_state, loaded.model(SOUNDS).last_hidden_state)


@pytest.mark.parametrize("family", ALL_FAMILIES, ids=lambda family: family.name)
def test_which_model_it_is_goes_to_another_process(family):
    spec = ModelSpec(family, next(iter(family.architectures)))
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_chat_template_that_is_no_text(folder_once, tmp_path):
    bad = shutil.copytree(folder_once, tmp_path / "bad")
    (bad / "chat_template.jinja").write_bytes(b"{{ messages }}\xff")
    with pytest.raises(SecateurError, match=r"chat_template\.jinja is not accepted: it is not UTF-8 text") as caught:
        judge_folder(bad, 2**20)
    assert caught.value.code is ErrorCode.FILE_TYPE_REFUSED
