"""The single pass over the calibration samples: collects everything that scoring, basis and compensation need.

Memory does not depend on the number of samples, and on a GPU nothing in the loop waits for the device.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from worker.engine.data.split import Inputs, rows
from worker.engine.models.attention import AttentionBlock
from worker.engine.models.feed_forward import FeedForwardBlock
from worker.engine.parallel.group import ALONE, Group
from worker.engine.runtime.mapped import graph_in_files
from worker.engine.runtime.offload import graph_on_host, offloads
from worker.engine.runtime.precision import products_in
from worker.engine.scoring.layer import LayerObserver
from worker.engine.scoring.neurons import NeuronObserver
from worker.engine.scoring.observations import NEEDS_GRADIENTS, Observations, Statistic
from worker.engine.tasks.base import logits_of

Targets = TypeVar("Targets")


def observe(
    model: nn.Module,
    blocks: Sequence[AttentionBlock],
    batches: Iterable[tuple[Inputs, Targets]],
    loss: Callable[[Tensor, Targets], Tensor],
    statistics: Collection[Statistic],
    progress: Callable[[int], None] = lambda _samples: None,
    *,
    neurons: Sequence[FeedForwardBlock] = (),
    outputs: Callable[[nn.Module, Inputs], Tensor] = logits_of,
    draws: int = 1,
    autocast: torch.dtype | None = None,
    moments: torch.dtype = torch.float64,
    device: torch.device | None = None,
    group: Group = ALONE,
) -> Observations:
    """Run the model once over all batches, with backward passes if a statistic needs gradients.

        Args:
            model: called by `outputs`. Each projection is called as a module, once per
                forward pass. Mode and requires_grad are not changed.
            blocks: the model's attention, of any widths, including layers without heads.
            batches: (inputs, targets), on the model's device. Inputs of one batch are equally long and not padded.
            loss: (outputs, targets) -> one loss per sample, (B). Samples must not affect each other (no batch norm).
            statistics: what to collect.
            progress: called after each batch with the number of samples seen so far. On a device, that batch may still run.
            neurons: feed-forward blocks to observe as well.
            outputs: (model, inputs) -> the model's outputs: one forward pass, see tasks.Task.
            draws: how often the loss of each batch is computed, if it draws labels at random: as many backward passes on
                the graph of one forward pass. Means of gradients are over all of them.
            autocast: dtype of the forward and backward products (for example bfloat16); results are float32 and float64.
            moments: dtype of one batch's products in second moments; the sums over batches are float64.
            device: where the model computes. None: where its weights are.
            group: each process runs its part of every batch, and gets the observations of all of them. `loss` is called in every
                process for every batch, with empty outputs and targets if this one has no sample of it.

    Raises ValueError if no statistic is requested, or `batches` is empty.
    """
    if not statistics:
        raise ValueError("no statistic is asked for")
    chosen = frozenset(statistics)
    backward = bool(chosen & NEEDS_GRADIENTS)
    of_layers = [LayerObserver(block, chosen, moments, device) for block in blocks]
    of_neurons = [NeuronObserver(block, chosen, device) for block in neurons]
    observers: tuple[LayerObserver | NeuronObserver, ...] = (*of_layers, *of_neurons)
    switches = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    training = model.training
    handles = []
    samples = 0
    try:
        model.eval()
        model.requires_grad_(False)
        for observer in observers:
            handles += observer.attach()
        for inputs, targets in batches:
            mine, asked = group.own(inputs, targets)
            for observer in observers:
                observer.samples = rows(mine)
            _run(model, mine, asked, outputs, loss, draws if backward else 0, autocast)
            samples += rows(inputs)
            progress(samples)
    finally:
        for handle in handles:
            handle.remove()
        for parameter, switch in switches:
            parameter.requires_grad_(switch)
        model.train(training)
    if not samples:
        raise ValueError("no samples to observe")
    if group.size > 1:
        group.sum_in_place([tensor for observer in observers for tensor in observer.sums()])
    layers = tuple(observer.result(samples, draws) for observer in of_layers)
    activations = tuple(observer.result(samples, draws) for observer in of_neurons)
    counts = [layer.tokens for layer in layers] + [block.tokens for block in activations]
    return Observations(layers, samples, max(counts, default=0), activations)


def _run(
    model: nn.Module,
    inputs: Inputs,
    targets: Targets,
    outputs: Callable[[nn.Module, Inputs], Tensor],
    loss: Callable[[Tensor, Targets], Tensor],
    draws: int,
    autocast: torch.dtype | None,
) -> None:
    """One batch: a forward pass and `draws` backward passes on its graph, which is freed when this returns."""
    device = next(iter(inputs.values())).device
    keeping = graph_on_host if offloads(device) else graph_in_files
    with torch.set_grad_enabled(draws > 0):
        with products_in(autocast, device), keeping() if draws else nullcontext():
            answers = outputs(model, inputs) if rows(inputs) else torch.zeros(0, device=device)
            answers = answers.float() if autocast else answers
        for left in reversed(range(draws)):
            with products_in(autocast, device):
                total = loss(answers, targets).sum()
            # Without any head there is no graph, and nothing to observe.
            if total.requires_grad:
                total.backward(retain_graph=left > 0)
