"""A job's settings in words, for the page and the card. Plain text: no markup, and no user text."""

from collections.abc import Sequence

from api_schemas.enums import (
    Balance,
    Basis,
    Compensation,
    FinetuneMethod,
    Granularity,
    Head,
    LabelSource,
    Layout,
    Normalization,
    Part,
    Scope,
)
from api_schemas.formatting import percent
from api_schemas.results import parts
from api_schemas.results.metrics import DataSummary, JobResult, StepMetrics
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import Pruning
from api_schemas.spec.recovery import Finetune
from checkpoints.families import Architecture, Family

STRUCTURES = {
    Granularity.ENTIRE_HEAD: "whole heads",
    Granularity.SAME_CHANNEL: "the same channels in every head of a layer, QK and VO separately",
    Granularity.PER_HEAD: "the same number of channels in every head of a layer, chosen per head, QK and VO separately",
    Granularity.RAGGED: "any number of channels in any head, QK and VO separately",
    Granularity.HEAD_AND_CHANNEL: "whole heads and single channels, whichever matter least per parameter",
    Granularity.HEAD_AND_WIDTH: "whole heads, and the same number of channels from every head that stays in a layer, "
    "whichever matter least per parameter",
}
_SCOPES = {Scope.GLOBAL: "one ranking over all layers", Scope.LOCAL: "a ranking in every layer"}
_BALANCE = {Balance.JOINT: "", Balance.EQUAL: ", equal shares of QK and VO"}
_BASES = {
    Basis.NATIVE: "the model's own channels",
    Basis.PRINCIPAL: "every head is first rotated into its principal axes, which does not change the model's outputs",
}
_COMPENSATION = {
    Compensation.NONE: "none",
    Compensation.BIAS: "the mean of what was cut is folded into the output bias",
    Compensation.LEAST_SQUARES: "output projection and bias are refitted on the calibration samples (least squares)",
    Compensation.LEAST_SQUARES_FEED_FORWARD: "output projection and bias, then the feed-forward block's second projection, are "
    "refitted on the calibration samples (least squares)",
}
_NORMALIZATION = {
    Normalization.NONE: "",
    Normalization.LAYER: ", scores relative to their layer's",
    Normalization.PARAMETERS: ", scores per parameter removed",
}

_ANSWERS = {
    Head.TOKEN_CLASSIFICATION: "one label per token",
    Head.CTC: "transcripts by CTC, decoded greedily without a language model",
    Head.SEQUENCE_TO_SEQUENCE: "transcripts, decoded greedily; the cross entropy is teacher-forced",
    Head.EMBEDDING: "embeddings, measured by their similarity to the original's",
    Head.MASKED_LM: "the masked words of a text (15% of its tokens, the same ones at every step)",
    Head.CAUSAL_LM: "the next token given the previous ones, in blocks of one text each",
    Head.QUESTION_ANSWERING: "answers in a context, by their start and end; measured per question as in SQuAD",
    Head.HIDDEN_STATES: "hidden states of every token, patch or frame, measured by their similarity to the original's",
}

_JOINT = ", in one ranking with the rest by score per parameter or FLOP"

Line = tuple[str, str]


def model(family: Family, architecture: Architecture) -> str:
    """What kind of model it is: `Audio classifier`."""
    modality = family.modality.value.capitalize()
    if family.part is not None:
        return f"{modality} encoder of a larger model"
    return {
        Head.CLASSIFICATION: f"{modality} classifier",
        Head.TOKEN_CLASSIFICATION: "Token classifier",
        Head.CTC: "Speech recogniser",
        Head.SEQUENCE_TO_SEQUENCE: "Speech recogniser",
        Head.EMBEDDING: f"{modality} encoder",
        Head.MASKED_LM: "Masked language model",
        Head.CAUSAL_LM: "Language model",
        Head.HIDDEN_STATES: f"{modality} encoder",
        Head.QUESTION_ANSWERING: "Question answering model",
    }[architecture.head]


def has_labels(architecture: Architecture) -> bool:
    """Whether its answers are labels with names."""
    return architecture.head in (Head.CLASSIFICATION, Head.TOKEN_CLASSIFICATION)


def answers(architecture: Architecture, data: DataSummary) -> str:
    """What the model answers with, and so what is measured."""
    several = "several labels per sample" if data.multi_label else "one label per sample"
    said = _ANSWERS.get(architecture.head, several)
    return f"{said}, {len(data.labels)} labels" if has_labels(architecture) else said


_SURGEON = (
    "the least-squares error of a block without each neuron, the same share in every block (optimal brain surgeon)"
)


def cut_parts(pruning: Pruning) -> str:
    """What was cut, of which blocks."""
    return {
        (Part.ATTENTION,): "structures of its attention",
        (Part.FEED_FORWARD,): "neurons of its feed-forward blocks",
        (Part.ATTENTION, Part.FEED_FORWARD): "structures of its attention and neurons of its feed-forward blocks",
    }[parts.cut_by(pruning)]


def _structures(pruning: Pruning) -> str:
    removed = [STRUCTURES[pruning.granularity]] if Part.ATTENTION in pruning.cuts else []
    if Part.FEED_FORWARD in pruning.cuts:
        removed.append(f"neurons of feed-forward blocks{_JOINT if pruning.joint_parts else ''}")
    extras = []
    if pruning.layout is Layout.STOCK:
        extras.append("equal widths in all layers, QK as wide as VO")
    if pruning.multiple > 1:
        extras.append(f"widths in multiples of {pruning.multiple}")
    if pruning.min_heads == 0 and Part.ATTENTION in pruning.cuts:
        extras.append("a layer may lose all of its heads")
    return "; ".join([*removed, *extras])


def _compensation(pruning: Pruning) -> Compensation:
    """What is done in fact: a feed-forward block that was cut is refitted whenever anything is."""
    refits = pruning.compensation is Compensation.LEAST_SQUARES and Part.FEED_FORWARD in pruning.cuts
    return Compensation.LEAST_SQUARES_FEED_FORWARD if refits else pruning.compensation


def _recovery(finetune: Finetune | None, last: StepMetrics) -> list[Line]:
    if finetune is None:
        return [("recovery", "none")]
    epochs = f"{finetune.epochs} epoch{'s' if finetune.epochs > 1 else ''}"
    trained = f"LoRA of rank {finetune.lora.rank} (capped at each width), merged into the weights"
    if finetune.method is FinetuneMethod.FULL:
        trained = "all weights"
    condition = ", unless validation was better without" if finetune.only_if_better else ""
    augmented = ", spectrograms masked and shifted at random" if last.augmented else ""
    lines = [("recovery", f"after each step {epochs} on train, {trained}{augmented}{condition}")]
    distill = finetune.distill
    if distill is not None and (distill.weight or distill.attention):
        said = []
        if distill.weight:
            answers = f"the original's answers at temperature {distill.temperature:g}"
            labels = f", {percent(1 - distill.weight, 0)} for the labels" if distill.weight < 1 else ""
            said.append(f"{percent(distill.weight, 0)} of the loss for {answers}{labels}")
        if distill.attention:
            said.append(f"attention outputs matched layer by layer, weight {distill.attention:g}")
        lines.append(("distillation", "; ".join(said)))
    return lines


def method(spec: EngineSpec, last: StepMetrics) -> list[Line]:
    """(what, how) of everything that decided `last`, in the order in which a job does it."""
    pruning = spec.pruning
    scored = (
        f"{pruning.scored_by.value}, {_SCOPES[pruning.scope]}{_BALANCE[pruning.balance]}"
        f"{_NORMALIZATION[pruning.normalization]}"
    )
    steps = f"{pruning.steps} steps, {pruning.schedule.shape.value}" if pruning.steps > 1 else "one step"
    lines = [
        ("removed", _structures(pruning)),
        *([("scored by", scored)] if pruning.scored_parts else []),
        *([("neurons chosen by", _SURGEON)] if pruning.by_surgeon else []),
        ("basis", _BASES[pruning.basis if Part.ATTENTION in pruning.cuts else Basis.NATIVE]),
        ("compensation", _COMPENSATION[_compensation(pruning)]),
        ("target", f"{parts.goals_in_words(pruning)}, in {steps}"),
    ]
    if pruning.only is not None:
        lines.append(("cut alone", f"the {pruning.only.value}"))
    if pruning.exclude_layers:
        lines.append(("not cut", "layers " + ", ".join(map(str, pruning.exclude_layers))))
    if last.calibration_samples:
        own = pruning.calibration.labels is LabelSource.MODEL and pruning.scored_parts
        labels = " over the model's own labels" if own else ""
        samples = f"{last.calibration_samples} samples of {pruning.calibration.split.value}{labels}"
        if last.refit_samples > last.calibration_samples:
            samples += f"; least squares on {last.refit_samples}"
    else:
        samples = "none needed"
    lines += [("calibration", samples), *_recovery(spec.finetune, last)]
    if spec.stop is not None:
        bound = f"{100 * spec.stop.max_drop:g} points"
        lines.append(("bound", f"the result is the last step before validation falls by more than {bound}"))
    return lines


def beyond(steps: Sequence[StepMetrics], result: JobResult | None) -> bool:
    """Whether the last step is not the job's result: it lies beyond what `stop` allows."""
    return result is not None and result.step != steps[-1].step
