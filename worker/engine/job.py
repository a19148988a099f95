"""One step of a job: score, cut, recover, write, prove, measure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from api_schemas import accounting
from api_schemas.checkpoint import Checkpoint
from api_schemas.enums import Phase, Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.events import Loss
from api_schemas.metrics import EpochLoss, Latency, Scores, Size, StepMetrics
from api_schemas.spec import EngineSpec
from api_schemas.widths import AttentionWidths
from worker.engine.attention import attention_blocks, projections_by_name
from worker.engine.checkpoint.gate import check_reload
from worker.engine.checkpoint.load import Loaded, load_step
from worker.engine.checkpoint.save import make_durable, save_checkpoint, stock_shape
from worker.engine.data import FeatureSplit, PreparedData
from worker.engine.determinism import step_seed
from worker.engine.evaluate import evaluate, measure_latency, per_sample_loss
from worker.engine.models import on_device
from worker.engine.progress import Reporter
from worker.engine.records import StepRecord, write_metrics, write_pruning
from worker.engine.recovery import finetune
from worker.engine.report import write_model_card, write_report
from worker.engine.scoring import LayerScores, fisher_information, score
from worker.engine.scoring.criteria import NEEDS_GRADIENTS
from worker.engine.selection import Keep, compose, keep_all, select, widths_of
from worker.engine.surgery import cut

SCORING_BATCH = 8
"""Samples whose weight gradients exist at once: 8 × 2.4 MB for a 768×768 projection."""
PROBE_SAMPLES = 4
"""Samples on which a packaged checkpoint must repeat the engine's logits."""


@dataclass(frozen=True)
class Job:
    """What every step needs and none changes."""

    spec: EngineSpec
    original: Path
    out: Path
    described: Checkpoint
    dense: Loaded
    data: PreparedData
    device: torch.device
    reporter: Reporter

    def folder(self, step: int) -> Path:
        return self.out / f"step-{step}"

    def split(self, role: Split) -> FeatureSplit:
        return self.data.splits[role]

    # --- measuring -------------------------------------------------------------------------------------------------

    def scores(self, loaded: Loaded, role: Split) -> Scores:
        return evaluate(
            on_device(loaded.model, self.device),
            self.split(role),
            batch_size=self.spec.evaluate.batch_size,
            device=self.device,
            multi_label=self.described.multi_label,
            progress=self.reporter.progress,
        )

    def latency(self, loaded: Loaded) -> tuple[Latency, ...]:
        return measure_latency(
            on_device(self.dense.model, self.device),
            on_device(loaded.model, self.device),
            self.split(Split.VALIDATION),
            batch_sizes=self.spec.evaluate.latency_batch_sizes,
            runs=self.spec.evaluate.latency_runs,
            device=self.device,
        )

    def size(self, widths: AttentionWidths, weights: Path) -> Size:
        shape = self.described.shape
        return Size(
            attention_parameters=accounting.attention_parameters(shape, widths),
            total_parameters=accounting.total_parameters(shape, widths),
            flops=accounting.total_flops(shape, widths),
            file_bytes=weights.stat().st_size,
        )

    # --- step 0: the model as it came ------------------------------------------------------------------------------

    def baseline(self) -> tuple[StepMetrics, Keep]:
        """Measure the dense model and write step-0, which holds records and no weights."""
        self.reporter.restart()
        self.reporter.phase(Phase.EVALUATING, 0)
        validation = self.scores(self.dense, Split.VALIDATION)
        test = self.scores(self.dense, Split.TEST)
        latency = self.latency(self.dense)
        self.reporter.close()
        weights = sum(path.stat().st_size for path in self.original.glob("*.safetensors"))
        size = self.size(self.dense.widths, self.original / "config.json").model_copy(update={"file_bytes": weights})
        metrics = StepMetrics(
            step=0,
            requested_sparsity=0.0,
            achieved_sparsity=0.0,
            widths=self.dense.widths,
            size=size,
            validation=validation,
            test=test,
            latency=latency,
            stock_layout=True,
            seconds=dict(self.reporter.seconds),
        )
        kept = keep_all(self.dense.widths)
        folder = self.folder(0)
        folder.mkdir(parents=True, exist_ok=True)
        record = StepRecord(0, self.described.family.name, self.spec, self.dense.widths, kept, True, 1.0)
        write_pruning(folder, record, [metrics])
        write_metrics(folder, self.data.summary, [metrics])
        make_durable(folder)
        return metrics, kept

    # --- scoring and cutting ---------------------------------------------------------------------------------------

    def _calibration(self, seed: int) -> FeatureSplit | None:
        """The samples to score on, or None where the criterion needs none."""
        if self.spec.pruning.criterion not in NEEDS_GRADIENTS:
            return None
        split, wanted = self.split(self.spec.pruning.calibration.split), self.spec.pruning.calibration.samples
        if wanted is None or wanted >= len(split):
            return split
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        return split.subset(order[:wanted].sort().values)

    def _batches(self, split: FeatureSplit) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(split), SCORING_BATCH):
            inputs, targets = split.batch(range(start, min(start + SCORING_BATCH, len(split))))
            yield inputs.to(self.device), targets.to(self.device)

    def score(self, loaded: Loaded, step: int) -> tuple[tuple[LayerScores, ...], int]:
        """Channel scores by the job's criterion, and the number of samples they rest on."""
        blocks = attention_blocks(on_device(loaded.model, self.device), loaded.family, loaded.widths)
        calibration = self._calibration(step_seed(self.spec.seed, step, "calibration"))
        moments, samples = None, 0
        if calibration is not None:
            samples = len(calibration)
            moments = fisher_information(
                loaded.model,
                projections_by_name(blocks),
                self._batches(calibration),
                lambda logits, targets: per_sample_loss(logits, targets, self.described.multi_label),
                lambda done: self.reporter.progress(done, samples),
            )
        scores = score(
            self.spec.pruning.criterion, blocks, moments=moments, seed=step_seed(self.spec.seed, step, "random")
        )
        if not all(torch.isfinite(vector).all() for layer in scores for vector in (*layer.qk, *layer.vo)):
            raise SecateurError(
                ErrorCode.NUMERICAL,
                "The scores are not finite: the loss or its gradients overflow on the calibration data.",
            )
        return scores, samples

    def prune(self, loaded: Loaded, scores: Sequence[LayerScores], sparsity: float) -> tuple[Loaded, Keep]:
        """The model with `sparsity` of the original's attention parameters gone, and what it kept of `loaded`."""
        keep = select(
            scores,
            loaded.widths,
            self.described.shape,
            self.spec.pruning,
            criterion=self.spec.pruning.criterion,
            sparsity=sparsity,
        )
        smaller = cut(loaded.model, loaded.family, loaded.widths, keep)
        return replace(loaded, model=smaller, widths=widths_of(keep, loaded.widths.head_dim)), keep

    def recover(self, loaded: Loaded, step: int) -> tuple[Loaded, tuple[EpochLoss, ...], dict[str, int]]:
        """Fine-tune with adapters, merged. Nothing happens where the spec asks for no fine-tuning."""
        settings = self.spec.finetune
        if settings is None:
            return loaded, (), {}
        losses: list[EpochLoss] = []

        def on_epoch(loss: EpochLoss) -> None:
            losses.append(loss)
            said = Loss(step=step, epoch=loss.epoch, epochs=settings.epochs, train_loss=loss.train_loss)
            self.reporter.emit(said)

        blocks = attention_blocks(loaded.model, loaded.family, loaded.widths)
        model, ranks = finetune(
            loaded.model,
            self.split(Split.TRAIN),
            settings,
            projections=projections_by_name(blocks),
            classifiers=loaded.family.classifier_modules,
            multi_label=self.described.multi_label,
            pad_value=self.data.pad_value,
            seed=step_seed(self.spec.seed, step, "finetune"),
            device=self.device,
            on_batch=self.reporter.progress,
            on_epoch=on_epoch,
        )
        return replace(loaded, model=model), tuple(losses), ranks

    # --- a step ----------------------------------------------------------------------------------------------------

    def step(self, number: int, target: float, before: Loaded, history: Sequence[StepMetrics], kept: Keep,
             *, last: bool) -> tuple[StepMetrics, Keep]:  # fmt: skip
        """Run step `number` on the model of the step before it and write its folder, complete and on disk.

        Returns its metrics and what is kept of the ORIGINAL model.
        """
        report = self.reporter
        report.restart()
        report.phase(Phase.SCORING, number)
        scores, samples = self.score(before, number)
        report.phase(Phase.PRUNING, number)
        smaller, keep = self.prune(before, scores, target)
        kept = compose(kept, keep)
        report.phase(Phase.EVALUATING, number)
        unrecovered = self.scores(smaller, Split.VALIDATION)
        report.phase(Phase.FINETUNING, number)
        recovered, losses, ranks = self.recover(smaller, number)
        report.phase(Phase.PACKAGING, number)
        folder = self.folder(number)
        query_scale = save_checkpoint(folder, recovered, self.original)
        stock = stock_shape(recovered) is not None
        record = StepRecord(number, recovered.family.name, self.spec, recovered.widths, kept, stock, query_scale)
        write_pruning(folder, record, history)
        # From here on the file is the model: what is measured is what is downloaded, rounding included.
        written = load_step(folder)
        probe, _ = self.split(Split.VALIDATION).batch(range(min(PROBE_SAMPLES, len(self.split(Split.VALIDATION)))))
        reload_error = check_reload(folder, written.model, probe)
        report.phase(Phase.EVALUATING, number)
        validation = self.scores(written, Split.VALIDATION)
        test = self.scores(written, Split.TEST) if last else None
        latency = self.latency(written)
        report.close()
        metrics = StepMetrics(
            step=number,
            requested_sparsity=target,
            achieved_sparsity=accounting.attention_sparsity(self.described.shape, written.widths),
            widths=written.widths,
            size=self.size(written.widths, folder / "model.safetensors"),
            validation=validation,
            validation_before_recovery=unrecovered,
            test=test,
            latency=latency,
            losses=losses,
            lora_ranks=ranks,
            calibration_samples=samples,
            stock_layout=stock,
            reload_max_abs_error=reload_error,
            seconds={phase: round(seconds, 3) for phase, seconds in report.seconds.items()},
        )
        self._describe(folder, record, (*history, metrics), stock)
        return metrics, kept

    def _describe(self, folder: Path, record: StepRecord, steps: Sequence[StepMetrics], stock: bool) -> None:
        """Everything beside the weights that a person reads, then flush the folder."""
        summary = self.data.summary
        write_report(folder, steps, spec=self.spec, data=summary, title=f"Step {record.step}")
        write_model_card(
            folder,
            steps,
            spec=self.spec,
            data=summary,
            family=self.described.family.name,
            labels=self.described.labels,
            stock=stock,
        )
        write_metrics(folder, summary, steps)
        write_pruning(folder, record, steps)
        make_durable(folder)
