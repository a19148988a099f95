"""LiteASR (Kamahori et al., arXiv 2502.20583) by its own code, from a checkout: principal components of what every linear map of
the encoder puts out, and a product of two thin matrices in its place.

Its `compress.apply_low_rank` is called as it is, on what a CPU can do: `.cuda()` and `.half()` give the tensor itself (float32),
and what it imports for its own evaluation is left out. It would keep every frame of every clip and decompose them for each
threshold anew; it is given their mean, and the singular values and vectors from their covariance in double precision, once.
"""

import copy
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

MAPS = {
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
}
"""Its name of a linear map in a layer of the encoder, and transformers'."""
_EVALUATION = ("evaluate", "normalizer", "tiktoken", "numba")
"""What it imports and does not need to compress."""


@contextmanager
def _on_a_cpu() -> Iterator[None]:
    def itself(tensor: Tensor, *_args: Any, **_options: Any) -> Tensor:
        return tensor

    with mock.patch.object(Tensor, "cuda", itself), mock.patch.object(Tensor, "half", itself):
        yield


def load(checkout: Path) -> ModuleType:
    """Its module `compress`; nothing of it stays importable. Raises ValueError where the folder does not hold it."""
    source = checkout / "src"
    if not (source / "compress.py").is_file():
        raise ValueError(f"{checkout} is no checkout of efeslab/LiteASR: src/compress.py is missing")
    left_out = {name: mock.MagicMock() for name in _EVALUATION}
    with (
        mock.patch.dict(sys.modules, left_out),
        mock.patch.object(sys, "path", [str(source), *sys.path]),
        # It asks for less precision, of the whole process.
        mock.patch.object(torch, "set_float32_matmul_precision"),
    ):
        return importlib.import_module("compress")


class _Frames:
    """What one map puts out, in sums: count, Σ y and Σ y yᵀ in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.gram: Tensor | float = 0.0

    def add(self, frames_TD: Tensor) -> None:
        wide_TD = frames_TD.double()
        self.count += len(wide_TD)
        self.sum, self.gram = self.sum + wide_TD.sum(0), self.gram + wide_TD.mT @ wide_TD

    def mean(self) -> Tensor:
        return torch.as_tensor(self.sum) / self.count

    def decomposition(self) -> tuple[Tensor, Tensor]:
        """Singular values, falling, and right vectors, a row each, of the frames without their mean."""
        mean_D = self.mean()
        values, vectors = torch.linalg.eigh(torch.as_tensor(self.gram) - self.count * torch.outer(mean_D, mean_D))
        return values.flip(0).clamp_min(0).sqrt().float(), vectors.flip(1).mT.float().contiguous()


class LiteAsr:
    """A stock Whisper of transformers, and low-rank copies of it by threshold."""

    def __init__(self, checkout: Path, stock: nn.Module, clips: Tensor) -> None:
        """`clips`: log-mel windows [N, mels, frames] to calibrate on; each is heard once, as its `transcribe` hears it."""
        self._code, self._stock = load(checkout), stock
        self._model = self._original()
        seen = {(owner, name): _Frames() for owner in self._owners() for name in owner.calibration_data}
        self._model.encoder.is_calibrating = True
        with torch.no_grad():
            for clip in clips:
                self._model.encoder(clip[None])
                for (owner, name), frames in seen.items():
                    frames.add(owner.calibration_data[name].pop())
        # In the order in which it asks for them: of every block its attention's, then its feed-forward maps'.
        self._decompositions = [frames.decomposition() for frames in seen.values()]
        for (owner, name), frames in seen.items():
            owner.calibration_data[name] = [frames.mean()[None].float()]

    def _owners(self) -> list[Any]:
        """What keeps frames, in the order of the blocks: of each its attention, then itself."""
        return [owner for block in self._model.encoder.blocks for owner in (block.attn, block)]

    def _original(self) -> Any:
        """Its own class with the stock encoder's weights."""
        config: Any = self._stock.config
        whisper = self._code.whisper.model
        model = whisper.Whisper(
            whisper.ModelDimensions(
                n_mels=config.num_mel_bins,
                n_audio_ctx=config.max_source_positions,
                n_audio_state=config.d_model,
                n_audio_head=config.encoder_attention_heads,
                n_audio_layer=config.encoder_layers,
                # Its decoder is not used.
                n_vocab=1,
                n_text_ctx=1,
                n_text_state=config.d_model,
                n_text_head=config.decoder_attention_heads,
                n_text_layer=1,
            )
        )
        names = {
            **{f"{theirs}.": f"{ours}." for theirs, ours in MAPS.items()},
            "attn_ln.": "self_attn_layer_norm.",
            "mlp_ln.": "final_layer_norm.",
        }
        stock: Any = self._stock
        state: dict[str, Tensor] = {}
        for name, tensor in stock.model.encoder.state_dict().items():
            if name.startswith("layers."):
                _, number, rest = name.split(".", 2)
                theirs, ours = next((theirs, ours) for theirs, ours in names.items() if rest.startswith(ours))
                state[f"blocks.{number}.{rest.replace(ours, theirs, 1)}"] = tensor
            elif name.startswith("layer_norm."):
                state[name.replace("layer_norm", "ln_post")] = tensor
            else:
                state[name.replace("embed_positions.weight", "positional_embedding")] = tensor
        model.encoder.load_state_dict(state)
        return model.eval()

    def encoder(self, features: Tensor) -> Tensor:
        """Of its own dense class, [N, frames, D]: to be compared with the stock one."""
        with torch.no_grad(), mock.patch.object(self._model.encoder, "is_calibrating", new=False):
            found: Tensor = self._model.encoder(features)
        return found

    def compress(self, attention: float, feed_forward: float) -> nn.Module:
        """The stock model with its encoder's maps replaced, by the thresholds that its option `--rank_threshold` takes."""
        found = iter(self._decompositions)

        def svd(_frames: Tensor, full_matrices: bool = True) -> tuple[None, Tensor, Tensor]:
            del full_matrices
            return (None, *next(found))

        with (
            _on_a_cpu(),
            torch.no_grad(),
            mock.patch.object(torch.linalg, "svd", svd),
            mock.patch.object(self._code.tqdm, "tqdm", iter),
            mock.patch("builtins.print"),
        ):
            spare = self._code.apply_low_rank(copy.deepcopy(self._model), [], f"{attention}:{feed_forward}")
        return self._as_stock(spare)

    def _as_stock(self, compressed: Any) -> nn.Module:
        """In transformers' class, so that all models are judged by one code."""
        model: Any = copy.deepcopy(self._stock)
        for block, layer in zip(compressed.encoder.blocks, model.model.encoder.layers, strict=True):
            for theirs, ours in MAPS.items():
                found = block.get_submodule(theirs)
                if isinstance(found, self._code.LinearLowRank):
                    layer.set_submodule(ours, found)
        done: nn.Module = model.eval()
        return done

    def of_size(
        self, parameters: int, attention: Sequence[float], count: Callable[[nn.Module], int], tolerance: float = 0.005
    ) -> list[tuple[float, float, nn.Module]]:
        """(thresholds, model) with about so many encoder parameters, one for each threshold of attention that can be met.

        The threshold of the feed-forward maps is found by bisection. `count`: parameters of a model's encoder.
        """
        found: list[tuple[float, float, nn.Module]] = []
        for threshold in attention:
            low, high = 0.0, 6.0
            tried: list[tuple[int, float, nn.Module]] = []
            for _ in range(12):
                middle = (low + high) / 2
                # Nines after the point: 0.9 is 1, 0.999 is 3.
                wanted = 1.0 - 10.0**-middle
                model = self.compress(threshold, wanted)
                off = count(model) - parameters
                tried.append((abs(off), wanted, model))
                low, high = (middle, high) if off < 0 else (low, middle)
            off, wanted, model = min(tried, key=lambda each: each[0])
            if off <= tolerance * parameters:
                found.append((threshold, wanted, model))
        return found
