"""Fixtures of tests on a fake device."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.nn import functional
from transformers.models.dinov3_vit import modeling_dinov3_vit

from tests.unit.engine.devices.fake import DEVICE, Loop, Waited
from worker.engine.data.split import IGNORED
from worker.engine.tasks import masked
from worker.engine.tasks.label_sampling import LabelGenerators


@pytest.fixture(autouse=True)
def what_torch_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `meta`, generators; and what it makes there of a list of numbers is not fake.

    And what DINOv3's class keeps of one call for all others is real there, and here of a mode that has ended.
    """
    make = torch.tensor

    def tensor(data: Any, *args: Any, **settings: Any) -> Tensor:
        made, mode = make(data, *args, **settings), detect_fake_mode()
        if mode is None or made.device != DEVICE:
            return made
        if Loop.running:
            raise Waited(f"a tensor is made of {data}")
        return mode.from_tensor(made)

    monkeypatch.setattr(torch, "tensor", tensor)
    anew: Any = modeling_dinov3_vit.get_patches_center_coordinates
    monkeypatch.setattr(modeling_dinov3_vit, "get_patches_center_coordinates", anew.__wrapped__)
    monkeypatch.setattr(LabelGenerators, "generator", lambda _self, _device: None)


@pytest.fixture
def no_known_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits, and is known to (KNOWN), is taken out, so that all around it is seen."""

    def ctc_loss(log_p_TBV: Tensor, _ids: Tensor, _frames: Tensor, _lengths: Tensor, **_settings: Any) -> Tensor:
        return -log_p_TBV[..., 0].sum(0)

    def places(targets: Tensor) -> tuple[Tensor, ...]:
        return torch.nonzero_static(targets != IGNORED, size=targets.numel()).unbind(1)

    monkeypatch.setattr(functional, "ctc_loss", ctc_loss)
    monkeypatch.setattr(masked, "_places", places)
