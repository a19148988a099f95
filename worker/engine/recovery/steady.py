"""What a model does of its own accord while it is in training mode, and must not do while it recovers.

Dropout stays: its draws come from torch's generators, which a training that is taken up again has kept. The rest does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

CALMED = {"apply_spec_augment": False, "layerdrop": 0.0}
"""By name of a configuration's or a module's setting, what it is meanwhile.

- SpecAugment of the model's own (wav2vec 2.0 and its kin) masks by numpy's global generator, of which no seed here knows.
- A layer that is dropped has no output to be compared with a teacher's, and its adapters have no gradient to save.
"""


@contextmanager
def steady(model: nn.Module) -> Iterator[None]:
    """For the block, with `model` in training mode: no settings of CALMED, and normalisation as in evaluation.

    A batch's own mean and variance would let its samples see each other, so that a batch in parts would be another training; and
    the running ones are no part of what is trained.
    """
    owners = {
        id(owner): owner for module in model.modules() for owner in (module, getattr(module, "config", None)) if owner
    }
    changed = []
    for owner in owners.values():
        for name, calm in CALMED.items():
            if isinstance(vars(owner).get(name), bool | float | int):
                changed.append((owner, name, getattr(owner, name)))
                setattr(owner, name, calm)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.train(False)
    try:
        yield
    finally:
        for owner, name, value in changed:
            setattr(owner, name, value)
        for norm in norms:
            norm.train(True)
