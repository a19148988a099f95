"""Decoders that continue texts, cut: with a cache and without, alone and in a batch, in stock files and in our own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.recovery import Lora
from benchmarks.families import reference
from benchmarks.families.examples import Example
from benchmarks.families.tiny_models import DECODERS
from checkpoints.describe import describe_folder
from secateur.client.files.model_files import model_files
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.models.stock_tensors import as_pruned, as_stock
from worker.engine.recovery.lora import attach
from worker.engine.recovery.recover import Recovery

every = pytest.mark.parametrize("tiny", DECODERS, ids=lambda tiny: tiny.id)
KEEPS = ("ragged", "no heads first", "no heads at all", "heads and channels")


@pytest.mark.parametrize("name", KEEPS)
@every
def test_with_a_cache_it_writes_what_it_writes_without(tiny: Example, name: str) -> None:
    whole = reference.dense(tiny.model_spec, tiny.stock())
    kept = reference.keeps(whole.widths)[name]
    model, ids = reference.cut_by(whole, kept).model, tiny.inputs(3)["input_ids"]
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    for way in ("sdpa", "eager") if model._supports_sdpa else ("eager",):
        model.set_attn_implementation(way)
        plain, cached = (model.generate(input_ids=ids, use_cache=cache, **options) for cache in (False, True))
        assert torch.equal(plain, cached)
        with torch.inference_mode():
            inputs = {"input_ids": plain, "attention_mask": torch.ones_like(plain)}
            assert torch.equal(model(**inputs).logits.argmax(-1)[:, 10:-1], plain[:, 11:])
            with reference.masked(tiny.model_spec, tiny.stock(), kept) as dense:
                assert torch.equal(dense.generate(input_ids=ids, **options), plain), "as the masked stock model"


@every
def test_what_is_padded_on_the_left_is_continued_as_it_is_alone(tiny: Example) -> None:
    whole = reference.dense(tiny.model_spec, tiny.stock())
    model = reference.cut_by(whole, reference.keeps(whole.widths)["heads and channels"]).model
    ids = tiny.inputs(3)["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, :4], mask[2, :7] = 0, 0
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    together = [
        model.generate(input_ids=ids * mask, attention_mask=mask, use_cache=cache, **options)[:, ids.shape[1] :]
        for cache in (True, False)
    ]
    assert torch.equal(*together)
    for row, begin in enumerate((0, 4, 7)):
        alone = model.generate(input_ids=ids[[row], begin:], **options)[:, ids.shape[1] - begin :]
        assert torch.equal(together[0][[row]], alone)


@every
def test_stock_tensors_there_and_back(tiny: Example) -> None:
    stock = tiny.stock()
    state, layout = stock.state_dict(), tiny.model_spec.layout_of(stock)
    widths = reference.shape_of(tiny.model_spec, stock).dense
    pruned = as_pruned(state, layout, widths)
    back = as_stock(pruned, layout, widths)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    own = reference.dense(tiny.model_spec, stock).model.state_dict()
    assert {name: tensor.shape for name, tensor in pruned.items()} == {name: own[name].shape for name in own}


@every
def test_files_have_tied_weights_once_and_a_stock_layout_has_stock_names(tiny: Example, tmp_path: Path) -> None:
    original = tiny.save(tiny.stock(), tmp_path / "original")
    loaded = load_original(original)
    before = load_file(original / "model.safetensors")
    tied = tiny.config.get("tie_word_embeddings", getattr(tiny.stock().config_class(), "tie_word_embeddings", True))
    assert ("lm_head.weight" in before) is not tied
    shared = []
    for name, without_code in (("equal neurons", True), ("ragged", False)):
        folder = tmp_path / name
        smaller = reference.cut_by(loaded, reference.keeps(loaded.widths)[name])
        assert save_checkpoint(folder, smaller, original)[0] is without_code
        after = load_file(folder / "model.safetensors")
        assert ("lm_head.weight" in after) is not tied
        joined = tiny.name in ("GPT2LMHeadModel", "Phi3ForCausalLM")
        assert (after.keys() == before.keys()) is (without_code or not joined)
        again = load_original(folder).model
        shared.append(again.lm_head.weight is again.get_input_embeddings().weight)
        assert describe_folder(folder).widths == smaller.widths
    assert shared == [tied, tied]
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "equal neurons").eval()
    smaller = reference.cut_by(loaded, reference.keeps(loaded.widths)["equal neurons"])
    with torch.inference_mode():
        reference.assert_near(reference.answer(plain, tiny.inputs(3)), reference.answer(smaller.model, tiny.inputs(3)))


@pytest.mark.parametrize(
    "tiny", [tiny for tiny in DECODERS if tiny.name.startswith(("GPT2", "OPT"))], ids=lambda tiny: tiny.id
)
def test_a_file_of_the_model_without_its_head_is_read(tiny: Example, tmp_path: Path) -> None:
    """As the first ones were published, GPT-2's with masks beside the weights."""
    folder, inputs = tiny.save(tiny.stock(), tmp_path), tiny.inputs(2)
    prefix = {"gpt2": "transformer.", "opt": "model."}[tiny.model_spec.family.name]
    tensors = {name.removeprefix(prefix): each for name, each in load_file(folder / "model.safetensors").items()}
    if prefix == "transformer.":
        tensors |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 30, 30).tril() for layer in range(2)}
        tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert json.loads((folder / "config.json").read_text())["architectures"] == [tiny.name]
    with torch.inference_mode():
        expected = reference.answer(tiny.stock(), inputs)
        reference.assert_near(reference.answer(load_original(folder).model, inputs), expected)


DROPS = {
    "gpt2": {"embd_pdrop": 0.3, "resid_pdrop": 0.3, "attn_pdrop": 0.3},
    "opt": {"dropout": 0.3, "attention_dropout": 0.3},
    **{
        name: {"attention_dropout": 0.3}
        for name in ("llama", "mistral", "qwen2", "qwen3", "phi", "phi3", "gemma", "gemma2", "gemma3")
    },
}


@every
def test_in_training_it_drops_what_the_stock_class_drops(tiny: Example) -> None:
    """The same draws in the same places, where nothing is cut; eager, whose dropout does not depend on a kernel."""
    stock = tiny.stock(**DROPS[tiny.model_spec.family.name])
    model, inputs = reference.dense(tiny.model_spec, stock).model, tiny.inputs(2)
    found = []
    for each in (stock, model):
        each.train()
        each.set_attn_implementation("eager")
        torch.manual_seed(3)
        with torch.no_grad():
            found.append(reference.answer(each, {**inputs, "use_cache": False}))  # type: ignore[dict-item]
    reference.assert_near(found[1], found[0])
    assert (found[0] - reference.answer(stock.eval(), inputs)).abs().max() > 1e-2, "nothing was dropped"


@pytest.mark.parametrize(("kept", "below"), [("no heads first", "attn."), ("no heads at all", "mlp.")])
def test_adapters_are_trained_also_where_no_head_is_left(kept: str, below: str) -> None:
    """A decoder has no classifier of its own to train: where all attention has gone its feed-forward blocks get them."""
    tiny = DECODERS[0]
    whole = reference.dense(tiny.model_spec, tiny.stock())
    cut = reference.cut_by(whole, reference.keeps(whole.widths)[kept])
    spec = EngineSpec.model_validate({"pruning": {"target": {"attention_sparsity": 0.5}}, "finetune": {"epochs": 1}})
    absent: Any = None
    recovery = Recovery(spec, *[absent] * 7, earlier={})
    adapted, ranks = attach(cut.model, recovery.adapted(cut), cut.model_spec.classifiers, Lora())
    assert ranks
    assert all(below in name for name in ranks)
    inputs = tiny.inputs(2)
    adapted(**inputs, labels=inputs["input_ids"]).loss.backward()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad is not None for parameter in trained)


def test_a_chat_template_is_sent_and_travels_to_the_result(tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    folder = DECODERS[0].save(DECODERS[0].stock(), tmp_path / "in")
    (folder / "chat_template.jinja").write_text(template)
    assert "chat_template.jinja" in {file.name for file in model_files(folder)}
    save_checkpoint(tmp_path / "out", load_original(folder), folder)
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == template
    said = AutoTokenizer.from_pretrained(tmp_path / "out").apply_chat_template(
        [{"role": "user", "content": "up"}], tokenize=False
    )
    assert said == "up\n"


@pytest.mark.parametrize("said", [[1, 2], {"cache_implementation": "nonsense"}, {"early_stopping": [1]}])
def test_settings_of_generation_that_transformers_cannot_read_are_named(said: object, tmp_path: Path) -> None:
    folder = DECODERS[0].save(DECODERS[0].stock(), tmp_path)
    (folder / "generation_config.json").write_text(json.dumps(said))
    with pytest.raises(SecateurError, match=r"transformers cannot read generation_config\.json: ") as caught:
        load_original(folder)
    assert caught.value.code is ErrorCode.CONFIG_INVALID
    assert [item.pointer for item in caught.value.errors] == ["/generation_config.json"]


@pytest.mark.parametrize("case", ["its own head", "make them agree", "under the head's name"])
@pytest.mark.parametrize(
    "tiny",
    [each for each in DECODERS if each.model_spec.family.ties(each.config)],
    ids=lambda tiny: tiny.id,
)
def test_a_head_is_tied_as_stock_transformers_ties_it(tiny: Example, tmp_path: Path, case: str) -> None:
    folder, inputs = tiny.save(tiny.stock(), tmp_path), tiny.inputs(2)
    tensors = load_file(folder / "model.safetensors")
    (words,) = (name for name in tensors if name.endswith(("wte.weight", "embed_tokens.weight")))
    tensors["lm_head.weight"] = tensors[words].clone()
    if case == "its own head":
        tensors["lm_head.weight"] += 1.0 + torch.rand(tensors[words].shape, generator=torch.Generator().manual_seed(0))
    elif case == "under the head's name":
        del tensors[words]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    stock = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert not [warning for warning in describe_folder(folder).warnings if warning.code == "tensors_ignored"]
    with torch.inference_mode():
        loaded = load_original(folder).model
        reference.assert_near(reference.answer(loaded, inputs), reference.answer(stock, inputs))


def test_a_map_of_several_keeps_its_dtype(tmp_path: Path) -> None:
    tiny = next(each for each in DECODERS if each.name == "GPT2LMHeadModel")
    original, folder = tiny.save(tiny.stock().half(), tmp_path / "original"), tmp_path / "cut"
    tensors = load_file(original / "model.safetensors")
    tensors["transformer.h.0.attn.c_attn.weight"] = tensors["transformer.h.0.attn.c_attn.weight"].float()
    save_file(tensors, original / "model.safetensors", metadata={"format": "pt"})
    loaded = load_original(original)
    save_checkpoint(folder, reference.cut_by(loaded, reference.keeps(loaded.widths)["ragged"]), original)
    wide = {name for name, each in load_file(folder / "model.safetensors").items() if each.dtype == torch.float32}
    assert {name.split("attn.")[1] for name in wide} == {f"{side}_proj.weight" for side in "qkv"}
    assert load_original(folder).other_dtypes.keys() == wide
