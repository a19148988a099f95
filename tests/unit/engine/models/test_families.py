"""What the torch-free description of a family says, against the real class in transformers."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import ASTForAudioClassification

from api_schemas.enums import Granularity
from api_schemas.spec.pruning import Pruning
from checkpoints.describe import describe_folder
from checkpoints.families import FAMILIES
from checkpoints.sizes import accounting
from tests.unit.engine.small import small_config
from worker.engine.checkpoint.load import load_original
from worker.engine.models.attention import attention_blocks
from worker.engine.models.model_spec import ModelSpec
from worker.engine.models.source import LAYERS_FILES
from worker.engine.pruning.selection import select, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.scoring import score

EXTRACTOR = {"feature_extractor_type": "ASTFeatureExtractor", "max_length": 40, "num_mel_bins": 32}


@pytest.fixture(params=[{}, {"qkv_bias": False}, {"hidden_size": 48, "num_attention_heads": 3, "head_dim": 10}],
                ids=["plain", "no bias", "head_dim"])  # fmt: skip
def saved(request, tmp_path):
    """A stock checkpoint of a fresh AST, as transformers saves it."""
    torch.manual_seed(0)
    model = ASTForAudioClassification(small_config(**request.param))
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(EXTRACTOR))
    return tmp_path, model


@pytest.mark.parametrize(
    "kind",
    [ModelSpec(family, name) for family in FAMILIES for name in family.architectures],
    ids=lambda kind: kind.name,
)
def test_the_engine_has_classes_for_every_architecture(kind):
    classes = kind.classes
    assert classes.stock.config_class.model_type in kind.family.model_types
    assert classes.stock.__name__ == kind.name
    assert classes.config.model_type == classes.stock.config_class.model_type
    own = kind.family.architectures[kind.name].auto_class
    # For a CLIP with its projection AutoModel finds the encoder alone; the folder of a result names its own class first.
    found = classes.auto_classes.get(own, classes.pruned.__name__)
    assert found in (classes.pruned.__name__, classes.pruned.__name__.removesuffix("WithProjection"))
    assert set(classes.files()) == {"configuration_pruned.py", "modeling_pruned.py", *LAYERS_FILES}


def test_counts_of_parameters_and_names(saved):
    folder, model = saved
    described = describe_folder(folder)
    assert accounting.total_parameters(described.shape, described.widths) == sum(p.numel() for p in model.parameters())
    blocks = attention_blocks(model, ModelSpec(described.family, described.name), described.widths)
    inside = sum(p.numel() for block in blocks for linear in block.projections.values() for p in linear.parameters())
    assert accounting.attention_parameters(described.shape, described.widths) == inside


def test_transformers_saves_under_one_of_the_names_we_know(saved):
    folder, model = saved
    names = set(load_file(folder / "model.safetensors"))
    known = set(dict(model.named_parameters()))
    styles = describe_folder(folder).family.saved_names
    renamed = [{_replaced(name, style) for name in known} for style in styles]
    assert names in renamed


def _replaced(name, style):
    for pattern, by in style:
        name = re.sub(pattern, by, name)
    return name


@pytest.mark.parametrize("granularity", [None, *Granularity])
def test_flops_against_torchs_own_counter(saved, granularity):
    """Dense and cut. The counter sees padded widths too, so eager attention is counted: nothing is padded there."""
    folder, _ = saved
    described, loaded = describe_folder(folder), load_original(folder)
    model, widths = loaded.model, loaded.widths
    if granularity is not None:
        spec = Pruning.model_validate(
            {
                "preset": "paper",
                "target": {"attention_sparsity": 0.5},
                "granularity": granularity,
                "criterion": "magnitude",
            }
        )
        scores = score(spec.criterion, attention_blocks(model, loaded.model_spec, widths))
        keep = select(scores, widths, described.shape, spec, share=0.5)
        model, widths = cut(model, loaded.model_spec, widths, keep), widths_of(keep, widths)
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, 40, 32))
    assert accounting.total_flops(described.shape, widths) == counter.get_total_flops()
