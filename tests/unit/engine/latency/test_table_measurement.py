"""Measuring a latency table on a small model: complete, consistent with itself, and nothing else disturbed."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from transformers import ASTForAudioClassification

from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from tests.unit.engine.latency.machines import LOADS, Machine
from tests.unit.engine.small import HEAD_DIM, HEADS, KIND, LAYERS, NEURONS, TOKENS, inputs, small_config, small_model
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.latency import table_measurement
from worker.engine.latency.table import LatencyModel
from worker.engine.latency.table_measurement import measure_latency_table
from worker.engine.latency.timing import time_in_turn
from worker.engine.models.model_spec import build
from worker.engine.pruning.targets import little_left

LATENCY = Pruning.model_validate({"target": {"latency": 0.1}})
BOTH = Pruning.model_validate({"target": {"latency": 0.1}, "parts": ["attention", "feed_forward"]})


@pytest.fixture(scope="module")
def measured():
    loaded = small_model()
    state = torch.get_rng_state()
    small = little_left(loaded, LATENCY)
    table = measure_latency_table(loaded.model, loaded.model_spec, loaded.widths, {"input_values": inputs(2)}, small)
    assert torch.equal(torch.get_rng_state(), state)
    return loaded, table


def test_the_table_covers_the_dense_layer(measured):
    _, table = measured
    assert (table.batch_size, table.tokens, table.device) == (2, TOKENS, "cpu")
    assert (table.channels[0], table.channels[-1]) == (0, HEADS * HEAD_DIM)
    assert (table.heads[0], table.heads[-1]) == (1, HEADS)
    assert table.widths == (16,)  # heads of width 8 are padded
    assert [len(row) for row in table.kernel_ms] == [len(table.widths)] * len(table.heads)
    for rising in (table.channels, table.qk_ms, table.vo_ms, table.heads, *zip(*table.kernel_ms, strict=True)):
        assert all(first <= second for first, second in pairwise(rising))
    assert min(table.qk_ms[1], table.vo_ms[1], table.kernel_ms[0][0], table.other_ms, table.dense_ms) > 0
    assert table.copy_ms >= 0


def test_the_dense_model_takes_its_own_time_and_less_takes_less(measured):
    loaded, table = measured
    latency = LatencyModel(table)
    assert latency.milliseconds(loaded.widths) == pytest.approx(table.dense_ms)
    one_head = AttentionWidths.of(HEAD_DIM, [((HEAD_DIM,), (HEAD_DIM,))] * LAYERS)
    nothing = AttentionWidths.of(HEAD_DIM, [((), ())] * LAYERS)
    assert latency.milliseconds(nothing) == pytest.approx(table.other_ms)
    assert 0 <= latency.saved(one_head) < latency.saved(nothing) < 1


@pytest.mark.parametrize(("whole", "little", "times"), [(60.0, 39.75, 2.0), (60.0, 58.0, 0.5), (60.0, 0.1, 4.0)])
def test_parts_take_as_long_as_they_do_in_whole_models(
    whole: float, little: float, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a dense layer's four parts each takes a millisecond alone, and less as it is narrower. The rest is bounded."""
    loaded = small_model()
    small = little_left(loaded, BOTH)
    assert small.widths.feed_forward == (NEURONS // 8,) * LAYERS
    assert small.widths.layers[0].qk == (HEAD_DIM // 2,)
    channels, heads, neurons = (1 / 8, 1 / 4, 1 / 2, 1), (1 / 4, 1 / 2, 1), (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
    alone = [*channels, *channels, *heads, 1.0, *neurons]
    monkeypatch.setattr(table_measurement, "_medians", lambda *_: [0.0, whole, little, *alone])
    table = measure_latency_table(
        loaded.model, KIND, loaded.widths, {"input_values": inputs(1)}, small, feed_forward=True
    )
    latency = LatencyModel(table)
    assert latency.milliseconds(loaded.widths) == pytest.approx(60.0)
    assert (table.qk_ms[-1], table.vo_ms[-1], table.feed_forward_ms[-1]) == (times, times, times)
    assert table.kernel_ms == tuple((times * share,) for share in heads)
    if times == 2.0:  # which is what both models say
        assert latency.milliseconds(small.widths) == pytest.approx(little)


@pytest.mark.parametrize("load", ["quiet", "drift", "bursts"])
def test_a_busy_machine_does_not_move_the_table(load: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part by its share of the whole, which takes 40 ms: load that comes and goes, and drift, hit all alike."""
    parts = (0.5, 1.0, 2.0, 4.0, 8.0)
    for seed in range(5):
        machine = Machine(seed, **LOADS[load])
        monkeypatch.setattr(table_measurement, "time_in_turn", partial(time_in_turn, clock=machine.clock))
        passes = [machine.passes(milliseconds) for milliseconds in (40.0, *parts)]
        noise, whole, *each = table_measurement._medians(passes, 1, 4, torch.device("cpu"))
        found = [ms / whole * 40.0 for ms in each]
        assert found == pytest.approx(parts, rel=0.06)
        assert 0.0 <= noise < 0.05


def test_wide_heads_get_a_grid_of_the_widths_they_can_share():
    config = small_config(hidden_size=64, num_attention_heads=2, intermediate_size=16, num_hidden_layers=1)
    widths = AttentionWidths.dense(1, 2, 32, (16,))
    model = build(KIND, config.to_dict(), widths, ASTForAudioClassification(config).state_dict())
    small = little_left(LoadedModel(model, KIND, widths, torch.float32), BOTH)
    table = measure_latency_table(model, KIND, widths, {"input_values": inputs(1)}, small, feed_forward=True)
    assert (table.heads, table.widths) == ((1, 2), (16, 24, 32))
    assert table.neurons == (0, 1, 2, 4, 8, 16)
    assert all(first <= second for first, second in pairwise(table.feed_forward_ms))
    assert table.feed_forward_ms[1] > 0
    latency = LatencyModel(table)
    assert latency.milliseconds(widths) == pytest.approx(table.dense_ms)
    nothing = AttentionWidths.of(32, [((), ())], (0,))
    assert latency.milliseconds(nothing) == pytest.approx(table.other_ms)
