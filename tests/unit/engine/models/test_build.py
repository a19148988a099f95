"""A model that is built on the meta device is the one that is drawn at random and then loaded, in every tensor it has."""

import copy

import pytest
import torch
from torch import nn

from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from tests.support.families import LEFT_TO_WHOLE
from tests.support.gate import WHOLE
from worker.engine.models.model_spec import build, move_model

every = pytest.mark.parametrize("tiny", MODELS, ids=lambda tiny: tiny.id)
every_block = pytest.mark.parametrize(
    "tiny", [tiny for tiny in MODELS if WHOLE or tiny.name not in LEFT_TO_WHOLE], ids=lambda tiny: tiny.id
)


def ordinary(model_spec, built, state):
    """The same without the meta device."""
    model = model_spec.classes.pruned(copy.deepcopy(built.config))
    model.load_state_dict(dict(state), strict=True)
    return move_model(model, torch.float32).eval()


def tensors(model):
    """By kind and name: parameters under all their names, buffers that are saved, those that are not, plain attributes."""
    found = {("parameter", name): tensor for name, tensor in model.named_parameters(remove_duplicate=False)}
    for path, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            kind = "not saved" if name in module._non_persistent_buffers_set else "saved"
            found[kind, f"{path}.{name}"] = buffer
        plain = {name: value for name, value in vars(module).items() if isinstance(value, torch.Tensor)}
        found |= {("plain", f"{path}.{name}"): value for name, value in plain.items()}
    return found


def tied(model):
    """Groups of names of one parameter."""
    names = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return sorted(group for group in names.values() if len(group) > 1)


@pytest.mark.parametrize("name", ["ragged", *(("nothing cut",) if WHOLE else ())])
@every_block
def test_a_built_model_equals_one_that_was_drawn_and_loaded(tiny, name):
    dense = reference.dense(tiny.model_spec, tiny.stock())
    keep = reference.keeps(dense.widths)[name]
    model = reference.cut_by(dense, keep)
    state = model.model.state_dict()
    built = build(tiny.model_spec, model.model.config.to_dict(), model.widths, state)
    expected = ordinary(tiny.model_spec, built, state)
    found, wanted = tensors(built), tensors(expected)
    assert list(found) == list(wanted)
    for key, tensor in found.items():
        other = wanted[key]
        assert torch.equal(tensor, other), key
        assert (tensor.dtype, tensor.device, tensor.stride()) == (other.dtype, other.device, other.stride()), key
        assert (type(tensor), tensor.requires_grad) == (type(other), other.requires_grad), key
    assert tied(built) == tied(expected)
    assert list(built.state_dict()) == list(expected.state_dict())
    assert [module.training for module in built.modules()] == [module.training for module in expected.modules()]


@every
def test_what_is_done_to_a_built_model_does_not_reach_what_it_was_built_of(tiny):
    dense = reference.dense(tiny.model_spec, tiny.stock())
    state = dense.model.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    built = build(tiny.model_spec, dense.model.config.to_dict(), dense.widths, state)
    with torch.no_grad():
        for tensor in (*built.parameters(), *built.buffers()):
            tensor.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.model.state_dict().items())


def test_weights_that_are_tied_are_one_parameter():
    tiny = next(tiny for tiny in MODELS if tiny.name.startswith("Whisper") and not tiny.variant)
    dense = reference.dense(tiny.model_spec, tiny.stock())
    assert dense.model.proj_out.weight is dense.model.model.decoder.embed_tokens.weight


def test_a_state_that_lacks_a_weight_or_has_one_of_another_shape_is_refused():
    tiny = MODELS[0]
    dense = reference.dense(tiny.model_spec, tiny.stock())
    config, state = dense.model.config.to_dict(), dense.model.state_dict()
    name = next(iter(state))
    with pytest.raises(RuntimeError, match="Missing key"):
        build(tiny.model_spec, config, dense.widths, {key: value for key, value in state.items() if key != name})
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(tiny.model_spec, config, dense.widths, {**state, name: torch.zeros(1, 2, 3)})


def test_nothing_is_left_on_the_meta_device_and_later_models_are_made_as_always():
    tiny = MODELS[0]
    dense = reference.dense(tiny.model_spec, tiny.stock())
    assert not any(tensor.is_meta for tensor in (*dense.model.parameters(), *dense.model.buffers()))
    assert not nn.Linear(2, 2).weight.is_meta
