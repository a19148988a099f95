"""The time of a job whose family has not finished one here: a range, by what a worker has measured of its device."""

from sqlalchemy.orm import Session

from api_schemas.enums import DeviceKind, Modality
from api_schemas.results.estimate import EstimatedStep, FirstEstimate
from checkpoints.families import family_named
from checkpoints.families.audio.waveform_encoder import MAX_SECONDS, SAMPLES
from checkpoints.planning.schedule import CONFIRMED_SHARES
from checkpoints.sizes.first_time import JobFacts, Range, first_seconds
from service.core.jobs.model_source import KnownModel
from service.core.jobs.submit import Accepted
from service.core.jobs.text_lengths import TextLengths
from store.jobs.workers import device_speeds

OF_ANY_LENGTH = frozenset({"SeamlessM4TFeatureExtractor", "Wav2Vec2FeatureExtractor"})
"""Extractors of families that take recordings as long as they are, up to MAX_SECONDS."""
RATE = 16_000
ANY_LENGTH: Range = (0.1, 1.0)
"""Where nothing is known of the inputs."""


def of_job(
    session: Session,
    accepted: Accepted,
    known: KnownModel,
    steps: tuple[EstimatedStep, ...],
    texts: TextLengths | None,
) -> FirstEstimate | None:
    """None where no device was measured, or where the worker alone can count the samples. `texts`: how long those of the dataset
    are, where that is known."""
    request = accepted.request
    measured = device_speeds.latest(session, request.limits.device)
    if measured is None or accepted.samples is None:
        return None
    layout, contents = known.layout, accepted.contents
    family = family_named(layout.family)
    rows = sum(contents.rows.values()) if contents else 0
    seconds = contents.seconds / rows if contents and rows and contents.seconds else 1.0
    length: Range = (1.0, 1.0)
    inputs: Range = (1.0, 1.0)
    if family.modality is Modality.TEXT:
        length, inputs = (ANY_LENGTH, inputs) if texts is None else (texts.length, texts.inputs)
    elif OF_ANY_LENGTH.intersection(family.preprocessors):
        length = _of_recordings(seconds if contents and contents.seconds else None)
    flops = tuple(step.flops for step in steps)

    def facts(of_steps: tuple[int, ...]) -> JobFacts:
        samples = {role.value: count for role, count in (accepted.samples or {}).items()}
        kind = DeviceKind(measured.device)
        return JobFacts(known.shape, layout.head, family.modality, kind, samples, of_steps, length, seconds, inputs)

    least = most = first_seconds(request, facts(flops), measured.body)
    if request.pruning.target.max_drop is not None:
        # Cut by nothing, a model takes longest; and more than one cut may have to be confirmed.
        most = first_seconds(request, facts(flops[:1] * (1 + len(CONFIRMED_SHARES))), measured.body)
    phases = {phase: (round(least[phase][0], 1), round(most[phase][1], 1)) for phase in most if phase in least}
    return FirstEstimate(
        seconds_range=(
            round(sum(low for low, _ in phases.values()), 1),
            round(sum(high for _, high in phases.values()), 1),
        ),
        phase_seconds_range=phases,
        device=measured.device,
        device_name=measured.device_name,
        threads=measured.threads,
        measured_at=measured.measured_at,
    )


def _of_recordings(seconds: float | None) -> Range:
    """`seconds`: of a recording, on the average, where that is known."""
    return ANY_LENGTH if seconds is None else (min(seconds, MAX_SECONDS) * RATE / SAMPLES,) * 2
