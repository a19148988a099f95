"""What `observe` should find, by its definition: samples one at a time, autograd's own gradients, loops over heads."""

from collections import defaultdict
from dataclasses import replace

import torch

from tests.unit.engine.small import CLASSES, DENSE, HEAD_DIM, LAYERS, inputs, small_model
from worker.engine.models.attention import SIDES, attention_blocks
from worker.engine.pruning.selection import KeptHead, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.scoring import Statistic
from worker.engine.tasks import Classification

SAMPLES, BATCH = 11, 4
MODELS = ["dense", "ragged"]


def build_case(kind: str, multi_label: bool = False, dtype=torch.float64):
    """A model, its attention, samples and labels. `ragged`: heads of unequal widths, and a layer without heads."""
    loaded = small_model()
    if kind == "ragged":
        generator = torch.Generator().manual_seed(4)

        def some():
            width = int(torch.randint(1, HEAD_DIM + 1, (1,), generator=generator))
            return tuple(torch.randperm(HEAD_DIM, generator=generator)[:width].sort().values.tolist())

        keep = tuple(tuple(KeptHead(h, some(), some()) for h in heads) for heads in ((0, 1, 3), (), (0, 1, 2, 3)))
        assert len(keep) == LAYERS
        model = cut(loaded.model, loaded.model_spec, loaded.widths, keep)
        loaded = replace(loaded, model=model, widths=widths_of(keep, DENSE))
    loaded.model.to(dtype)
    x = inputs(SAMPLES).to(dtype)
    generator = torch.Generator().manual_seed(2)
    if multi_label:
        y = (torch.rand(SAMPLES, CLASSES, generator=generator) < 0.4).to(dtype)
    else:
        y = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    return loaded.model, attention_blocks(loaded.model, loaded.model_spec, loaded.widths), x, y


def batches(x, y, size=BATCH):
    return (({"input_values": x[i : i + size]}, y[i : i + size]) for i in range(0, len(x), size))


def loss_of(multi_label: bool = False):
    return Classification(several=multi_label).loss


def seen(model, blocks, x, y, loss):
    """Sample by sample: by (layer, what), the weight and bias gradients of each projection, its output and the gradient
    there, the context (T, C) and the gradient there."""
    found = defaultdict(list)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for sample in range(len(x)):
        kept = {}
        handles = []
        for block in (block for block in blocks if block.widths.heads):
            for side in SIDES:

                def keep(_module, args, output, kept=kept, key=(block.number, side)):
                    kept[key] = output
                    kept[key[0], "x"] = args[0]  # of o, which comes last

                handles.append(block.projections[side].register_forward_hook(keep))
        model.zero_grad()
        total = loss(model(x[sample : sample + 1]).logits, y[sample : sample + 1]).sum()
        for tensor in kept.values():
            tensor.retain_grad()
        total.backward()
        for block in blocks:
            if not block.widths.heads:
                continue
            for side in SIDES:
                linear = block.projections[side]
                found[block.number, side, "weight"].append(linear.weight.grad.clone())
                found[block.number, side, "bias"].append(linear.bias.grad.clone())
            for what in (*SIDES, "x"):
                found[block.number, what].append(kept[block.number, what].detach()[0])
                found[block.number, "d" + what].append(kept[block.number, what].grad[0])
        for handle in handles:
            handle.remove()
    model.zero_grad()
    return {key: torch.stack(values) for key, values in found.items()}


def second(x_STC):
    """E over samples and tokens of x xᵀ, one token at a time."""
    tokens = x_STC.flatten(0, 1)
    return sum(torch.outer(token, token) for token in tokens) / len(tokens)


EVERYTHING = frozenset(Statistic)
