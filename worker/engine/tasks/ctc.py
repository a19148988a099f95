"""Connectionist temporal classification (Graves et al., ICML 2006): a text from frames, without a given alignment.

Shapes: B samples, T frames, V label ids, of which one is the blank, L the longest text. Targets int64 [B, L], padded with -100.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from api_schemas.enums import Head
from api_schemas.results.metrics import Scores
from worker.engine.data.split import IGNORED
from worker.engine.tasks.base import Decode, Loss, MetricAccumulator, Task
from worker.engine.tasks.classification import softened_divergence
from worker.engine.tasks.label_sampling import LabelGenerators
from worker.engine.tasks.metrics import error_rates, texts_of


def collapsed(path_BT: Tensor, blank: int) -> Tensor:
    """The texts that paths stand for [B, T], -100 behind them: runs of one id are one, then blanks go (§3.1)."""
    said_BT = path_BT != blank
    said_BT[:, 1:] &= path_BT[:, 1:] != path_BT[:, :-1]
    frames = path_BT.shape[1]
    # Where each goes; what goes nowhere goes into a column of its own, which is then left out.
    place_BT = torch.where(said_BT, said_BT.cumsum(1) - 1, frames)
    text = path_BT.new_full((len(path_BT), frames + 1), IGNORED)
    return text.scatter_(1, place_BT, path_BT)[:, :frames]


class Ctc(Task):
    """Logits [B, T, V]. `blank` is the id that says nothing; `decode` gives the text of ids that are collapsed already."""

    head = Head.CTC

    def __init__(self, *, blank: int, decode: Decode) -> None:
        self.blank, self.decode = blank, decode

    def loss(self, answers: Tensor, targets: Tensor, real: Tensor | None = None) -> Tensor:
        """−log p(text | input) in nats, summed over all alignments, by the text's length (1 where it is empty).

        In float32 at least. Infinite where a text needs more frames than there are, which the data was checked
        for when it was read. Frames behind a clip that was filled up are not aligned.
        """
        device, lengths_B = answers.device, (targets != IGNORED).sum(1)
        log_p_TBV = answers.log_softmax(-1, torch.promote_types(answers.dtype, torch.float32)).transpose(0, 1)
        frames_B = torch.full_like(lengths_B, len(log_p_TBV)) if real is None else real.sum(1)
        ids_BL = F.pad(targets, (0, 1), value=IGNORED).clamp_min(0)
        if device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
            # Its backward pass on a GPU adds up in any order, and refuses to run where that is forbidden.
            log_p_TBV, ids_BL, frames_B, lengths_B = (t.cpu() for t in (log_p_TBV, ids_BL, frames_B, lengths_B))
        # cuDNN has an implementation of its own, of other results and for some lengths only.
        with torch.backends.cudnn.flags(enabled=False):
            nll_B = F.ctc_loss(log_p_TBV, ids_BL, frames_B, lengths_B, blank=self.blank, reduction="none")
        return (nll_B / lengths_B.clamp_min(1)).to(device, answers.dtype)

    def sampled_label_loss(self, seed: int) -> Loss:
        """The loss of a text drawn from the model's own p(text | input).

        Each frame's id is drawn from its softmax and the path is collapsed. That is exact: frames are independent given the
        input, and p(text) is by definition the probability of all paths that collapse to it.
        """
        generators = LabelGenerators(seed)

        def drawn(answers: Tensor, _targets: object) -> Tensor:
            p_BTV = answers.detach().float().softmax(-1)
            path_N = torch.multinomial(p_BTV.flatten(0, 1), 1, generator=generators.generator(answers.device))
            return self.loss(answers, collapsed(path_N.view(p_BTV.shape[:2]), self.blank))

        return drawn

    def divergence(
        self,
        student: Tensor,
        teacher: Tensor,
        temperature: float,
        targets: Tensor,  # noqa: ARG002
        real: Tensor | None = None,
    ) -> Tensor:
        """KL(teacher ‖ student) of each frame's ids in nats, mean over real frames."""
        return softened_divergence(student, teacher, temperature, real)

    def accumulator(self) -> MetricAccumulator:
        return _CtcAccumulator(self)

    def agreement(self, answers: Tensor, reference: Tensor) -> Tensor:
        """The same text, read off the likeliest id of every frame."""
        ours_BT, theirs_BT = (collapsed(each.argmax(-1), self.blank) for each in (answers, reference))
        return (ours_BT == theirs_BT).all(1).double()


class _CtcAccumulator(MetricAccumulator):
    """Greedy: the likeliest id of every frame, collapsed. No language model helps."""

    def __init__(self, task: Ctc) -> None:
        super().__init__()
        self._task = task
        self._losses: list[Tensor] = []
        self._given: list[Tensor] = []
        self._wanted: list[Tensor] = []

    def _keep(
        self,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None,  # noqa: ARG002
        real: Tensor | None,
    ) -> None:
        # By text in float32, which has half the room of float64; their mean is taken in float64.
        self._losses.append(self._task.loss(answers, targets, real).double())
        path_BT = answers.argmax(-1)
        # Nothing is said where nothing is heard.
        path_BT = path_BT if real is None else path_BT.masked_fill(~real, self._task.blank)
        self._given.append(collapsed(path_BT, self._task.blank))
        self._wanted.append(targets)

    def _scores(self, order: Tensor) -> Scores:
        losses = torch.cat(self._losses).cpu()[order]
        given, wanted = (texts_of(part, self._task.decode) for part in (self._given, self._wanted))
        return Scores(samples=len(losses), cross_entropy=float(losses.mean()), **error_rates(given, wanted))
