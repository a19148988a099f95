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
from benchmarks.families import reference
from benchmarks.families.examples import LABELS, WAVES, random_model
from benchmarks.families.special_models import CLAP
from checkpoints.describe import describe_folder
from store.uploads.inspection.models.local import judge_folder
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint

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


# As in transformers' own tests, but for its window: a second, of which 25 tokens are left.
LISTENS = {
    "model_type": "qwen2_audio_encoder", "d_model": 32, "encoder_attention_heads": 4, "encoder_ffn_dim": 48, "encoder_layers": 2,
    "num_mel_bins": 8, "max_source_positions": 50, "initializer_range": 0.2,
}  # fmt: skip
WRITES = {
    "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 36, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 99, "max_position_embeddings": 52, "initializer_range": 0.2,
    "tie_word_embeddings": False,
}  # fmt: skip
SOUND = 98


def written_about(model):
    """What it writes after a text around a sound of a second, and after one around a shorter sound, whose rest is masked."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 8, 100, generator=generator)
    heard, texts = torch.ones(2, 100, dtype=torch.long), torch.randint(3, 90, (2, 31), generator=generator)
    heard[1, 60:] = 0
    there = torch.ones_like(texts)
    # 25 tokens of the first sound, and 15 of the second behind ten of padding.
    texts[0, 3:28] = texts[1, 13:28] = SOUND
    there[1, :10] = 0
    inputs = {"input_features": features, "feature_attention_mask": heard, "input_ids": texts, "attention_mask": there}
    model.eval().generation_config.pad_token_id = 0
    with torch.inference_mode():
        return model(**inputs).logits[:, -1], model.generate(**inputs, max_new_tokens=12, do_sample=False)[:, 31:]


@pytest.mark.parametrize("how", ["ragged", "heads and channels", "equal neurons"])
def test_the_audio_tower_of_a_model_that_listens_and_writes(how, tmp_path):
    """Taken out, cut and put back as docs/families.md has it: the whole writes what the stock class with zeros in it does."""
    whole = random_model(
        "Qwen2AudioForConditionalGeneration",
        {"audio_config": LISTENS, "text_config": WRITES, "audio_token_index": SOUND},
    )
    whole.save_pretrained(tmp_path / "whole")
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(tmp_path / "whole")
    follow(tmp_path / "whole", tmp_path / "tower")
    assert judge_folder(tmp_path / "tower", 2**20).name == "Qwen2AudioEncoder"
    loaded = load_original(tmp_path / "tower")
    kept = reference.keeps(loaded.widths)[how]
    is_stock, _ = save_checkpoint(tmp_path / "step", reference.cut_by(loaded, kept), tmp_path / "tower")
    assert is_stock == (how == "equal neurons")

    before = written_about(whole)
    with reference.masked(loaded.model_spec, whole.model.audio_tower, kept):
        logits, text = written_about(whole)
    assert not torch.allclose(before[0], logits, atol=1e-2)
    put_back = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path / "whole")
    tower = transformers.AutoModel.from_pretrained(tmp_path / "step", trust_remote_code=not is_stock)
    put_back.model.audio_tower = tower
    found = written_about(put_back)
    reference.assert_near(found[0], logits)
    assert torch.equal(found[1], text)
    if is_stock:
        put_back.config.audio_config = tower.config
        put_back.save_pretrained(tmp_path / "smaller")
        alone, info = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(
            tmp_path / "smaller", output_loading_info=True
        )
        assert not any(info.values())
        assert torch.equal(written_about(alone)[1], text)
        files = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "smaller")]
        others = {name for name in files[0] if "audio_tower" not in name}
        assert others
        assert others == {name for name in files[1] if "audio_tower" not in name}
        assert all(torch.equal(files[0][name], files[1][name]) for name in others)
