"""From a model and a target to a smaller model: observe, rotate, score, select, cut, compensate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from api_schemas.checkpoint import Checkpoint
from api_schemas.enums import Basis, Compensation, Criterion
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.pruning import Pruning
from api_schemas.spec import EngineSpec
from worker.engine import calibration, compensation, principal
from worker.engine.attention import AttentionBlock, attention_blocks
from worker.engine.checkpoint.load import Loaded
from worker.engine.data import FeatureSplit, PreparedData
from worker.engine.determinism import step_seed
from worker.engine.latency_table import LatencyModel
from worker.engine.models import on_device
from worker.engine.progress import Reporter
from worker.engine.scoring import WANTS, LayerScores, Observations, Want, observe, score
from worker.engine.scoring.observations import NEEDS_GRADIENTS
from worker.engine.selection import Keep, widths_of
from worker.engine.surgery import cut
from worker.engine.targets import choose
from worker.engine.tasks import Task

FROM_MOMENTS = frozenset({Criterion.ENERGY, Criterion.FISHER_ENERGY})
"""Criteria that are functions of moments: these turn with the basis, so one pass does for both."""


@dataclass(frozen=True)
class Scored:
    """A model ready to be cut, any number of times."""

    loaded: Loaded
    """In the basis whose channels are scored."""
    scores: tuple[LayerScores, ...]
    observed: Observations | None
    """Of that basis; None where nothing needed samples."""
    samples: FeatureSplit | None
    """The calibration samples, where there were any."""

    @property
    def count(self) -> int:
        """How many samples the scores rest on."""
        return len(self.samples) if self.samples is not None else 0


def wanted(pruning: Pruning) -> frozenset[Want]:
    """What the first pass over the calibration samples has to gather; nothing: there is no need of one."""
    wants: frozenset[Want] = frozenset()
    if pruning.basis is Basis.NATIVE or pruning.criterion in FROM_MOMENTS:
        wants |= WANTS[pruning.criterion]
    if pruning.basis is Basis.PRINCIPAL:
        wants |= principal.WANTS
        if Want.GRADIENTS in wants:
            wants |= {Want.OUTPUT_GRADIENT}
    if pruning.compensation is not Compensation.NONE:
        wants |= {Want.CONTEXT}
    return wants


def _blocks(loaded: Loaded) -> tuple[AttentionBlock, ...]:
    return attention_blocks(loaded.model, loaded.kind, loaded.widths)


def in_energy_order(scores: Sequence[LayerScores]) -> tuple[LayerScores, ...]:
    """The same scores, none higher than one before it in its head: principal channels go least energy first."""

    def falling(vectors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(vector.cummin(0).values for vector in vectors)

    return tuple(replace(layer, qk=falling(layer.qk), vo=falling(layer.vo)) for layer in scores)


@dataclass(frozen=True)
class Cutting:
    """How a job scores and cuts; the same for every step."""

    spec: EngineSpec
    described: Checkpoint
    data: PreparedData
    task: Task
    device: torch.device
    reporter: Reporter
    latency: LatencyModel | None = None
    """What a latency target is looked up in."""
    microbatch: int | None = None
    """The most samples of one pass."""

    def score(self, loaded: Loaded, step: int) -> Scored:
        """`loaded`, in the spec's basis, with scores by its criterion. Raises NUMERICAL where they are not finite."""
        pruning = self.spec.pruning
        on_device(loaded.model, self.device)
        first = wanted(pruning)
        samples = self._samples(step) if first or WANTS[pruning.criterion] else None
        observed = self._observe(loaded, samples, first, step) if samples is not None and first else None
        from_moments = pruning.criterion in FROM_MOMENTS
        scored_on = observed
        if pruning.basis is Basis.PRINCIPAL and observed is not None:
            bases = principal.principal_bases(_blocks(loaded), observed)
            loaded = principal.rotate(loaded, bases)
            observed = scored_on = principal.rotate_observations(observed, bases)
            if samples is not None and WANTS[pruning.criterion] and not from_moments:
                scored_on = self._observe(loaded, samples, WANTS[pruning.criterion], step)
        seed = step_seed(self.spec.seed, step, "random")
        scores = score(pruning.criterion, _blocks(loaded), observed=scored_on, seed=seed)
        if not all(torch.isfinite(vector).all() for layer in scores for vector in (*layer.qk, *layer.vo)):
            raise SecateurError(
                ErrorCode.NUMERICAL,
                "The scores are not finite: the loss or its gradients overflow on the calibration data.",
            )
        if pruning.basis is Basis.PRINCIPAL:
            scores = in_energy_order(scores)
        return Scored(loaded, scores, observed, samples)

    def prune(self, scored: Scored, share: float) -> tuple[Loaded, Keep]:
        """The model with `share` of the original gone, in the target's unit, and what it kept of `scored`."""
        loaded = scored.loaded
        keep = choose(
            scored.scores, loaded.widths, self.described.shape, self.spec.pruning, share=share, latency=self.latency
        )
        return self.apply(scored, keep), keep

    def apply(self, scored: Scored, keep: Keep, *, refit: bool = True) -> Loaded:
        """Cut to `keep` and compensate as the spec says; without `refit`, least squares does no more than bias."""
        loaded, how = scored.loaded, self.spec.pruning.compensation
        model = cut(loaded.model, loaded.kind, loaded.widths, keep)
        smaller = replace(loaded, model=model, widths=widths_of(keep, loaded.widths))
        if how is Compensation.NONE or scored.observed is None or scored.samples is None:
            return smaller
        compensation.fold_means(loaded, smaller, keep, scored.observed)
        if how is not Compensation.BIAS and refit:
            batches = calibration.batches(scored.samples, self.device, microbatch=self.microbatch)
            inputs = (inputs for inputs, _ in batches)
            too = how is Compensation.LEAST_SQUARES_FEED_FORWARD
            compensation.refit_outputs(loaded, smaller, inputs, feed_forward=too, progress=self.reporter.progress)
        return smaller

    def _samples(self, step: int) -> FeatureSplit:
        settings = self.spec.pruning.calibration
        return calibration.draw(
            self.data.splits[settings.split], settings, step_seed(self.spec.seed, step, "calibration")
        )

    def _observe(self, loaded: Loaded, samples: FeatureSplit, wants: frozenset[Want], step: int) -> Observations:
        settings = self.spec.pruning.calibration
        # Without a backward pass labels are not read, and a second look sees nothing new.
        repeats = calibration.passes(settings) if wants & NEEDS_GRADIENTS else 1
        seed = step_seed(self.spec.seed, step, "labels")
        return observe(
            loaded.model,
            _blocks(loaded),
            calibration.batches(samples, self.device, repeats, microbatch=self.microbatch),
            calibration.loss_for(self.task, settings.labels, seed),
            wants,
            lambda done: self.reporter.progress(done, repeats * len(samples)),
            outputs=self.task.outputs,
        )
