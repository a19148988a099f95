"""What is pruned, and how it is chosen: the `pruning` part of a spec. A preset fills what the request leaves out."""

from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from api_schemas.base import StrictModel
from api_schemas.enums import (
    Balance,
    Basis,
    Compensation,
    Criterion,
    Granularity,
    LabelSource,
    Layout,
    NeuronSelection,
    Normalization,
    Part,
    PartShares,
    ScheduleShape,
    Scope,
    Side,
    Split,
    TargetKind,
)
from api_schemas.formatting import points
from api_schemas.spec.presets import DEFAULT, PRESETS, PresetName, filled, of_part, tell

RAGGED = (Granularity.RAGGED, Granularity.HEAD_AND_CHANNEL)
"""These leave the heads of a layer unequal."""

_UNEQUAL_LAYERS = (*RAGGED, Granularity.HEAD_AND_WIDTH)

SHARE_OF = {
    TargetKind.ATTENTION_SPARSITY: "attention parameters",
    TargetKind.FFN_SPARSITY: "feed-forward parameters",
    TargetKind.PARAMETERS: "parameters",
    TargetKind.FLOPS: "FLOPs",
    TargetKind.LATENCY: "latency",
}
"""What a target's share is a share of, in words: "of this model's …"."""

_PARTS_OF = {TargetKind.ATTENTION_SPARSITY: Part.ATTENTION, TargetKind.FFN_SPARSITY: Part.FEED_FORWARD}
"""Targets that say by themselves what is cut."""

Share = Annotated[float, Field(gt=0, lt=1)]

MOST_DROP = 0.2
"""Beyond it a drop is taken to be meant in points, or in percent."""


def _in_its_own_unit(drop: float) -> float:
    if drop > MOST_DROP:
        instead = f", so write {drop / 100:g} for {points(drop / 100)}" if drop <= 100 * MOST_DROP else ""
        raise ValueError(
            f"{drop:g} would allow a drop of {points(drop)}, but the maximum is {points(MOST_DROP)}; 0.01 is one point{instead}"
        )
    return drop


Drop = Annotated[float, Field(gt=0, json_schema_extra={"maximum": MOST_DROP}), AfterValidator(_in_its_own_unit)]


class Target(StrictModel):
    """How much to remove: a share of the original, in (0, 1), or one share each for attention and feed-forward blocks.

    Or a bound: `max_drop` requests the smallest model that loses no more than this.
    """

    attention_sparsity: Share | None = Field(
        None, description="Share of the attention parameters (q, k, v, o; weights and biases)."
    )
    ffn_sparsity: Share | None = Field(
        None,
        description="Share of the feed-forward parameters (weights and biases). Can be combined with "
        "`attention_sparsity`.",
    )
    parameters: Share | None = Field(None, description="Share of all parameters.")
    flops: Share | None = Field(None, description="Share of the FLOPs of a forward pass.")
    latency: Share | None = Field(
        None,
        description="Share of the time of a forward pass at the first batch size of `evaluate`, on the worker's device.",
    )
    max_drop: Drop | None = Field(
        None,
        description="Instead of a share: find the smallest model, measured by `of`, whose validation metric is at most this "
        "much below the original's. Absolute, like `stop.max_drop`: 0.01 is one point; for word error rate, a rise of one "
        "point. Found by bisection over cuts without recovery, then confirmed with recovery; one step.",
    )
    of: TargetKind | None = Field(
        None,
        validate_default=True,
        description="With `max_drop`: the size that is minimised. Default: `flops`.",
    )

    @field_validator("of")
    @classmethod
    def _of_belongs_to_a_bound(cls, of: TargetKind | None, info: ValidationInfo) -> TargetKind | None:
        if info.data.get("max_drop") is not None:
            return of or TargetKind.FLOPS
        # Where `max_drop` is wrong itself, that is said.
        if of is not None and "max_drop" in info.data:
            raise ValueError("of names the size that max_drop minimises; give max_drop, or leave out of")
        return of

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        given = [kind for kind in TargetKind if getattr(self, kind) is not None]
        if self.max_drop is not None:
            if given:
                raise ValueError(
                    f"max_drop finds the smallest model within a bound, {given[0].value} removes a share; give only one of them "
                    f"(stop.max_drop ends a job with a share early)"
                )
        elif len(given) != 1 and given != [TargetKind.ATTENTION_SPARSITY, TargetKind.FFN_SPARSITY]:
            names = ", ".join(TargetKind)
            raise ValueError(
                f"name exactly one of {names}, attention_sparsity and ffn_sparsity together, or max_drop; "
                f"{len(given)} were given"
            )
        return self

    @property
    def kind(self) -> TargetKind:
        """Which of the shares is set; of two the first, by which progress is counted. Of a bound, what it is the smallest by."""
        return self.of or next(kind for kind in TargetKind if getattr(self, kind) is not None)

    @property
    def share(self) -> float:
        """That share. ValueError of a bound, whose share is not known before cuts have been tried."""
        if self.max_drop is not None:
            raise ValueError("a target that is a bound on the drop has no share")
        return float(getattr(self, self.kind))

    @property
    def goals(self) -> tuple[tuple[TargetKind, float], ...]:
        """Every share that is set; of a bound none."""
        shares = ((kind, getattr(self, kind)) for kind in TargetKind)
        return tuple((kind, float(share)) for kind, share in shares if share is not None)


def _parts_of(target: Target) -> frozenset[Part]:
    kinds = [kind for kind, _ in target.goals] or [target.kind]
    return frozenset(_PARTS_OF[kind] for kind in kinds)


def _cut_parts(target: Target, parts: tuple[Part, ...] | None) -> frozenset[Part]:
    return _parts_of(target) if target.kind in _PARTS_OF else frozenset(parts or (Part.ATTENTION,))


class Schedule(StrictModel):
    """How the target is reached: removal, recovery, removal, …"""

    model_config = ConfigDict(json_schema_extra=lambda schema: tell(schema, of_part(PRESETS, "schedule")))

    steps: int | None = Field(
        None, ge=1, le=100, description="Number of steps. Default: as few as `largest_step` allows."
    )
    largest_step: float = Field(
        0.1,
        ge=0.01,
        le=1,
        description="Largest share of the original that one step removes, if `steps` is not given.",
    )
    shape: ScheduleShape = ScheduleShape.LINEAR


class Calibration(StrictModel):
    """The samples from which criterion, basis and compensation are computed."""

    model_config = ConfigDict(json_schema_extra=lambda schema: tell(schema, of_part(PRESETS, "calibration")))

    split: Literal[Split.TRAIN, Split.VALIDATION] = Split.VALIDATION
    """The split they are taken from."""
    samples: int | None = Field(
        None, ge=1, le=10_000_000, description="Number of samples, drawn by seed; null uses the whole split."
    )
    refit_samples: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="Maximum number of samples for least squares: those of `samples` and more, up to 64 tokens for every "
        "input of the widest linear map that is refitted. null, or not given while `samples` is: only those of `samples`.",
    )
    labels: LabelSource = LabelSource.DATA
    draws: int = Field(
        1,
        ge=1,
        le=64,
        description="With labels `model`: draws per sample; each is a backward pass after a single forward pass.",
    )


class Pruning(StrictModel):
    """What is removed, how it is selected, and in how many steps."""

    model_config = ConfigDict(json_schema_extra=lambda schema: tell(schema, PRESETS))

    preset: PresetName = DEFAULT
    """Set of defaults: `best`, or `paper`, the method of arXiv 2509.26207."""
    target: Target
    parts: tuple[Part, ...] | None = Field(
        None,
        min_length=1,
        max_length=2,
        description="What a target in parameters, FLOPs or latency may cut: `attention` (the default), `feed_forward`, or "
        "both in one ranking, by score per parameter or, for the other two, per FLOP. For other targets this follows from "
        "the target.",
    )
    granularity: Granularity = Granularity.HEAD_AND_WIDTH
    # Left out of JSON while it is open: programs of before this choice take its absence for the preset's.
    criterion: Criterion | None = Field(
        None,
        exclude_if=lambda criterion: criterion is None,
        description="How structures are scored. null: by `fisher_energy` for models that write text token by token (Whisper), "
        "otherwise by `fisher_gate`; the job reports which.",
    )
    scope: Scope = Scope.GLOBAL
    normalization: Normalization = Normalization.NONE
    basis: Basis = Basis.PRINCIPAL
    compensation: Compensation = Compensation.LEAST_SQUARES_FEED_FORWARD
    neuron_selection: NeuronSelection = Field(
        NeuronSelection.BRAIN_SURGEON,
        description="Which neurons are removed. `ranked`: those with the lowest scores by `criterion`. `brain_surgeon`: the "
        "same share of every block, one neuron at a time, always the one whose loss the others can best compensate; requires "
        "a compensation by least squares, and uses the criterion only if attention and feed-forward blocks share one target. "
        "If `criterion` or `compensation` is given and this is not: `ranked`.",
    )
    part_shares: PartShares = Field(
        PartShares.SEARCHED,
        description="How a target in parameters, FLOPs or latency is divided if `parts` names both. `ranked`: by a single "
        "ranking of scores. `searched`: every step cuts and refits up to six divisions around that one, and keeps the one "
        "whose outputs are closest to those before the cut; only with `brain_surgeon`. If `neuron_selection` is given and "
        "this is not: `ranked`.",
    )
    balance: Balance = Balance.JOINT
    layout: Layout = Layout.ANY
    align: Literal[1, 4, 8, 16] | None = Field(
        None,
        description="Remaining widths are multiples of this. null: 8 or else 4, with which processors are faster, if all "
        "widths are multiples of it and the target leaves enough to choose from; otherwise 1; the job reports which. 1 if "
        "`granularity` is given.",
    )
    schedule: Schedule = Schedule(largest_step=0.25)
    calibration: Calibration = Calibration(
        split=Split.TRAIN, samples=512, refit_samples=2048, labels=LabelSource.MODEL, draws=4
    )
    min_heads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Minimum number of heads per layer; 0 allows a layer's attention to be removed entirely.",
    )
    min_channels: int = Field(
        1, ge=1, le=65_536, description="Minimum number of QK and of VO channels in every remaining head."
    )
    min_neurons: int = Field(
        1, ge=1, le=1_048_576, description="Minimum number of neurons in every feed-forward block."
    )
    exclude_layers: tuple[Annotated[int, Field(ge=0, le=9999)], ...] = Field(
        (), max_length=1024, description="Layers that are not pruned, counted from 0."
    )
    # Left out of JSON where it says nothing: programs of before this choice know no such field.
    only: Side | None = Field(
        None,
        exclude_if=lambda side: side is None,
        description="Of a model with an encoder and a decoder (Whisper), the one to prune: no layer of the other is, as if "
        "`exclude_layers` named them all. null: both.",
    )

    @field_validator("layout")
    @classmethod
    def _heads_can_be_equal(cls, layout: Layout, info: ValidationInfo) -> Layout:
        granularity, target = info.data.get("granularity"), info.data.get("target")
        cuts = _cut_parts(target, info.data.get("parts")) if target is not None else frozenset(Part)
        if layout is Layout.STOCK and granularity in _UNEQUAL_LAYERS and Part.ATTENTION in cuts:
            equal = ", ".join(each.value for each in Granularity if each not in _UNEQUAL_LAYERS)
            raise ValueError(
                f"a stock layout needs equal heads in all layers, but {granularity.value} makes them differ; "
                f"use another granularity with it: {equal}"
            )
        return layout

    @field_validator("neuron_selection")
    @classmethod
    def _surgeons_refit(cls, selection: NeuronSelection, info: ValidationInfo) -> NeuronSelection:
        compensation = info.data.get("compensation")
        if selection is NeuronSelection.BRAIN_SURGEON and compensation in (Compensation.NONE, Compensation.BIAS):
            raise ValueError(
                "brain_surgeon selects neurons by the error that least squares leaves; set compensation to "
                "least_squares or least_squares_feed_forward, or use ranked"
            )
        return selection

    @field_validator("schedule")
    @classmethod
    def _a_bound_is_met_at_once(cls, schedule: Schedule, info: ValidationInfo) -> Schedule:
        target = info.data.get("target")
        if target is not None and target.max_drop is not None and (schedule.steps or 1) > 1:
            raise ValueError(
                "a target of max_drop is reached in one cut, because the drop of several cuts is known only after each recovery; "
                "leave out steps, or use a share as the target, with stop.max_drop"
            )
        return schedule

    @field_validator("calibration")
    @classmethod
    def _labels_say_something(cls, calibration: Calibration, info: ValidationInfo) -> Calibration:
        if info.data.get("criterion") is Criterion.TAYLOR and calibration.labels is LabelSource.MODEL:
            raise ValueError(
                "taylor is a mean gradient, which is zero over the model's own labels; set labels to data, or use fisher_gate"
            )
        return calibration

    @field_validator("exclude_layers")
    @classmethod
    def _layers_can_be_equal(cls, layers: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if layers and info.data.get("layout") is Layout.STOCK:
            raise ValueError("a stock layout cuts all layers equally; exclude no layers, or use layout any")
        return layers

    @field_validator("parts")
    @classmethod
    def _parts_fit_the_target(cls, parts: tuple[Part, ...] | None, info: ValidationInfo) -> tuple[Part, ...] | None:
        target = info.data.get("target")
        if parts is None or target is None:
            return parts
        if len(set(parts)) != len(parts):
            raise ValueError("name each part once")
        if target.kind in _PARTS_OF and set(parts) != _parts_of(target):
            raise ValueError(
                f"{target.kind.value} already says what is cut; leave out parts, or use parameters, flops or latency"
            )
        return tuple(part for part in Part if part in parts)

    @model_validator(mode="after")
    def _one_ranking_has_one_threshold(self) -> Self:
        if self.joint_parts:
            for name, value, reason in (
                ("scope", Scope.LOCAL, "has one threshold over all layers"),
                ("balance", Balance.EQUAL, "gives QK and VO no shares of their own"),
                ("layout", Layout.STOCK, "leaves layers unequal"),
            ):
                if getattr(self, name) is value:
                    raise ValueError(
                        f"one ranking of attention and feed-forward blocks {reason}, so {name} cannot be {value.value}; give "
                        "attention_sparsity and ffn_sparsity instead of one share of both"
                    )
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = {key for key, value in data.items() if value is not None}
        if "neuron_selection" not in data and not {"criterion", "compensation"}.isdisjoint(given):
            # What says how neurons are scored, or made up for, is meant for neurons too; so do all specs of before this field.
            data = {**data, "neuron_selection": NeuronSelection.RANKED}
        if "part_shares" not in data and "neuron_selection" in data:
            # So do all specs of before there was a search.
            data = {**data, "part_shares": PartShares.RANKED}
        name = data.get("preset", DEFAULT)
        if "granularity" in data:
            # What is asked for by name stays as it was before there was a choice.
            data = {"align": 1, **data}
        calibration = data.get("calibration")
        if isinstance(calibration, dict) and "samples" in calibration:
            # So do all specs of before there were samples for the refit alone.
            data = {**data, "calibration": {"refit_samples": None, **calibration}}
        return filled(PRESETS.get(name, {}) if isinstance(name, str) else {}, data)

    @property
    def scored_by(self) -> Criterion:
        """`criterion`, or what most models are scored by while that is open (checkpoints/planning/settled.py)."""
        return self.criterion or Criterion.FISHER_GATE

    @property
    def multiple(self) -> int:
        """What widths that are kept are multiples of; 1 while `align` is open (checkpoints/planning/settled.py)."""
        return self.align or 1

    @property
    def cuts(self) -> frozenset[Part]:
        """What of a layer is cut."""
        return _cut_parts(self.target, self.parts)

    @property
    def by_surgeon(self) -> bool:
        """Whether neurons are cut, and chosen while they are refitted."""
        return Part.FEED_FORWARD in self.cuts and self.neuron_selection is NeuronSelection.BRAIN_SURGEON

    @property
    def scored_parts(self) -> frozenset[Part]:
        """What of a layer is scored by `criterion`."""
        return self.cuts - {Part.FEED_FORWARD} if self.by_surgeon and not self.joint_parts else self.cuts

    @property
    def joint_parts(self) -> bool:
        """Whether attention and feed-forward blocks compete in one ranking."""
        return self.target.kind not in _PARTS_OF and len(self.cuts) == len(Part)

    @property
    def searches_shares(self) -> bool:
        """Whether the division of one target between both parts is searched for."""
        return self.joint_parts and self.by_surgeon and self.part_shares is PartShares.SEARCHED

    @property
    def steps(self) -> int:
        """Steps of the schedule; by default as few as take no more than `largest_step` each. Of a bound on the drop one."""
        if self.target.max_drop is not None:
            return 1
        # Rounded first: 0.3 / 0.1 is 2.9999999999999996 in binary, and 0.7 / 0.1 is above 7.
        return self.schedule.steps or ceil(round(self.target.share / self.schedule.largest_step, 9))
