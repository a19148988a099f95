"""What the refusal of a class tells to do, done: what comes of it is taken, and has the weights that it was promised."""

import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    HubertConfig,
    HubertModel,
    HubertPreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2ForXVector,
)

from api_schemas.errors import ErrorCode, SecateurError
from benchmarks.families.examples import LABELS, WAVES
from benchmarks.families.special_models import CLAP
from checkpoints.describe import describe_folder
from store.uploads.inspection.models.local import judge_folder
from worker.engine.checkpoint.load import load_original

CODE = re.compile(r"`(\w+\.from_pretrained\([^`]*)`")
NAMED = {"id2label": dict(enumerate(LABELS)), "label2id": {name: number for number, name in enumerate(LABELS)}}
WORDS = {
    **{"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "vocab_size": 40,
}


class SpeechClassificationHead(nn.Module):
    """As a widely copied notebook has it (github.com/m3hrdadfi/soxan)."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.final_dropout)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)


class HubertForSpeechClassification(HubertPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.hubert = HubertModel(config)
        self.classifier = SpeechClassificationHead(config)
        self.post_init()


def follow(folder, other, code=ErrorCode.ARCHITECTURE_UNSUPPORTED):
    """Run what the refusal of `folder` says, as written, and return what it made."""
    with pytest.raises(SecateurError) as caught:
        describe_folder(folder)
    assert caught.value.code is code
    steps = CODE.findall(caught.value.detail)
    assert steps
    names = {name: getattr(transformers, name) for name in re.findall(r"(\w+)\.from_pretrained", caught.value.detail)}
    places = {"folder": folder, "other": other, "texts": other / "texts"}
    return [eval(step, {**places, **names}) for step in steps]


def test_a_class_of_a_tutorial(tmp_path):
    model = HubertForSpeechClassification(HubertConfig(**WAVES, **NAMED))
    model.config.pooling_mode = "mean"
    model.save_pretrained(tmp_path / "own")
    assert json.loads((tmp_path / "own/config.json").read_text())["architectures"] == ["HubertForSpeechClassification"]
    (loaded,) = follow(tmp_path / "own", tmp_path / "stock")
    loaded.save_pretrained(tmp_path / "stock")
    found = describe_folder(tmp_path / "stock")
    assert (found.name, found.labels) == ("HubertForSequenceClassification", LABELS)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("own", "stock"))
    kept = {name for name in before if name.startswith("hubert.")}
    assert kept
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert {name.split(".")[0] for name in after.keys() - kept} == {"projector", "classifier"}, "as the text says"


@pytest.mark.parametrize("end", ["ForMaskedLM", "ForSequenceClassification"])
def test_where_nothing_says_which_a_roberta_of_other_words_is_read_as_one(end, tmp_path):
    stock, own, read = getattr(transformers, f"XLMRoberta{end}"), tmp_path / "own", tmp_path / "read"
    torch.manual_seed(0)
    model = stock(stock.config_class(**WORDS, max_position_embeddings=20, pad_token_id=1)).eval()
    pieces = ("<s>", "<pad>", "</s>", "<unk>", "▁good", "▁", "<mask>")
    ids = torch.arange(3, 15)[None]
    for folder, unsaid in ((own, ()), (read, ("model_type", "architectures"))):
        model.save_pretrained(folder)
        transformers.XLMRobertaTokenizer(vocab=[(piece, -1.0) for piece in pieces]).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({key: config[key] for key in config if key not in unsaid}))
        found = judge_folder(folder, 2**20)
        assert found.name == f"{'Roberta' if unsaid else 'XLMRoberta'}{end}"
        with torch.inference_mode():
            assert torch.equal(load_original(folder).model(input_ids=ids)[0], model(input_ids=ids)[0])


def test_the_head_of_a_tutorial_under_the_name_of_a_stock_class(tmp_path):
    """Somebody wrote the stock class into config.json: its encoder fits, its head does not."""
    HubertForSpeechClassification(HubertConfig(**WAVES, **NAMED)).save_pretrained(tmp_path / "own")
    config = json.loads((tmp_path / "own/config.json").read_text())
    (tmp_path / "own/config.json").write_text(
        json.dumps({**config, "architectures": ["HubertForSequenceClassification"]})
    )
    (loaded,) = follow(tmp_path / "own", tmp_path / "stock", ErrorCode.WEIGHTS_MISMATCH)
    loaded.save_pretrained(tmp_path / "stock")
    assert describe_folder(tmp_path / "stock").name == "HubertForSequenceClassification"


def test_a_head_of_other_shapes(tmp_path):
    """Labels by name make a classifier of it; its own head stands in the file under the same names."""
    Wav2Vec2ForXVector(
        Wav2Vec2Config(**WAVES, **NAMED, tdnn_dim=(8, 8, 8, 8, 8), xvector_output_dim=8)
    ).save_pretrained(tmp_path / "own")
    (loaded,) = follow(tmp_path / "own", tmp_path / "stock")
    loaded.save_pretrained(tmp_path / "stock")
    assert describe_folder(tmp_path / "stock").name == "Wav2Vec2ForSequenceClassification"


@pytest.mark.parametrize("line", ["CLIP", "Siglip"])
def test_the_encoder_of_images_of_a_model_of_images_and_texts(line, tmp_path):
    sees = {**{key: WORDS[key] for key in WORDS if key != "vocab_size"}, "image_size": 32, "patch_size": 8}
    sees |= {"projection_dim": 20} if line == "CLIP" else {}
    config = getattr(transformers, f"{line}Config")(
        vision_config=sees, text_config={**WORDS, "projection_size": 32}, projection_dim=20
    )
    whole = getattr(transformers, f"{line}Model")(config).eval()
    whole.save_pretrained(tmp_path / "whole")
    processor = getattr(transformers, f"{line}ImageProcessorPil")
    processor(size={"height": 32, "width": 32}, crop_size=32).save_pretrained(tmp_path / "whole")
    follow(tmp_path / "whole", tmp_path / "images")
    found = judge_folder(tmp_path / "images", 2**20)
    assert found.name == {"CLIP": "CLIPVisionModelWithProjection", "Siglip": "SiglipVisionModel"}[line]
    images = {"pixel_values": torch.randn(2, 3, 32, 32)}
    with torch.inference_mode():
        alone = load_original(tmp_path / "images").model(**images)
        expected = whole.get_image_features(**images).pooler_output
        torch.testing.assert_close(alone.image_embeds if line == "CLIP" else alone.pooler_output, expected)


def test_the_encoders_of_a_clap(tmp_path):
    words_of = {**WORDS, "max_position_embeddings": 20}
    clap = ClapModel(ClapConfig(audio_config=CLAP, text_config=words_of, projection_dim=20)).eval()
    clap.save_pretrained(tmp_path / "whole")
    ClapFeatureExtractor(feature_size=CLAP["num_mel_bins"]).save_pretrained(tmp_path / "whole")
    pieces = {word: number for number, word in enumerate(("<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "ab"))}
    transformers.RobertaTokenizer(vocab=pieces, merges=[("a", "b")]).save_pretrained(tmp_path / "whole")
    follow(tmp_path / "whole", tmp_path / "audio")
    assert judge_folder(tmp_path / "audio/texts", 2**20).name == "ClapTextModelWithProjection"
    found = describe_folder(tmp_path / "audio")
    assert found.name == "ClapAudioModelWithProjection"
    assert (tmp_path / "audio/preprocessor_config.json").is_file()
    sounds = {
        "input_features": torch.randn(2, 1, CLAP["spec_size"] ** 2 // CLAP["num_mel_bins"], CLAP["num_mel_bins"]),
        "is_longer": torch.zeros(2, 1, dtype=torch.bool),
    }
    alone = transformers.ClapAudioModelWithProjection.from_pretrained(tmp_path / "audio").eval()
    with torch.inference_mode():
        whole = clap.get_audio_features(**sounds).pooler_output
        torch.testing.assert_close(nn.functional.normalize(alone(**sounds).audio_embeds, dim=-1), whole)
        # Beside the text encoder, as docs/families.md has it, it says what the whole model says.
        words = {"input_ids": torch.randint(5, WORDS["vocab_size"], (3, 7))}
        texts = transformers.ClapTextModelWithProjection.from_pretrained(tmp_path / "whole").eval()
        texts_alone = load_original(tmp_path / "audio/texts").model
        torch.testing.assert_close(texts_alone(**words).text_embeds, texts(**words).text_embeds)
        similar = whole @ nn.functional.normalize(texts(**words).text_embeds, dim=-1).T
        expected = clap(**sounds, **words).logits_per_audio
        torch.testing.assert_close(similar * clap.logit_scale_a.exp(), expected, atol=1e-4, rtol=1e-4)
