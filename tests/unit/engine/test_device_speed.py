"""The measurement of a device: what it measures, and that it is over soon."""

import subprocess
import sys

import pytest
import torch

from checkpoints.sizes import accounting
from checkpoints.sizes.device_speed import DeviceSpeed
from checkpoints.sizes.shape import FeedForwardShape, ModelShape
from tests.support.checkpoints.shapes import equal_shape
from worker.engine.runtime import device_speed


def test_flops_of_a_layer_are_counted_as_those_of_a_model():
    batch, tokens, hidden = 3, 7, 32
    attention = equal_shape(1, hidden // device_speed.HEAD, device_speed.HEAD, hidden, tokens).attention
    block = FeedForwardShape(
        layer=0, hidden=hidden, neurons=4 * hidden, tokens=tokens, first_bias=True, second_bias=True
    )
    shape = ModelShape(
        attention=attention, feed_forward=(block,), other_parameters=0, other_flops=0, bytes_per_parameter=4
    )
    assert device_speed.layer_flops(batch, tokens, hidden) == batch * accounting.total_flops(shape, shape.dense)


def test_the_shortest_call_counts():
    times = iter([0.0, 9.0, 10.0, 13.0, 20.0, 21.0, 30.0, 35.0])
    assert device_speed.shortest(lambda: None, torch.device("cpu"), lambda: next(times)) == pytest.approx(1.0)


def test_its_program_says_it_in_a_line():
    command = [sys.executable, "-m", "worker.engine.runtime.device_speed", "--device", "cpu", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = DeviceSpeed.model_validate_json(done.stdout)
    assert [each.flops for each in found.layers] == sorted(each.flops for each in found.layers)
    for each in found.layers:
        assert each.training > each.forward
    assert found.layers[0].forward < found.layers[-1].forward


def test_it_ends_with_who_started_it():
    """However a worker dies, the pipe that it holds is closed."""
    command = [sys.executable, "-m", "worker.engine.runtime.device_speed", "--device", "cpu", "--watch-stdin"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
