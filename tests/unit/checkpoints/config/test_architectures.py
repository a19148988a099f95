"""A class that cannot be pruned is told the nearest that can, and how to get there."""

from typing import Any

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.config.checkpoint_config import read_config


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"model_type": "bert", "architectures": ["BertForMultipleChoice"]},
            "BertForMultipleChoice cannot be pruned: save it as BertModel",
        ),
        (
            {"model_type": "bert", "architectures": ["BertForPreTraining"]},
            "the nearest supported class is BertForMaskedLM",
        ),
        (
            {"model_type": "bert", "architectures": ["BertLMHeadModel"]},
            "the nearest supported class is BertForMaskedLM",
        ),
        ({"model_type": "roberta", "architectures": ["RobertaForMultipleChoice"]}, "save it as RobertaModel"),
        (
            {"model_type": "hubert", "architectures": ["HubertForSpeechClassification"]},
            "`HubertForSequenceClassification.from_pretrained(folder, ignore_mismatched_sizes=True)`. Whatever its head "
            "(`projector` and `classifier`) does not find",
        ),
        (
            {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForEmotionRecognition"]},
            "Wav2Vec2ForSequenceClassification",
        ),
        (
            {"model_type": "wav2vec2", "architectures": ["SpeakerModel"], "id2label": {"0": "Ada", "1": "Bob"}},
            "Wav2Vec2ForSequenceClassification",
        ),
        (
            {"model_type": "wav2vec2", "architectures": ["SpeakerModel"], "id2label": {"0": "LABEL_0", "1": "LABEL_1"}},
            "save it as Wav2Vec2Model",
        ),
        (
            {"model_type": "wav2vec2", "architectures": ["EmotionModel"], "problem_type": "regression"},
            "save it as Wav2Vec2Model",
        ),
        ({"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForXVector"]}, "save it as Wav2Vec2Model"),
        (
            {"model_type": "unispeech-sat", "architectures": ["UniSpeechSatForXVector"]},
            "save it as UniSpeechSatModel",
        ),
        ({"model_type": "unispeech", "architectures": ["UniSpeechForPreTraining"]}, "save it as UniSpeechModel"),
        (
            {"model_type": "sew-d", "architectures": ["SEWDForSequenceClassification"]},
            "The nearest supported class by name is SEWForSequenceClassification",
        ),
        (
            {"model_type": "vit_mae", "architectures": ["ViTMAEForPreTraining"]},
            "The nearest supported class by name is ViTModel",
        ),
        ({"model_type": "dinov2", "architectures": ["Dinov2Backbone"]}, "save it as Dinov2Model"),
        (
            {"model_type": "dinov2_with_registers", "architectures": ["Dinov2WithRegistersModel"]},
            "The nearest supported class by name is Dinov2Model",
        ),
        ({"model_type": "dinov3_vit", "architectures": ["DINOv3ViTBackbone"]}, "save it as DINOv3ViTModel"),
        ({"model_type": "vit", "architectures": ["ViTForMaskedImageModeling"]}, "save it as ViTModel"),
        ({"model_type": "clap", "architectures": ["ClapModel"]}, "Save it separately: `ClapAudioModelWithProjection"),
        ({"model_type": "clap", "architectures": ["ClapModel"]}, "or `ClapTextModelWithProjection"),
        ({"model_type": "clap_text_model", "architectures": ["ClapTextModel"]}, "can be pruned with its projection"),
        (
            {"model_type": "clip", "architectures": ["CLIPModel"]},
            "`CLIPVisionModelWithProjection.from_pretrained(folder).save_pretrained(other)`",
        ),
        ({"model_type": "clip", "architectures": ["CLIPForImageClassification"]}, "two configurations"),
        ({"model_type": "siglip", "architectures": ["SiglipModel"]}, "`SiglipVisionModel.from_pretrained(folder)"),
        ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaForMultipleChoice"]}, "save it as XLMRobertaModel"),
        (
            {"model_type": "electra", "architectures": ["ElectraForPreTraining"]},
            "ElectraForPreTraining cannot be pruned: save it as ElectraModel",
        ),
        ({"model_type": "electra", "architectures": ["ElectraForCausalLM"]}, "save it as ElectraModel"),
        (
            {"model_type": "nezha", "architectures": ["NezhaForMaskedLM"]},
            "The nearest supported class by name is MPNetForMaskedLM",
        ),
        ({"model_type": "mpnet", "architectures": ["MPNetForMultipleChoice"]}, "save it as MPNetModel"),
        (
            {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
            "model_type 't5'. Supported model types: ",
        ),
        (
            {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]},
            "Of the language models that continue texts, GPT2LMHeadModel, OPTForCausalLM, LlamaForCausalLM, "
            "MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, PhiForCausalLM, Phi3ForCausalLM, GemmaForCausalLM, "
            "Gemma2ForCausalLM and Gemma3ForCausalLM can be pruned.",
        ),
        (
            {"model_type": "gpt2", "architectures": ["GPT2DoubleHeadsModel"]},
            "the nearest supported class is GPT2LMHeadModel. Load it with `GPT2LMHeadModel.from_pretrained(",
        ),
        (
            {"model_type": "opt", "architectures": ["OPTForSequenceClassification"]},
            "the nearest supported class is OPTForCausalLM",
        ),
        (
            {"model_type": "bert", "architectures": ["BertModel", "BertModel"]},
            "`architectures` must have exactly one entry",
        ),
        ({"model_type": "bert"}, "set `architectures`"),
    ],
)
def test_the_nearest_class_and_the_way_to_it(config: dict[str, Any], said: str) -> None:
    with pytest.raises(SecateurError) as caught:
        read_config(config)
    assert caught.value.code is ErrorCode.ARCHITECTURE_UNSUPPORTED
    assert said in caught.value.detail
    assert "docs/families.md" in caught.value.detail
    assert len(caught.value.detail) < 700
