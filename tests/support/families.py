"""What the gate has of families that differ from others in little: one class with a head each, where classes cost time."""

from checkpoints.families import FAMILIES

ALIKE = frozenset(
    {
        *(
            "xlm-roberta",
            "camembert",
            "electra",
            "dinov2",
            "clip_vision",
            "siglip_vision",
            "unispeech",
            "unispeech-sat",
        ),
        *("mistral", "qwen2", "qwen2_audio_encoder", "phi3", "gemma", "gemma2"),
    }
)
"""`Family.name` of those whose layers compute what another's do that is here."""
SAME_HEADS = frozenset({"hubert", "data2vec-audio", "sew", "roberta", "mpnet", "wav2vec2-conformer", "wav2vec2-bert"})
"""Of those whose layers are their own, and whose heads are not."""
LEFT_TO_WHOLE = frozenset(
    name for family in FAMILIES if family.name in ALIKE | SAME_HEADS for name in list(family.architectures)[1:]
) | {"WhisperForAudioClassification"}
"""Their classes but the first of each, and an encoder that the gate has beside its decoder: what these add is names, shapes and
files, which other tests have of every class."""
HEADS = (
    "ASTForAudioClassification",
    "ViTForImageClassification",
    "Wav2Vec2ForCTC",
    "WavLMForSequenceClassification",
    "WhisperForConditionalGeneration",
    "ClapAudioModelWithProjection",
    "BertForSequenceClassification",
    "MPNetForTokenClassification",
    "DistilBertModel",
    "BertForMaskedLM",
    "GPT2LMHeadModel",
    "BertForQuestionAnswering",
    "ViTModel",
    "CLIPVisionModelWithProjection",
    "Wav2Vec2ForPreTraining",
)
"""A class of every head of every modality, for what takes long: a whole job, or one over HTTP."""
