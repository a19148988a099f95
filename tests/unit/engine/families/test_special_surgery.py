"""Attention that is more than scores and softmax: cut, against transformers' own class with zeros in its weights."""

import itertools
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from api_schemas import accounting
from api_schemas.checkpoint import describe_folder
from tests.unit.engine.families.special_models import (
    CASES,
    KEEPS,
    bound,
    keep_of,
    loaded,
    smaller,
    stock,
    zeroed,
)
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint

STRANGER = """
import json, pathlib, sys, torch, transformers
from safetensors.torch import load_file, save_file

for folder, auto, call in json.load(open(sys.argv[1])):
    load = getattr(transformers, auto).from_pretrained
    model, info = load(folder, trust_remote_code=True, output_loading_info=True)
    assert not any(info.values()), info
    inputs = load_file(folder + ".inputs")
    with torch.inference_mode():
        output = model.eval()(**inputs, **call)
    found = {key: value for key, value in output.items() if isinstance(value, torch.Tensor)}
    if model.can_generate():
        found["written"] = model.generate(inputs["input_features"], max_new_tokens=12, do_sample=False)
    save_file({key: value.contiguous() for key, value in found.items()}, folder + ".outputs")
"""
STRANGE = ["nothing", "ragged", "others without heads"]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """What an isolated process gets that knows nothing but transformers: outputs, by case and cut; and the folders."""
    at = tmp_path_factory.mktemp("strangers")
    folders = {}
    for number, (name, how) in enumerate(itertools.product(CASES, STRANGE)):
        case, original = CASES[name], at / f"original{number}"
        stock(name).save_pretrained(original)
        # A name of its own: transformers files the code of a folder under it.
        folders[name, how] = at / f"pruned{number}"
        save_checkpoint(folders[name, how], smaller(load_original(original), keep_of(name, how)), original)
        save_file(case.inputs(3, 1), f"{folders[name, how]}.inputs")
    kinds = {name: case.kind.family.architectures[case.name].auto_class for name, case in CASES.items()}
    plan = [(str(folder), kinds[name], CASES[name].call) for (name, _), folder in folders.items()]
    (at / "plan.json").write_text(json.dumps(plan))
    environment = {"HF_HOME": str(at), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", "-c", STRANGER, str(at / "plan.json")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return folders


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def saved(name, tmp_path):
    folder = tmp_path / "original"
    stock(name).save_pretrained(folder)
    return folder


def test_described_from_its_header_alone(name, saved):
    model, described = stock(name), describe_folder(saved)
    assert accounting.total_parameters(described.shape, described.widths) == sum(p.numel() for p in model.parameters())
    layout = CASES[name].kind.layout(CASES[name].config.to_dict())
    for site in layout.attention:
        assert model.get_submodule(site.stream or site.module) is not None
        linears = {side: model.get_submodule(path) for side, path in site.projections().items()}
        for side, linear in linears.items():
            assert (linear.bias is not None) is getattr(site.shape, f"{side}_bias")
    inside = {path for site in layout.attention for path in site.projections().values()}
    inside |= {path for site in layout.feed_forward for path in (site.first, site.second)}
    for stack in layout.stacks:
        for path in stack:
            linears = {
                f"{path}.{inner}"
                for inner, m in model.get_submodule(path).named_modules()
                if type(m) is torch.nn.Linear
            }
            assert {linear for linear in linears if "gru_rel_pos" not in linear} <= inside


@pytest.mark.parametrize("how", KEEPS)
def test_parameters_of_what_is_left(name, saved, how):
    described, cut = describe_folder(saved), smaller(loaded(name), keep_of(name, how))
    assert accounting.total_parameters(described.shape, cut.widths) == sum(p.numel() for p in cut.model.parameters())


def test_the_engine_loads_what_transformers_saved(name, saved):
    case, x = CASES[name], CASES[name].inputs(3, 1)
    found = load_original(saved)
    with torch.inference_mode():
        expected = case(stock(name), x)
        assert (case(found.model, x) - expected).abs().max() <= bound(expected)


@pytest.mark.parametrize("how", KEEPS)
def test_cut_equals_zeroed(name, how):
    case, keep = CASES[name], keep_of(name, how)
    x, cut = case.inputs(3, 1), smaller(loaded(name), keep)
    with torch.inference_mode():
        expected, found = case(zeroed(name, keep), x), case(cut.model, x)
        assert (found - expected).abs().max() <= bound(expected)
        if cut.model._supports_sdpa:
            cut.model.set_attn_implementation("eager")
            assert (case(cut.model, x) - expected).abs().max() <= bound(expected)
        if how != "nothing":  # the zeros are felt
            assert (case(stock(name), x) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("how", ["ragged", "some without heads"])
def test_gradients_are_the_zeroed_models(name, how):
    case, keep = CASES[name], keep_of(name, how)
    x, cut, reference = case.inputs(3, 1), smaller(loaded(name), keep).model, zeroed(name, keep)
    for model in (cut, reference):
        case(model, x).square().mean().backward()
    sites = case.kind.layout(case.config.to_dict()).attention
    expected = {path: parameter.grad for path, parameter in reference.named_parameters()}
    width = sites[0].shape.head_dim
    for site, layer in zip(sites, keep, strict=True):
        for side, path in site.projections().items():
            kept = [h.head * width + c for h in layer for c in (h.qk if side in "qk" else h.vo)]
            for what in ("weight", "bias"):
                if (what, side) != ("bias", "o") and expected.get(f"{path}.{what}") is not None:
                    whole = expected[f"{path}.{what}"]
                    expected[f"{path}.{what}"] = whole[:, kept] if side == "o" else whole[kept]
        for entry, dimension in site.per_head.items():
            path, heads = f"{site.module}.{entry}", torch.tensor([h.head for h in layer], dtype=torch.long)
            expected[path] = expected[path].index_select(dimension, heads)
    largest = max(float(grad.abs().max()) for grad in expected.values() if grad is not None and grad.numel())
    for path, parameter in cut.named_parameters():
        zero = torch.zeros_like(parameter)
        found = zero if parameter.grad is None else parameter.grad
        wanted = zero if expected[path] is None else expected[path]
        assert torch.allclose(found, wanted, rtol=0, atol=1e-5 * max(1.0, largest)), path


@pytest.mark.parametrize("how", STRANGE)
def test_a_stranger_loads_what_was_saved(name, how, strangers):
    case, folder = CASES[name], strangers[name, how]
    found, x, cut = load_file(f"{folder}.outputs"), case.inputs(3, 1), smaller(loaded(name), keep_of(name, how)).model
    with torch.inference_mode():
        expected = case(cut, x)
        assert (case.answers(SimpleNamespace(**found)) - expected).abs().max() <= bound(expected)
        if cut.can_generate():
            written = cut.generate(x["input_features"], max_new_tokens=12, do_sample=False)
            assert torch.equal(found["written"], written)
    tensors, stored = load_file(folder / "model.safetensors"), dict(stock(name).state_dict())
    assert {key: tensor.dtype for key, tensor in tensors.items()}.items() <= {
        key: tensor.dtype for key, tensor in stored.items()
    }.items()
