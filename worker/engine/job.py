"""The steps of a job, one at a time: score, cut, recover, write, verify, measure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from api_schemas.enums import Phase, Split
from api_schemas.results.metrics import DropSearch, ExportMetrics, JobResult, Scores, Sensitivity, StepMetrics
from api_schemas.spec.job import EngineSpec
from checkpoints.describe import Checkpoint
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_model import analyses, analyses_layers, timed_samples
from worker.engine.checkpoint.gate import check_original, check_reload
from worker.engine.checkpoint.load import LoadedModel, load_step
from worker.engine.checkpoint.save import make_durable, save_checkpoint
from worker.engine.data import PreparedData
from worker.engine.data.split import Inputs
from worker.engine.evaluate.measure import Measure
from worker.engine.exports import export
from worker.engine.latency.table import write_latency_table
from worker.engine.models.feed_forward import all_neurons
from worker.engine.parallel.follow import portable
from worker.engine.parallel.group import ALONE, Group
from worker.engine.pruning.cutting import Cutting, ScoredModel
from worker.engine.pruning.drop_search import search
from worker.engine.pruning.selection import Selection
from worker.engine.pruning.sensitivity import analyse
from worker.engine.pruning.targets import neurons_met, requested_sparsity, target_met
from worker.engine.records import StepRecord, write_metrics, write_pruning
from worker.engine.recovery.recover import Recovery
from worker.engine.report import write_model_card, write_report
from worker.engine.runtime.determinism import step_seed
from worker.engine.runtime.memory import peak_memory
from worker.engine.runtime.progress import Reporter
from worker.engine.stop import check_watchable, confirmed, result_after

PROBE_SAMPLES = 4
"""The maximum number of samples on which a packaged checkpoint must reproduce the engine's logits."""


@dataclass(frozen=True)
class Job:
    """What every step needs and none changes."""

    spec: EngineSpec
    original: Path
    out: Path
    described: Checkpoint
    data: PreparedData
    device: torch.device
    reporter: Reporter
    cutting: Cutting
    measure: Measure
    recovery: Recovery
    group: Group = ALONE
    """The processes that work on it. This is the first; the others run worker/engine/parallel/follow.py, in
    step with this code."""

    def folder(self, step: int) -> Path:
        """The folder to which a step is written."""
        return self.out / f"step-{step}"

    def baseline(self) -> tuple[StepMetrics, Selection, ScoredModel | None]:
        """Step 0: measure the model as it came. Its folder has records and no weights.

        Also returns step 1's scores, if the sensitivity analysis or the search within a bound on the drop needed them.
        """
        report, measure = self.reporter, self.measure
        dense = measure.dense
        report.phase(Phase.EVALUATING, 0)
        check_original(self.original, dense, self._probe())
        report.work_begins()
        splits, timed = self.data.splits, timed_samples(self.spec.evaluate, self._flops(dense))
        report.divide(len(splits[Split.VALIDATION]), len(splits[Split.TEST]), 2 * timed)
        validation = measure.scores(dense, Split.VALIDATION)
        report.next_part()
        test = measure.scores(dense, Split.TEST)
        report.next_part()
        metrics = StepMetrics(
            step=0,
            requested_sparsity=0.0,
            achieved_sparsity=0.0,
            widths=dense.widths,
            size=measure.size(dense.widths, self.original),
            validation=validation,
            test=test,
            latency=measure.latency(dense),
            stock_layout=self.described.shape.pruned is None,
        )
        check_watchable(metrics, self.spec.stop, self.spec.pruning.target)
        scored = self._scored(dense)
        sensitivity = self._sensitivity(scored)
        search = self._search(scored, validation)
        report.close()
        measured = {"seconds": report.rounded_seconds(), "memory": peak_memory(self.device)}
        metrics = metrics.model_copy(
            update={"sensitivity": sensitivity, "search": search, "reused": self._reused(0), **measured}
        )
        kept = Selection.all(dense.widths)
        folder = self.folder(0)
        folder.mkdir(parents=True, exist_ok=True)
        self._keep_latency_table(folder)
        record = StepRecord(
            0, self.described.family.name, self.described.name, self.spec, dense.widths, kept, metrics.stock_layout, 1.0
        )
        write_pruning(folder, record, [metrics])
        write_metrics(folder, self.data.summary, [metrics])
        make_durable(folder)
        self.group.from_first((metrics, kept))
        return metrics, kept, scored

    def _reused(self, step: int) -> tuple[str, ...]:
        kept = self.measure.kept
        inputs = ("inputs",) if step == 0 and self.data.found else ()
        return inputs if kept is None else kept.used(*inputs)

    def _flops(self, loaded: LoadedModel) -> int:
        """FLOPs of one forward pass of one sample."""
        return accounting.total_flops(self.described.shape, loaded.widths)

    def _probe(self) -> Inputs:
        """A few real samples."""
        validation = self.data.splits[Split.VALIDATION]
        return validation.batch(validation.batches(PROBE_SAMPLES)[0])[0]

    def _scored(self, dense: LoadedModel) -> ScoredModel | None:
        """The original with the scores of step 1; None if nothing is tried before it."""
        if not analyses(self.spec):
            return None
        self.reporter.phase(Phase.SCORING, 0)
        return self.cutting.score(dense, 1)

    def _search(self, scored: ScoredModel | None, original: Scores) -> DropSearch | None:
        """The cuts that were tried if the target is a bound on the drop; None if it is a share."""
        report = self.reporter
        if scored is None or self.spec.pruning.target.max_drop is None:
            return None
        report.phase(Phase.ANALYSING, 0)
        validation = self.data.splits[Split.VALIDATION]
        # Progress counts the tried cuts, and not the samples on which each of them is refitted.
        cutting = replace(self.cutting, reporter=Reporter(lambda _: None, report.steps, {}))
        measure = replace(self.measure, group=ALONE)
        return search(
            scored.loaded,
            original,
            self.described.shape,
            self.spec.pruning,
            select=lambda share: cutting.select(scored, share),
            cut=lambda kept: cutting.cut_to(scored, kept)[0],
            evaluate=lambda loaded: measure.scores_on(loaded, validation),
            latency=cutting.latency,
            progress=report.progress,
        )

    def _sensitivity(self, scored: ScoredModel | None) -> Sensitivity | None:
        """The cost of cutting each layer alone, by the scores of step 1. None if not requested."""
        samples, report = self.spec.evaluate.sensitivity_samples, self.reporter
        if scored is None or not analyses_layers(self.spec) or samples is None:
            return None
        whole = all_neurons(scored.loaded.widths)
        report.phase(Phase.ANALYSING, 0)
        measure = replace(self.measure, group=ALONE)
        split = self.data.splits[Split.VALIDATION].random_subset(samples, step_seed(self.spec.seed, 0, "sensitivity"))
        return analyse(
            scored,
            self.described.shape,
            self.spec.pruning,
            apply=lambda keep: self.cutting.apply(scored, Selection(keep, whole), refit=False),
            evaluate=lambda loaded: measure.scores_on(loaded, split, texts=False),
            progress=report.progress,
        )

    def step(
        self,
        number: int,
        target: float,
        before: LoadedModel,
        history: Sequence[StepMetrics],
        kept: Selection,
        *,
        last: bool,
        scored: ScoredModel | None = None,
    ) -> tuple[StepMetrics, Selection, JobResult | None]:
        """Cut `before`, the previous step's model, to `target` and write the step's folder, complete and on disk.

        `scored` are the step's scores if step 0 has already computed them. `target` is a share in the unit of the spec's target.
        Returns the step's metrics, what is kept of the ORIGINAL model, and the job's result if it ends here.
        """
        report, measure = self.reporter, self.measure
        report.restart()
        if scored is None:
            report.phase(Phase.SCORING, number)
            scored = self.cutting.score(before, number)
        report.phase(Phase.PRUNING, number)
        smaller, left = self.cutting.prune(scored, target)
        kept = kept.then(left)
        self.group.from_first(portable(smaller))
        unrecovered: Scores | None = None
        if self.spec.finetune is not None:
            report.phase(Phase.EVALUATING, number)
            unrecovered = measure.scores(smaller, Split.VALIDATION)
        report.phase(Phase.FINETUNING, number)
        model, recovered = self.recovery.recover(smaller, number, unrecovered)

        report.phase(Phase.PACKAGING, number)
        folder = self.folder(number)
        stock, query_scale = save_checkpoint(folder, model, self.original)
        self._keep_latency_table(folder)
        model_spec = model.model_spec
        record = StepRecord(
            number, model_spec.family.name, model_spec.name, self.spec, model.widths, kept, stock, query_scale
        )
        write_pruning(folder, record, history)
        # From here on the file is the model: what is measured is what is downloaded, rounding included.
        written = load_step(folder)
        auto_class, part = self.described.architecture.auto_class, self.described.family.part
        reload_error = check_reload(folder, written.model, auto_class, self._probe(), part)
        exports = self._export(folder, written) if last or self.spec.max_drop is not None else ()

        report.phase(Phase.EVALUATING, number)
        shape, pruning = self.described.shape, self.spec.pruning
        splits, timed = self.data.splits, timed_samples(self.spec.evaluate, self._flops(measure.dense))
        report.divide(3 * timed, len(splits[Split.VALIDATION]), len(splits[Split.TEST]) if last else 0)
        latency = measure.latency(written)
        report.next_part()
        self.group.wait()
        validation = measure.scores(written, Split.VALIDATION)
        report.next_part()
        metrics = StepMetrics(
            step=number,
            requested_sparsity=requested_sparsity(shape, pruning, target, written.widths),
            achieved_sparsity=accounting.attention_sparsity(shape, written.widths),
            ffn_sparsity=accounting.feed_forward_sparsity(shape, written.widths),
            # A stock configuration does not say which heads of the original remain.
            widths=kept.widths(history[0].widths),
            size=measure.size(written.widths, folder),
            validation=validation,
            # In one-shot pruning nothing changes between the two.
            validation_before_recovery=unrecovered or validation,
            latency=latency,
            target=target_met(shape, pruning, target, written.widths, latency),
            ffn_target=neurons_met(shape, pruning, target, written.widths),
            rejected_recovery=recovered.rejected,
            losses=recovered.losses,
            augmented=recovered.augmented,
            lora_ranks=recovered.ranks,
            calibration_samples=scored.count,
            reused=self._reused(number),
            refit_samples=scored.refit_count,
            stock_layout=stock,
            reload_max_abs_error=reload_error,
            exports=exports,
        )
        steps, result = self._result((*history, metrics), written, last=last)
        report.phase(Phase.PACKAGING, number)
        self._describe(folder, record, steps, result)
        report.progress(1, 1)
        report.close()
        measured = {"seconds": report.rounded_seconds(), "memory": peak_memory(self.device)}
        metrics = steps[-1].model_copy(update=measured)
        steps = (*steps[:-1], metrics)
        write_metrics(folder, self.data.summary, steps, result)
        write_pruning(folder, record, steps, result)
        make_durable(folder)
        self.group.from_first((metrics, kept, result))
        return metrics, kept, result

    def _result(
        self, steps: tuple[StepMetrics, ...], newest: LoadedModel, *, last: bool
    ) -> tuple[tuple[StepMetrics, ...], JobResult | None]:
        """Whether the job ends with the last of `steps`, whose model is `newest`; if so, test is measured, once.

        Returns the steps, with test scores where they belong, and the job's result.
        """
        bound = self.spec.pruning.target.max_drop
        result = result_after(steps, self.spec.stop, last=last) if bound is None else confirmed(steps, bound, last=last)
        if result is None:
            self.group.from_first(None)
            return steps, None
        chosen = steps[result.step]
        test = chosen.test
        if test is None:
            loaded = newest if result.step == steps[-1].step else load_step(self.folder(result.step))
            self.group.from_first(self.folder(result.step))
            test = self.measure.scores(loaded, Split.TEST)
        else:
            self.group.from_first(None)
        measured = chosen.model_copy(update={"test": test})
        steps = (*steps[: result.step], measured, *steps[result.step + 1 :])
        return steps, result.model_copy(update={"test": test})

    def _keep_latency_table(self, folder: Path) -> None:
        """Written with every step, because a resumed job has only the last one, and a second measurement would differ."""
        if self.cutting.latency is not None:
            write_latency_table(folder, self.cutting.latency.table)

    def _export(self, folder: Path, written: LoadedModel) -> tuple[ExportMetrics, ...]:
        """The exports that the spec requests, checked and measured."""
        return export(
            folder,
            written,
            self.spec.exports,
            self.data.splits[Split.VALIDATION],
            settings=self.spec.evaluate,
            task=self.measure.task,
            shape=self.described.shape,
            reporter=self.reporter,
        )

    def _describe(
        self, folder: Path, record: StepRecord, steps: Sequence[StepMetrics], result: JobResult | None
    ) -> None:
        """Write everything for people: the report, the card, the figures."""
        summary = self.data.summary
        title = f"Step {record.step}"
        write_report(
            folder,
            steps,
            spec=self.spec,
            data=summary,
            title=title,
            architecture=self.described.architecture,
            result=result,
        )
        write_model_card(
            folder,
            steps,
            spec=self.spec,
            data=summary,
            family=self.described.family,
            architecture=self.described.architecture,
            labels=self.described.labels,
            stock=record.stock_layout,
            sentences=self.described.sentences is not None,
            result=result,
        )
