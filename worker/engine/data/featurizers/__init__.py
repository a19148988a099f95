"""Converts rows of a dataset to a checkpoint's inputs: audio, images, texts, each by the checkpoint's own settings."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from api_schemas.enums import Head, Modality
from checkpoints.config.sentences import read_sentences
from checkpoints.describe import read_beside
from checkpoints.families import family_of
from checkpoints.files.preprocessor_files import MODULES
from worker.engine.data.featurizers.ast_features import AstFeatures
from worker.engine.data.featurizers.audio import AudioFeaturizer, Extractor
from worker.engine.data.featurizers.base import Featurizer
from worker.engine.data.featurizers.blocks import BlockFeaturizer
from worker.engine.data.featurizers.images import ImageFeaturizer
from worker.engine.data.featurizers.questions import QuestionFeaturizer
from worker.engine.data.featurizers.spectrograms import ClapFeatures, SeamlessFeatures, WhisperFeatures
from worker.engine.data.featurizers.texts import TextFeaturizer
from worker.engine.data.featurizers.waveforms import Waveforms
from worker.engine.data.settings import model_type

__all__ = ["Featurizer", "featurizer_for"]

# By model_type; every other model of audio reads the wave itself.
_EXTRACTORS: dict[str, Callable[[Path], Extractor]] = {
    "audio-spectrogram-transformer": AstFeatures,
    "whisper": WhisperFeatures,
    "qwen2_audio": WhisperFeatures,
    "qwen2_audio_encoder": WhisperFeatures,
    "wav2vec2-bert": SeamlessFeatures,
    "clap": ClapFeatures,
    "clap_audio_model": ClapFeatures,
}


def featurizer_for(model_dir: Path, modality: Modality, head: Head, seed: int = 0) -> Featurizer:
    """The featurizer of a checkpoint's folder. `seed` draws which words are masked, where some are.

    Raises CONFIG_INVALID or CODE_REFUSED for settings that cannot be used.
    """
    match modality:
        case Modality.IMAGE:
            return ImageFeaturizer(model_dir)
        case Modality.TEXT if head is Head.QUESTION_ANSWERING:
            return QuestionFeaturizer(model_dir)
        case Modality.TEXT:
            if head is Head.CAUSAL_LM:
                return BlockFeaturizer(model_dir)
            masked = seed if head is Head.MASKED_LM else None
            family = family_of(model_type(model_dir))
            embeds = head is Head.EMBEDDING and family is not None and MODULES in family.files
            sentences = read_sentences(partial(read_beside, model_dir)) if embeds else None
            return TextFeaturizer(
                model_dir, words=head is Head.TOKEN_CLASSIFICATION, masked=masked, sentences=sentences
            )
        case Modality.AUDIO:
            extractor = _EXTRACTORS.get(model_type(model_dir), Waveforms)(model_dir)
            return AudioFeaturizer(extractor, whole=head in (Head.CTC, Head.SEQUENCE_TO_SEQUENCE))
