"""From a model and a target to a smaller model: observe, rotate, score, select, cut, compensate."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from api_schemas.enums import Basis, Compensation, Criterion, Part, TargetKind
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.formatting import percent
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import Pruning
from checkpoints.describe import Checkpoint
from checkpoints.planning.feasibility import left_out, max_share
from checkpoints.sizes.cost_model import MOST_DIVISIONS, scoring_passes
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data import FeatureSplit, PreparedData
from worker.engine.kept_results import KeptResults
from worker.engine.latency.table import LatencyModel
from worker.engine.models.attention import AttentionBlock, attention_blocks
from worker.engine.models.feed_forward import FeedForwardBlock, Neurons, all_neurons, feed_forward_blocks
from worker.engine.models.model_spec import move_model
from worker.engine.parallel.group import ALONE, Group
from worker.engine.pruning import calibration, compensation, principal
from worker.engine.pruning.part_shares import best_shift
from worker.engine.pruning.selection import Selection, keep_all
from worker.engine.pruning.surgery import cut
from worker.engine.pruning.targets import selection_for
from worker.engine.runtime.determinism import step_seed
from worker.engine.runtime.precision import moment_dtype, native_half
from worker.engine.runtime.progress import Reporter
from worker.engine.scoring import (
    REQUIRED_STATISTICS,
    LayerScores,
    NeuronScores,
    Observations,
    Statistic,
    observe,
    score,
    score_neurons,
)
from worker.engine.tasks import Task

log = logging.getLogger(__name__)

FROM_MOMENTS = frozenset({Criterion.ENERGY, Criterion.FISHER_ENERGY})
"""Criteria that are functions of moments: moments rotate with the basis, so one pass is enough for both."""


JUDGED = 256
"""Number of samples by which divisions between attention and neurons are compared."""


@dataclass(frozen=True)
class ScoredModel:
    """A model ready to be cut, any number of times."""

    loaded: LoadedModel
    """In the basis whose channels are scored."""
    scores: tuple[LayerScores, ...]
    """Empty if attention is not cut."""
    neurons: tuple[NeuronScores, ...]
    """Of the feed-forward blocks; empty if these are not cut."""
    observed: Observations | None
    """Of that basis; None if nothing needed samples."""
    samples: FeatureSplit | None
    """The calibration samples, if there are any."""
    refit_rows: Tensor | None
    """Row numbers of the samples that least squares use, if there are any."""
    step: int = 1
    """The step for which it was scored."""
    shifts: dict[float, float] = field(default_factory=dict, compare=False)
    """By the share at which it was searched: what neurons lose beyond the ranking's division, scaled to a share of 1."""

    @property
    def count(self) -> int:
        """The number of samples behind the scores."""
        return len(self.samples) if self.samples is not None else 0

    @property
    def refit_count(self) -> int:
        """The number of samples that least squares use."""
        return len(self.refit_rows) if self.refit_rows is not None else 0


def required_statistics(pruning: Pruning) -> frozenset[Statistic]:
    """What the first pass over the calibration samples must collect; if empty, no pass is needed."""
    if not pruning.scored_parts:
        return frozenset()
    statistics: frozenset[Statistic] = frozenset()
    turned = rotates(pruning)
    if not turned or pruning.scored_by in FROM_MOMENTS:
        statistics |= REQUIRED_STATISTICS[pruning.scored_by]
    if turned:
        statistics |= principal.REQUIRED_STATISTICS
        if Statistic.GRADIENTS in statistics:
            statistics |= {Statistic.OUTPUT_GRADIENT}
    if pruning.compensation is not Compensation.NONE:
        statistics |= {Statistic.CONTEXT}
    return statistics


def rotates(pruning: Pruning) -> bool:
    """Whether the model is first rotated into another basis; neurons have only their own."""
    return pruning.basis is Basis.PRINCIPAL and Part.ATTENTION in pruning.cuts


def ridges(pruning: Pruning) -> compensation.Ridges:
    """What least squares fit, and with which ridge: a map from which something was cut has more to compensate for."""
    steady = pruning.compensation is Compensation.LEAST_SQUARES_FEED_FORWARD
    feed_forward = compensation.UNPRUNED_RIDGE if steady else None
    if Part.FEED_FORWARD in pruning.cuts:
        feed_forward = compensation.RIDGE
    return compensation.Ridges(compensation.RIDGE, feed_forward)


def _blocks(loaded: LoadedModel) -> tuple[AttentionBlock, ...]:
    return attention_blocks(loaded.model, loaded.model_spec, loaded.widths)


def _feed_forward(loaded: LoadedModel) -> tuple[FeedForwardBlock, ...]:
    return feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths)


def nonincreasing_scores(scores: Sequence[LayerScores], widths: AttentionWidths) -> tuple[LayerScores, ...]:
    """The same scores, none higher than one before it in its head, so that principal channels are removed in order of energy. QK
    channels with rotary positions, or that are removed only with their head, are not principal ones, and keep their scores.
    """

    def falling(vectors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(vector.cummin(0).values for vector in vectors)

    return tuple(
        replace(layer, qk=layer.qk if own.qk_unit > 1 else falling(layer.qk), vo=falling(layer.vo))
        for layer, own in zip(scores, widths.layers, strict=True)
    )


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
    """The table for a latency target."""
    microbatch: int | None = None
    """The maximum number of samples per pass."""
    kept: KeptResults | None = None
    """Results of earlier jobs with the same original."""
    group: Group = ALONE
    """The processes that score together."""

    def score(self, loaded: LoadedModel, step: int) -> ScoredModel:
        """`loaded`, in the spec's basis, with scores by its criterion. Raises NUMERICAL if they are not finite."""
        pruning = self.spec.pruning
        move_model(loaded.model, self.device)
        first = required_statistics(pruning)
        needs_samples = bool(REQUIRED_STATISTICS[pruning.scored_by]) or pruning.by_surgeon
        samples = self._samples(step) if first or needs_samples else None
        from_moments = pruning.scored_by in FROM_MOMENTS
        if rotates(pruning) and first and REQUIRED_STATISTICS[pruning.scored_by] and not from_moments:
            self.reporter.divide(1.0, scoring_passes(pruning) - 1.0)
        observed = self._first_observed(loaded, samples, first, step) if samples is not None and first else None
        scored_on = observed
        if rotates(pruning) and observed is not None:
            bases = principal.principal_bases(_blocks(loaded), observed)
            loaded = principal.rotate(loaded, bases)
            observed = scored_on = principal.rotate_observations(observed, bases)
            if samples is not None and REQUIRED_STATISTICS[pruning.scored_by] and not from_moments:
                self.reporter.next_part()
                scored_on = self._observe(loaded, samples, REQUIRED_STATISTICS[pruning.scored_by], step)
        seed = step_seed(self.spec.seed, step, "random")
        scores: tuple[LayerScores, ...] = ()
        if Part.ATTENTION in pruning.cuts:
            scores = score(pruning.scored_by, _blocks(loaded), observed=scored_on, seed=seed)
        neurons: tuple[NeuronScores, ...] = ()
        if Part.FEED_FORWARD in pruning.scored_parts:
            neurons = score_neurons(pruning.scored_by, _feed_forward(loaded), scored_on, seed + 1)
        vectors = [vector for layer in scores for vector in (*layer.qk, *layer.vo)]
        if not all(torch.isfinite(vector).all() for vector in (*vectors, *(block.vector for block in neurons))):
            raise SecateurError(
                ErrorCode.NUMERICAL,
                "The scores are not finite: the loss or its gradients overflow on the calibration data.",
            )
        if rotates(pruning):
            scores = nonincreasing_scores(scores, loaded.widths)
        return ScoredModel(loaded, scores, neurons, observed, samples, self._refit_rows(loaded, observed, step), step)

    def select(self, scored: ScoredModel, share: float) -> Selection:
        """What to keep once `share` of the original is removed, in the target's unit; for neurons that the brain surgeon selects,
        how many.

        If the division between attention and neurons is searched for, this takes longer, once per share. All cuts that are tried
        for a bound on the drop use one search, so a resumed job finds the same.
        """
        if not self.spec.pruning.searches_shares:
            return self._select(scored, share)
        at = share if self.spec.pruning.target.max_drop is None else self._half_reach(scored)
        if at not in scored.shifts:
            scored.shifts[at] = self._search_shift(scored, at)
        return self._select(scored, share, scored.shifts[at])

    def _half_reach(self, scored: ScoredModel) -> float:
        pruning = self.spec.pruning
        counted = TargetKind.FLOPS if pruning.target.kind is TargetKind.LATENCY else None
        return max_share(self.described.shape, scored.loaded.widths, pruning, counted) / 2

    def _select(self, scored: ScoredModel, share: float, shift: float = 0.0) -> Selection:
        return selection_for(
            scored.scores,
            scored.loaded.widths,
            self.described.shape,
            self.spec.pruning,
            share=share,
            neurons=scored.neurons,
            latency=self.latency,
            shift=shift,
        )

    def _search_shift(self, scored: ScoredModel, share: float) -> float:
        """The shift whose cut has the outputs closest to those of its own starting model, on samples that its
        refit has not seen."""
        fit, judged = self._divided(scored)
        if not len(judged):
            return 0.0
        tried: dict[Selection, float] = {}

        def loss(shift: float) -> float:
            kept = self._select(scored, share, shift / share)
            if kept not in tried:
                model, _ = self._apply_by_surgeon(replace(scored, refit_rows=fit), kept)
                tried[kept] = self._divergence(scored.loaded, model, judged)
            self.reporter.next_part()
            return tried[kept]

        self.reporter.divide(*[float(len(fit))] * MOST_DIVISIONS, float(scored.refit_count))
        shift = best_shift(loss, MOST_DIVISIONS)
        self.reporter.divide(float(len(fit)) * len(tried), float(scored.refit_count))
        self.reporter.next_part()
        log.info(
            "of %d splits between attention and neurons, the best removes %s of all neurons more than the ranking does",
            len(tried),
            percent(shift),
        )
        return shift / share

    def _divided(self, scored: ScoredModel) -> tuple[Tensor, Tensor]:
        """Rows for the refit and rows for the comparison, among those for least squares: at least twice as many of the first."""
        seed, there = step_seed(self.spec.seed, scored.step, "calibration"), scored.refit_count
        judged = min(JUDGED, there // 3)
        fit = self._split.random_rows(min(scored.count or there, there - judged), seed)
        both = self._split.random_rows(len(fit) + judged, seed)
        return fit, both[~torch.isin(both, fit)]

    def _divergence(self, reference: LoadedModel, loaded: LoadedModel, rows: Tensor) -> float:
        """The mean divergence, over these samples, of the outputs of `loaded` from those of `reference`."""
        total = 0.0
        for inputs, targets in calibration.Batches(self._split, self.device, self.microbatch, rows):
            with torch.inference_mode():
                taught, answers = (self.task.outputs(each.model, inputs).float() for each in (reference, loaded))
                asked = self.task.asked(inputs, targets)
                total += float(self.task.divergence(answers, taught, 1.0, asked)) * len(targets)
        return total / len(rows)

    def prune(self, scored: ScoredModel, share: float) -> tuple[LoadedModel, Selection]:
        """The model with `share` of the original removed, in the target's unit, and what it kept of `scored`."""
        return self.cut_to(scored, self.select(scored, share))

    def cut_to(self, scored: ScoredModel, kept: Selection) -> tuple[LoadedModel, Selection]:
        """The same for the result of `select`."""
        if not self.spec.pruning.by_surgeon:
            return self.apply(scored, kept), kept
        return self._apply_by_surgeon(scored, kept)

    def apply(self, scored: ScoredModel, kept: Selection, *, refit: bool = True) -> LoadedModel:
        """Cut to exactly `kept` and compensate as the spec says; without `refit`, least squares do no more than `bias`."""
        loaded, how = scored.loaded, self.spec.pruning.compensation
        model = cut(loaded.model, loaded.model_spec, loaded.widths, kept.heads, kept.neurons)
        smaller = replace(loaded, model=model, widths=kept.widths(loaded.widths))
        if how is Compensation.NONE or scored.observed is None or scored.samples is None:
            return smaller
        if Part.ATTENTION in self.spec.pruning.cuts:
            compensation.fold_means(loaded, smaller, kept.heads, scored.observed)
        if Part.FEED_FORWARD in self.spec.pruning.scored_parts:
            compensation.fold_neurons(loaded, smaller, kept.neurons, scored.observed)
        if how is not Compensation.BIAS and refit:
            self._refit(scored, smaller, None)
        return smaller

    def _apply_by_surgeon(self, scored: ScoredModel, kept: Selection) -> tuple[LoadedModel, Selection]:
        """Cut to the heads of `kept` and to as many neurons as it has; also returns which neurons were kept."""
        loaded = scored.loaded
        narrow = self.apply(scored, replace(kept, neurons=all_neurons(loaded.widths)), refit=False)
        neurons = self._refit(scored, narrow, tuple(map(len, kept.neurons)))
        model = cut(narrow.model, narrow.model_spec, narrow.widths, keep_all(narrow.widths), neurons)
        chosen = replace(kept, neurons=neurons)
        return replace(narrow, model=model, widths=chosen.widths(loaded.widths)), chosen

    def _refit(self, scored: ScoredModel, smaller: LoadedModel, counts: tuple[int, ...] | None) -> Neurons:
        assert scored.refit_rows is not None
        batches = calibration.Batches(self._split, self.device, self.microbatch, scored.refit_rows)
        return compensation.refit_outputs(
            scored.loaded,
            smaller,
            calibration.InputsOf(batches),
            ridges(self.spec.pruning),
            counts=counts,
            fixed=self._left_out(scored.loaded),
            progress=self.reporter.progress,
        )

    def _left_out(self, loaded: LoadedModel) -> frozenset[str]:
        """Paths of the maps to the residual stream in layers that the spec excludes."""
        shape = self.described.shape
        left = left_out(shape, self.spec.pruning)
        if not left:
            return frozenset()
        layout = loaded.model_spec.layout_of(loaded.model)
        attention = zip(layout.attention, shape.attention, strict=True)
        feed_forward = zip(layout.feed_forward, shape.feed_forward, strict=True)
        return frozenset(
            [site.o for site, block in attention if block.layer in left]
            + [site.second for site, block in feed_forward if block.layer in left]
        )

    @property
    def _split(self) -> FeatureSplit:
        return self.data.splits[self.spec.pruning.calibration.split]

    def _samples(self, step: int) -> FeatureSplit:
        return calibration.draw(
            self._split, self.spec.pruning.calibration, step_seed(self.spec.seed, step, "calibration")
        )

    def _refit_rows(self, loaded: LoadedModel, observed: Observations | None, step: int) -> Tensor | None:
        pruning = self.spec.pruning
        if pruning.compensation in (Compensation.NONE, Compensation.BIAS):
            return None
        fed = loaded.widths.feed_forward if ridges(pruning).feed_forward is not None else ()
        inputs = max(*(layer.vo_total for layer in loaded.widths.layers), *fed, 1)
        tokens = None if observed is None else observed.tokens / max(observed.samples, 1)
        count = calibration.refit_samples(pruning.calibration, len(self._split), tokens=tokens, inputs=inputs)
        return self._split.random_rows(count, step_seed(self.spec.seed, step, "calibration"))

    def _first_observed(
        self, loaded: LoadedModel, samples: FeatureSplit, statistics: frozenset[Statistic], step: int
    ) -> Observations:
        """Observations in the basis in which the model came. Those of the first step are of the original, whatever the spec."""
        if self.kept is None or step != 1:
            return self._observe(loaded, samples, statistics, step)
        pruning = self.spec.pruning
        of = {
            "statistics": sorted(statistics),
            "calibration": pruning.calibration.model_dump(mode="json", exclude={"refit_samples"}),
            "seed": self.spec.seed,
            "parts": sorted(pruning.cuts),
            "neurons": Part.FEED_FORWARD in pruning.scored_parts,
            "microbatch": self.microbatch,
        }
        found, there = self.kept.observations(of, lambda: self._observe(loaded, samples, statistics, step))
        if there:
            self.reporter.progress(len(samples), len(samples))
        return found

    def _observe(
        self, loaded: LoadedModel, samples: FeatureSplit, statistics: frozenset[Statistic], step: int
    ) -> Observations:
        settings = self.spec.pruning.calibration
        seed = step_seed(self.spec.seed, step, "labels")
        return observe(
            loaded.model,
            _blocks(loaded) if Part.ATTENTION in self.spec.pruning.cuts else (),
            calibration.Batches(samples, self.device, self.microbatch),
            calibration.loss_for(self.task, settings.labels, seed, self.group),
            statistics,
            lambda done: self.reporter.progress(done, len(samples)),
            neurons=_feed_forward(loaded) if Part.FEED_FORWARD in self.spec.pruning.scored_parts else (),
            outputs=self.task.outputs,
            draws=calibration.draws(settings),
            autocast=native_half(self.device),
            moments=moment_dtype(self.device),
            device=self.device,
            group=self.group,
        )
