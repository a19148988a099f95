"""What a spec refuses, in words that say what to do, and what a preset fills."""

import pytest
from pydantic import ValidationError

from api_schemas.enums import Granularity, LabelSource, Split
from api_schemas.spec.job import EngineSpec, JobRequest, JobSettings

TARGET = {"target": {"attention_sparsity": 0.5}}


@pytest.mark.parametrize(
    ("pruning", "words"),
    [
        ({"layout": "stock"}, "use another granularity with it: entire_head, same_channel, per_head"),
        (
            {"layout": "stock", "target": {"attention_sparsity": 0.5, "ffn_sparsity": 0.5}},
            "use another granularity",
        ),
        ({"granularity": "per_head", "layout": "stock", "exclude_layers": [0]}, "exclude no layers"),
        ({"criterion": "taylor"}, "set labels to data, or use fisher_gate"),
        ({"preset": "none"}, "'best' or 'paper'"),
        ({"target": {"attention_sparsity": 0.5, "flops": 0.1}}, "one"),
        ({"target": {"max_drop": 1.0}}, "write 0.01 for 1 point"),
        ({"target": {"max_drop": 0.5}}, "a drop of 50 points.* write 0.005 for 0.5 points"),
        ({"target": {"max_drop": 25}}, "the maximum is 20 points; 0.01 is one point \\[type"),
        ({"target": {"max_drop": 0.01, "flops": 0.5}}, "give only one of them"),
        ({"target": {"of": "flops"}}, "give max_drop"),
        ({"target": {"max_drop": 0.01}, "schedule": {"steps": 2}}, "reached in one cut.* leave out steps"),
        ({"target": {"max_drop": 0.01, "of": "ffn_sparsity"}, "parts": ["attention"]}, "already says what is cut"),
    ],
)
def test_a_refusal_says_what_to_do(pruning, words):
    with pytest.raises(ValidationError, match=words):
        EngineSpec.model_validate({"pruning": TARGET | pruning})


def test_a_bound_on_the_drop_is_the_smallest_by_flops_in_one_step():
    spec = EngineSpec.model_validate({"pruning": {"target": {"max_drop": 0.01}}})
    target = spec.pruning.target
    assert (target.kind, target.goals, spec.pruning.steps, spec.max_drop) == ("flops", (), 1, 0.01)
    assert EngineSpec.model_validate_json(spec.model_dump_json()) == spec
    assert (
        EngineSpec.model_validate({"pruning": {"target": {"max_drop": 0.2}, "schedule": {"steps": 1}}}).max_drop == 0.2
    )
    neurons = EngineSpec.model_validate({"pruning": {"target": {"max_drop": 0.01, "of": "ffn_sparsity"}}}).pruning
    assert (neurons.cuts, neurons.joint_parts) == ({"feed_forward"}, False)
    with pytest.raises(ValueError, match="has no share"):
        _ = target.share


def test_there_is_one_bound_on_the_drop():
    for more, words in (
        ({"stop": {"max_drop": 0.02}}, "leave out stop"),
        ({"evaluate": {"latency_batch_sizes": []}}, "latency_batch_sizes"),
    ):
        with pytest.raises(ValidationError, match=words):
            EngineSpec.model_validate({"pruning": {"target": {"max_drop": 0.01, "of": "latency"}}, **more})


def test_where_neurons_alone_are_cut_heads_stay_equal_whatever_the_granularity():
    pruning = {"layout": "stock", "target": {"ffn_sparsity": 0.5}}
    assert EngineSpec.model_validate({"pruning": pruning}).pruning.granularity is Granularity.HEAD_AND_WIDTH


def test_widths_are_left_to_the_model_where_the_granularity_is_the_presets_own():
    def align(**given):
        return EngineSpec.model_validate({"pruning": TARGET | given}).pruning.align

    assert align() is None
    assert align(preset="paper") == align(granularity="per_head") == align(granularity="head_and_width") == 1
    assert align(granularity="head_and_width", align=None) is None
    assert align(align=16) == 16


def test_a_preset_fills_what_is_left_out_and_half_of_an_object_too():
    best = EngineSpec.model_validate({"pruning": {**TARGET, "calibration": {"labels": "data"}}}).pruning
    assert best.calibration.labels is LabelSource.DATA
    assert (best.calibration.split, best.calibration.samples) == (Split.TRAIN, 512)
    paper = EngineSpec.model_validate({"pruning": {**TARGET, "preset": "paper"}})
    assert paper.pruning.granularity is Granularity.ENTIRE_HEAD
    assert paper.finetune is not None
    assert paper.finetune.distill is None


@pytest.mark.parametrize(
    ("given", "selection"),
    [
        ({}, "brain_surgeon"),
        ({"criterion": "energy"}, "ranked"),
        ({"compensation": "bias"}, "ranked"),
        ({"compensation": "least_squares", "neuron_selection": "brain_surgeon"}, "brain_surgeon"),
        ({"preset": "paper"}, "ranked"),
    ],
    ids=str,
)
def test_who_says_how_neurons_are_scored_or_made_up_for_has_them_ranked(given, selection):
    assert EngineSpec.model_validate({"pruning": TARGET | given}).pruning.neuron_selection == selection


def test_specs_of_before_neurons_had_a_choice_keep_theirs():
    stored = _best().model_dump(mode="json", exclude={"neuron_selection"})
    assert stored["preset"] == "best"
    assert EngineSpec.model_validate({"pruning": stored}).pruning.neuron_selection == "ranked"


@pytest.mark.parametrize("compensation", ["none", "bias"])
def test_a_surgeon_without_least_squares_is_refused(compensation):
    with pytest.raises(ValidationError, match="set compensation to least_squares"):
        EngineSpec.model_validate(
            {"pruning": TARGET | {"compensation": compensation, "neuron_selection": "brain_surgeon"}}
        )


def test_what_a_field_has_by_itself_is_the_best_preset():
    shown = {name: field.get_default() for name, field in type(_best()).model_fields.items() if not field.is_required()}
    assert {name: getattr(_best(), name) for name in shown} == shown


def _best():
    return EngineSpec.model_validate({"pruning": TARGET}).pruning


def test_the_engine_is_told_everything_that_a_request_says_of_it() -> None:
    """Each setting as it was sent, and none of them its default."""
    said = {
        "pruning": {"target": {"flops": 0.3}, "parts": ["attention", "feed_forward"], "exclude_layers": [1]},
        "finetune": {"epochs": 2, "method": "full"},
        "evaluate": {"batch_size": 7},
        "exports": ["onnx_int8"],
        "stop": {"max_drop": 0.03},
        "speech": {"language": "de", "task": "translate"},
        "deterministic": False,
        "seed": 9,
    }
    assert said.keys() == JobSettings.model_fields.keys()
    columns, splits = {"label": "word"}, {"test": "held-out"}
    revision = 40 * "0"
    dataset = {"type": "hf", "id": "a/b", "revision": revision, "columns": columns, "splits": splits}
    request = JobRequest.model_validate(
        {**said, "model": {"type": "hf", "id": "a/b", "revision": revision}, "dataset": dataset}
    )
    told = request.engine_spec({"model": "a/b"})
    assert told == EngineSpec.model_validate(
        {**said, "columns": columns, "splits": splits, "lineage": {"model": "a/b"}}
    )
    bare = EngineSpec.model_validate({"pruning": {"target": {"attention_sparsity": 0.5}}})
    assert [name for name in JobSettings.model_fields if getattr(told, name) == getattr(bare, name)] == []
