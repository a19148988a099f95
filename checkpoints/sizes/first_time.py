"""How long a first job takes on a device of which only a short measurement is known: from and to, by phase.

Seconds are fixed parts and, of all passes, batches · layers · seconds of one layer's call, whose size decides what counts: being
called, or its FLOPs (device_speed.py). Passes are counted as the engine makes them (engine_passes.py). What is constant and not
counted was set by looking at the jobs that docs/results/estimates.md calls fitted; the others there are a test of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from api_schemas.enums import Basis, Compensation, Criterion, DeviceKind, FinetuneMethod, Head, Modality, Part, Phase
from api_schemas.spec.job import JobSettings
from checkpoints.sizes import engine_passes as counted
from checkpoints.sizes.cost_model import BY_MOMENTS
from checkpoints.sizes.device_speed import DeviceSpeed
from checkpoints.sizes.engine_passes import Passes, Refit
from checkpoints.sizes.shape import ModelShape

SPREAD = 1.6
"""What is found is divided by this and multiplied with it: layers of families differ, and machines are shared."""
REFERENCE_CALL = 2.1e-4
"""`DeviceSpeed.host_call` of the machine on which the seconds below were found; they grow with it."""
STARTING = 2.0, 6.0
"""The model read; and where no template process has done so, libraries imported."""
PREPARING = 1.5
"""Before the first sample is read."""
ORIGINAL_CHECKED = 2.0
"""The model as it came, in a fresh process, before the first scores."""
PACKAGED = 2.8
"""A step: files written, loaded in a fresh process, described with figures."""
EXPORTED = 8.0
"""A file beside the weights, made and compared."""
PREPARED = {Modality.AUDIO: 2e-3, Modality.IMAGE: 6e-3, Modality.TEXT: 4e-4}
"""A sample read and its features made; of audio a second of it."""
MODULES = 1.3
"""How many times as long transformers' layers take to be called as the measured ones, which are bare."""
OBSERVED = 2.0
"""How many times as long a pass of scoring takes to be called, with hooks on every map."""
BACKWARD = 0.6
"""A backward pass of activations alone, as a share of one with the gradients of weights."""
SQUARES = 2.5
"""How many times as long it takes where squares of gradients are summed up sample by sample."""
LORA_CALLS = 1.0
"""What adapters add to being called, in calls of a training layer."""
CUT = 30.0
"""A copy of a model, cut: calls of the smallest layer, for each of its layers."""
REMOVED = 1.5
"""A neuron that is chosen to leave: calls of the smallest layer."""
BUSY = 0.5
"""Share of the time for more rounds of latency that they take on a busy machine."""
WRITTEN = (8.0, 40.0)
"""Tokens that a model writes for a sample: at least and at most."""

_BY_SQUARES = frozenset({Criterion.FISHER, Criterion.FISHER_SALIENCY})

Range = tuple[float, float]


@dataclass(frozen=True)
class JobFacts:
    """What is known of a job before it runs."""

    shape: ModelShape
    head: Head
    modality: Modality
    kind: DeviceKind
    samples: Mapping[str, int]
    """Rows of the dataset, by role."""
    flops: Sequence[int]
    """Of a forward pass of one sample, of the models of step 0, 1, …, at the length that FLOPs are counted for."""
    length: Range = (1.0, 1.0)
    """Of the samples' inputs, as a share of that length: on the average at least and at most."""
    seconds: float = 1.0
    """Of a recording, on the average."""
    inputs: Range = (1.0, 1.0)
    """Inputs of the model that a row is divided into, on the average at least and at most."""


def first_seconds(spec: JobSettings, facts: JobFacts, speed: DeviceSpeed) -> dict[Phase, Range]:
    """By phase, from and to, in seconds; phases that the job does not have are left out."""
    low, high = (_seconds(spec, facts, speed, most=most) for most in (False, True))
    return {phase: (low[phase] / SPREAD, high[phase] * SPREAD) for phase in low if high[phase]}


def _seconds(spec: JobSettings, facts: JobFacts, speed: DeviceSpeed, *, most: bool) -> dict[Phase, float]:
    """One end, before SPREAD."""
    facts = replace(facts, samples={role: round(rows * facts.inputs[most]) for role, rows in facts.samples.items()})
    clock = _Clock(spec, facts, speed, facts.length[most], most)
    flops = [float(each) for each in facts.flops]
    original, cut, beside = flops[0], flops[1:], facts.head is Head.HIDDEN_STATES
    bounded = spec.pruning.target.max_drop is not None
    before = [original] * len(cut) if bounded else flops[:-1]
    slow = speed.host_call / REFERENCE_CALL
    samples, kind, layers = facts.samples, facts.kind, len(facts.shape.attention)
    exported = len(spec.exports) * (len(cut) if spec.max_drop is not None else 1)
    alone = counted.layers_alone(spec, samples, layers, original, beside=beside)
    tried = counted.trials(spec.pruning)[most]
    trial = counted.trial(spec, samples, original, beside=beside)
    scored = [clock.scored(counted.scoring(spec, samples, each, kind)) for each in before]
    pruned = [clock.cut() + clock.refitted(each, 1.0 - after / each) for each, after in zip(before, cut, strict=True)]
    trained = [clock.of(counted.recovery(spec, samples, each, original, beside=beside)) for each in cut]
    evaluated = counted.evaluation(spec, samples, flops, beside=beside)
    return {
        Phase.STARTING: STARTING[most] * slow,
        Phase.PREPARING: (PREPARING + sum(samples.values()) * clock.prepared()) * slow,
        Phase.SCORING: sum(scored),
        Phase.ANALYSING: clock.of(alone)
        + (counted.cuts_alone(spec, layers) + tried) * clock.cut()
        + tried * (clock.of(trial) + clock.refitted(original, 0.5, searched=False)),
        Phase.PRUNING: sum(pruned),
        Phase.FINETUNING: sum(trained),
        Phase.EVALUATING: ORIGINAL_CHECKED * slow
        + clock.of(evaluated)
        + clock.written(evaluated)
        + clock.latency(flops),
        Phase.PACKAGING: (len(cut) * PACKAGED + exported * EXPORTED) * slow,
    }


@dataclass(frozen=True)
class _Clock:
    """Counts into seconds."""

    spec: JobSettings
    facts: JobFacts
    speed: DeviceSpeed
    length: float
    most: bool

    @property
    def _layers(self) -> float:
        """Of an attention and a feed-forward block each; a decoder's second attention is half of one."""
        shape = self.facts.shape
        return (len(shape.attention) + len(shape.feed_forward or shape.attention)) / 2

    def _call(self, flops: float, modules: float = MODULES) -> float:
        """One layer's forward pass of a batch that has so many FLOPs there."""
        return self.speed.forward_seconds(flops) + (modules - 1) * self.speed.layers[0].forward

    def _back(self, flops: float) -> float:
        """One layer's backward pass, of activations alone."""
        speed, least = self.speed, self.speed.layers[0]
        called = (MODULES - 1) * (least.training - least.forward)
        return BACKWARD * (speed.training_seconds(flops) - speed.forward_seconds(flops)) + called

    def _trained(self, flops: float) -> float:
        """One layer, forward and backward, with the adapters or all of its weights."""
        least, speed = self.speed.layers[0], self.speed
        if self.spec.finetune is not None and self.spec.finetune.method is FinetuneMethod.FULL:
            return speed.training_seconds(flops) + (MODULES - 1) * least.training
        return self._call(flops) + self._back(flops) + LORA_CALLS * least.training

    def of(self, passes: Sequence[Passes]) -> float:
        """Seconds of these; what lies around the layers counts as one more."""
        return sum(each.batches * (self._layers + 1) * self._one(each) for each in passes if each.samples)

    def _one(self, passes: Passes, modules: float = MODULES) -> float:
        flops = passes.flops * self.length * passes.samples / passes.batches / (self._layers + 1)
        if passes.trained:
            return self._trained(flops)
        return self._call(flops, modules) + passes.backward * self._back(flops)

    def scored(self, passes: Sequence[Passes]) -> float:
        """Passes of scoring: hooks on every map, and second moments in float64 of what they see."""
        pruning = self.spec.pruning
        squares = SQUARES if pruning.scored_by in _BY_SQUARES else 1.0
        called = sum(
            each.batches * (self._layers + 1) * self._one(replace(each, backward=squares * each.backward), OBSERVED)
            for each in passes
            if each.samples
        )
        if pruning.basis is not Basis.PRINCIPAL and pruning.scored_by not in BY_MOMENTS:
            return called
        products = 0.0
        for block in self.facts.shape.attention:
            inner = block.heads * block.head_dim * block.queries_per_head
            forward = block.queries * (inner**2 + 2 * inner * block.head_dim)
            backward = block.queries * (block.hidden**2 + 3 * inner * block.head_dim)
            moments = pruning.scored_by in BY_MOMENTS
            products += sum(
                2 * each.samples * (forward * (number == 0) + backward * each.backward * moments)
                for number, each in enumerate(passes)
            )
        return called + products * self.length / self.speed.float64_flops

    def refitted(self, flops: float, gone: float, *, searched: bool = True) -> float:
        """Least squares of a step on a model with so many FLOPs a sample; `gone`: the share of it that is cut."""
        shape, spec, facts = self.facts.shape, self.spec, self.facts
        pruning, samples = spec.pruning, facts.samples
        neurons = [
            (block.tokens, block.hidden, count)
            for block, count in zip(shape.feed_forward, shape.dense.feed_forward, strict=True)
        ]
        fitted = pruning.compensation is Compensation.LEAST_SQUARES_FEED_FORWARD or Part.FEED_FORWARD in pruning.cuts
        maps = [
            (block.queries, block.hidden, layer.vo_total * block.queries_per_head)
            for block, layer in zip(shape.attention, shape.dense.layers, strict=True)
        ]
        widest = max(inputs for _, _, inputs in (maps + neurons if fitted else maps))
        tokens = max(tokens for tokens, _, _ in maps) * self.length
        found = 0.0
        for refit in counted.refits(spec, samples, flops, tokens=tokens, inputs=widest):
            times = refit.times[self.most]
            if times > 1 and not searched:
                continue
            passes = counted.calibration_passes(refit.samples, flops, facts.kind)
            once = counted.PARTS_OF_A_REFIT * self.of([passes])
            once += sum(self._solved(*each, refit, self.speed.float64_flops) for each in maps)
            if fitted:
                rate = self.speed.layers[-1].flops / self.speed.layers[-1].forward
                once += sum(self._solved(*each, refit, rate) for each in neurons)
            if pruning.by_surgeon:
                once += sum(self._surgeon(hidden, count, gone) for _, hidden, count in neurons)
            if times > 1:
                once += self.cut() + self.of(counted.judging(refit, flops, facts.kind))
            found += times * once
        return found

    def _solved(self, tokens: int, outputs: int, inputs: int, refit: Refit, rate: float) -> float:
        """Normal equations of one map, summed at `rate` FLOPs a second, and their solution in float64."""
        summed = 2 * refit.samples * tokens * self.length * inputs * (inputs + outputs) / rate
        return summed + (inputs**3 + 2 * inputs**2 * outputs) / self.speed.float64_flops

    def _surgeon(self, outputs: int, neurons: int, gone: float) -> float:
        """Neurons of a block that leave one by one: each brings weights and their inverse up to date."""
        products = 2 * neurons**3 + neurons * gone * (2 * neurons**2 + 6 * neurons * outputs)
        return products / self.speed.float64_flops + neurons * gone * REMOVED * self.speed.host_call

    def cut(self) -> float:
        """One copy of a model, cut."""
        return CUT * self._layers * self.speed.host_call

    def prepared(self) -> float:
        """Of one sample, on the machine of REFERENCE_CALL."""
        modality = self.facts.modality
        return PREPARED[modality] * (self.facts.seconds if modality is Modality.AUDIO else 1.0)

    def written(self, passes: Sequence[Passes]) -> float:
        """What a model that writes texts takes for that, token by token, while it is evaluated."""
        if self.facts.head is not Head.SEQUENCE_TO_SEQUENCE:
            return 0.0
        shape = self.facts.shape
        tokens = WRITTEN[self.most]
        # Each weight of the decoder, about half of all, is multiplied and added once a token.
        weights = shape.other_parameters + sum(2 * each.hidden * each.hidden for each in shape.attention)
        return sum(
            each.batches
            * tokens
            * (self._layers / 2 + 1)
            * self._call(weights * each.samples / each.batches / (self._layers / 2 + 1))
            for each in passes
            if each.samples
        )

    def latency(self, flops: Sequence[float]) -> float:
        """The rounds that are timed."""
        evaluate, found = self.spec.evaluate, 0.0
        for rounds in counted.latency(self.spec, flops):
            once = sum(self.of([Passes(1, rounds.batch, each)]) for each in rounds.flops)
            least = rounds.rounds * once
            most = min(counted.MORE_ROUNDS * rounds.rounds * once, max(least, BUSY * evaluate.latency_seconds))
            found += most if rounds.open and self.most else least
        return found
