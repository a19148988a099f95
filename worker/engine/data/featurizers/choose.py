"""The one object that turns rows of a dataset's input column into a checkpoint's inputs, chosen by the checkpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from api_schemas.enums import Head, Modality
from worker.engine.data.featurizers.ast_features import AstFeatures
from worker.engine.data.featurizers.clips import Clips, Extractor
from worker.engine.data.featurizers.embedded import Value
from worker.engine.data.featurizers.images import Images
from worker.engine.data.featurizers.spectrograms import ClapFeatures, WhisperFeatures
from worker.engine.data.featurizers.texts import Texts
from worker.engine.data.featurizers.waveforms import Waveforms
from worker.engine.data.settings import read_config

# By model_type; every other model of audio reads the wave itself.
_EXTRACTORS: dict[str, Callable[[Path], Extractor]] = {
    "audio-spectrogram-transformer": AstFeatures,
    "whisper": WhisperFeatures,
    "clap": ClapFeatures,
    "clap_audio_model": ClapFeatures,
}


class Featurizer(Protocol):
    """Rows in, inputs out; every row by itself, so that neither threads nor batches change a bit of them."""

    pad_value: float
    """What stands in place of audio that is not there; 0 where inputs are not filled up."""

    def decode(self, value: Value, where: str) -> Any:
        """One row's value, ready for `__call__`; threads call it. `where`: split and row, for errors."""

    def __call__(self, decoded: Sequence[Any], places: Sequence[str]) -> dict[str, Any]:
        """By the model's keywords: an array [B, …], or a list of B arrays that differ in length."""


def choose(model_dir: Path, modality: Modality, head: Head) -> Featurizer:
    """The featurizer of a checkpoint's folder. Raises CONFIG_INVALID or CODE_REFUSED for settings that cannot be used."""
    match modality:
        case Modality.IMAGE:
            return Images(model_dir)
        case Modality.TEXT:
            return Texts(model_dir, words=head is Head.TOKEN_CLASSIFICATION)
        case Modality.AUDIO:
            extractor = _EXTRACTORS.get(str(read_config(model_dir).get("model_type")), Waveforms)(model_dir)
            return Clips(extractor, whole=head in (Head.CTC, Head.SEQUENCE_TO_SEQUENCE))
